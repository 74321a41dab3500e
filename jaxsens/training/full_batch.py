"""Training of many models with the whole data set in every step, with measurements at equal distances.

All steps between two measurements are one program, in which neither weights nor moments leave the device; models are
distributed over the devices, each on one of them. On a CPU whose cores are devices (``backends.use_every_core``) a
model of a few thousand examples then keeps one core busy; its products are too small to be shared by several.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from jaxsens.execution import Execution, backends, batches, memory, parallel
from jaxsens.execution.checks import host_arrays, require_functions
from jaxsens.training import checks
from jaxsens.training.group_size import group_size
from jaxsens.training.member_epoch import Weights, adam
from jaxsens.training.one_model import resume
from jaxsens.typing import Array, Key, PyTree

__all__ = ["FullBatchConfig", "FullBatchLoss", "FullBatchTrained", "fit_full_batch"]


class FullBatchLoss(Protocol):
    """The mean loss over all examples, a pure function; equal ones share compiled code.

    Example:
        >>> def loss(variables, data, key):
        ...     return ((data @ variables["params"]["w"] - 1) ** 2).mean()
        >>> float(loss({"params": {"w": np.zeros(2)}}, np.ones((3, 2)), None))
        1.0
    """

    def __call__(self, variables: PyTree, data: PyTree, key: Key, /) -> Array:
        """Return the loss; the key is another one in every step."""
        ...


@dataclass(frozen=True, kw_only=True)
class FullBatchConfig:
    """How to train many models with the whole data set in every step.

    Attributes:
        steps: Steps of AdamW, which are epochs.
        every: Steps between two measurements, and two checkpoints; divides ``steps``.
        models_per_device: Models that a device trains at the same time; affects only rounding. ``None`` is 1 on a CPU;
            on an accelerator as many, at most 64, in groups of one size, as fit the memory for weights of several
            models with what the gradient of the loss keeps.
        precision: Precision of matrix products, as in ``jax.default_matmul_precision``.
        reproducible: Whether the results are equal to the bit on any numbers of CPU cores and devices; see
            ``training.Config``.

    Raises:
        ValueError: If a number is out of range, or ``every`` does not divide ``steps``.

    Example:
        >>> FullBatchConfig(steps=100, every=20).points.tolist()
        [0, 20, 40, 60, 80, 100]
    """

    steps: int
    every: int
    models_per_device: int | None = None
    precision: str = "highest"
    reproducible: bool = False

    def __post_init__(self) -> None:
        optional = ("models_per_device",)
        checks.require_counts(self, ("steps", "every", *optional), optional=optional)
        if self.steps % self.every:
            raise ValueError(f"every must divide the {self.steps} steps, got {self.every}")
        Execution(precision=self.precision)  # checks it
        checks.require_reproducible(self.reproducible)

    @property
    def points(self) -> np.ndarray:
        """Steps after which models are measured ``[p]``; the first is 0, before training."""
        return np.arange(0, self.steps + 1, self.every)


class FullBatchTrained(NamedTuple):
    """Models after training, and what was measured of them.

    Attributes:
        variables: ``{"params": ...}`` with a leading axis ``[m]``, on the host.
        steps: Steps after which models were measured ``[p]``.
        history: What ``measure`` returned, ``[m p *k]`` by name, float32.

    Example:
        >>> FullBatchTrained({"params": {}}, np.array([0, 10]), {"loss": np.ones((3, 2))}).history["loss"].shape
        (3, 2)
    """

    variables: PyTree
    steps: np.ndarray
    history: dict[str, np.ndarray]


class _State(NamedTuple):
    weights: Weights
    history: dict[str, np.ndarray]


def fit_full_batch(
    keys: Key,
    loss: FullBatchLoss,
    variables: PyTree,
    data: PyTree,
    config: FullBatchConfig,
    *,
    learning_rate: Array,
    weight_decay: Array,
    measure: Callable[[int, PyTree], dict[str, Array]],
    checkpoint: str | os.PathLike[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: str | None = None,
) -> FullBatchTrained:
    """Train many models with AdamW, each on its whole data set in every step, and measure them on the way.

    ``w <- w - rate (adam(gradient) + decay w)``. A model does not depend on the others. One whose loss or weights are
    not finite goes on, and its measurements show it.

    Args:
        keys: One key for each model ``[m]``, or one key, into which the models' numbers are folded; they decide the
            keys that ``loss`` gets.
        loss: ``loss(variables, data, key)``, the mean over all examples.
        variables: ``{"params": ...}`` with a leading axis ``[m]``; see ``stack``.
        data: The data of each model, a pytree of arrays ``[m ...]``.
        config: Settings of the training.
        learning_rate: Learning rate of each model ``[m]``, above 0.
        weight_decay: Decoupled weight decay of each model ``[m]``, at least 0, multiplied by the learning rate.
        measure: ``measure(steps done, variables [m ...])`` returns arrays ``[m *k]`` by name, of the same names and
            shapes each time; called with 0 first.
        checkpoint: A folder to save all models and measurements in, and to resume from. It holds a fingerprint of
            configuration, keys, data and initial variables, and another training is refused.
        devices: Devices to use, by default all of this process.
        progress: Label of a progress bar.

    Raises:
        ValueError: If shapes do not fit together, a rate or decay is out of range, ``measure`` does not return the same
            arrays each time, or the checkpoint is damaged or belongs to another training.
        OSError: If a checkpoint cannot be written; the last whole one stays.

    Example:
        >>> def loss(variables, data, key):
        ...     return ((data - variables["params"]["w"]) ** 2).mean()
        >>> models, data = {"params": {"w": np.zeros(2, np.float32)}}, np.array([[1.0, 3.0], [-2.0, -2.0]], np.float32)
        >>> trained = fit_full_batch(
        ...     jax.random.key(0), loss, models, data, FullBatchConfig(steps=400, every=200), learning_rate=[0.1, 0.1],
        ...     weight_decay=[0.0, 0.0], measure=lambda steps, variables: {"w": variables["params"]["w"]},
        ... )
        >>> trained.history["w"].round(2).tolist()
        [[0.0, 2.0, 2.0], [0.0, -2.0, -2.0]]
    """
    require_functions(loss=loss, measure=measure)
    if not isinstance(config, FullBatchConfig):
        raise ValueError(f"config must be a training.FullBatchConfig, got {config!r}")
    checks.require_reports(None, progress)
    params, data, rates = _checked(variables, data, learning_rate, weight_decay)
    count = len(rates)
    words = checks.key_words(keys, count)
    devices = backends.local_devices(devices)[: 1 if config.reproducible else None]
    decisive = checks.reproducible_setting(devices[0]) if config.reproducible else None
    checkpoint = checks.as_folder(checkpoint)
    execution = Execution(
        chunk=_at_once(config, loss, params, data, devices),
        devices=devices,
        backend="jit" if config.reproducible else "pmap",
        precision=config.precision,
    )
    moments = jax.tree.map(np.asarray, jax.vmap(adam(0.0).init)(params))
    first = _measured(measure, 0, params, count)
    history = {
        name: np.full((count, len(config.points), *a.shape[1:]), np.nan, np.float32) for name, a in first.items()
    }
    state = _State(Weights(params, moments), _put(history, 0, first))
    identity = None
    if checkpoint is not None:
        from jaxsens.training import checkpoints  # Orbax takes a second to import, and few need it.

        settings = {"config": (config.steps, config.every, config.precision), "loss": loss, "decisive": decisive}
        arrays = {"keys": words, "data": data, "rates": rates, "initial variables": params}
        identity = checkpoints.fingerprint(settings, arrays)
    done, state = resume(checkpoint, jax.tree.map(jnp.asarray, state), identity)
    state = jax.tree.map(np.array, state)
    with tqdm(
        desc=progress, total=config.steps, initial=done, delay=2, leave=False, disable=progress is None, unit="step",
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        while done < config.steps:
            numbers = np.full(count, done, np.uint32), np.full(count, config.every, np.int32)
            items = (state.weights, words, rates, *numbers, data)
            weights = parallel.map_items(parallel.bind(_steps, loss), items, execution=execution)
            done += config.every
            measurements = _measured(measure, done, weights.params, count)
            state = _State(weights, _put(state.history, done // config.every, measurements))
            if checkpoint is not None:
                checkpoints.save(checkpoint, done, jax.tree.map(jnp.asarray, state), identity)
            bar.update(config.every)
    return FullBatchTrained({"params": state.weights.params}, config.points, state.history)


def _at_once(
    config: FullBatchConfig, loss: FullBatchLoss, params: PyTree, data: PyTree, devices: Sequence[jax.Device]
) -> int:
    """Return how many models a device trains at the same time."""
    if config.models_per_device is not None:
        return config.models_per_device
    params_spec, data_spec = jax.eval_shape(lambda tree: batches.select_model(tree, 0), (params, data))
    key = jax.eval_shape(jax.random.key, 0)
    gradient = memory.bytes_of_results(loss, {"params": params_spec}, data_spec, key)
    return group_size(params_spec, batches.count_of_models(params), Execution(devices=devices), gradient)


def _steps(loss: FullBatchLoss, item: tuple[Weights, Array, Array, Array, Array, PyTree]) -> Weights:
    """Return the weights of a model after some steps."""
    weights, words, (rate, decay), done, count, data = item
    key, rule = jax.random.wrap_key_data(words), adam(decay)

    def step(number: Array, weights: Weights) -> Weights:
        step_key = jax.random.fold_in(key, done + number.astype(jnp.uint32))
        gradient = jax.grad(lambda params: loss({"params": params}, data, step_key))(weights.params)
        updates, moments = rule.update(gradient, weights.moments, weights.params)
        return Weights(jax.tree.map(lambda w, u: w - rate * u, weights.params, updates), moments)

    return jax.lax.fori_loop(0, count, step, weights)


def _checked(
    variables: PyTree, data: PyTree, learning_rate: Array, weight_decay: Array
) -> tuple[PyTree, PyTree, np.ndarray]:
    """Return parameters, data and ``[m 2]`` rates and decays on the host, or raise ValueError."""
    if not isinstance(variables, dict) or variables.keys() != {"params"}:
        given = sorted(variables) if isinstance(variables, dict) else type(variables).__name__
        raise ValueError(f"variables must be {{'params': ...}} with a leading axis of models, got {given}")
    params, data = host_arrays(variables["params"], "variables"), host_arrays(data, "data")
    columns = []
    for name, values in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
        numbers = np.asarray(values)
        fits = numbers.ndim == 1 and len(numbers) and numbers.dtype.kind in "iuf" and np.isfinite(numbers).all()
        if not fits or (numbers <= 0).any() if name == "learning_rate" else not fits or (numbers < 0).any():
            bound = "above 0" if name == "learning_rate" else "of at least 0"
            raise ValueError(f"{name} must be a finite number {bound} for each model, [m], got {values!r}")
        columns.append(numbers.astype(np.float32))
    count = len(columns[0])
    if len(columns[1]) != count:
        raise ValueError(f"weight_decay must be one number for each of the {count} models, got {len(columns[1])}")
    for name, tree in (("variables", params), ("data", data)):
        wrong = [np.shape(leaf) for leaf in jax.tree.leaves(tree) if np.shape(leaf)[:1] != (count,)]
        if wrong or not jax.tree.leaves(tree):
            raise ValueError(f"{name} must have a leading axis of {count} models, got shapes {wrong}")
    return params, data, np.stack(columns, 1)


def _measured(
    measure: Callable[[int, PyTree], dict[str, Array]], done: int, params: PyTree, count: int
) -> dict[str, np.ndarray]:
    measurements = measure(done, {"params": params})
    if not isinstance(measurements, dict) or not measurements:
        raise ValueError(f"measure must return arrays [m *k] by name, got {measurements!r}")
    measurements = {name: np.asarray(values) for name, values in measurements.items()}
    for name, values in measurements.items():
        if values.shape[:1] != (count,) or values.dtype.kind != "f":
            raise ValueError(f"measure must return floats [{count} *k], got {values.dtype} {values.shape} for {name!r}")
    return {name: values.astype(np.float32) for name, values in measurements.items()}


def _put(history: dict[str, np.ndarray], place: int, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    shapes = {name: a.shape[:1] + a.shape[2:] for name, a in history.items()}
    if shapes != {name: a.shape for name, a in found.items()}:
        raise ValueError(f"measure must return the same arrays each time, {sorted(shapes)}, got {sorted(found)}")
    history = {name: a.copy() for name, a in history.items()}
    for name, values in found.items():
        history[name][:, place] = values
    return history
