"""What replaces a token: noise on its embedding, in three treatments, or another word."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxsens import perturb, substitution
from jaxsens.execution.parallel import bind
from jaxsens.models.substitution import causal, encoder
from jaxsens.models.text import bert, token_ids
from jaxsens.typing import Array, Key, PyTree, SubstituteAt

__all__ = ["TREATMENTS", "Noise", "OtherWord", "of_embeddings", "of_ids"]

TREATMENTS = ("raw", "renormalized", "published")
"""``raw``: noise in units of the variance of the token's own embedding, at one place in every family. ``renormalized``:
the same, and the sum is brought back to the embedding's mean and variance, in every family. ``published``: noise in
absolute units, which RoBERTa then sees through its embedding layer once more, with positions and normalization, while
nothing normalizes the token again in the others."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on embeddings ``[t d]``; see ``TREATMENTS``."""

    variance: float
    treatment: str

    def __call__(self, key: Key, draw: Array, x: Array) -> Array:
        """Return the noisy embeddings."""
        noise = perturb.gaussian(self.variance)(key, draw, jnp.zeros_like(x))
        if self.treatment == "published":
            return x + noise
        mean, deviation = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
        noisy = x + deviation * noise
        if self.treatment == "raw":
            return noisy
        spread = noisy.std(-1, keepdims=True)
        return mean + deviation * (noisy - noisy.mean(-1, keepdims=True)) / jnp.where(spread > 0, spread, 1)


@dataclass(frozen=True)
class OtherWord:
    """Replace an id of at least ``first`` by another one, all others below ``vocabulary`` being equally likely."""

    first: int
    vocabulary: int

    def __call__(self, key: Key, draw: Array, ids: Array) -> Array:
        """Return the other ids ``[t]``."""
        count = self.vocabulary - self.first
        further = 1 + perturb.replace_uniform(max(count - 1, 2))(key, draw, jnp.zeros_like(ids)) % max(count - 1, 1)
        return self.first + (ids - self.first + further) % count


def of_embeddings(module: Any, treatment: str, rows: int) -> SubstituteAt:
    """Return the substitution of embeddings in a model, the fastest that there is."""
    if treatment == "published" and isinstance(module, bert.Bert):
        return substitution.one_at_a_time(bind(_embedded_again, module), rows)
    return (encoder if isinstance(module, bert.Bert) else causal)(module, rows, embeddings=True)


def of_ids(module: Any, rows: int) -> SubstituteAt:
    """Return the substitution of ids in a model, the fastest that there is."""
    return (encoder if isinstance(module, bert.Bert) else causal)(module, rows)


def _embedded_again(module: Any, variables: PyTree, x: Array, mask: Array | None = None, /) -> jax.Array:
    """Evaluate a RoBERTa on embeddings ``[b t d]`` that pass its embedding layer as if they were rows of words."""

    def through(module: Any, x: Array, mask: Array | None) -> jax.Array:
        places = token_ids.positions_of(mask, x.shape[:2]) + module.config.position_offset
        again = x + token_ids.look_up(module.positions, places, x.dtype) + jnp.asarray(module.types)[:1][None]
        return module.from_embeddings(module.norm_embedding(again), mask)

    return module.apply(variables, x, mask, method=through)
