"""A Llama that reads the parameters of ours, and its substitutions: all copies, or only what follows the token.

The second keeps the keys and values of the text and evaluates, for a block of neighboring tokens, the positions from
the first of them on: what a PyTorch user writes with a key-value cache. Of the last layer one row is evaluated.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmark.pytorch.tensors import Tensor, tensor
from jaxsens.models.text import llama, rotary
from jaxsens.typing import PyTree

__all__ = ["substitutions"]

_Cache = list[tuple[Tensor, Tensor]]


def substitutions(
    module: llama.Llama, variables: PyTree, rows: int, *, shared: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return ``changed(tokens [t], alternatives [t]) -> logits [t v]`` of the next token, by blocks of ``rows``.

    Args:
        module: A Llama with the read-out ``"next"``, without windows, biases, normalized queries and scaled rotations.
        variables: Its variables.
        rows: Substitutions evaluated at once.
        shared: Whether what comes before a block is evaluated once.
    """
    config, evaluate = module.config, _decoder(module, variables)
    plain = not (config.projection_biases or config.mlp_biases or config.normalized_queries or config.scaling)
    if config.read_out != "next" or config.window is not None or not plain:
        raise ValueError(f"module must be a plain Llama that reads the next token, got {config}")

    @torch.no_grad()
    def changed(tokens: Tensor, alternatives: Tensor) -> Tensor:
        count = len(tokens)
        clean: _Cache = []
        if shared:
            evaluate(tokens[None], 0, [], clean)
        results = []
        for start in range(0, count, rows):
            sites = torch.arange(start, min(start + rows, count))
            copies = tokens.repeat(len(sites), 1)
            copies[torch.arange(len(sites)), sites] = alternatives[sites]
            first = start if shared else 0
            before = [(key[:, :, :first], value[:, :, :first]) for key, value in clean]
            results.append(evaluate(copies[:, first:], first, before, None))
        return torch.cat(results)

    return changed


def _decoder(module: llama.Llama, variables: PyTree) -> Callable[[Tensor, int, _Cache, _Cache | None], Tensor]:
    config, params = module.config, variables["params"]
    table = tensor(params["tokens"])
    head = table if config.tied else tensor(params["head"])
    turns = tensor(rotary.frequencies(config.theta, config.head_size)[0].astype(np.float32))
    layers = [_weights(params[f"block_{index}"]) for index in range(config.depth)]

    def norm(x: Tensor, scale: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), scale, config.epsilon)

    def rotate(x: Tensor, first: int) -> Tensor:
        angles = torch.arange(first, first + x.shape[2])[:, None] * turns[None]
        cos, sin = angles.cos(), angles.sin()
        one, two = x.chunk(2, -1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)

    def evaluate(ids: Tensor, first: int, before: _Cache, kept: _Cache | None) -> Tensor:
        """Return logits after the last token; ``kept`` receives the keys and values of every layer."""
        x = table[ids]
        for index, weights in enumerate(layers):
            y = norm(x, weights["norm_attention"])

            def by_head(name: str, heads: int, y: Tensor, weights: dict[str, Tensor] = weights) -> Tensor:
                return functional.linear(y, weights[name]).unflatten(-1, (heads, -1)).transpose(1, 2)

            key, value = rotate(by_head("key", config.key_heads, y), first), by_head("value", config.key_heads, y)
            if before:
                past = (one.expand(len(ids), -1, -1, -1) for one in before[index])
                key, value = (torch.cat(pair, 2) for pair in zip(past, (key, value), strict=True))
            if kept is not None:
                kept.append((key, value))
            last = index == config.depth - 1
            here = first + ids.shape[1] - 1 if last else first
            x, y = (part[:, -1:] if last else part for part in (x, y))
            query = rotate(by_head("query", config.heads, y), here)
            seen = torch.arange(key.shape[2])[None] <= here + torch.arange(query.shape[2])[:, None]
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
            x = x + functional.linear(mixed.transpose(1, 2).flatten(2), weights["out"])
            y = norm(x, weights["norm_mlp"])
            gate, expand = (functional.linear(y, weights[name]) for name in ("gate", "expand"))
            x = x + functional.linear(functional.silu(gate) * expand, weights["contract"])
        return functional.linear(norm(x[:, -1], tensor(params["norm"]["scale"])), head)

    return evaluate


def _weights(block: PyTree) -> dict[str, Tensor]:
    kernels = {name: block["attention"][name] for name in ("query", "key", "value", "out")}
    kernels |= {name: block[name] for name in ("gate", "expand", "contract")}
    weights = {name: tensor(np.asarray(part["kernel"]).T.copy()) for name, part in kernels.items()}
    return weights | {name: tensor(block[name]["scale"]) for name in ("norm_attention", "norm_mlp")}
