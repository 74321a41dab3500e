"""All single-token substitutions of examples: in batches, and by the procedures as they were published."""

from collections.abc import Callable

import numpy as np
import torch

from experiments.benchmark.pytorch.strongest import products_in, strongest
from experiments.benchmark.pytorch.tensors import Forward, Tensor, inference, tensor
from jaxsens.typing import Array


def substitutions(forward: Forward, tokens: Array, alternatives: Array, rows: int) -> Callable[[int], np.ndarray]:
    """Return ``run(count)``: how the outputs of the first examples change, ``[count t]``, ``rows`` copies at once.

    Where a batch is larger than the copies of an example, it holds those of several.
    """
    x, y = tensor(tokens), tensor(alternatives)
    length = x.shape[1]
    places = torch.arange(length, device=x.device)
    together = max(1, rows // (length + 1))  # whole examples: a remainder would be a small batch of its own

    @inference
    def run(count: int) -> np.ndarray:
        results = []
        for clean, changed in zip(x[:count].split(together), y[:count].split(together), strict=True):
            copies = clean[:, None].repeat(1, length + 1, *[1] * (clean.ndim - 1))
            copies[:, places, places] = changed
            outputs = torch.cat([forward(part) for part in copies.flatten(0, 1).split(rows)]).float()
            outputs = outputs.reshape(len(clean), length + 1, -1)
            results.append((outputs[:, :-1] - outputs[:, -1:]).abs().sum(2))
        return torch.cat(results).cpu().numpy()

    return run


def many_at_once(
    forward: Forward, tokens: Array, alternatives: Array, at_once: int, *, precision: str, notes: list[str]
) -> Callable[[], np.ndarray]:
    """Return ``run()``: how the outputs of all examples change, ``[b t]``, ``at_once`` examples in one program.

    The program is compiled and captured as ``strongest`` does it; ``precision`` is that of products of float32. The
    number of examples must be a multiple of ``at_once``.
    """
    x, y = tensor(tokens), tensor(alternatives)
    length = x.shape[1]
    places = torch.arange(length, device=x.device)

    def changes(clean: Tensor, changed: Tensor) -> Tensor:
        copies = clean[:, None].repeat(1, length + 1, *[1] * (clean.ndim - 1))
        copies[:, places, places] = changed
        outputs = forward(copies.flatten(0, 1)).float().reshape(len(clean), length + 1, -1)
        return (outputs[:, :-1] - outputs[:, -1:]).abs().sum(-1)

    with torch.inference_mode(), products_in(precision):
        form = strongest(changes, (x[:at_once], y[:at_once]), notes)

    @inference
    def run() -> np.ndarray:
        with products_in(precision):
            groups = zip(x.split(at_once), y.split(at_once), strict=True)
            return torch.cat([form(*group).clone() for group in groups]).cpu().numpy()

    return run


def batch_of_one(forward: Forward, tokens: Array, alternatives: Array) -> Callable[[int], np.ndarray]:
    """Return the published procedure for strings: one forward for each changed string, compared on the host."""

    @inference
    def run(count: int) -> np.ndarray:
        results = []
        for clean, changed in zip(tokens[:count], alternatives[:count], strict=True):
            before = forward(tensor(clean[None])).cpu().numpy()
            for place in range(len(clean)):
                copy = list(clean)
                copy[place] = changed[place]
                results.append(np.abs(forward(tensor(np.asarray(copy)[None])).cpu().numpy() - before).sum())
        return np.reshape(results, (count, -1))

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
        results = []
        for clean, changed in zip(x[:count], y[:count], strict=True):
            before = forward(clean[None])
            copies = clean.repeat(len(clean), *[1] * clean.ndim)
            for place in range(len(clean)):
                copies[place, place] = changed[place].to(copies.device)
            results.append((forward(copies) - before).abs().sum(1).cpu().numpy())
        return np.stack(results)

    return run


def shifts(states: Callable[[Tensor], list[Tensor]], tokens: Array, alternatives: Array, rows: int) -> Callable:
    """Return ``run(count)``: l1, l2 and l-infinity norms of every layer's whole shift ``[count t l 3]``."""
    x, y = tensor(tokens), tensor(alternatives)
    places = torch.arange(x.shape[1], device=x.device)

    @inference
    def run(count: int) -> np.ndarray:
        results = []
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
            results.append(torch.cat(parts))
        return torch.stack(results).cpu().numpy()

    return run
