"""Configuration of training many models: the shared settings, and the numbers of each member."""

from dataclasses import dataclass

import numpy as np

from jaxsens.execution.checks import host_values, require_flag
from jaxsens.execution.execution import Execution
from jaxsens.training.checks import require_counts, require_number, require_reproducible
from jaxsens.training.optimizers import Optimizer
from jaxsens.typing import Array

__all__ = ["KEPT", "OPTIMIZERS", "ManyConfig", "Members"]

KEPT = ("best", "last")

OPTIMIZERS = ("adam", "sgd")

TARGETS = ("target_accuracy", "target_loss")


@dataclass(frozen=True, kw_only=True)
class ManyConfig:
    """How to train many models.

    Attributes:
        epochs: The largest number of passes over the data.
        lr_patience: Epochs without a smaller validation loss after which the learning rate is halved, and again after
            as many more; None: never.
        patience: Epochs without a smaller validation loss after which a member stops; None: never.
        target_accuracy: The validation accuracy at which a member stops; None: no such stop.
        target_loss: The validation loss at or below which a member stops; None: no such stop.
        keep: The weights that are returned: those of a member's ``"best"`` epoch, which has its smallest validation
            loss, or of its ``"last"``.
        rows: Strings in a block. Gradients of a batch are summed over blocks; the size affects only rounding.
        models_per_device: Members that a device trains at the same time; affects only rounding. ``None`` is 1 on a
            CPU, where that is the fastest, or nearly so; on an accelerator all of the device's members, or as many of
            them, at most 64, in groups of one size, as fit the memory for weights of several models: five copies of
            the parameters, and with ``train_apply`` what the gradient of a batch keeps.
        precision: Precision of matrix products, as in ``jax.default_matmul_precision``.
        checkpoint_every: Epochs between checkpoints, if a folder for them is given.
        reproducible: Whether the results are equal to the bit on any numbers of CPU cores and devices; see
            ``training.Config``. The cores of a CPU train members in threads, all on its first device; of accelerators
            only the first is used.
        optimizer: ``"adam"``, or ``"sgd"`` without momentum, or an ``Optimizer``, which has more settings. A schedule
            of the learning rate needs ``train_apply``; see ``fit_many``. The weight decay of a member is decoupled, and
            in addition to that of the optimizer.
        evaluate: Whether loss and accuracy are taken after every epoch. Without them ``keep`` must be ``"last"``, and
            what they decide must be off: ``lr_patience``, ``patience`` and targets.

    Raises:
        ValueError: If a word is unknown, a number is out of range, or settings contradict each other.

    Example:
        >>> ManyConfig(epochs=100, target_accuracy=1.0).patience
        10
    """

    epochs: int
    lr_patience: int | None = 5
    patience: int | None = 10
    target_accuracy: float | None = None
    target_loss: float | None = None
    keep: str = "best"
    rows: int = 32
    models_per_device: int | None = None
    precision: str = "highest"
    checkpoint_every: int = 1
    reproducible: bool = False
    optimizer: str | Optimizer = "adam"
    evaluate: bool = True

    def __post_init__(self) -> None:
        optional = ("lr_patience", "patience", "models_per_device")
        require_counts(self, ("epochs", "rows", "checkpoint_every", *optional), optional=optional)
        require_reproducible(self.reproducible)
        if self.target_accuracy is not None:
            beyond = float(np.nextafter(1, 2))
            allowed = "an accuracy above 0 and at most 1"
            require_number("target_accuracy", self.target_accuracy, allowed, 0, beyond, open_low=True)
        if self.target_loss is not None:
            require_number("target_loss", self.target_loss, "a finite loss of at least 0", 0, np.inf)
        Execution(precision=self.precision)  # checks it
        if not isinstance(self.optimizer, Optimizer) and self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {OPTIMIZERS}, or an Optimizer, got {self.optimizer!r}")
        if self.keep not in KEPT:
            raise ValueError(f"keep must be one of {KEPT}, got {self.keep!r}")
        if not require_flag("evaluate", self.evaluate):
            wrong = ["keep"] if self.keep == "best" else []
            wrong += [name for name in ("lr_patience", "patience", *TARGETS) if getattr(self, name) is not None]
            if wrong:
                raise ValueError(
                    f"evaluate = False leaves out the loss that {', '.join(wrong)} need: keep must be 'last', and the "
                    "others None"
                )


@dataclass(frozen=True, kw_only=True)
class Members:
    """The numbers of each member, all arrays ``[m]``.

    Attributes:
        learning_rate: The learning rate at the start.
        batch: Strings in a step; the last step of an epoch takes those that are left.
        dataset: The number of the data set that the member learns.
        weight_decay: Decoupled weight decay (that of AdamW), multiplied by the learning rate; by default 0.

    Raises:
        ValueError: If the arrays have different lengths, or a number is out of range; the member is named.

    Example:
        >>> Members(learning_rate=[0.01, 0.1], batch=[32, 64], dataset=[0, 0]).batch
        array([32, 64], dtype=int32)
    """

    learning_rate: Array
    batch: Array
    dataset: Array
    weight_decay: Array | None = None

    def __post_init__(self) -> None:
        if self.weight_decay is None:
            object.__setattr__(self, "weight_decay", np.zeros(host_values(self.learning_rate, "learning_rate").shape))
        count = len(np.atleast_1d(host_values(self.learning_rate, "learning_rate")))
        smallest = float(np.nextafter(np.float32(0), np.float32(1)))
        for name, dtype, low in (
            ("learning_rate", np.float32, smallest), ("batch", np.int32, 1), ("dataset", np.int32, 0),
            ("weight_decay", np.float32, 0),
        ):  # fmt: skip
            object.__setattr__(self, name, _numbers(name, getattr(self, name), count, np.dtype(dtype), low))


def _numbers(name: str, values: Array, count: int, dtype: np.dtype, low: float) -> np.ndarray:
    """Return one number for each member ``[m]`` in ``dtype``, or raise ValueError."""
    masked = isinstance(values, np.ma.MaskedArray)
    values = np.zeros(0) if masked else host_values(values, name)
    if masked or values.ndim != 1 or len(values) != count or not count or values.dtype.kind not in "iuf":
        what = "a masked array" if masked else f"{values.dtype} of shape {values.shape}"
        raise ValueError(f"{name} must be one number for each member, [m], got {what}")
    whole = dtype.kind == "i"
    high = np.iinfo(dtype).max if whole else np.finfo(dtype).max
    bad = ~((values >= low) & (values <= high) & (~np.bool_(whole) | (values == np.floor(values))))
    if bad.any():
        member = int(bad.argmax())
        kind = f"an integer from {low} to {high}" if whole else "a finite number "
        kind += "" if whole else "above 0" if low > 0 else f"of at least {low}"
        raise ValueError(f"{name} of member {member} must be {kind}, got {values[member]}")
    return values.astype(dtype)
