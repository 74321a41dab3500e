"""The same computations in PyTorch, as strong as we can write them plainly, and as they were published.

The only file that imports PyTorch. Models read the parameters of ours, so that answers can be compared; they are
evaluated in batches, without gradients, with fused attention, weights laid out for ``linear``, images with channels
last, and where asked compiled. Nothing is shared among substitutions: that is what our side adds.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

from jaxsens.models import bert, cnn, convmixer, recognizer, resnet, transformer, vit
from jaxsens.typing import Array, PyTree

Tensor = torch.Tensor
Forward = Callable[[Tensor], Tensor]


def use(threads: int) -> None:
    """Use this many threads, and the precision of matrix products that float32 has."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")


def device() -> torch.device:
    """Return the accelerator, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tensor(array: Array) -> Tensor:
    """Return an array on the device."""
    return torch.as_tensor(np.array(array), device=device())


def inference(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Return ``fn`` without gradients."""

    @functools.wraps(fn)
    def run(*args: Any) -> Array:
        with torch.inference_mode():
            return fn(*args)

    return run


def substitutions(forward: Forward, tokens: Array, alternatives: Array, rows: int) -> Callable[[int], np.ndarray]:
    """Return ``run(count)``: how the outputs of the first examples change, ``[count t]``, ``rows`` copies at once."""
    x, y = tensor(tokens), tensor(alternatives)
    length = x.shape[1]
    places = torch.arange(length, device=x.device)

    @inference
    def run(count: int) -> np.ndarray:
        found = []
        for clean, changed in zip(x[:count], y[:count], strict=True):
            copies = clean.repeat(length + 1, *[1] * (clean.ndim))
            copies[places, places] = changed
            outputs = torch.cat([forward(part) for part in copies.split(rows)]).float()
            outputs = outputs.reshape(length + 1, -1)
            found.append((outputs[:-1] - outputs[-1:]).abs().sum(1))
        return torch.stack(found).cpu().numpy()

    return run


def batch_of_one(forward: Forward, tokens: Array, alternatives: Array) -> Callable[[int], np.ndarray]:
    """Return the published procedure for strings: one forward for each changed string, compared on the host."""

    @inference
    def run(count: int) -> np.ndarray:
        found = []
        for clean, changed in zip(tokens[:count], alternatives[:count], strict=True):
            before = forward(tensor(clean[None])).cpu().numpy()
            for place in range(len(clean)):
                copy = list(clean)
                copy[place] = changed[place]
                found.append(np.abs(forward(tensor(np.asarray(copy)[None])).cpu().numpy() - before).sum())
        return np.reshape(found, (count, -1))

    return run


MASKS = 5


def five_masks(forward: Forward, tokens: Array, alternatives: Array) -> Callable[[int], np.ndarray]:
    """Return the published procedure for images: five times one place, the same for all of a batch of 100 images.

    The places are the first ones, so that the answers are known; those of the other places are NaN.
    """
    x, y = tensor(tokens), tensor(alternatives)

    @inference
    def run(count: int) -> np.ndarray:
        result = np.full((count, x.shape[1]), np.nan)
        for first in range(0, count, 100):
            batch = x[first : min(count, first + 100)]
            before = forward(batch)
            for place in range(min(MASKS, x.shape[1])):
                copy = batch.clone()
                copy[:, place] = y[first : first + len(batch), place]
                result[first : first + len(batch), place] = (forward(copy) - before).abs().sum(1).cpu().numpy()
        return result

    return run


def all_rows_at_once(forward: Forward, tokens: Array, alternatives: Array) -> Callable[[int], np.ndarray]:
    """Return the published procedure for texts: sentence by sentence, copies made one by one, one forward for all."""
    x, y = tensor(tokens), tensor(alternatives)

    @inference
    def run(count: int) -> np.ndarray:
        found = []
        for clean, changed in zip(x[:count], y[:count], strict=True):
            before = forward(clean[None])
            copies = clean.repeat(len(clean), *[1] * clean.ndim)
            for place in range(len(clean)):
                copies[place, place] = changed[place].to(copies.device)
            found.append((forward(copies) - before).abs().sum(1).cpu().numpy())
        return np.stack(found)

    return run


