"""Training objectives: ``(train_apply, variables, tokens, labels, key) -> (loss, variables)``, in nats."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxsens import perturb
from jaxsens.execution.checks import require_finite
from jaxsens.typing import Array, Key, PyTree, TrainApply

__all__ = ["CrossEntropy", "NoiseConsistency", "Objective"]


class Objective(Protocol):
    """A loss over a batch.

    An attribute ``class_labels`` that is true says that labels are class numbers, which ``training.fit`` then checks.

    Example:
        >>> def objective(train_apply, variables, tokens, labels, key):
        ...     logits, variables = train_apply(variables, tokens, key)
        ...     return ((logits - labels) ** 2).mean(), variables
        >>> train_apply = lambda variables, tokens, key: (tokens @ variables["w"], variables)
        >>> float(objective(train_apply, {"w": np.ones(2)}, np.eye(2), np.array([1.0, 3.0]), None)[0])
        2.0
    """

    def __call__(
        self, train_apply: TrainApply, variables: PyTree, tokens: Array, labels: Array, key: Key, /
    ) -> tuple[Array, PyTree]:
        """Return the mean loss over the batch, and the variables with updated statistics."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """The mean over examples of ``-log softmax(logits)[label]``, in nats.

    Example:
        >>> def train_apply(variables, tokens, key):
        ...     return tokens, variables
        >>> loss, _ = CrossEntropy()(train_apply, {}, jnp.zeros((3, 4)), jnp.array([0, 1, 2]), jax.random.key(0))
        >>> f"{loss:.4f}"  # log 4
        '1.3863'
    """

    class_labels: ClassVar[bool] = True

    def __call__(
        self, train_apply: TrainApply, variables: PyTree, tokens: Array, labels: Array, key: Key
    ) -> tuple[Array, PyTree]:
        """Return the loss and the updated variables."""
        logits, variables = train_apply(variables, tokens, key)
        return _cross_entropy(logits, labels), variables


@dataclass(frozen=True)
class NoiseConsistency:
    """Cross-entropy with a penalty on how far outputs move when one token is perturbed.

    ``(1 - strength) CE(f(X), y) + strength mean_k (f_k(X') - f_k(X))^2``, where ``X'`` has Gaussian noise on one token
    of each example, drawn anew at every step (Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.7.1; the
    weights are those of its code). The first term is in nats, the second in squared logits.

    Attributes:
        variance: Variance of the noise, for each element of the token.
        strength: Weight of the penalty, in [0, 1].

    Raises:
        ValueError: If the variance is negative or not finite, or the strength is outside [0, 1].

    Example:
        >>> NoiseConsistency(variance=0.5, strength=0.1)
        NoiseConsistency(variance=0.5, strength=0.1)
    """

    class_labels: ClassVar[bool] = True

    variance: float = 1.0
    strength: float = 0.25

    def __post_init__(self) -> None:
        perturb.gaussian(self.variance)
        if require_finite("strength", self.strength) > 1:
            raise ValueError(f"strength must lie in [0, 1], got {self.strength}")

    def __call__(
        self, train_apply: TrainApply, variables: PyTree, tokens: Array, labels: Array, key: Key
    ) -> tuple[Array, PyTree]:
        """Return the loss and the updated variables."""
        forward, site, noise = jax.random.split(key, 3)
        logits, updated = train_apply(variables, tokens, forward)
        count, length = tokens.shape[:2]
        chosen = jax.random.randint(site, (count, 1), 0, length) == jnp.arange(length)[None]
        chosen = chosen.reshape(count, length, *[1] * (tokens.ndim - 2))
        noisy = perturb.gaussian(self.variance)(noise, jnp.uint32(0), tokens)
        # The same dropout on both sides, so that the penalty measures only the noise.
        moved, _ = train_apply(variables, jnp.where(chosen, noisy, tokens), forward)
        penalty = jnp.mean((moved - logits) ** 2)
        return (1 - self.strength) * _cross_entropy(logits, labels) + self.strength * penalty, updated


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
