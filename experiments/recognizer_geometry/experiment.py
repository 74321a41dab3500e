"""How far do recognizers move when a bit is flipped, and how many strings have no bit that matters? Measured geometry.

Takes the theorems of Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean
Functions, s.3, 4 and 7, in the paper's own block: the bound of the blow-up (Lem. 3.2), influence against length (Cor.
3.3, C21), the length at which First, Majority and Parity, built by hand, lose a margin (Cor. 3.4), the frequency of
blow-ups without epsilon (Lem. 4.2), and the number K_0 of strings of sensitivity 0 (Thm. 4.5, C22).

    python -m experiments.recognizer_geometry --preset laptop

On two CPU cores, beside other work, it takes 7 minutes, 4 of them compiling. With seed 0 it gave, for 40 models each:

- beta^L is at most .913 of its bound in random models, a model's largest on average .742 [.713, .771] (L = 1, epsilon
  = 1); majority built by hand attains the bound. No model and string is above it (Lem. 3.2).
- Without position encodings the largest influence of a bit falls as N to the power -1.008 [-1.025, -.992], -.989
  [-1.029, -.948] and -1.02 [-1.18, -.85] (parameters in [-a, a], a = 1/4, 1/2 and 1; N = 128 .. 512). With
  sinusoidal ones -.92 [-1.00, -.83], -.55 [-.68, -.42], -.14 [-.42, +.15]: there the scores of the end of string range
  over 2.6, 10 and 41 nats and still widen with N; ln 512 is 6.2: the corollary's constant, e to that range, bounds
  nothing yet. Epsilon (1e-5 or .1) makes no difference that shows.
- Built by hand, First, Majority and Parity have margin 1 at all N if epsilon = 0. With epsilon = .01 a margin of .1
  is kept to N = 97, 48 and 6 (it fades as 1/N, 1/N and 1/N^2), with .0001 to 993, 496 and 21; found with the models
  themselves, within 1 of their closed forms, which are first order in epsilon. First with positions that have no bound
  keeps .99 for ever: Cor. 3.3 and 3.4 need bounded encodings, which s.2.2 does not ask for. Those of Parity have none
  either (ln N), but do not save it.
- Blow-ups above 1 + N^(.9/2L), N = 8 .. 128: the exponent is -.31 [-.39, -.23] for L = 1, D = 4 (the lemma bounds it by
  -.35 as N grows), -.84 [-1.03, -.65] for D = 5 (-.80), -.25 [-.36, -.15] for L = 2, D = 6 (-.125).
- At N = 100 39 of 40 models with L = 1, D = 16 show strings of sensitivity 0 among 200, and hence K_0 >= 2^96 with
  95 % confidence, where the floor of Thm. 4.5 is 2^16.6; the other may have none: a share of .975 [.868, 1], which
  cannot tell whether nearly all (above .9) do. For L = 2, D = 8 all 40 do, but there the floor's exponent is negative.
- From N = 64 to 100 the same 39 and 40 models grow faster than the floor, 14 and all of the 15 that are not constant.
  Over all strings, N = 4 .. 12, log2 K_0 grows by .987 [.945, 1.030] and 1.023 [.994, 1.053] bits a position, of at
  most 1 in the long run. Evidence for the exponential that s.7 leaves open, not a proof: it rests on all strings to
  N = 12, and on the share of strings of sensitivity 0 being at least about 1/200 at N = 100.

Leaves blow_up_bound.csv, influences.csv, influence_slopes.csv, margins.csv, margin_lengths.csv, blow_ups.csv,
blow_up_decay.csv, counts.csv, count_growth.csv, count_models.csv, comparison.csv, four figures and manifest.json in
the folder ``--out``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import harness
from experiments.recognizer_geometry import fits, report
from experiments.recognizer_geometry.config import PRESETS, Config
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS, telling_strings
from jaxsens.boolean import blow_up, strings, truth_tables
from jaxsens.boolean.profile import sensitivity_profile
from jaxsens.execution import Execution, parallel
from jaxsens.models.recognizers import layers
from jaxsens.models.recognizers import transformer as recognizer
from jaxsens.models.substitution import recognizers as recognizer_substitution
from jaxsens.typing import Array, Key, PyTree


def uniform_models(config: recognizer.Config, key: Key, half_width: float, count: int, dtype: Any) -> PyTree:
    """Draw ``count`` models ``[m ...]`` with parameters uniform on ``[-a, a]^M`` and standard normal embeddings.

    The scheme ``uniform`` of ``initialisation``, but from one draw a model, which compiles faster. It is made in
    float32, and returned on the host in another type.
    """
    specs = {name: found for name, found in config.specs.items() if name != "embedding"}
    leaves, structure = jax.tree.flatten(specs)
    ends = np.cumsum([np.prod(spec.shape, dtype=int) for spec in leaves])
    flat, embedding = _draw(key, np.arange(count, dtype=np.uint32), int(ends[-1]), config.specs["embedding"].shape)
    parts = np.split(half_width * np.asarray(flat, dtype), ends[:-1], axis=1)
    params = structure.unflatten([part.reshape(-1, *spec.shape) for part, spec in zip(parts, leaves, strict=True)])
    return {"params": params | {"embedding": np.asarray(embedding, dtype)}}


@partial(jax.jit, static_argnums=(2, 3))
def _draw(key: Key, numbers: Array, size: int, embedding: tuple[int, int]) -> tuple[Array, Array]:
    def one(number: Array) -> tuple[Array, Array]:
        own = jax.random.fold_in(key, number)
        parameters = jax.random.uniform(jax.random.fold_in(own, 0), (size,), minval=-1, maxval=1)
        return parameters, jax.random.normal(jax.random.fold_in(own, 1), embedding)

    return jax.vmap(one)(numbers)


def bits_of(config: Config, models: int, count: int, n: int) -> np.ndarray:
    """Draw strings ``[models count n]``."""
    return np.asarray(strings.uniform(config.key("string", n), models * count, n)).reshape(models, count, n)


def bound(config: Config, depth: int, epsilon: float) -> dict[str, Any]:
    """Measure ``beta^L / (1 + 1 / sqrt(epsilon))^L`` on the strings of random models (Lem. 3.2) ``[m b]``."""
    architecture = config.architecture(depth, config.width, epsilon)
    models = uniform_models(architecture, config.key("bound", depth), 1.0, config.models, np.float64)
    bits = bits_of(config, config.models, config.strings, config.bound_length)
    with jax.enable_x64(True):
        tau = parallel.map_items(BlowUps(architecture), (models, bits), execution=Execution(chunk=8))
    return {"ratio": tau.prod(-1) / blow_up.blow_up_bound(epsilon, depth)}


def influences(config: Config, encoding: str, epsilon: float, half_width: float, n: int) -> dict[str, Any]:
    """Measure the influence of every bit on the end of string: mean and largest of each model ``[m]`` (Cor. 3.3)."""
    architecture = config.architecture(config.depth, config.width, epsilon)
    models = uniform_models(architecture, config.key("influence"), half_width, config.models, np.float64)
    if encoding == "none":
        models |= {"positions": np.zeros((config.models, n + 1, config.width))}
    bits = bits_of(config, config.models, config.strings, n)
    with jax.enable_x64(True):
        states, logits, spans = parallel.map_items(
            Influences(architecture), (models, bits), execution=Execution(chunk=1)
        )
    found = {"activation": states, "logit": logits}
    summary = {f"{name}_mean": values.mean((1, 2)) for name, values in found.items()}
    return summary | {f"{name}_max": values.max((1, 2)) for name, values in found.items()} | {"span": spans.mean(1)}


def margin(name: str, epsilon: float, n: int) -> dict[str, Any]:
    """Measure the smallest logit of a construction, on the right side of 0, over telling strings (Cor. 3.4)."""
    built = CONSTRUCTIONS[name](epsilon)
    bits = telling_strings(n)
    with jax.enable_x64(True):
        logits, tau = (np.asarray(a) for a in _logits_and_blow_ups(built.config, built.variables(n), bits))
    signed = np.where(np.asarray(built.language(n).accept(bits)), logits, -logits)
    ratio = (tau.prod(-1) / blow_up.blow_up_bound(epsilon, built.config.depth)).max() if epsilon > 0 else 0.0
    closed_form = built.smallest(np.asarray(n))
    fits.require_margin(name, epsilon, n, float(signed.min()), float(closed_form))
    return {"margin": signed.min(), "closed_form": closed_form, "blow_up_ratio": ratio, "strings": len(bits)}


def margin_end(name: str, epsilon: float, smallest: float, closed_form: int) -> dict[str, Any]:
    """Find the last length at which a construction keeps a margin, from where its closed form does (Cor. 3.4)."""
    return {"kept": fits.last_kept(lambda n: margin(name, epsilon, n)["margin"] >= smallest, closed_form)}


def blow_ups(config: Config, depth: int, width: int, perturbed: bool, n: int) -> dict[str, Any]:
    """Count random weights under which some layer blows up beyond ``1 + N^(zeta / 2L)`` on a string (Lem. 4.2) ``[c]``.

    A string, an embedding and, where weights are perturbed, what they are perturbed from are fixed, as in the lemma;
    that is done for several of these centres, which are the units.
    """
    architecture = config.architecture(depth, width, 0.0)
    centres = uniform_models(architecture, config.key("perturbed", depth, width), 1.0, config.centres, np.float32)
    fixed = jax.tree.map(lambda a: np.repeat(a, config.draws, 0), centres["params"])
    key = config.key("blow-up", depth, width, int(perturbed), n)
    count, radius = config.centres * config.draws, config.radius if perturbed else 1.0
    moved = uniform_models(architecture, key, radius, count, np.float32)["params"]
    params = jax.tree.map(np.add, moved, fixed) if perturbed else moved
    bits = np.repeat(bits_of(config, config.centres, 1, n), config.draws, 0)
    item = ({"params": params | {"embedding": fixed["embedding"]}}, bits)
    tau = parallel.map_items(BlowUps(architecture), item, execution=Execution(chunk=max(1, 2**19 // (n + 1) ** 2)))
    exceeded = (tau[:, 0] > 1 + n ** (config.zeta / (2 * depth))).any(-1)
    return {"rates": exceeded.reshape(config.centres, config.draws).mean(1)}


def counts(config: Config, depth: int, width: int, n: int) -> dict[str, Any]:
    """Count strings of sensitivity 0 of random models ``[m]``, among all strings or a sample of them (Thm. 4.5)."""
    architecture = config.architecture(depth, width, 0.0)
    models = uniform_models(architecture, config.key("count", depth, width), 1.0, config.models, np.float64)
    each = [jax.tree.map(lambda a, i=i: a[i], models) for i in range(config.models)]
    with jax.enable_x64(True):
        if n in config.exhaustive_lengths:
            accept = jax.jit(lambda variables, rows: recognizer.evaluation(architecture)(variables, rows) > 0)
            tables = [truth_tables.truth_table(partial(accept, variables), n) for variables in each]
            found = [int(truth_tables.profile(table)[0]) for table in tables]
            constant = [bool(table.all() or not table.any()) for table in tables]
            return {"zero": np.array(found), "strings": 2**n, "constant": np.array(constant)}
        bits = bits_of(config, config.models, config.sampled_strings, n)
        substitute = recognizer_substitution.substitute(architecture)
        measure = sensitivity_profile(substitute, execution=Execution(chunk=8 * (n + 1)))
        profiles = [measure(config.key("count"), one, rows) for one, rows in zip(each, bits, strict=True)]
    found = np.array([int(profile.counts[0]) for profile in profiles])
    constant = [len(set(profile.decisions.tolist())) == 1 and not profile.flips.any() for profile in profiles]
    return {"zero": found, "strings": config.sampled_strings, "constant": np.array(constant)}


@dataclass(frozen=True)
class BlowUps:
    """The blow-ups of every layer, Eq. 17, on the strings ``[b n]`` of a model: ``[b l]``."""

    config: recognizer.Config

    def __call__(self, item: tuple[PyTree, Array]) -> Array:
        """Measure those of one model."""
        variables, bits = item
        with jax.default_matmul_precision("highest"):
            return blow_up.blow_up(recognizer.internals(self.config)(variables, bits).normalizers)


@dataclass(frozen=True)
class Influences:
    """Influences of all bits on the end of string's last activation and on the logit, of a model, each ``[b n]``.

    Equal to ``blow_up.influences``; but all flips of a string share most of their work. Beside them the range of the
    scores with which the end of string attends in the first layer, the larger of the heads' ``[b]``, in nats.
    """

    config: recognizer.Config

    def __call__(self, item: tuple[PyTree, Array]) -> tuple[Array, Array, Array]:
        """Measure those of one model and its strings ``[b n]``."""
        variables, bits = item
        params = variables["params"]
        substitute = recognizer_substitution.substitute(self.config, rows=32)

        def coordinate(weight: Array, string: Array) -> tuple[Array, Array]:
            chosen = params | {"readout": {"weight": weight, "bias": jnp.zeros_like(params["readout"]["bias"])}}
            return substitute({**variables, "params": chosen}, string, 1 - string)

        def of(string: Array) -> tuple[Array, Array]:
            # Only the read-out differs between the coordinates of the activation: the rest is evaluated once.
            weights = jnp.eye(self.config.width, dtype=params["embedding"].dtype)
            clean, changed = jax.vmap(coordinate, (0, None))(weights, string)
            moved = changed - clean[:, None]
            return jnp.linalg.norm(moved, axis=0), jnp.abs(params["readout"]["weight"] @ moved)

        with jax.default_matmul_precision("highest"):
            _, x = recognizer.embed(self.config, variables, bits)
            first = layers.take_layer(params["layers"], 0)
            query, key = layers.project(first, "query", x[:, -1]), layers.project(first, "key", x)
            scores = jnp.einsum("bhk,bmhk->bhm", query, key) * layers.score_scale(self.config)
            return *jax.lax.map(of, bits), jnp.ptp(scores, axis=-1).max(-1)


@partial(jax.jit, static_argnums=0)
def _logits_and_blow_ups(config: recognizer.Config, variables: PyTree, bits: Array) -> tuple[Array, Array]:
    """Return logits ``[b]`` and the blow-ups of every layer ``[b l]``, of one string after another."""

    def one(row: Array) -> tuple[Array, Array]:
        found = recognizer.internals(config)(variables, row[None])
        return found.logits[0], blow_up.blow_up(found.normalizers[0])

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(one, bits)


def units(config: Config) -> Iterator[tuple[str, tuple[Any, ...], Callable[[], dict[str, Any]]]]:
    """List the pieces of work: section, the setting within it, and what computes it."""
    for depth in config.bound_depths:
        for epsilon in config.bound_epsilons:
            yield "bound", (depth, epsilon), partial(bound, config, depth, epsilon)
    for encoding, epsilon in config.normalised:
        for n in config.lengths:
            for half_width in config.half_widths:
                setting = (encoding, epsilon, half_width, n)
                yield "influence", setting, partial(influences, config, *setting)
    for name in CONSTRUCTIONS:
        for epsilon in config.margin_epsilons:
            for n in config.margin_lengths:
                yield "margin", (name, epsilon, n), partial(margin, name, epsilon, n)
            for smallest in config.margins:
                end = fits.kept_until(CONSTRUCTIONS[name](epsilon).smallest, smallest)
                if end is not None and end <= fits.EVALUATED:
                    yield "margin-end", (name, epsilon, smallest), partial(margin_end, name, epsilon, smallest, end)
    for depth, width in config.shapes:
        for n in config.blow_up_lengths:
            for perturbed in (False, True):
                setting = (depth, width, "perturbed" if perturbed else "uniform", n)
                yield "blow-up", setting, partial(blow_ups, config, depth, width, perturbed, n)
    for depth, width in config.count_shapes:
        for n in (*config.exhaustive_lengths, *config.sampled_lengths):
            yield "count", (depth, width, n), partial(counts, config, depth, width, n)


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    with harness.Run.open(out, config, experiment="recognizer_geometry") as run:
        results: report.Results = {}
        work = list(units(config))
        with tqdm(work, desc="units", unit="unit", dynamic_ncols=True) as bar:
            for section, setting, compute in bar:
                bar.set_postfix_str(section)
                name = "-".join([section, *(f"{part:g}" if isinstance(part, float) else str(part) for part in setting)])
                results.setdefault(section, {})[setting] = run.unit(name, compute)
        run.record(precision="float64; blow-ups of perturbed and uniform weights: float32", units=len(work))
        report.write(run, config, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("recognizer_geometry", PRESETS, execute, __doc__)