def shifts(states: Callable[[Tensor], list[Tensor]], tokens: Array, alternatives: Array, rows: int) -> Callable:
    """Return ``run(count)``: l1, l2 and l-infinity norms of every layer's whole shift ``[count t l 3]``."""
    x, y = tensor(tokens), tensor(alternatives)
    places = torch.arange(x.shape[1], device=x.device)

    @inference
    def run(count: int) -> np.ndarray:
        found = []
        for clean, changed in zip(x[:count], y[:count], strict=True):
            copies = clean.repeat(len(clean), 1)
            copies[places, places] = changed
            before = states(clean[None])
            parts = []
            for part in copies.split(rows):
                layers = []
                for after, base in zip(states(part), before, strict=True):
                    off = (after - base).flatten(1)
                    norms = [off.abs().sum(1), off.square().sum(1).sqrt(), off.abs().amax(1)]
                    layers.append(torch.stack(norms, 1))
                parts.append(torch.stack(layers, 1))
            found.append(torch.cat(parts))
        return torch.stack(found).cpu().numpy()

    return run


def compiled(forward: Forward) -> Forward:
    """Return ``forward`` compiled for the shapes that it is given."""
    return torch.compile(forward, dynamic=False)


def forward_of(module: Any, variables: PyTree, *, embeddings: bool = False) -> Forward:
    """Return an image model's or an encoder's evaluation, from tokens, or if asked from their embeddings."""
    families = {vit.ViT: _vit, bert.Bert: _bert, convmixer.ConvMixer: _convmixer, cnn.CNN: _cnn, resnet.ResNet: _resnet}
    make = families[type(module)]
    return make(module.config, variables, **({"embeddings": embeddings} if embeddings else {}))


def _dense(params: PyTree) -> Forward:
    weight = tensor(np.asarray(params["kernel"]).T.copy())
    bias = tensor(params["bias"]) if "bias" in params else None
    return lambda x: functional.linear(x, weight, bias)


def _layer_norm(config: Any, params: PyTree) -> Forward:
    scale, bias = tensor(params["scale"]), tensor(params["bias"])
    return lambda x: functional.layer_norm(x, (len(scale),), scale, bias, config.epsilon)


def _block(config: transformer.Config, params: PyTree) -> Forward:
    attention = params["attention"]
    weight = torch.cat([tensor(np.asarray(attention[n]["kernel"]).T.copy()) for n in ("query", "key", "value")])
    bias = None
    if config.projection_biases:
        bias = torch.cat([tensor(attention[n]["bias"]) for n in ("query", "key", "value")])
    out, expand, contract = (_dense(p) for p in (attention["out"], params["expand"], params["contract"]))
    norm_attention, norm_mlp = (_layer_norm(config, params[n]) for n in ("norm_attention", "norm_mlp"))
    shape = 3, config.heads, config.head_size

    def mix(x: Tensor) -> Tensor:
        query, key, value = functional.linear(x, weight, bias).unflatten(-1, shape).permute(2, 0, 3, 1, 4)
        return out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def mlp(x: Tensor) -> Tensor:
        return contract(functional.gelu(expand(x)))

    def block(x: Tensor) -> Tensor:
        if config.norm_first:
            x = x + mix(norm_attention(x))
            return x + mlp(norm_mlp(x))
        x = norm_attention(x + mix(x))
        return norm_mlp(x + mlp(x))

    return block


def _blocks(config: transformer.Config, params: PyTree) -> list[Forward]:
    return [_block(config, params[f"block_{index}"]) for index in range(config.depth)]


def _vit(config: vit.Config, variables: PyTree) -> Forward:
    params = variables["params"]
    embed, head, norm = _dense(params["embed"]), _dense(params["head"]), _layer_norm(config, params["norm"])
    norm_patches = _layer_norm(config, params["norm_patches"]) if config.normalize_patches else torch.nn.Identity()
    if config.positions == "learned":
        positions = tensor(params["positions"])
    else:
        positions = tensor(vit.sinusoidal_positions(config.grid, config.width).astype(np.float32))
    first = tensor(params["class_token"]) if config.pool == "class" else None
    blocks = _blocks(config, params)

    def forward(x: Tensor) -> Tensor:
        x = embed(norm_patches(x)) + positions
        if first is not None:
            x = torch.cat([first.expand(len(x), -1, -1), x], 1)
        for block in blocks:
            x = block(x)
        return head(norm(x[:, 0] if first is not None else x.mean(1)))

    return forward


