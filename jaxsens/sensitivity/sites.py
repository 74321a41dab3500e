"""Which tokens of a batch are real, and which of them are perturbed and counted: one check for all measures."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution.checks import host_values
from jaxsens.typing import Array, Key

__all__ = ["Groups", "Members", "Sites", "checked", "checked_groups", "drawn", "selected"]

# Sites are drawn with a separate key: the one that the last of 2^32 draws would have.
_SITES = 2**32 - 1


Sites = Array | Sequence[int] | Sequence[Sequence[int]]
"""Booleans ``[b t]`` or ``[t]``, or positions: ``[k]`` for all examples, or a list of them for each example."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Tokens that change together, such as those of a word, a span of text or a region of an image.

    ``sites=Groups(labels)`` of ``token_sensitivity`` replaces all tokens of a group at once, and records a change for
    each group in the place of each token.

    Attributes:
        labels: The number of the group of each token, from 0, and -1 for tokens in none; integers ``[b t]``, or ``[t]``
            for all examples.

    Raises:
        ValueError: If labels are not integers of at least -1, or not ``[b t]`` or ``[t]``.

    Example:
        >>> words = Groups([-1, 0, 0, 1, -1])      # [CLS], a word of two tokens, a word, [SEP]
        >>> words.members(np.ones((1, 5), bool)).astype(int).tolist()
        [[[0, 1, 1, 0, 0], [0, 0, 0, 1, 0]]]
    """

    labels: Array

    def __post_init__(self) -> None:
        labels = host_values(self.labels, "labels")
        if labels.dtype.kind not in "iu" or labels.ndim not in (1, 2) or not labels.size or labels.min() < -1:
            raise ValueError(
                f"labels must be integers of at least -1, [b t] or [t], got {labels.dtype} of shape {labels.shape}"
            )
        object.__setattr__(self, "labels", labels.astype(np.int64))

    def members(self, real: np.ndarray) -> np.ndarray:
        """Return which real tokens ``[b t]`` are in which group, ``[b g t]``.

        Raises:
            ValueError: If labels do not fit the tokens, or an example has no group with a real token.
        """
        if self.labels.shape not in (real.shape, real.shape[1:]):
            raise ValueError(
                f"labels must have the shape [b t] = {real.shape} or [t] = {real.shape[1:]}, got {self.labels.shape}"
            )
        labels = np.where(real, np.broadcast_to(self.labels, real.shape), -1)
        if labels.max() >= real.shape[1]:
            raise ValueError(f"labels must number at most {real.shape[1]} groups from 0, got {labels.max()}")
        members = labels[:, None] == np.arange(labels.max() + 1)[:, None]
        some = members.any((1, 2))
        if not some.all():
            raise ValueError(f"labels: example {int(np.argmin(some))} has no group with a real token; leave it out")
        return members


class Members(NamedTuple):
    """Groups as a measure hands them to another, for a part of its examples.

    Attributes:
        groups: Which tokens are in which group ``[b g t]``.
        sites: Which groups are perturbed and counted ``[b g]``.

    Example:
        >>> Members(np.ones((1, 1, 3), bool), np.ones((1, 1), bool)).groups.shape
        (1, 1, 3)
    """

    groups: np.ndarray
    sites: np.ndarray


def selected(sites: np.ndarray, groups: np.ndarray | None, which: Array | slice = slice(None)) -> np.ndarray | Members:
    """Return the sites of some of the examples, of what ``checked_groups`` returned, for another measure.

    Example:
        >>> selected(np.ones((3, 2), bool), None, np.array([2])).shape
        (1, 2)
    """
    return sites[which] if groups is None else Members(groups[which], sites[which])


def checked_groups(
    tokens: Array, mask: Array | None, sites: "Sites | Groups | Members | None"
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Return tokens ``[b t *s]``, mask ``[b t]``, sites and groups: ``checked``, for sites that may be groups.

    Returns:
        Tokens and mask; which tokens, or groups, are sites ``[b t]`` or ``[b g]``; and which tokens are in which group
        ``[b g t]``, or None where each token is replaced alone.

    Example:
        >>> sites, groups = checked_groups(np.zeros((1, 3), np.int32), None, Groups([0, 0, 1]))[2:]
        >>> sites.shape, groups.shape
        ((1, 2), (1, 2, 3))
    """
    if not isinstance(sites, Groups | Members):
        return *checked(tokens, mask, sites), None
    tokens, mask, real = checked(tokens, mask, None)
    if isinstance(sites, Members):
        return tokens, mask, sites.sites, sites.groups
    groups = sites.members(real)
    return tokens, mask, groups.any(2), groups


