"""Recognizers of First, Majority and Parity built by hand in the paper's block: exact at all lengths if epsilon is 0.

Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, s.2.2, Cor. 3.4;
parity after Chiang and Cholak, Overcoming a Theoretical Limitation of Self-Attention (2022). Three devices:

- *Features are pairs* ``(v, -v)``, so that activations have mean 0 and normalization only scales them.
- *Multiples of the vector of ones are read once*: the attention of the first layer reads them, normalization removes
  them. Positions that only attention needs are therefore multiples of it.
- *A bias cancels the residual* where the end of string is read. The rest is the answer, of order 1/N (1/N^2 for
  parity): with epsilon = 0 the last normalization scales it to 1 for every N, with epsilon > 0 it falls with N.

Such parameters are a set of measure zero: with any other bias the residual is larger than the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxsens.boolean import languages
from jaxsens.boolean.languages import Language
from jaxsens.models.recognizers import Config
from jaxsens.typing import PyTree

SHIFT = 8.0
"""How far later positions of ``first`` are moved, so that the bit there no longer decides the sign."""


@dataclass(frozen=True)
class Construction:
    """Parameters by formula, and the language that they recognize.

    Attributes:
        language: From the length to the language.
        config: The architecture.
        params: ``embedding``, ``layers`` and ``readout``, float64.
        encode: From positions 1, 2, ... ``[t]`` to their encodings ``[t d]``: a function of the position only.
        smallest: From lengths to the smallest ``|logit|`` over strings, in closed form; to first order in epsilon.
    """

    language: Callable[[int], Language]
    config: Config
    params: PyTree
    encode: Callable[[np.ndarray], np.ndarray]
    smallest: Callable[[np.ndarray], np.ndarray]

    def variables(self, n: int) -> PyTree:
        """Return variables for strings of ``n`` bits: the parameters, and the encodings of ``n + 1`` positions."""
        return {"params": self.params, "positions": self.encode(np.arange(1, n + 2))}


def majority(epsilon: float, gain: float = 1.0) -> Construction:
    """Build majority: D = 2, one layer, uniform attention, bits of value +1 and -1, the end of string of value -1/2.

    ``m = (ones - zeros - 1/2) / (N + 1)`` and ``logit = m / sqrt(m^2 + epsilon / gain^2)``; a tie is rejected.

    Args:
        epsilon: Epsilon of layer normalization, at least 0.
        gain: Factor by which the MLP multiplies m.
    """
    config = _architecture(1, 2, epsilon)
    layer = _layer(2)
    layer["value"][:, 0, 0] = _reads(2, 0)
    _write_answer(layer, gain)
    layer["contract_bias"] += _feature(2, 0) / 2
    embedding = np.stack([-_feature(2, 0), _feature(2, 0), -_feature(2, 0) / 2])

    def smallest(n: np.ndarray) -> np.ndarray:
        return 1 / np.sqrt(1 + 4 * epsilon * (n + 1) ** 2 / gain**2)

    return Construction(
        languages.majority, config, _params([layer], embedding), lambda t: np.zeros((len(t), 2)), smallest
    )


def first(epsilon: float, gain: float = 1.0) -> Construction:
    """Build First: D = 4, two layers, bounded positions: ``p(1) = 0``, and p(n) = 8 times the bits' feature after it.

    The first normalization is a sign: of the bit at position 1, of ``bit + 8`` elsewhere, where it is always +1. The
    mean over all positions, less 1, is then ``x_1 / (N + 1)``; the end of string, which has a separate feature, sets
    the threshold. ``logit = x_1 / sqrt(1 + epsilon (N + 1)^2 / gain^2)`` with ``x_1 = +-1``.

    Args:
        epsilon: Epsilon of layer normalization, at least 0.
        gain: Factor by which the MLP multiplies the mean.
    """
    width, bit, end = 4, _feature(4, 0), _feature(4, 1)
    config = _architecture(2, width, epsilon)
    embedding = np.stack([-bit, bit, end - SHIFT * bit])

    def normalized(x: float) -> float:
        return x / np.sqrt(x**2 / 2 + epsilon)

    # With epsilon > 0 later positions are not quite alike: the midpoint between their two bits.
    later = (normalized(SHIFT + 1) + normalized(SHIFT - 1)) / 2
    decide = _layer(width)
    decide["value"][:, 0, 0] = _reads(width, 0) + 2 * later / normalized(1.0) * _reads(width, 1)
    _write_answer(decide, gain, threshold=later)
    decide["contract_bias"] += -normalized(1.0) * end
    params = _params([_layer(width), decide], embedding)

    def smallest(n: np.ndarray) -> np.ndarray:
        return 1 / np.sqrt(1 + epsilon * (n + 1) ** 2 / gain**2)

    def encode(t: np.ndarray) -> np.ndarray:
        return np.where(t == 1, 0, SHIFT)[:, None] * bit[None]

    return Construction(languages.first, config, params, encode, smallest)


def parity(epsilon: float, gain: float = 1.0) -> Construction:
    """Build parity: D = 8, two layers, ``p(n) = log(2n - 1) (1, ..., 1)``, and a feature that marks position 1.

    Position i attends to the end of string with weight ``2i - 1`` and to bits with weight 1, so that it sees ``t / Z``
    and ``1 / Z`` with ``t = k + 2 - 2i`` for k ones and ``Z = N + 2i - 1``. Four ReLUs turn this into +1/Z where t = 0,
    -1/Z where t = 1, and 0 at all other integers: exactly one position answers, + if k is even. The second layer adds
    up: ``m = +-2 gain / ((N + 1) (N + 2i - 1))`` and ``logit = 1 / sqrt(1 + 4 epsilon / m^2)``, where ``2i - 1`` is at
    most ``N + 1``. The logarithm has no bound, but is used only to share attention between the end of string and all
    the bits together, which takes no more than 3/4 of it.

    Args:
        epsilon: Epsilon of layer normalization, at least 0.
        gain: Factor by which the second MLP multiplies.
    """
    width = 8
    bit, end, mark, answer = (_feature(width, i) for i in range(4))
    read_bit, read_end, read_mark, read_answer = (_reads(width, i) for i in range(4))
    config = _architecture(2, width, epsilon)
    count = _layer(width)
    count["query"][:, 0, 0] = 1 / width
    count["key"][:, 0, 0] = read_end
    # The bits' values are +-1, and all weights sum to 1: hence the halves, and the bias 1/2 below.
    count["value"][:, 0, 0] = read_bit / 2 + read_mark - 1.5 * read_end
    count["value"][:, 0, 1] = read_mark
    for unit, (shift, slope) in enumerate(zip((1, 0, -1, -2), (1, -3, 3, -1), strict=True)):
        count["expand"][0, unit], count["expand"][1, unit], count["expand_bias"][unit] = 1, shift, 0.5
        count["contract"][unit] = slope * answer
    add_up = _layer(width)
    add_up["value"][:, 0, 0] = read_answer
    _write_answer(add_up, gain, answer)
    add_up["contract_bias"] += -end / np.sqrt(2 / width + epsilon)
    params = _params([count, add_up], np.stack([-bit, bit, end]), answer)

    def encode(t: np.ndarray) -> np.ndarray:
        return np.log(2.0 * t - 1)[:, None] * np.ones((1, width)) + (t == 1)[:, None] * mark[None]

    def smallest(n: np.ndarray) -> np.ndarray:
        m = gain / np.sqrt(0.25 + epsilon) / ((n + 1) * (n + 1 + 2 * (n // 2)))
        return 1 / np.sqrt(1 + 4 * epsilon / m**2)

    return Construction(languages.parity, config, params, encode, smallest)


def first_by_growing_positions(epsilon: float, gain: float = 1.0) -> Construction:
    """Build First with D = 2, one layer and ``p(n) = -(n - 1) (1, 1)``, which has no bound: the margin never fades.

    The end of string attends to position n with weight ``e^(-2 (n - 1))``, so that the first bit outweighs all others
    whatever epsilon is. Cor. 3.3 and 3.4 must hence mean bounded encodings, which s.2.2 does not require.

    Args:
        epsilon: Epsilon of layer normalization, at least 0.
        gain: Factor by which the MLP multiplies the mean.
    """
    layer, bit = _layer(2), _feature(2, 0)
    layer["query"][:, 0, 0] = 2 * _reads(2, 0)
    layer["key"][:, 0, 0] = 1 / 2
    layer["value"][:, 0, 0] = _reads(2, 0)
    _write_answer(layer, gain)
    layer["contract_bias"] += -bit

    def smallest(n: np.ndarray) -> np.ndarray:
        rest = (1 - np.exp(-2.0 * n)) / (np.exp(2) - 1)  # the end of string, of value +1, among them
        m = (1 - rest) / (1 + rest)
        return 1 / np.sqrt(1 + epsilon / (gain * m) ** 2)

    params = _params([layer], np.stack([-bit, bit, bit]))
    return Construction(
        languages.first, _architecture(1, 2, epsilon), params, lambda t: -(t - 1.0)[:, None] * np.ones((1, 2)), smallest
    )


CONSTRUCTIONS: dict[str, Callable[[float], Construction]] = {
    "first": first,
    "majority": majority,
    "parity": parity,
    "first-growing": first_by_growing_positions,
}
"""Name to ``build(epsilon)``; the last one has positions without a bound."""


def hard_strings(n: int, exhaustive: int = 10, extra: int = 16) -> np.ndarray:
    """Return strings ``[b n]`` that include one of smallest margin: all of them up to a length.

    Logits depend on the number of ones, on the first bit and, weakly, on the order. Longer strings are therefore ones
    first and ones last, with few, about half and almost all ones; and random strings.

    Args:
        n: Bits of a string.
        exhaustive: Largest n of which all strings are returned.
        extra: Random strings beyond.
    """
    if n <= exhaustive:
        return (np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1).astype(np.int32)
    near = np.arange(-2, 4)
    ones = np.unique(np.clip(np.concatenate([[0, 1, 2], n // 2 + near, n - np.arange(4)]), 0, n))
    prefixes = (np.arange(n)[None] < ones[:, None]).astype(np.int32)
    random = np.random.default_rng(n).integers(0, 2, (extra, n), np.int32)
    return np.concatenate([prefixes, prefixes[:, ::-1], random])


def _architecture(depth: int, width: int, epsilon: float) -> Config:
    return Config(block="paper", depth=depth, heads=1, head_size=width, multiplier=1, epsilon=epsilon)


def _feature(width: int, pair: int) -> np.ndarray:
    """Return the direction of a pair of coordinates: +1 in the first, -1 in the second."""
    direction = np.zeros(width)
    direction[2 * pair : 2 * pair + 2] = 1, -1
    return direction


def _reads(width: int, pair: int) -> np.ndarray:
    """Return the functional that is 1 on the feature of a pair; it is 0 on multiples of the vector of ones."""
    return _feature(width, pair) / 2


def _layer(width: int) -> dict[str, np.ndarray]:
    """Return a layer of zeros: uniform attention to nothing, and an MLP that adds nothing."""
    layer = {name: np.zeros((width, 1, width)) for name in ("query", "key", "value")}
    layer |= {name: np.zeros((width, width)) for name in ("expand", "contract")}
    return layer | {f"{name}_bias": np.zeros(width) for name in ("expand", "contract")}


def _write_answer(
    layer: dict[str, np.ndarray], gain: float, direction: np.ndarray | None = None, threshold: float = 0.0
) -> None:
    """Make the MLP write ``gain (x - threshold)`` of its first input x along a direction, by default the first pair."""
    direction = _feature(len(layer["expand"]), 0) if direction is None else direction
    for unit, sign in enumerate((1, -1)):
        layer["expand"][0, unit], layer["expand_bias"][unit] = sign, -sign * threshold
        layer["contract"][unit] = sign * gain * direction


def _params(layers: list[dict[str, np.ndarray]], embedding: np.ndarray, answer: np.ndarray | None = None) -> PyTree:
    """Stack the layers, and read the answer so that it is +-1 when epsilon is 0: ``sqrt(D / 2)`` along its pair."""
    width = embedding.shape[1]
    answer = _feature(width, 0) if answer is None else answer
    readout = {"weight": answer / 2 / np.sqrt(width / 2), "bias": np.zeros(())}
    stacked = {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}
    return {"embedding": embedding, "layers": stacked, "readout": readout}
