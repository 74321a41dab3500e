"""Training objectives: ``(train_apply, variables, tokens, labels, key) -> (loss, variables)``, in nats."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxsens import perturb
from jaxsens.execution.checks import require_finite
from jaxsens.noise_stability.correlated import CorrelatedGaussian, require_rhos
from jaxsens.typing import Array, Key, PyTree, TrainApply

__all__ = ["CrossEntropy", "GaussianAugmentation", "Mixup", "NoiseConsistency", "NoiseStabilityPenalty", "Objective"]


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


@dataclass(frozen=True)
class GaussianAugmentation:
    """Cross-entropy of the examples and of copies of them with Gaussian noise on all tokens, with their labels.

    ``(CE(f(X), y) + CE(f(X + E), y)) / 2`` with ``E ~ N(0, variance)``, drawn anew at every step. Both halves are one
    batch, so that batch statistics are those of both. (Vasudeva et al., Transformers Learn Low Sensitivity Functions,
    s.7.1, where the copies are added to the training set.)

    Attributes:
        variance: Variance of the noise, for each element of a token.

    Raises:
        ValueError: If the variance is negative or not finite.

    Example:
        >>> def train_apply(variables, tokens, key):
        ...     return tokens[:, 0], variables
        >>> tokens, labels = jnp.array([[[0.0, 0.0]]]), jnp.array([1])
        >>> loss, _ = GaussianAugmentation(variance=0.0)(train_apply, {}, tokens, labels, jax.random.key(0))
        >>> f"{loss:.4f}"  # log 2
        '0.6931'
    """

    class_labels: ClassVar[bool] = True

    variance: float = 0.1

    def __post_init__(self) -> None:
        perturb.gaussian(self.variance)

    def __call__(
        self, train_apply: TrainApply, variables: PyTree, tokens: Array, labels: Array, key: Key
    ) -> tuple[Array, PyTree]:
        """Return the loss and the updated variables."""
        forward, noise = jax.random.split(key)
        noisy = perturb.gaussian(self.variance)(noise, jnp.uint32(0), tokens)
        logits, updated = train_apply(variables, jnp.concatenate([tokens, noisy]), forward)
        return _cross_entropy(logits, jnp.concatenate([labels, labels])), updated


@dataclass(frozen=True)
class Mixup:
    """Cross-entropy of weighted means of two examples, with their labels weighted alike.

    ``l CE(f(M), y) + (1 - l) CE(f(M), y')`` with ``M = l X + (1 - l) X'``, where ``(X', y')`` is another example of the
    batch and ``l ~ Beta(alpha, alpha)``, one for each batch. (Zhang et al., mixup: Beyond Empirical Risk Minimization,
    ICLR 2018, s.2.)

    Attributes:
        alpha: The parameter of the Beta distribution; small ones leave the examples nearly as they are.

    Raises:
        ValueError: If alpha is not a finite number above 0.

    Example:
        >>> def train_apply(variables, tokens, key):
        ...     return tokens[:, 0], variables
        >>> tokens, labels = jnp.array([[[3.0, 3.0]], [[5.0, 5.0]]]), jnp.array([1, 0])
        >>> loss, _ = Mixup(alpha=1.0)(train_apply, {}, tokens, labels, jax.random.key(0))
        >>> f"{loss:.4f}"  # log 2
        '0.6931'
    """

    class_labels: ClassVar[bool] = True

    alpha: float = 0.2

    def __post_init__(self) -> None:
        if require_finite("alpha", self.alpha) <= 0:
            raise ValueError(f"alpha must be a finite number above 0, got {self.alpha}")

    def __call__(
        self, train_apply: TrainApply, variables: PyTree, tokens: Array, labels: Array, key: Key
    ) -> tuple[Array, PyTree]:
        """Return the loss and the updated variables."""
        forward, order, share = jax.random.split(key, 3)
        partner = jax.random.permutation(order, len(tokens))
        weight = jax.random.beta(share, self.alpha, self.alpha)
        mixed = weight * tokens + (1 - weight) * tokens[partner]
        logits, updated = train_apply(variables, mixed, forward)
        loss, partner_loss = _cross_entropy(logits, labels), _cross_entropy(logits, labels[partner])
        return weight * loss + (1 - weight) * partner_loss, updated


@dataclass(frozen=True)
class NoiseStabilityPenalty:
    """Cross-entropy with a penalty on outputs that are unstable under correlated noise on all tokens.

    ``(1 - strength) CE(f(X), y) + strength mean (1 - sum_c p_c(X) p_c(Y))`` with ``p = softmax(f)``, and Y a copy of X
    with correlation rho in all tokens (``noise_stability.CorrelatedGaussian``), drawn anew at every step. The second
    term is the probability that labels drawn from p(X) and p(Y) differ: one minus the noise stability of p. (The idea
    of Haris, Zhang and Yoshida, Noise Stability of Transformer Models, 2026; the form, with probabilities in the place
    of logits so that their size cannot be traded for stability, is this library's.)

    Attributes:
        rho: The correlation of an element of X and of Y, from -1 to 1.
        strength: Weight of the penalty, in [0, 1].
        variance: Variance of an element of X, by which the noise is scaled.
        mean: Its mean.

    Raises:
        ValueError: If rho is outside [-1, 1], the strength outside [0, 1], or the variance negative or not finite.

    Example:
        >>> def train_apply(variables, tokens, key):
        ...     return tokens[:, 0], variables
        >>> tokens, labels = jnp.array([[[0.0, 0.0]]]), jnp.array([1])
        >>> objective = NoiseStabilityPenalty(rho=1.0, strength=1.0)
        >>> float(objective(train_apply, {}, tokens, labels, jax.random.key(0))[0])      # p = (1/2, 1/2)
        0.5
    """

    class_labels: ClassVar[bool] = True

    rho: float = 0.9
    strength: float = 0.25
    variance: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        require_rhos([self.rho])
        CorrelatedGaussian(self.variance, self.mean)
        if require_finite("strength", self.strength) > 1:
            raise ValueError(f"strength must lie in [0, 1], got {self.strength}")

    def __call__(
        self, train_apply: TrainApply, variables: PyTree, tokens: Array, labels: Array, key: Key
    ) -> tuple[Array, PyTree]:
        """Return the loss and the updated variables."""
        forward, noise = jax.random.split(key)
        logits, updated = train_apply(variables, tokens, forward)
        copies = CorrelatedGaussian(self.variance, self.mean)(noise, jnp.uint32(0), tokens, self.rho)
        # The same dropout on both sides, so that the penalty measures only the noise.
        moved, _ = train_apply(variables, copies, forward)
        stability = (jax.nn.softmax(logits) * jax.nn.softmax(moved)).sum(-1).mean()
        return (1 - self.strength) * _cross_entropy(logits, labels) + self.strength * (1 - stability), updated


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
