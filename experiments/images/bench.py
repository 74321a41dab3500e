"""Shared parts of all models of a run on images: building a model, training it, and choosing its learning rate."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from experiments import harness
from experiments.harness import verdicts
from experiments.harness.inputs import fingerprint, require_same
from experiments.images import together
from experiments.images.config import TREATMENTS, ImageSettings, Intervention
from experiments.images.data import Data
from experiments.images.labels import INTERVENTIONS, split_name
from experiments.images.together import Follow, Group
from jaxsens import models, parameters, training
from jaxsens.execution import Execution, memory
from jaxsens.training.objectives import Objective
from jaxsens.typing import Apply, Array, Key, PyTree

__all__ = ["Bench", "Results", "design_of", "function_scale", "logits", "parameter_count", "rates_tried"]

Results = dict[str, list[Mapping[str, Array]]]
"""Name of a model to what was measured of it, one entry for each seed."""

_KEYS = harness.Keys("train", "noise", "weights", "probes", "starts", "dropout", "corruptions")


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """Settings, images and the user's models of one run.

    Attributes:
        config: The settings.
        data: The images.
        given: The user's models by name. A Linen module is trained as the models of ``TREATMENTS`` are; it is called as
            ``module(tokens [b t d], mask=None, train=False)`` and returns logits ``[b classes]``. A pair ``(apply,
            variables)`` is measured without training: ``apply(variables, tokens [b t d])``.
        interventions: By name, what changes in the training of ``NAME_INTERVENTION`` compared with ``NAME``; beside
            ``regularized``, the sensitivity regularizer with the noise of the settings.

    Raises:
        ValueError: If a name of ``given`` is taken, or no name of a unit.
    """

    config: ImageSettings
    data: Data
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    interventions: Mapping[str, Intervention] = dataclasses.field(default_factory=dict)
    _groups: dict[Group, list] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in self.given:
            if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in TREATMENTS or split_name(name)[1]:
                endings = ", ".join(f"'_{one}'" for one in INTERVENTIONS)
                raise ValueError(
                    f"models has the name {name!r}: allowed are lower-case letters, digits and _, not ending with "
                    f"{endings}, and none of {sorted(TREATMENTS)}"
                )

    def intervention(self, name: str) -> Intervention:
        """Return what changes in the training of a model, by its name; nothing for most.

        Raises:
            ValueError: If the run has no such intervention.
        """
        _, ending = split_name(name)
        if ending in self.interventions:
            return self.interventions[ending]
        if ending == "regularized":
            return Intervention(training.NoiseConsistency(variance=self.config.noise))
        if ending and name not in TREATMENTS:
            raise ValueError(f"{name!r} must end with one of {sorted(self.interventions)}, the interventions")
        return Intervention()

    def key(self, purpose: str, *numbers: int) -> Key:
        """Return the key of a purpose: all models see the same noise, so that their differences are paired."""
        return _KEYS(self.config.seed, purpose, *numbers)

    def fixed(self, name: str) -> tuple[Apply, PyTree] | None:
        """Return ``(apply, variables)`` of a model that is given trained; None for all others."""
        pair = self.given.get(name)
        return pair if isinstance(pair, tuple) else None

    def module(self, name: str) -> Any:
        """Return the Linen module of a model by its name."""
        dropout = self.intervention(name).dropout
        if name not in TREATMENTS:
            name = split_name(name)[0]
        module = self.given[name] if name in self.given else self._named(name)
        if dropout is None:
            return module
        config = getattr(module, "config", None)
        if not hasattr(config, "dropout"):
            raise ValueError(f"{name} has no dropout: leave out this architecture, or the intervention 'dropout'")
        return type(module)(dataclasses.replace(config, dropout=dropout))

    def _named(self, name: str) -> Any:
        """Return the Linen module of a model of ``TREATMENTS``."""
        treatment, config = TREATMENTS[name], self.config
        variants = models.MODELS[treatment.model].variants
        for_data = f"paper_{self.data.name}"
        published = for_data if for_data in variants else treatment.published
        variant = published if config.variant == "paper" else config.variant
        if variant not in variants:
            raise ValueError(
                f"variant must be 'small' for {name} on {self.data.name}: there are {sorted(variants)} only"
            )
        module = models.build(
            treatment.model, variant, image_shape=self.data.image_shape, classes=self.data.classes,
            patch=config.token, dtype=config.dtype,
        )  # fmt: skip
        return type(module)(dataclasses.replace(module.config, **dict(treatment.fields)))

    def require_built(self, names: Sequence[str]) -> None:
        """Raise ValueError if a model does not fit, or has no learning rate: now, not in an hour."""
        for name in names:
            if self.fixed(name) is None:
                self.module(name)
                self.config.rates(name)

    def initial_variables(self, name: str, key: Key) -> PyTree:
        """Return the variables of a model before training."""
        module = self.module(name)
        if split_name(name)[0] in self.given:
            return module.init(key, jax.numpy.zeros_like(self.data.train[0][:1]))
        return models.init(module, key)

    def train(
        self,
        name: str,
        learning_rate: float,
        seed: int,
        label: str,
        after_epoch: Callable[[int, Any], None] | None = None,
        checkpoint: Path | None = None,
    ) -> tuple[Any, np.ndarray]:
        """Train a model, and return its variables and the loss of each epoch in nats; see ``training.fit``."""
        key = self.key("train", seed)
        variables = self.initial_variables(name, jax.random.fold_in(key, 0))
        if after_epoch is not None:
            after_epoch(0, variables)
        objective, config = self.treatment(name, learning_rate)
        return training.fit(
            jax.random.fold_in(key, 1), models.train_apply(self.module(name)), variables, *self.data.train, config,
            after_epoch=after_epoch, checkpoint=checkpoint, progress=label, objective=objective,
        )  # fmt: skip

    def treatment(self, name: str, learning_rate: float) -> tuple[Objective | None, training.Config]:
        """Return how a model is trained: its loss, if it is not cross-entropy, and the settings."""
        changed = self.intervention(name)
        treatment = TREATMENTS.get(name) or TREATMENTS.get(split_name(name)[0])
        optimizer = None if treatment is None else treatment.optimizer
        return changed.objective, self.config.training(learning_rate, changed.weight_decay, optimizer)

    def trained(
        self,
        run: harness.Run,
        name: str,
        learning_rate: float,
        seed: int,
        follow: Follow | None = None,
        epochs: Sequence[int] = (),
    ) -> tuple[Any, np.ndarray]:
        """Train a model of the results: alone, or with the other seeds where models are trained together.

        Args:
            run: Its folder has the checkpoints.
            name: Name of the model.
            learning_rate: Its learning rate.
            seed: Its seed.
            follow: Called as ``follow(seed, epochs done, variables)`` before training and at ``epochs``; for all seeds,
                if they are trained together, and with the first of them.
            epochs: Epochs done, from 1.

        Returns:
            What `train` returns.
        """
        if self.config.together:
            group = Group(name, (learning_rate,) * self.config.seeds, tuple(range(self.config.seeds)))
            return self._of_group(
                group, learning_rate, seed, follow, epochs, self.checkpoint(run, f"{name}-rate{learning_rate:g}")
            )

        def after_epoch(epoch: int, variables: PyTree) -> None:
            if epoch == 0 or epoch in epochs:
                follow(seed, epoch, variables)

        label = f"{name}-seed{seed}"
        report = None if follow is None else after_epoch
        return self.train(name, learning_rate, seed, label, report, self.checkpoint(run, label))

    def _of_group(self, group: Group, learning_rate: float, seed: int, *how: Any) -> tuple[Any, np.ndarray]:
        """Return a model of a group, which is trained unless it was the last one."""
        if group not in self._groups:
            self._groups.clear()
            self._groups[group] = together.train(self, group, *how)
        outcome = self._groups[group][group.place(learning_rate, seed)]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def checkpoint(self, run: harness.Run, name: str) -> Path | None:
        """Return where the training of a model is saved after every epoch, if it is to be."""
        return run.folder / "checkpoints" / name if self.config.checkpoints else None

    def validation_accuracy(self, name: str, learning_rate: float) -> dict[str, Any]:
        """Train the first model at a learning rate, and return its accuracy on validation images, 0 if it diverged."""
        try:
            if self.config.together:
                grid = self.config.rates(name)
                rates = grid if learning_rate in grid else (learning_rate,)
                variables, _ = self._of_group(Group(name, rates, (0,) * len(rates)), learning_rate, 0)
            else:
                variables, _ = self.train(name, learning_rate, 0, f"{name}, rate {learning_rate:g}")
            correct = training.accuracy(models.evaluation(self.module(name)), variables, *self.data.validation)
        except FloatingPointError:
            return {"validation_accuracy": 0.0, "diverged": True}
        return {"validation_accuracy": correct.mean(), "diverged": False}

    def best_rate(self, run: harness.Run, name: str, bar: tqdm) -> tuple[float, tuple[float, ...]]:
        """Return the learning rate with the highest accuracy on validation images, and all that were tried.

        A grid of one needs no search: nothing is trained for it. Others grow, see `harness.search_rates`.

        Raises:
            FloatingPointError: If the model diverged at every one.
        """
        rates = self.config.rates(name)
        if len(rates) == 1:
            bar.update()
            return rates[0], rates

        def attempt(rate: float) -> float:
            if rate not in rates:
                bar.total += 1
            tried = run.unit(f"{name}-rate{rate:g}", partial(self.validation_accuracy, name, rate))
            bar.update()
            return float(tried["validation_accuracy"])

        accuracies = harness.search_rates(rates, attempt, float, self.config.added_rates)
        if max(accuracies.values()) == 0:
            raise FloatingPointError(f"{name} diverged at every learning rate {tuple(accuracies)}")
        return max(accuracies, key=accuracies.__getitem__), tuple(accuracies)

    def results(
        self,
        run: harness.Run,
        names: Sequence[str],
        train_and_measure: Callable[[str, float, int], dict[str, Any]],
        measure_fixed: Callable[[str], dict[str, Any]] | None = None,
    ) -> Results:
        """Return what was measured of all models: ``seeds`` of each, at the learning rate that does best.

        Args:
            run: Keeps what is done.
            names: Names of the models.
            train_and_measure: Maps name, learning rate and seed to the results of a model.
            measure_fixed: Maps the name of a model that is given trained to its results.
        """
        # The models that are trained together decide bits.
        grouped = {"models_per_device": str(self.config.models_per_device)} if self.config.together else {}
        images = fingerprint(self.data.train, self.data.validation, self.data.test)
        require_same(run, images=images, **self._models(), **grouped)
        run.record(
            data=self.data.source, dataset=self.data.name, models=sorted(self.given), budget_bytes=memory.budget(),
            estimators_precision="highest", models_trained_together=self.config.together,
        )  # fmt: skip
        results: Results = {}
        trained = [name for name in names if self.fixed(name) is None]
        total = len(names) - len(trained) + len(trained) * self.config.seeds
        total += sum(len(self.config.rates(name)) for name in {self.config.searched(name) for name in trained})
        best: dict[str, tuple[float, tuple[float, ...]]] = {}
        with tqdm(desc="all models", total=total, unit="model", dynamic_ncols=True) as bar:
            for name in names:
                if self.fixed(name) is not None:
                    results[name] = [run.unit(f"{name}-given", partial(measure_fixed, name))]
                    bar.update()
                    continue
                searched = self.config.searched(name)
                if searched not in best:
                    best[searched] = self.best_rate(run, searched, bar)
                rate, tried = best[searched]
                unit = partial(train_and_measure, name, rate)
                results[name] = []
                for seed in range(self.config.seeds):
                    model = run.unit(f"{name}-seed{seed}", partial(unit, seed))
                    results[name].append({**model, "rates_tried": np.array(tried)})
                    bar.update()
        run.record(chunk={name: int(measured[0]["chunk"]) for name, measured in results.items()})
        return results

    def _models(self) -> dict[str, str]:
        """Return the fingerprint of the user's models: modules as text, variables as arrays."""
        content = {name: one[1] if isinstance(one, tuple) else repr(one) for name, one in sorted(self.given.items())}
        return {"models": fingerprint(*(item for pair in content.items() for item in pair))}


