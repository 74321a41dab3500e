"""Positions as rotations of queries and keys, and the ways of scaling them to texts longer than those of training.

Rotations: Su et al. 2021 (arXiv 2104.09864). Scaling: ``"linear"``, Chen et al. 2023 (arXiv 2306.15595); ``"yarn"``,
Peng et al. 2023 (arXiv 2309.00071); ``"llama3"``, as in the code of Llama 3.1. All are fixed functions of the position;
that of ``"dynamic"`` scaling changes with the length of the text, and is not supported.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.models.common import require, require_choice, require_flags, require_number, require_positive

__all__ = ["SCALINGS", "Scaling", "frequencies", "rotate"]

SCALINGS = ("linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling:
    """How the frequencies of rotations are scaled, to read texts ``factor`` times as long as those of training.

    Attributes:
        kind: One of ``SCALINGS``. ``"linear"`` divides all frequencies by ``factor``; ``"llama3"`` those of wavelengths
            above ``original / low``, and in part those down to ``original / high``; ``"yarn"`` those that turn less
            than ``slow`` times over ``original`` positions, and in part those up to ``fast`` times.
        factor: By how much texts are longer; at least 1.
        original: The number of positions of training; ``"linear"`` needs none.
        low: Turns over ``original`` positions below which ``"llama3"`` divides.
        high: Turns above which it changes nothing.
        slow: Turns below which ``"yarn"`` divides.
        fast: Turns above which it changes nothing.
        whole: Whether ``"yarn"`` rounds the ends of the part between to whole pairs of numbers.
        amplitude: By what ``"yarn"`` multiplies rotated queries and keys; ``0.1 log(factor) + 1`` by default.

    Raises:
        ValueError: If the kind is unknown, or a number does not fit it.

    Example:
        >>> Scaling(kind="linear", factor=2.0).factor
        2.0
    """

    kind: str
    factor: float
    original: int | None = None
    low: float = 1.0
    high: float = 4.0
    slow: float = 1.0
    fast: float = 32.0
    whole: bool = True
    amplitude: float | None = None

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, SCALINGS)
        require_number("factor", self.factor, lambda factor: factor >= 1, "a finite number of at least 1")
        for name in ("low", "high", "slow", "fast"):
            require_number(name, getattr(self, name), lambda turns: turns > 0, "a finite number above 0")
        require(self.high > self.low, "high", self.high, f"above low, {self.low}")
        require(self.fast >= self.slow, "fast", self.fast, f"at least slow, {self.slow}")
        if self.kind == "linear":
            require(self.original is None, "original", self.original, "None: linear scaling does not depend on it")
        else:
            require_positive(original=self.original)
        if self.amplitude is not None:
            require_number("amplitude", self.amplitude, lambda value: value > 0, "a finite number above 0, or None")
        require_flags(whole=self.whole)


def frequencies(theta: float, size: int, scaling: Scaling | None = None) -> tuple[np.ndarray, float]:
    """Return the angles per position ``[size / 2]``, in radians, and the factor of rotated queries and keys.

    Without scaling ``theta^(-2 i / size)`` and 1.

    Example:
        >>> frequencies(100.0, 4, Scaling(kind="linear", factor=2.0))[0].round(3).tolist()
        [0.5, 0.05]
    """
    base = float(theta) ** (-np.arange(0, size, 2) / size)
    if scaling is None:
        return base, 1.0
    divided = base / scaling.factor
    if scaling.kind == "linear":
        return divided, 1.0
    if scaling.kind == "llama3":
        turns = scaling.original * base / (2 * np.pi)
        kept = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)
        return kept * base + (1 - kept) * divided, 1.0
    # The number of the pair, as a real number, that turns so many times over the positions of training.
    first, last = (
        size * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (scaling.fast, scaling.slow)
    )
    if scaling.whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    last = last + 0.001 if first == last else last
    kept = 1 - np.clip((np.arange(size // 2) - first) / (last - first), 0, 1)
    amplitude = 0.1 * math.log(scaling.factor) + 1 if scaling.amplitude is None else scaling.amplitude
    return kept * base + (1 - kept) * divided, amplitude


def rotate(x: jax.Array, places: jax.Array, theta: float, scaling: Scaling | None = None) -> jax.Array:
    """Return queries or keys ``[b h t k]``, rotated by their positions ``[b t]``.

    Numbers i and i + k/2 of a token at position p are the two coordinates of a point, which is turned by the angle
    ``p theta^(-2 i / k)``, or with scaling by another; see ``frequencies``.

    Example:
        >>> quarter = jnp.array([[np.pi / 2]])
        >>> rotate(jnp.array([[[[1.0, 0.0]]]]), quarter, theta=10.0).round(3).ravel().tolist()
        [-0.0, 1.0]
    """
    wide = jnp.promote_types(jnp.float32, x.dtype)
    turns, amplitude = frequencies(theta, x.shape[-1], scaling)
    angles = places.astype(wide)[:, None, :, None] * jnp.asarray(turns, wide)[None, None, None]
    cos, sin = (amplitude * part for part in (jnp.cos(angles), jnp.sin(angles)))
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
