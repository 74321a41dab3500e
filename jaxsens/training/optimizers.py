"""Optimisers as directions: the learning rate stays outside, so that a sweep over it compiles once."""

import functools
from dataclasses import dataclass

import optax

__all__ = ["SCHEDULES", "Optimiser", "build"]

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Optimiser:
    """A rule of steps, up to the learning rate.

    Attributes:
        name: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        momentum: Of SGD.
        weight_decay: Of AdamW, decoupled, relative to the learning rate.
        schedule: ``"constant"``, or ``"cosine"`` down to zero at the last step.
        warmup: The fraction of all steps over which the learning rate rises linearly from zero.

    Raises:
        ValueError: If a name is unknown or a number is out of range.
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
            if not 0 <= getattr(self, field) < below:
                raise ValueError(f"{field} must be at least 0 and below {below}, got {getattr(self, field)}")

        for field, owner in (("momentum", "sgd"), ("weight_decay", "adamw")):
            if getattr(self, field) and self.name != owner:
                raise ValueError(f"{field} belongs to {owner!r}, got {getattr(self, field)} for {self.name!r}")

    def direction(self) -> optax.GradientTransformation:
        """Return the transformation of gradients into the direction of descent, at learning rate 1."""
        return _DIRECTIONS[self.name](self)

    def factor(self, steps: int) -> optax.Schedule:
        """Return the schedule: what the learning rate is multiplied with at each of ``steps`` steps."""
        warm = round(self.warmup * steps)
        after = {
            "constant": optax.constant_schedule(1.0),
            "cosine": optax.cosine_decay_schedule(1.0, max(steps - warm, 1)),
        }[self.schedule]
        if warm == 0:
            return after
        # From 1 / warm, for a first step of size zero would be wasted.
        return optax.join_schedules([optax.linear_schedule(1 / warm, 1.0, warm - 1), after], [warm])


_DIRECTIONS = {
    "sgd": lambda o: optax.trace(o.momentum) if o.momentum else optax.identity(),
    "adam": lambda o: optax.scale_by_adam(),  # noqa: ARG005
    "adamw": lambda o: optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(o.weight_decay)),
}


@functools.lru_cache(maxsize=64)
def build(optimiser: Optimiser, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Return ``(direction, factor)``, the same objects for equal arguments, so that compiled code is found again."""
    return optimiser.direction(), optimiser.factor(steps)