def design_of(config: ImageSettings, results: Results, names: Iterable[str]) -> verdicts.Design:
    """Return how some models were trained; one that was given trained is left out.

    Of a learning rate that a treatment takes from the plain training, no other was tried with the treatment.
    """
    models = {name: results[name] for name in names if "learning_rate" in results[name][0]}
    best = {name: float(one[0]["learning_rate"]) for name, one in models.items()}
    rates = {
        name: rates_tried(config, name, one[0]) if config.searched(name) == name else (best[name],)
        for name, one in models.items()
    }
    return verdicts.Design(min(map(len, models.values()), default=0), rates, best)


def rates_tried(config: ImageSettings, name: str, model: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the learning rates that were tried for a model, by its results; the grid where they do not say."""
    return tuple(np.asarray(model["rates_tried"]).tolist()) if "rates_tried" in model else config.rates(name)


def parameter_count(variables: PyTree) -> int:
    """Return how many numbers of a model are perturbed: all floating ones, never batch statistics."""
    return sum(np.size(leaf) for leaf in parameters.weights(variables)[0])


def logits(apply: Apply, variables: PyTree, tokens: Array) -> np.ndarray:
    """Return the logits ``[b k]`` of tokens ``[b t d]``."""
    return harness.outputs_on(apply, variables, tokens, execution=Execution(chunk=min(500, len(tokens))))


def function_scale(logits: Array) -> float:
    """Return the size of a function, ``mean_x sum_k |f_k - mean_k f|``: output sharpness grows with it."""
    return float(np.abs(logits - logits.mean(-1, keepdims=True)).sum(-1).mean())
