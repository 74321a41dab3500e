"""Cases that replace tokens, one at a time: a text encoder, recognizers, image models; in full, in chunks, screened."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.benchmark.accelerator import ways
from experiments.benchmark.accelerator.answers import PRECISIONS
from experiments.benchmark.accelerator.families import flip, reverse
from experiments.benchmark.accelerator.sizes import Sizes
from experiments.benchmark.accelerator.ways import Case, Run, Way
from experiments.benchmark.peers import pytorch
from jaxsens import changes, models, substitution
from jaxsens.execution import Execution, flops, memory
from jaxsens.execution.flops import Work
from jaxsens.models.images import vit
from jaxsens.models.text import bert, encoder
from jaxsens.sensitivity import screened_token_sensitivity, token
from jaxsens.typing import Perturbation, PyTree, Substitute

__all__ = ["encoders", "images", "in_chunks", "recognizers", "screened"]

OF_CHANGES = {"float32": 2e-3, "tf32x3": 2e-3, "bf16x6": 2e-3, "tf32": 0.02, "bf16": 0.1}
"""How far changes of outputs may be off those of float32: a change is a difference of outputs that are nearly equal."""


@dataclasses.dataclass(frozen=True)
class Given:
    """A model and the examples whose tokens are replaced.

    Attributes:
        variables: Variables of the model, on the device.
        tokens: Examples ``[b t *s]``.
        perturbation: What replaces a token.
    """

    variables: PyTree
    tokens: np.ndarray
    perturbation: Perturbation

    @property
    def forwards(self) -> int:
        """Model forwards of all examples, each with all of its substitutions."""
        return len(self.tokens) * (self.tokens.shape[1] + 1)

    def work_of(self, substitute: Substitute) -> Callable[[], Work]:
        """Return what counts the work of all examples."""
        example = self.tokens[0]
        return ways.counted(lambda: flops.count(substitute, self.variables, example, example), len(self.tokens))

    def run_of(self, substitute: Substitute, execution: Execution) -> Run:
        """Return what measures all examples, ``[b t]``."""
        change = changes.absolute_change
        measure = token.token_sensitivity(substitute, self.perturbation, change=change, execution=execution)
        return lambda: measure(jax.random.key(0), self.variables, self.tokens).changes[:, 0]

    def chunk_of(self, substitute: Substitute, budgets: int) -> int:
        """Return the forwards of the chunk that fits so many budgets of memory."""
        example = self.tokens[0]
        examples = memory.chunk_of(substitute, self.variables, example, example, budgets=budgets)
        return min(examples, len(self.tokens)) * (self.tokens.shape[1] + 1)

    def way(
        self,
        name: str,
        substitute: Substitute,
        precision: str = "float32",
        named: str | None = None,
        chunk: int | None = None,
    ) -> Way:
        """Return a way of jaxsens; ``named`` is JAX's name of the precision where it is not that of matrix products."""
        execution = Execution(chunk=chunk, precision=named or PRECISIONS[precision][0])
        return Way(
            name,
            "jaxsens",
            ways.ahead(self.run_of(substitute, execution)),
            self.work_of(substitute),
            precision,
            OF_CHANGES[precision],
        )

    def peer(self, forward: Callable[[], Any], at_once: int, plain: Substitute, precision: str = "float32") -> Way:
        """Return the way of PyTorch, whose forward is made when its turn comes; its work is that of the plain way."""
        changed = np.stack([np.asarray(self.perturbation(None, None, x)) for x in self.tokens])
        pair = (self.tokens, changed)
        if self.tokens.dtype == np.int32:
            pair = tuple(a.astype(np.int64) for a in pair)
        notes: list[str] = []

        def make() -> Run:
            floats = pytorch.strongest.BFLOAT16 if precision == "bf16" else None
            with pytorch.tensors.floats_in(floats):
                made = forward()
                return pytorch.procedures.many_at_once(made, *pair, at_once, precision=precision, notes=notes)

        return Way(
            f"pytorch {precision}", "pytorch", make, self.work_of(plain), precision, OF_CHANGES[precision], notes
        )


def encoders(sizes: Sizes, seed: int, usable: set[str]) -> Iterator[Case]:
    """Yield (a): an encoder of the size of BERT-base, in every precision of products that works."""
    count, length, width, depth, heads = sizes.texts
    config = bert.Config(width=width, depth=depth, heads=heads, hidden=4 * width, vocabulary=30_522, positions=512)

    def given() -> tuple[bert.Bert, Given]:
        module = bert.Bert(config)
        ids = np.random.default_rng([seed, 10]).integers(0, config.vocabulary, (count, length)).astype(np.int32)
        return module, Given(encoder.init(module, jax.random.key(seed)), ids, reverse)

    def made() -> list[Way]:
        module, work_ = given()
        shared, plain = (
            models.substitution.encoder(module),
            substitution.one_at_a_time(models.evaluation(module)),
        )
        programs = [work_.way(f"shared {p}", shared, p) for p in PRECISIONS if p in usable]
        halved = bert.Bert(dataclasses.replace(config, dtype="bfloat16", fused_attention=True))
        programs.append(work_.way("shared bfloat16 model", models.substitution.encoder(halved), "bf16", "default"))
        programs.insert(1, work_.way("plain float32", plain))
        on_host = dataclasses.replace(work_, variables=jax.device_get(work_.variables))
        programs.append(on_host.way("shared, variables on the host", shared))
        if pytorch:
            forward = functools.partial(pytorch.models.forward_of, module, on_host.variables)
            programs += [work_.peer(forward, 1, plain, p) for p in ("float32", "tf32", "bf16")]
        return programs

    yield Case("a. encoder", "model forwards", count * (length + 1), made, ways.norm_of_difference)


