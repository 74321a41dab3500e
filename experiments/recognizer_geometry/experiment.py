"""How much does a bit move a recognizer, how does that fall with length, and how many strings have sensitivity 0?

Checks theorems of Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions
(s.3, 4 and 7), in the block of that paper: the bound of the blow-up (Lem. 3.2), influence against length (Cor. 3.3,
claim C21), the length at which First, Majority and Parity, built by hand, lose a margin (Cor. 3.4), the frequency of
blow-ups without epsilon (Lem. 4.2), and the number K_0 of strings of sensitivity 0 (Thm. 4.5, claim C22).

    python -m experiments.recognizer_geometry --preset laptop

Leaves blow_up_bound.csv, influences.csv, influence_slopes.csv, margins.csv, margin_lengths.csv, blow_ups.csv,
blow_up_decay.csv, counts.csv, count_growth.csv, count_models.csv, comparison.csv, four figures and manifest.json in the
folder --out.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from experiments import harness
from experiments.recognizer_geometry import fits, measure, report
from experiments.recognizer_geometry.config import PRESETS, Config
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS
from experiments.recognizer_geometry.estimates import WEIGHTS, Results

SETTING = {
    "block": "as in s.2.2 of the paper, square MLPs",
    "weights": "uniform on [-1, 1]^M, standard normal embeddings, where nothing else is said",
    "epsilon": "0 for blow-ups and counts",
    "precision": "float64; blow-ups of uniform and perturbed weights: float32",
    "influence": "O(1/N) has a constant that grows as e to the range of attention scores",
    "margins": "built by hand, nothing is random; closed forms are of first order in epsilon",
    "blow-ups": "the lemma is an upper bound as N grows; intervals by the jackknife over centers",
    "counts": "evidence, not proof: all strings up to the longest exhaustive length, a sample beyond",
    "intervals": "95 %, over models or centers; verdicts on one claim are corrected together (Holm)",
}


def units(config: Config) -> Iterator[tuple[str, tuple[Any, ...], Callable[[], dict[str, Any]]]]:
    """Yield the units of a run: section, the setting within it, and what computes it."""
    for depth in config.bound_depths:
        for epsilon in config.bound_epsilons:
            yield "bound", (depth, epsilon), partial(measure.bound, config, depth, epsilon)
    for encoding, epsilon in config.influence_settings:
        for n in config.lengths:
            for half_width in config.half_widths:
                setting = (encoding, epsilon, half_width, n)
                yield "influence", setting, partial(measure.influences, config, *setting)
    for name, build in CONSTRUCTIONS.items():
        for epsilon in config.margin_epsilons:
            for n in config.margin_lengths:
                yield "margin", (name, epsilon, n), partial(measure.margin, name, epsilon, n)
            for smallest in config.margins:
                end = fits.kept_until(build(epsilon).smallest, smallest)
                if end is not None and end <= fits.EVALUATED:
                    setting = (name, epsilon, smallest)
                    yield "margin-end", setting, partial(measure.margin_end, *setting, end)
    for depth, width in config.shapes:
        for n in config.blow_up_lengths:
            for weights in WEIGHTS:
                compute = partial(measure.blow_ups, config, depth, width, weights == "perturbed", n)
                yield "blow-up", (depth, width, weights, n), compute
    for depth, width in config.count_shapes:
        for n in (*config.exhaustive_lengths, *config.sampled_lengths):
            yield "count", (depth, width, n), partial(measure.counts, config, depth, width, n)


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``.

    It takes no data of the user: the theorems are about strings of many lengths, which are all or random ones.

    Raises:
        ValueError: If the folder holds another run.
        FloatingPointError: If a construction does not recognize its language, see ``fits.require_margin``.
    """
    with harness.Run.open(out, config, experiment="recognizer_geometry") as run:
        run.record(setting=SETTING)
        results: Results = {}
        with tqdm(list(units(config)), desc="units", unit="unit", dynamic_ncols=True) as bar:
            for section, setting, compute in bar:
                bar.set_postfix_str(section)
                name = "-".join([section, *(f"{part:g}" if isinstance(part, float) else str(part) for part in setting)])
                results.setdefault(section, {})[setting] = run.unit(name, compute)
        report.write(run, config, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("recognizer_geometry", PRESETS, execute, __doc__)
