"""Models of images and texts, which read the parameters of ours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmark.pytorch.tensors import Forward, Tensor, tensor
from jaxsens.models import transformer
from jaxsens.models.images import cnn, convmixer, resnet, vit
from jaxsens.models.text import bert
from jaxsens.typing import Array, PyTree


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
        results = [embed(ids)]
        for block in blocks:
            results.append(block(results[-1]))
        return results

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
            weights, moments = params[name], stats[name]
            pairs = [("convolution_0", "norm_0"), ("convolution_1", "norm_1"), ("shortcut", "shortcut_norm")]
            layers = [_folded(weights[a], weights[b], moments[b]) if a in weights else None for a, b in pairs]
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
    """Return kernel and bias of a convolution without a bias and the normalization after it."""
    factor = np.asarray(norm["scale"]) / np.sqrt(np.asarray(stats["var"]) + 1e-5)
    return _kernel(np.asarray(convolution["kernel"]) * factor), tensor(norm["bias"] - stats["mean"] * factor)
