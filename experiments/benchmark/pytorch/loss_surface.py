"""The loss of a perceptron as a function of its weights: its Hessian, and how it rises under noise on them."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmark.pytorch.strongest import products_in, strongest
from experiments.benchmark.pytorch.tensors import Tensor, tensor
from jaxsens.typing import Array


class Perceptron(torch.nn.Module):
    """A tanh perceptron."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList([tensor(weight) for weight in weights])

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs ``[b d]`` to logits ``[b classes]``."""
        for weight in list(self.weights)[:-1]:
            x = torch.tanh(x @ weight)
        return x @ self.weights[-1]


class LossSurface:
    """The mean cross-entropy of a perceptron over a batch."""

    def __init__(self, weights: list[np.ndarray], inputs: Array, labels: Array) -> None:
        self.model = Perceptron(weights)
        self.batch = tensor(inputs), tensor(labels).long()
        self.weights = list(self.model.parameters())
        self.size = sum(weight.numel() for weight in self.weights)
        self._kept = [weight.detach().clone() for weight in self.weights]

    def loss(self) -> Tensor:
        """Return the loss at the weights as they are."""
        inputs, labels = self.batch
        return functional.cross_entropy(self.model(inputs), labels)

    def hessian_product(self) -> Callable[[Tensor], Tensor]:
        """Return the product of the Hessian with a vector ``[n]``; the gradient's graph is built once."""
        gradient = _flat(torch.autograd.grad(self.loss(), self.weights, create_graph=True))
        return lambda vector: _flat(torch.autograd.grad(gradient, self.weights, vector, retain_graph=True))

    def strongest_product(self, notes: list[str]) -> Callable[[Tensor], Tensor]:
        """Return the product by ``torch.func``, forward over reverse, in the form that ``strongest`` makes."""
        inputs, labels = self.batch
        shapes = [weight.shape for weight in self.weights]
        at = torch.cat([weight.detach().reshape(-1) for weight in self.weights])

        def loss(vector: Tensor) -> Tensor:
            x, (*hidden, last) = inputs, _split(vector, shapes)
            for weight in hidden:
                x = torch.tanh(x @ weight)
            return functional.cross_entropy(x @ last, labels)

        def product(vector: Tensor) -> Tensor:
            return torch.func.jvp(torch.func.grad(loss), (at,), (vector,))[1]

        with products_in("float32"):
            form = strongest(product, (torch.ones_like(at),), notes)
        return lambda vector: form(vector).clone()

    def strongest_rises(self, deviation: float, together: int, notes: list[str]) -> Callable[[int], Tensor]:
        """Return ``rises(count)`` for a multiple of ``together`` perturbed models, so many of them in one program."""
        inputs, labels = self.batch
        weights = [weight.detach() for weight in self.weights]

        def rises(before: Tensor) -> Tensor:
            moved = [w + deviation * torch.randn(together, *w.shape, device=w.device) for w in weights]
            x = inputs.expand(together, *inputs.shape)
            for weight in moved[:-1]:
                x = torch.tanh(x @ weight)
            logits = (x @ moved[-1]).flatten(0, 1)
            losses = functional.cross_entropy(logits, labels.repeat(together), reduction="none")
            return losses.reshape(together, -1).mean(1) - before

        with torch.no_grad(), products_in("float32"):
            before = self.loss()
            form = strongest(rises, (before,), notes)

        @torch.no_grad()
        def run(count: int) -> Tensor:
            return torch.cat([form(before).clone() for _ in range(count // together)])

        return run

    def top_eigenpairs(
        self, k: int, steps: int, start: Tensor, product: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the k largest eigenvalues, and their residuals: Lanczos, fully reorthogonalised twice."""
        product = product or self.hessian_product()
        basis = torch.zeros(steps, self.size, device=start.device)
        projected = torch.zeros(steps, steps, device=start.device)
        vector = start
        for i in range(steps):
            basis[i] = vector / vector.norm()
            vector = product(basis[i])
            for _ in range(2):
                along = basis[: i + 1] @ vector
                vector = vector - along @ basis[: i + 1]
                projected[: i + 1, i] += along
        upper = torch.triu(projected).double().cpu()
        _, coordinates = torch.linalg.eigh(upper + torch.triu(upper, 1).T)
        return with_residuals(product, coordinates[:, -k:].flip(1).T.float().to(start.device) @ basis)

    @torch.no_grad()
    def rises(self, deviation: float, count: int) -> Tensor:
        """Return by how much Gaussian noise on all weights raises the loss, ``[count]``."""
        before, found = self.loss(), []
        for _ in range(count):
            for weight, clean in zip(self.weights, self._kept, strict=True):
                weight.copy_(torch.randn_like(clean).mul_(deviation).add_(clean))
            found.append(self.loss() - before)
        for weight, clean in zip(self.weights, self._kept, strict=True):
            weight.copy_(clean)
        return torch.stack(found)


def with_residuals(product: Callable[[Tensor], Tensor], vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return Rayleigh quotients of vectors ``[k n]``, and the norms of what they leave of the product."""
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    images = torch.stack([product(vector) for vector in vectors])
    values = (vectors * images).sum(1)
    return values, (images - values[:, None] * vectors).norm(dim=1)


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _split(vector: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    pieces = vector.split([shape.numel() for shape in shapes])
    return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
