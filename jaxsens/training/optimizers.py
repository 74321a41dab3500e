"""Optimizers as directions: the learning rate stays outside, so that a sweep over it compiles once."""

import functools
from dataclasses import dataclass

import optax

from jaxsens.training.checks import require_number
from jaxsens.typing import Array

__all__ = ["SCHEDULES", "Optimizer", "build"]

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Optimizer:
    """An optimizer without its learning rate.

    Attributes:
        name: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        momentum: Momentum of SGD.
        weight_decay: Weight decay, multiplied by the learning rate: decoupled for AdamW; for SGD, ``weight_decay *
            params`` is added to the gradient.
        schedule: ``"constant"``, or ``"cosine"``, which decays to zero at the last step.
        warmup: The fraction of all steps over which the learning rate rises linearly from zero.

    Raises:
        ValueError: If a name is unknown or a number is out of range.

    Example:
        >>> Optimizer("adamw", weight_decay=0.01, schedule="cosine", warmup=0.1).schedule
        'cosine'
    """

    name: str = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        for field, allowed in (("name", tuple(_DIRECTIONS)), ("schedule", SCHEDULES)):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {allowed}, got {getattr(self, field)!r}")
        for field, below in (("momentum", 1), ("warmup", 1), ("weight_decay", float("inf"))):
            require_number(field, getattr(self, field), f"at least 0 and below {below}", 0, below)
        for field, owners in (("momentum", ("sgd",)), ("weight_decay", ("adamw", "sgd"))):
            if getattr(self, field) and self.name not in owners:
                names = " or ".join(map(repr, owners))
                raise ValueError(f"{field} belongs to {names}, got {getattr(self, field)} for {self.name!r}")

    def direction(self) -> optax.GradientTransformation:
        """Return the transformation of gradients into the direction of descent, at learning rate 1."""
        return _DIRECTIONS[self.name](self)

    def with_decay(self, weight_decay: Array | float) -> optax.GradientTransformation:
        """Return that transformation with decoupled weight decay in addition, as AdamW has it."""
        return optax.chain(self.direction(), optax.add_decayed_weights(weight_decay))

    def factor(self, steps: int) -> optax.Schedule:
        """Return the schedule: the factor on the learning rate at each of ``steps`` steps."""
        warm = round(self.warmup * steps)
        after = {
            "constant": optax.constant_schedule(1.0),
            "cosine": optax.cosine_decay_schedule(1.0, max(steps - warm, 1)),
        }[self.schedule]
        if warm == 0:
            return after
        # From 1 / warm, since a first step of size zero would be wasted.
        return optax.join_schedules([optax.linear_schedule(1 / warm, 1.0, warm - 1), after], [warm])


def _sgd(optimizer: Optimizer) -> optax.GradientTransformation:
    direction = optax.trace(optimizer.momentum) if optimizer.momentum else optax.identity()
    decay = optimizer.weight_decay
    return optax.chain(optax.add_decayed_weights(decay), direction) if decay else direction


_DIRECTIONS = {
    "sgd": _sgd,
    "adam": lambda o: optax.scale_by_adam(),  # noqa: ARG005
    "adamw": lambda o: optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(o.weight_decay)),
}


@functools.lru_cache(maxsize=64)
def build(optimizer: Optimizer, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Return ``(direction, factor)``, the same objects for equal arguments, so that compiled code is reused.

    Example:
        >>> optimizer = Optimizer("adamw", weight_decay=0.1)
        >>> build(optimizer, 10) is build(optimizer, 10)
        True
    """
    return optimizer.direction(), optimizer.factor(steps)