def _embedding(config: bert.Config, params: PyTree) -> Forward:
    table, positions, types = (tensor(params[name]) for name in ("tokens", "positions", "types"))
    norm = _layer_norm(config, params["norm_embedding"])
    places = config.position_offset
    return lambda ids: norm(table[ids] + positions[places : places + ids.shape[1]] + types[0])


def _bert(config: bert.Config, variables: PyTree, *, embeddings: bool = False) -> Forward:
    embed, blocks = _embedding(config, variables["params"]), _blocks(config, variables["params"])

    def forward(x: Tensor) -> Tensor:
        if not embeddings:
            x = embed(x)
        for block in blocks:
            x = block(x)
        return x.mean(1) if config.read_out == "mean" else x[:, 0]

    return forward


def states_of(module: bert.Bert, variables: PyTree) -> Callable[[Tensor], list[Tensor]]:
    """Return ``states(ids [b t])``: the embedding's and every layer's, each ``[b t d]``."""
    embed, blocks = _embedding(module.config, variables["params"]), _blocks(module.config, variables["params"])

    def states(ids: Tensor) -> list[Tensor]:
        found = [embed(ids)]
        for block in blocks:
            found.append(block(found[-1]))
        return found

    return states


def _pixels(config: Any, x: Tensor) -> Tensor:
    """Return images ``[b c h w]``, channels last in memory, of patches."""
    height, width, channels = config.image_shape
    down, across, side = height // config.patch, width // config.patch, config.patch
    x = x.reshape(-1, down, across, side, side, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


def _kernel(array: Array) -> Tensor:
    return tensor(np.asarray(array).transpose(3, 2, 0, 1)).contiguous(memory_format=torch.channels_last)


def _batch_norm(params: PyTree, stats: PyTree) -> Forward:
    scale = np.asarray(params["scale"]) / np.sqrt(np.asarray(stats["var"]) + 1e-5)
    factor = tensor(scale)[:, None, None]
    added = tensor(np.asarray(params["bias"]) - np.asarray(stats["mean"]) * scale)[:, None, None]
    return lambda x: x * factor + added


def _convmixer(config: convmixer.Config, variables: PyTree) -> Forward:
    params, stats = variables["params"], variables["batch_stats"]
    side, channels = config.stem_patch, config.image_shape[2]
    stem = _kernel(np.asarray(params["stem"]["kernel"]).reshape(side, side, channels, config.width))
    stem_bias = tensor(params["stem"]["bias"])
    norm = {name: _batch_norm(params[name], stats[name]) for name in stats}
    deep = [
        (_kernel(params[f"depthwise_{i}"]["kernel"]), tensor(params[f"depthwise_{i}"]["bias"]).flatten())
        for i in range(config.depth)
    ]
    point = [
        (_kernel(np.asarray(params[f"pointwise_{i}"]["kernel"])[None, None]), tensor(params[f"pointwise_{i}"]["bias"]))
        for i in range(config.depth)
    ]
    head = _dense(params["head"])

    def forward(x: Tensor) -> Tensor:
        x = functional.conv2d(_pixels(config, x), stem, stem_bias, stride=side)
        x = norm["stem_norm"](functional.gelu(x))
        for i in range(config.depth):
            y = functional.conv2d(x, *deep[i], padding="same", groups=config.width)
            x = x + norm[f"depthwise_norm_{i}"](functional.gelu(y))
            x = norm[f"pointwise_norm_{i}"](functional.gelu(functional.conv2d(x, *point[i])))
        return head(x.mean((2, 3)))

    return forward


def _cnn(config: cnn.Config, variables: PyTree) -> Forward:
    params = variables["params"]
    layers = [params[f"convolution_{i}"] for i in range(len(config.channels))]
    kernels = [(_kernel(layer["kernel"]), tensor(layer["bias"])) for layer in layers]
    hidden = [_dense(params[f"hidden_{i}"]) for i in range(len(config.hidden))]
    head = _dense(params["head"])

    def forward(x: Tensor) -> Tensor:
        x = _pixels(config, x)
        for kernel in kernels:
            x = functional.max_pool2d(functional.relu(functional.conv2d(x, *kernel, padding="same")), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)
        for layer in hidden:
            x = functional.relu(layer(x))
        return head(x)

    return forward


def _resnet(config: resnet.Config, variables: PyTree) -> Forward:
    params, stats = variables["params"], variables["batch_stats"]
    stem, head = _folded(params["stem"], params["stem_norm"], stats["stem_norm"]), _dense(params["head"])
    blocks = []
    for stage, count in enumerate(config.blocks):
        for index in range(count):
            name = f"block_{stage}_{index}"
            own, seen = params[name], stats[name]
            pairs = [("convolution_0", "norm_0"), ("convolution_1", "norm_1"), ("shortcut", "shortcut_norm")]
            layers = [_folded(own[a], own[b], seen[b]) if a in own else None for a, b in pairs]
            blocks.append((layers, 2 if stage > 0 and index == 0 else 1))

    def forward(x: Tensor) -> Tensor:
        x = functional.relu(functional.conv2d(_pixels(config, x), *stem, padding=1))
        for (first, second, shortcut), stride in blocks:
            y = functional.relu(functional.conv2d(x, *first, stride=stride, padding=1))
            y = functional.conv2d(y, *second, padding=1)
            x = functional.relu(y + (x if shortcut is None else functional.conv2d(x, *shortcut, stride=stride)))
        return head(x.mean((2, 3)))

    return forward


def _folded(convolution: PyTree, norm: PyTree, stats: PyTree) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of a convolution without a bias and the normalisation after it."""
    factor = np.asarray(norm["scale"]) / np.sqrt(np.asarray(stats["var"]) + 1e-5)
    return _kernel(np.asarray(convolution["kernel"]) * factor), tensor(norm["bias"] - stats["mean"] * factor)


class Recognizer:
    """The standard block of a recognizer, as a function of parameters that PyTorch can differentiate."""

    def __init__(self, config: recognizer.Config, length: int) -> None:
        self.config = config
        self.positions = tensor(recognizer.sinusoidal_positions(length + 1, config.width).astype(np.float32))

    def parameters(self, variables: PyTree) -> dict[str, Tensor]:
        """Return our parameters ``[*m ...]`` in the layout of ``linear``; leading axes stay."""
        params, d = variables["params"], self.config.width
        layers = {name: np.asarray(value) for name, value in params["layers"].items()}
        lead = layers["query"].shape[: layers["query"].ndim - 3]
        qkv = [np.swapaxes(layers[name].reshape(*lead, d, d), -1, -2) for name in ("query", "key", "value")]
        biases = [layers[f"{name}_bias"].reshape(*lead, d) for name in ("query", "key", "value")]
        found = {
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
        found |= {name: layers[name] for name in kept}
        return {name: tensor(np.ascontiguousarray(value)) for name, value in found.items()}

    def __call__(self, params: dict[str, Tensor], strings: Tensor) -> Tensor:
        """Map strings ``[b n]`` to logits ``[b]``."""
        config, d = self.config, self.config.width
        end = torch.full_like(strings[:, :1], recognizer.EOS)
        x = params["embedding"][torch.cat([strings, end], 1)] + self.positions
        scale = None if config.scaled else 1.0
        for i in range(config.depth):
            of = {name: value[i] for name, value in params.items() if value.ndim and name not in _NO_LAYERS}
            qkv = functional.linear(x, of["qkv"], of["qkv_bias"]).unflatten(-1, (3, config.heads, config.head_size))
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2).flatten(2)
            mixed = functional.linear(mixed, of["out"], of["out_bias"])
            norm = of["attention_gain"], of["attention_offset"], config.epsilon
            x = functional.layer_norm(x + mixed, (d,), *norm)
            hidden = functional.relu(functional.linear(x, of["expand"], of["expand_bias"]))
            y = functional.linear(hidden, of["contract"], of["contract_bias"])
            x = functional.layer_norm(x + y, (d,), of["mlp_gain"], of["mlp_offset"], config.epsilon)
        return x[:, -1] @ params["weight"] + params["bias"]


_NO_LAYERS = ("embedding", "weight", "bias")


def train_recognizers(
    config: recognizer.Config, stacked: PyTree, strings: Array, labels: Array, rate: float, *, together: bool
) -> Callable[[int], np.ndarray]:
    """Return ``run(epochs)``: full-batch training with Adam, losses ``[epochs m]``, models in turn or vectorised."""
    model, x, y = Recognizer(config, strings.shape[1]), tensor(strings).long(), tensor(labels)
    start = model.parameters(stacked)

    def loss(params: dict[str, Tensor]) -> Tensor:
        return functional.binary_cross_entropy_with_logits(model(params, x), y)

    def steps(weights: dict[str, Tensor], gradients: Callable, epochs: int) -> Iterator[Tensor]:
        optimiser = torch.optim.Adam(weights.values(), lr=rate, fused=True)
        for _ in range(epochs):
            grads, value = gradients(weights)
            for name, weight in weights.items():
                weight.grad = grads[name]
            optimiser.step()
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
        found = []
        for member in range(len(start["embedding"])):
            weights = {name: value[member].clone() for name, value in start.items()}
            found.append(torch.stack(list(steps(weights, alone, epochs))))
        return torch.stack(found, 1).cpu().numpy()

    return run


def perceptron(weights: list[np.ndarray]) -> tuple[list[Tensor], Forward]:
    """Return the parameters and the logits of a tanh perceptron."""
    params = [tensor(weight).requires_grad_() for weight in weights]

    def forward(x: Tensor) -> Tensor:
        for weight in params[:-1]:
            x = torch.tanh(x @ weight)
        return x @ params[-1]

    return params, forward


def rises(weights: list[np.ndarray], inputs: Array, labels: Array, deviation: float) -> Callable[[int], np.ndarray]:
    """Return ``run(count)``: the rises of the loss under Gaussian noise on the weights, ``[count]``."""
    params, forward = perceptron(weights)
    x, y = tensor(inputs), tensor(labels).long()
    kept = [weight.detach().clone() for weight in params]

    @torch.no_grad()
    def run(count: int) -> np.ndarray:
        for weight, clean in zip(params, kept, strict=True):
            weight.copy_(clean)
        before, found = functional.cross_entropy(forward(x), y), []
        for _ in range(count):
            for weight, clean in zip(params, kept, strict=True):
                weight.copy_(torch.randn_like(clean).mul_(deviation).add_(clean))
            found.append(functional.cross_entropy(forward(x), y) - before)
        return torch.stack(found).cpu().numpy()

    return run


def eigenvalues(
    weights: list[np.ndarray], inputs: Array, labels: Array, k: int, steps: int, key: jax.Array
) -> Callable[[int], np.ndarray]:
    """Return ``run(1)``: the k largest eigenvalues of the Hessian by Lanczos, reorthogonalised twice, ``[1 k]``.

    Residuals are computed, too.
    """
    params, forward = perceptron(weights)
    x, y = tensor(inputs), tensor(labels).long()
    size = sum(weight.numel() for weight in params)
    start = tensor(jax.random.normal(key, (size,)))

    def run(count: int) -> np.ndarray:
        del count
        value = functional.cross_entropy(forward(x), y)
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, params, create_graph=True)])

        def product(vector: Tensor) -> Tensor:
            found = torch.autograd.grad(gradient, params, vector, retain_graph=True)
            return torch.cat([g.reshape(-1) for g in found])

        basis = torch.zeros(steps, size, device=x.device)
        projected = torch.zeros(steps, steps, device=x.device)
        vector = start
        for i in range(steps):
            basis[i] = vector / vector.norm()
            vector = product(basis[i])
            for _ in range(2):
                along = basis[: i + 1] @ vector
                vector = vector - along @ basis[: i + 1]
                projected[: i + 1, i] += along
        upper = torch.triu(projected).double().cpu()
        values, coordinates = torch.linalg.eigh(upper + torch.triu(upper, 1).T)
        values, vectors = values[-k:].flip(0), coordinates[:, -k:].flip(1).T.float().to(x.device) @ basis
        for value, vector in zip(values, vectors, strict=True):  # residuals, as ours gives them
            float((product(vector) - value * vector).norm())
        return values.numpy()[None]

    return run
