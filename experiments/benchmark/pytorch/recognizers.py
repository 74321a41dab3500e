"""Recognizers of strings, which read the parameters of ours, and their training."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmark.pytorch.strongest import products_in, strongest
from experiments.benchmark.pytorch.tensors import Tensor, tensor
from jaxsens.models import recognizers
from jaxsens.typing import Array, PyTree


class Recognizer:
    """The standard block of a recognizer, as a function of parameters that PyTorch can differentiate."""

    def __init__(self, config: recognizers.Config, length: int) -> None:
        self.config = config
        self.positions = tensor(recognizers.sinusoidal_positions(length + 1, config.width).astype(np.float32))

    def parameters(self, variables: PyTree) -> dict[str, Tensor]:
        """Return our parameters ``[*m ...]`` in the layout of ``linear``; leading axes stay."""
        params, d = variables["params"], self.config.width
        layers = {name: np.asarray(value) for name, value in params["layers"].items()}
        lead = layers["query"].shape[: layers["query"].ndim - 3]
        qkv = [np.swapaxes(layers[name].reshape(*lead, d, d), -1, -2) for name in ("query", "key", "value")]
        biases = [layers[f"{name}_bias"].reshape(*lead, d) for name in ("query", "key", "value")]
        results = {
            "embedding": params["embedding"],
            "qkv": np.concatenate(qkv, -2),
            "qkv_bias": np.concatenate(biases, -1),
            "out": np.swapaxes(layers["out"].reshape(*lead, d, d), -1, -2),
            "expand": np.swapaxes(layers["expand"], -1, -2),
            "contract": np.swapaxes(layers["contract"], -1, -2),
            "weight": params["readout"]["weight"],
            "bias": params["readout"]["bias"],
        }
        kept = ("out_bias", "expand_bias", "contract_bias")
        kept += tuple(f"{part}_{kind}" for part in ("attention", "mlp") for kind in ("gain", "offset"))
        results |= {name: layers[name] for name in kept}
        return {name: tensor(np.ascontiguousarray(value)) for name, value in results.items()}

    def __call__(self, params: dict[str, Tensor], strings: Tensor, *, fused: bool = True) -> Tensor:
        """Map strings ``[b n]`` to logits ``[b]``; fused attention has no rule for ``vmap``, which then takes turns."""
        config, d = self.config, self.config.width
        end = torch.full_like(strings[:, :1], recognizers.EOS)
        x = params["embedding"][torch.cat([strings, end], 1)] + self.positions
        scale = None if config.scaled else 1.0
        for i in range(config.depth):
            of = {name: value[i] for name, value in params.items() if value.ndim and name not in _NO_LAYERS}
            qkv = functional.linear(x, of["qkv"], of["qkv_bias"]).unflatten(-1, (3, config.heads, config.head_size))
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            if fused:
                mixed = functional.scaled_dot_product_attention(query, key, value, scale=scale)
            else:
                scores = query @ key.transpose(-1, -2) * (config.head_size**-0.5 if scale is None else scale)
                mixed = scores.softmax(-1) @ value
            mixed = mixed.transpose(1, 2).flatten(2)
            mixed = functional.linear(mixed, of["out"], of["out_bias"])
            norm = of["attention_gain"], of["attention_offset"], config.epsilon
            x = functional.layer_norm(x + mixed, (d,), *norm)
            hidden = functional.relu(functional.linear(x, of["expand"], of["expand_bias"]))
            y = functional.linear(hidden, of["contract"], of["contract_bias"])
            x = functional.layer_norm(x + y, (d,), of["mlp_gain"], of["mlp_offset"], config.epsilon)
        return x[:, -1] @ params["weight"] + params["bias"]


_NO_LAYERS = ("embedding", "weight", "bias")


def train(
    config: recognizers.Config, stacked: PyTree, strings: Array, labels: Array, rate: float, *, together: bool
) -> Callable[[int], np.ndarray]:
    """Return ``run(epochs)``: full-batch training with Adam, losses ``[epochs m]``, models in turn or vectorized."""
    model, x, y = Recognizer(config, strings.shape[1]), tensor(strings).long(), tensor(labels)
    start = model.parameters(stacked)

    def loss(params: dict[str, Tensor]) -> Tensor:
        return functional.binary_cross_entropy_with_logits(model(params, x, fused=not together), y)

    def steps(weights: dict[str, Tensor], gradients: Callable, epochs: int) -> Iterator[Tensor]:
        optimizer = torch.optim.Adam(weights.values(), lr=rate, fused=True)
        for _ in range(epochs):
            grads, value = gradients(weights)
            for name, weight in weights.items():
                weight.grad = grads[name]
            optimizer.step()
            yield value

    def alone(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        for weight in weights.values():
            weight.requires_grad_()
        value = loss(weights)
        grads = torch.autograd.grad(value, list(weights.values()))
        return dict(zip(weights, grads, strict=True)), value.detach()

    def run(epochs: int) -> np.ndarray:
        if together:
            gradients = torch.func.vmap(torch.func.grad_and_value(loss))
            weights = {name: value.clone() for name, value in start.items()}
            return torch.stack(list(steps(weights, gradients, epochs))).cpu().numpy()
        results = []
        for member in range(len(start["embedding"])):
            weights = {name: value[member].clone() for name, value in start.items()}
            results.append(torch.stack(list(steps(weights, alone, epochs))))
        return torch.stack(results, 1).cpu().numpy()

    return run


def train_in_batches(
    config: recognizers.Config,
    stacked: PyTree,
    strings: Array,
    labels: Array,
    batches: Array,
    rate: float,
    notes: list[str],
) -> Callable[[], np.ndarray]:
    """Return ``run()``: the loss of every step of training with Adam, ``[steps m]``; all models take a step together.

    A step is compiled and captured as ``strongest`` does it. A single model has fused attention.

    Args:
        config: Configuration of the models.
        stacked: Our variables with a leading axis ``[m]``.
        strings: ``[n length]``.
        labels: ``[n]``.
        batches: The numbers of the strings in each step, ``[steps m batch]``.
        rate: The learning rate.
        notes: Where the form of the program is noted.
    """
    model, x, y = Recognizer(config, strings.shape[1]), tensor(strings).long(), tensor(labels)
    start, index = model.parameters(stacked), tensor(batches).long()
    alone = index.shape[1] == 1
    weights = {name: value.clone() for name, value in start.items()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in start.items()}
    done = torch.zeros((), device=x.device)

    def loss(params: dict[str, Tensor], strings: Tensor, labels: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(model(params, strings, fused=alone), labels)

    def gradients(chosen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if not alone:
            return torch.func.vmap(torch.func.grad_and_value(loss))(weights, x[chosen], y[chosen])
        single = {name: value[0] for name, value in weights.items()}
        slope, value = torch.func.grad_and_value(loss)(single, x[chosen[0]], y[chosen[0]])
        return {name: part[None] for name, part in slope.items()}, value[None]

    def step(chosen: Tensor) -> Tensor:
        slopes, value = gradients(chosen)
        done.add_(1)
        for name, weight in weights.items():
            _take_step(weight, slopes[name], *moments[name], done, rate)
        return value

    with products_in("float32"):
        form = strongest(step, (index[0],), notes)

    def run() -> np.ndarray:
        done.zero_()
        for name, weight in weights.items():
            weight.copy_(start[name])
            for moment in moments[name]:
                moment.zero_()
        with products_in("float32"):
            return torch.stack([form(chosen).clone() for chosen in index]).cpu().numpy()

    return run


def _take_step(weight: Tensor, slope: Tensor, mean: Tensor, square: Tensor, steps: Tensor, rate: float) -> None:
    """Take a step of Adam in place, ``steps`` with this one."""
    mean.lerp_(slope, 0.1)
    square.mul_(0.999).addcmul_(slope, slope, value=0.001)
    weight.sub_(rate * (mean / (1 - 0.9**steps)) / ((square / (1 - 0.999**steps)).sqrt() + 1e-8))