def checked(tokens: Array, mask: Array | None, sites: Sites | None) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return tokens ``[b t *s]``, ``mask [b t]`` and sites ``[b t]`` as numpy arrays.

    Sites are by default, and at most, the real tokens. Tokens in float16 or bfloat16 become float32, so that noise
    below their rounding is not lost.

    Args:
        tokens: Ids, bits, patches or embeddings ``[b t *s]``.
        mask: Which tokens are real ``[b t]``; None where all are.
        sites: Which tokens are perturbed, ``[b t]`` or ``[t]``; or positions: a list of them for all examples, or one
            list for each example, of integers from 0 (-1 fills up a matrix of them). None for all real ones.

    Raises:
        ValueError: If there is no example or no token, shapes do not fit, the mask is not booleans, sites are neither
            booleans nor different positions, an example has no site, an array is masked or traced, or a token does not
            fit the dtype on the device.

    Example:
        >>> tokens, mask, sites = checked(np.zeros((1, 3), np.int32), np.array([[True, True, False]]), None)
        >>> sites.tolist()
        [[True, True, False]]
        >>> checked(np.zeros((2, 3), np.int32), None, [[0], [1, 2]])[2].tolist()
        [[True, False, False], [False, True, True]]
    """
    if isinstance(sites, Groups):
        raise ValueError(
            "sites are groups, which measures of token sensitivity perturb; give booleans or positions here"
        )
    tokens = host_values(tokens, "tokens", narrow=True)
    if jnp.issubdtype(tokens.dtype, jnp.floating):
        tokens = tokens.astype(np.promote_types(tokens.dtype, np.float32))
    if tokens.ndim < 2 or 0 in tokens.shape:
        raise ValueError(f"tokens must be [b t *s] with at least one example and one token, got shape {tokens.shape}")
    if tokens.ndim == 4 and tokens.shape[3] in (1, 3, 4):
        warnings.warn(
            f"tokens [b {' '.join(map(str, tokens.shape[1:]))}] look like images [b h w c], of which a token would be "
            "a row of pixels: pass one_at_a_time(jaxsens.from_images(apply, patch)) and the tokens "
            "jaxsens.data.patches.to_patches(images, patch)",
            UserWarning,
            stacklevel=3,
        )
    shape = tokens.shape[:2]
    if mask is not None:
        mask = _booleans(mask, "mask")
        if mask.shape != shape:
            raise ValueError(f"mask must have the shape [b t] = {shape} of the tokens, got {mask.shape}")
    real = np.ones(shape, bool) if mask is None else mask
    if sites is None:
        sites = real
    else:
        sites = _from_positions(sites, shape)
        if sites.shape not in (shape, shape[1:]):
            raise ValueError(f"sites must have the shape [b t] = {shape} or [t] = {shape[1:]}, got {sites.shape}")
        sites = np.broadcast_to(sites, shape) & real
    if not sites.any(1).all():
        raise ValueError(f"sites: example {int(np.argmin(sites.any(1)))} has no real token to perturb; leave it out")
    return tokens, mask, sites


def drawn(key: Key, sites: Array, count: int) -> jax.Array:
    """Draw ``count`` of an example's sites without replacement, all orders being equally likely.

    The first n of a larger count are those of a count of n. Each token's priority depends only on the key and its
    position, so that padding changes nothing.

    Args:
        key: The key of the example.
        sites: From which to draw, booleans ``[t]``.
        count: The number of sites; at most t.

    Returns:
        Numbers of tokens ``[count]``; where the example has fewer sites they come first, followed by other tokens.

    Example:
        >>> sorted(drawn(jax.random.key(0), jnp.array([True, False, True]), 2).tolist())
        [0, 2]
    """
    positions = jnp.arange(len(sites), dtype=jnp.uint32)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, _SITES)))(positions)
    priority = jax.vmap(jax.random.uniform)(keys)
    return jnp.argsort(jnp.where(sites, priority, jnp.inf))[:count]


def _from_positions(sites: Sites, shape: tuple[int, int]) -> np.ndarray:
    """Return sites as booleans, if they are positions; as they are, if they are booleans."""
    count, length = shape
    if isinstance(sites, list | tuple) and sites and all(isinstance(row, list | tuple) for row in sites):
        longest = max(len(row) for row in sites)
        sites = [[*row, *[-1] * (longest - len(row))] for row in sites] if not _has_booleans(sites) else sites
    positions = host_values(sites, "sites")
    if positions.dtype.kind not in "iu" or positions.ndim not in (1, 2):
        return _booleans(positions, "sites")
    if positions.ndim == 2 and len(positions) != count:
        raise ValueError(f"sites must be positions for each of {count} examples, got {len(positions)} lists of them")
    if positions.shape in (shape, shape[1:]) and np.isin(positions, (0, 1)).all():
        raise ValueError(
            "sites must be booleans, True for the tokens that count, or positions: these numbers are all 0 or 1, one "
            "for each token, as those of a mask are"
        )
    if positions.size and (positions.min() < -1 or positions.max() >= length):
        raise ValueError(f"sites must be positions from 0 to {length - 1}, got {positions.min()} to {positions.max()}")
    rows = np.broadcast_to(positions, (count, positions.shape[-1]))
    times = (rows[..., None] == np.arange(length)).sum(1)
    if (times > 1).any():
        example, position = np.argwhere(times > 1)[0].tolist()
        raise ValueError(f"sites must be different positions, got {position} twice for example {example}")
    return times > 0


def _has_booleans(lists: Sequence[Sequence[Any]]) -> bool:
    return any(isinstance(site, bool | np.bool_) for row in lists for site in row)


def _booleans(values: Array, name: str) -> np.ndarray:
    values = host_values(values, name)
    if values.dtype != bool:  # an additive mask of 0 and -inf, cast to booleans, would be upside down
        raise ValueError(f"{name} must be booleans, True for the tokens that count, got {values.dtype}")
    return values
