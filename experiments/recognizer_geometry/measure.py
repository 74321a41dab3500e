"""Measures: blow-ups, influences, margins of constructions, and numbers of strings of sensitivity 0."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recognizer_geometry import fits
from experiments.recognizer_geometry.config import KEYS, Config
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS, hard_strings
from jaxsens.boolean import blow_up, sensitivity_profile, strings, truth_tables
from jaxsens.execution import Execution, parallel
from jaxsens.models import recognizers, substitution
from jaxsens.models.recognizers import layers, transformer
from jaxsens.typing import Array, Key, PyTree


def uniform_models(config: recognizers.Config, key: Key, half_width: float, count: int, dtype: Any) -> PyTree:
    """Draw ``count`` models ``[m ...]`` with parameters uniform on ``[-a, a]^M`` and standard normal embeddings.

    The scheme ``uniform`` of ``recognizers.init``, but all parameters of a model from one draw, which compiles faster.
    Drawn in float32, and returned on the host in ``dtype``.
    """
    specs = {name: spec for name, spec in config.specs.items() if name != "embedding"}
    leaves, structure = jax.tree.flatten(specs)
    ends = np.cumsum([np.prod(spec.shape, dtype=int) for spec in leaves])
    flat, embedding = _draw(key, np.arange(count, dtype=np.uint32), int(ends[-1]), config.specs["embedding"].shape)
    parts = np.split(half_width * np.asarray(flat, dtype), ends[:-1], axis=1)
    params = structure.unflatten([part.reshape(-1, *spec.shape) for part, spec in zip(parts, leaves, strict=True)])
    return {"params": params | {"embedding": np.asarray(embedding, dtype)}}


@partial(jax.jit, static_argnums=(2, 3))
def _draw(key: Key, numbers: Array, size: int, embedding: tuple[int, int]) -> tuple[Array, Array]:
    def one(number: Array) -> tuple[Array, Array]:
        model_key = jax.random.fold_in(key, number)
        parameters = jax.random.uniform(jax.random.fold_in(model_key, 0), (size,), minval=-1, maxval=1)
        return parameters, jax.random.normal(jax.random.fold_in(model_key, 1), embedding)

    return jax.vmap(one)(numbers)


def random_strings(config: Config, models: int, count: int, n: int) -> np.ndarray:
    """Draw strings ``[models count n]``."""
    key = KEYS(config.seed, "string", n)
    return np.asarray(strings.uniform(key, models * count, n)).reshape(models, count, n)


def bound(config: Config, depth: int, epsilon: float) -> dict[str, Any]:
    """Measure ``beta^L / (1 + 1 / sqrt(epsilon))^L`` on the strings of random models (Lem. 3.2) ``[m b]``."""
    architecture = config.architecture(depth, config.width, epsilon)
    models = uniform_models(architecture, KEYS(config.seed, "bound", depth), 1.0, config.models, np.float64)
    bits = random_strings(config, config.models, config.strings, config.bound_length)
    with jax.enable_x64(True):
        tau = parallel.map_items(
            parallel.bind(layer_blow_ups, architecture), (models, bits), execution=Execution(chunk=8)
        )
    return {"ratio": tau.prod(-1) / blow_up.blow_up_bound(epsilon, depth)}


def influences(config: Config, encoding: str, epsilon: float, half_width: float, n: int) -> dict[str, Any]:
    """Measure the influence of every bit on the end of string: mean and largest of each model ``[m]`` (Cor. 3.3)."""
    architecture = config.architecture(config.depth, config.width, epsilon)
    models = uniform_models(architecture, KEYS(config.seed, "influence"), half_width, config.models, np.float64)
    if encoding == "none":
        models |= {"positions": np.zeros((config.models, n + 1, config.width))}
    bits = random_strings(config, config.models, config.strings, n)
    with jax.enable_x64(True):
        states, logits, ranges = parallel.map_items(
            parallel.bind(end_influences, architecture), (models, bits), execution=Execution(chunk=1)
        )
    values = {"activation": states, "logit": logits}
    results = {f"{name}_mean": value.mean((1, 2)) for name, value in values.items()}
    results |= {f"{name}_max": value.max((1, 2)) for name, value in values.items()}
    return results | {"span": ranges.mean(1)}


def margin(name: str, epsilon: float, n: int) -> dict[str, Any]:
    """Measure the smallest logit of a construction, signed by its language, over hard strings (Cor. 3.4)."""
    built = CONSTRUCTIONS[name](epsilon)
    bits = hard_strings(n)
    with jax.enable_x64(True):
        logits, tau = (np.asarray(a) for a in _logits_and_blow_ups(built.config, built.variables(n), bits))
    signed = np.where(np.asarray(built.language(n).accept(bits)), logits, -logits)
    ratio = (tau.prod(-1) / blow_up.blow_up_bound(epsilon, built.config.depth)).max() if epsilon > 0 else 0.0
    closed_form = built.smallest(np.asarray(n))
    fits.require_margin(name, epsilon, n, float(signed.min()), float(closed_form))
    return {"margin": signed.min(), "closed_form": closed_form, "blow_up_ratio": ratio, "strings": len(bits)}


def margin_end(name: str, epsilon: float, smallest: float, closed_form: int) -> dict[str, Any]:
    """Find the last length at which a construction keeps a margin, near that of its closed form (Cor. 3.4)."""
    return {"kept": fits.last_kept(lambda n: margin(name, epsilon, n)["margin"] >= smallest, closed_form)}


def blow_ups(config: Config, depth: int, width: int, perturbed: bool, n: int) -> dict[str, Any]:
    """Measure how often random weights let a layer blow up beyond ``1 + N^(zeta / 2L)`` on a string (Lem. 4.2) ``[c]``.

    The string, the embedding and the center of a perturbation are fixed, as in the lemma, for each of several centers,
    which are the units.
    """
    architecture = config.architecture(depth, width, 0.0)
    key = KEYS(config.seed, "perturbed", depth, width)
    centers = uniform_models(architecture, key, 1.0, config.centers, np.float32)
    fixed = jax.tree.map(lambda a: np.repeat(a, config.draws, 0), centers["params"])
    key = KEYS(config.seed, "blow-up", depth, width, int(perturbed), n)
    count, radius = config.centers * config.draws, config.radius if perturbed else 1.0
    moved = uniform_models(architecture, key, radius, count, np.float32)["params"]
    params = jax.tree.map(np.add, moved, fixed) if perturbed else moved
    bits = np.repeat(random_strings(config, config.centers, 1, n), config.draws, 0)
    item = ({"params": params | {"embedding": fixed["embedding"]}}, bits)
    execution = Execution(chunk=max(1, 2**19 // (n + 1) ** 2))
    tau = parallel.map_items(parallel.bind(layer_blow_ups, architecture), item, execution=execution)
    exceeded = (tau[:, 0] > 1 + n ** (config.zeta / (2 * depth))).any(-1)
    return {"rates": exceeded.reshape(config.centers, config.draws).mean(1)}


def counts(config: Config, depth: int, width: int, n: int) -> dict[str, Any]:
    """Count strings of sensitivity 0 of random models ``[m]``, among all strings or a sample of them (Thm. 4.5)."""
    architecture = config.architecture(depth, width, 0.0)
    key = KEYS(config.seed, "count", depth, width)
    models = uniform_models(architecture, key, 1.0, config.models, np.float64)
    each = [jax.tree.map(lambda a, i=i: a[i], models) for i in range(config.models)]
    with jax.enable_x64(True):
        if n in config.exhaustive_lengths:
            accept = jax.jit(lambda variables, rows: recognizers.evaluation(architecture)(variables, rows) > 0)
            tables = [truth_tables.truth_table(partial(accept, variables), n) for variables in each]
            zero = [int(truth_tables.profile(table)[0]) for table in tables]
            constant = [bool(table.all() or not table.any()) for table in tables]
            return {"zero": np.array(zero), "strings": 2**n, "constant": np.array(constant)}
        bits = random_strings(config, config.models, config.sampled_strings, n)
        measure = sensitivity_profile(substitution.recognizer(architecture), execution=Execution(chunk=8 * (n + 1)))
        key = KEYS(config.seed, "count")
        profiles = [measure(key, variables, rows) for variables, rows in zip(each, bits, strict=True)]
    zero = np.array([int(profile.counts[0]) for profile in profiles])
    constant = [len(set(profile.decisions.tolist())) == 1 and not profile.flips.any() for profile in profiles]
    return {"zero": zero, "strings": config.sampled_strings, "constant": np.array(constant)}


def layer_blow_ups(config: recognizers.Config, item: tuple[PyTree, Array]) -> Array:
    """Return the blow-ups of every layer, Eq. 17, of a model on its strings ``[b n]``: ``[b l]``."""
    variables, bits = item
    with jax.default_matmul_precision("highest"):
        return blow_up.blow_up(recognizers.internals(config)(variables, bits).normalizers)


def end_influences(config: recognizers.Config, item: tuple[PyTree, Array]) -> tuple[Array, Array, Array]:
    """Return the influences of all bits on the end of string, of a model on its strings ``[b n]``.

    Equal to ``blow_up.influences``, but all flips of a string share most of their work.

    Returns:
        Influences on the last activation and on the logit, each ``[b n]``; and the range of the scores with which the
        end of string attends in the first layer, the largest over heads, in nats ``[b]``.
    """
    variables, bits = item
    params = variables["params"]
    substitute = substitution.recognizer(config, rows=32)

    def coordinate(weight: Array, string: Array) -> tuple[Array, Array]:
        chosen = params | {"readout": {"weight": weight, "bias": jnp.zeros_like(params["readout"]["bias"])}}
        return substitute({**variables, "params": chosen}, string, 1 - string)

    def of_string(string: Array) -> tuple[Array, Array]:
        # Only the read-out differs between the coordinates of the activation: the rest is evaluated once.
        weights = jnp.eye(config.width, dtype=params["embedding"].dtype)
        clean, changed = jax.vmap(coordinate, (0, None))(weights, string)
        moved = changed - clean[:, None]
        return jnp.linalg.norm(moved, axis=0), jnp.abs(params["readout"]["weight"] @ moved)

    with jax.default_matmul_precision("highest"):
        _, x = transformer.embed(config, variables, bits)
        first = layers.take_layer(params["layers"], 0)
        query, key = layers.project(first, "query", x[:, -1]), layers.project(first, "key", x)
        scores = jnp.einsum("bhk,bmhk->bhm", query, key) * layers.score_scale(config)
        return *jax.lax.map(of_string, bits), jnp.ptp(scores, axis=-1).max(-1)


@partial(jax.jit, static_argnums=0)
def _logits_and_blow_ups(config: recognizers.Config, variables: PyTree, bits: Array) -> tuple[Array, Array]:
    """Return logits ``[b]`` and the blow-ups of every layer ``[b l]``, of one string after another."""

    def one(row: Array) -> tuple[Array, Array]:
        values = recognizers.internals(config)(variables, row[None])
        return values.logits[0], blow_up.blow_up(values.normalizers[0])

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(one, bits)