def recognizers(sizes: Sizes, seed: int) -> Iterator[Case]:
    """Yield (b): recognizers of two widths, plain and shared, at multiples of the memory budget."""
    for (depth, heads, head_size, multiplier), count, at_once in sizes.recognizers:
        config = models.recognizers.Config(depth=depth, heads=heads, head_size=head_size, multiplier=multiplier)

        def made(config: models.recognizers.Config = config, count: int = count, at_once: int = at_once) -> list[Way]:
            strings = np.random.default_rng([seed, 11]).integers(0, 2, (count, sizes.length)).astype(np.int32)
            task = Given(models.recognizers.init(config, jax.random.key(seed), "xavier_normal"), strings, flip)
            plain = substitution.one_at_a_time(models.recognizers.evaluation(config))
            shared = models.substitution.recognizer(config)
            programs = []
            for budgets in sizes.budgets:
                for name, substitute in (("plain", plain), ("shared", shared)):
                    chunk = task.chunk_of(substitute, budgets)
                    programs.append(task.way(f"{name}, {budgets}x budget, chunk {chunk}", substitute, chunk=chunk))
            if pytorch:

                def forward() -> Any:
                    net = pytorch.recognizers.Recognizer(config, sizes.length)
                    return functools.partial(net, net.parameters(jax.device_get(task.variables)))

                programs.append(task.peer(forward, at_once, plain))
            return programs

        forwards = count * (sizes.length + 1)
        yield Case(f"b. recognizer {config.width}", "model forwards", forwards, made, ways.norm_of_difference)


def images(sizes: Sizes, seed: int) -> Iterator[Case]:
    """Yield (c), (d), (f): CNN, ConvMixer, the paper's ViT and ResNet-18, plain and with shared work."""
    for letter, name in (("c", "cnn"), ("c", "convmixer"), ("d", "vit"), ("f", "resnet")):
        if name not in sizes.images:
            continue
        count, at_once = sizes.images[name]

        def made(name: str = name, count: int = count, at_once: int = at_once) -> list[Way]:
            module, task = _image_model(sizes, seed, name, count)
            shared = models.substitution.encoder if name == "vit" else models.substitution.convolutional
            plain = substitution.one_at_a_time(models.evaluation(module))
            programs = [task.way("plain", plain), task.way("shared", shared(module))]
            if pytorch:
                variables = jax.device_get(task.variables)
                forward = functools.partial(pytorch.models.forward_of, module, variables)
                programs.append(task.peer(forward, at_once, plain))
            return programs

        tokens = (sizes.side // PATCH) ** 2
        yield Case(f"{letter}. {name}", "model forwards", count * (tokens + 1), made, ways.norm_of_difference)


def in_chunks(sizes: Sizes, seed: int) -> Iterator[Case]:
    """Yield (i): the same work in one chunk and in many."""
    count, chunks = sizes.chunks

    def made() -> list[Way]:
        module, task = _image_model(sizes, seed, "cnn", count)
        plain = substitution.one_at_a_time(models.evaluation(module))
        return [task.way(f"in {number} chunks", plain, chunk=task.forwards // number) for number in (1, chunks)]

    tokens = (sizes.side // PATCH) ** 2
    yield Case("i. chunks, cnn", "model forwards", count * (tokens + 1), made, ways.norm_of_difference)


def screened(sizes: Sizes, seed: int) -> Iterator[Case]:
    """Yield (j): decisions of a ViT by screening in low precision, and in float32 throughout."""
    count, _ = sizes.images["vit"]

    def made() -> list[Way]:
        module, task = _image_model(sizes, seed, "vit", count)
        shared = models.substitution.encoder(module)
        halved = vit.ViT(dataclasses.replace(module.config, dtype="bfloat16", fused_attention=True))
        full = token.token_sensitivity(shared, reverse)
        calibration = min(8, max(1, count // 4))
        screens = {"default precision": None, "bfloat16": models.substitution.encoder(halved)}
        screening = {
            f"screened in {name}": screened_token_sensitivity(
                shared, reverse, screen=screen, calibration=calibration, audit=100
            )
            for name, screen in screens.items()
        }

        def run_of(measure: Callable) -> Run:
            def run() -> np.ndarray:
                measured = measure(jax.random.key(0), task.variables, task.tokens)
                return getattr(measured, "measured", measured).changes

            return run

        work_ = task.work_of(shared)
        return [
            Way(name, "jaxsens", ways.ahead(run_of(measure)), work_, tolerance=1e-3)
            for name, measure in {"float32": full, **screening}.items()
        ]

    tokens = (sizes.side // PATCH) ** 2
    yield Case("j. screening, vit", "model forwards", count * (tokens + 1), made, ways.share_that_differs)


PATCH = 4


def _image_model(sizes: Sizes, seed: int, name: str, count: int) -> tuple[Any, Given]:
    """Return an image model, and random images for it."""
    variant = "paper_cifar10" if (name, sizes.variant) == ("vit", "paper") else sizes.variant
    module = models.build(name, variant, image_shape=(sizes.side, sizes.side, 3), classes=10, patch=PATCH)
    tokens = np.random.default_rng([seed, 12]).normal(size=(count, *module.config.token_shape)).astype(np.float32)
    return module, Given(models.init(module, jax.random.key(seed)), tokens, reverse)
