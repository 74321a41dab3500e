"""Memory that large models take: the programs of three measures at default settings, compiled and not run."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmark.estimate.compiling import compiled, memory_of
from experiments.benchmark.estimate.programs import bert_base, zeros
from jaxsens import curvature, models, perturb, sensitivity, sharpness
from jaxsens.curvature import lanczos
from jaxsens.execution import Execution, batches, dry_run, memory
from jaxsens.models.text import bert, encoder
from jaxsens.sharpness.classification import CrossEntropy
from jaxsens.typing import PyTree

__all__ = ["PROGRAMS", "rows"]

EXAMPLES, TOKENS, CLASSES, PAIRS = 1024, 128, 2, 1


@dataclasses.dataclass(frozen=True)
class _Model:
    """A model, its variables (zeros that take no memory), examples and what replaces a token."""

    module: Any
    variables: PyTree
    tokens: np.ndarray
    perturbation: Any


def _bert(layers: int | None) -> _Model:
    config = bert_base().config
    module = bert.Bert(dataclasses.replace(config, classes=CLASSES, depth=layers or config.depth))
    variables = zeros(jax.eval_shape(lambda: encoder.init(module, jax.random.key(0))))
    ids = np.zeros((EXAMPLES, TOKENS), np.int32)
    return _Model(module, variables, ids, perturb.replace_uniform(module.config.vocabulary))


def _vit(layers: int | None) -> _Model:
    module = models.build("vit_imagenet", "large", image_shape=(224, 224, 3), classes=1000, patch=16)
    module = type(module)(dataclasses.replace(module.config, depth=layers or module.config.depth))
    variables = zeros(jax.eval_shape(lambda: models.init(module, jax.random.key(0))))
    tokens = np.zeros((EXAMPLES, *module.config.token_shape), np.float32)
    return _Model(module, variables, tokens, perturb.gaussian(1.0))


def _token_sensitivity(model: _Model, execution: Execution) -> jax.stages.Lowered:
    substitute = models.substitution.encoder(model.module)
    measure = sensitivity.token_sensitivity(substitute, model.perturbation, execution=execution)
    return _lowered(lambda: measure(jax.random.key(0), model.variables, model.tokens))


def _sharpness(model: _Model, execution: Execution) -> jax.stages.Lowered:
    """Return the program of the perturbed models; that of the unperturbed one takes less."""
    loss = CrossEntropy(models.evaluation(model.module))
    measure = sharpness.average_sharpness(loss, perturb.gaussian(1e-3), draws=20, execution=execution)
    batch = model.tokens, np.zeros(EXAMPLES, np.int32)
    return _lowered(lambda: measure(jax.random.key(0), model.variables, batch))


def _eigenpairs(model: _Model, execution: Execution) -> jax.stages.Lowered:
    """Return Lanczos for one pair, with as many examples in a part as make a micro-batch."""
    product = curvature.hessian_product(CrossEntropy(models.evaluation(model.module)), execution=execution)
    shapes = jax.eval_shape(lambda tree: tree, model.variables)
    batch = model.tokens, np.zeros(EXAMPLES, np.int32)
    example = batches.example_spec(batch)
    rows = memory.chunk_of(product.matrix.forward, shapes, example, derivative=True)
    layout = (batches.parts_on(len(execution.devices)), 1, rows)
    blocks = jax.tree.map(lambda s: jax.ShapeDtypeStruct((*layout, *s.shape[1:]), s.dtype), example)
    parts = blocks, jax.ShapeDtypeStruct(layout, np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    arguments = _on(execution.devices, (key, shapes, parts))
    return lanczos.decompose.lower(product, 4 * PAIRS + 40, *arguments)


MEASURES: dict[str, Callable[[_Model, Execution], jax.stages.Lowered]] = {
    "token_sensitivity": _token_sensitivity,
    "average_sharpness": _sharpness,
    "top_eigenpairs": _eigenpairs,
}
PROGRAMS = {
    f"{name}, {measure}": (model, lower)
    for name, model in (("BERT-base", _bert), ("ViT-L/16", _vit))
    for measure, lower in MEASURES.items()
}


def rows(
    platform: str, devices: Sequence[jax.Device], precision: str, only: tuple[str, ...], layers: int | None
) -> Iterator[dict[str, Any]]:
    """Yield a row for each program whose name begins with one of ``only``, with the memory of each device.

    With ``layers``, models have so many: memory grows linearly with layers, and two small numbers of them compile in a
    fraction of the time.
    """
    execution = Execution(devices=devices, precision=precision, check=False)
    machine = {"cuda": "H100", "tpu": "TPU v5e"}.get(platform, "CPU")
    for name, (model, lower) in PROGRAMS.items():
        if name.startswith(only):
            program, seconds = compiled(lower(model(layers), execution), platform)
            case = f"{name}, {layers} layers" if layers else name
            case = f"{case}, {len(devices)} devices" if len(devices) > 1 else case
            row = {"case": case, "machine": machine, "precision": precision, "compile_cpu_seconds": seconds}
            yield row | memory_of(program) | {"jax": jax.__version__}


def _lowered(measure: Callable[[], Any]) -> jax.stages.Lowered:
    """Return the last program that a measure launches."""
    launches: list[dry_run.Launch] = []
    with dry_run.recording(launches):
        measure()
    return launches[-1].lower()


def _on(devices: Sequence[jax.Device], tree: PyTree) -> PyTree:
    """Return the shapes as those of arrays that are whole on every device."""
    mesh = jax.sharding.Mesh(np.asarray(devices), ("devices",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), tree)
