"""Is sensitivity a progress measure of grokking, and does a penalty on noise stability hasten it?

Addition modulo p (Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.7.3): transformers of one layer,
without residual connections and normalization as published and with both, learn a part of all pairs with all examples
in every step. Curves of accuracy, loss, token sensitivity, weight norm, restricted and excluded loss, Gini coefficients
of Fourier weights, output sharpness and noise stability; how long before the test accuracy each of them moves, and
whether later where the accuracy rises later, beside what the published smoothing would have shown. The same models with
a penalty on noise stability (Haris et al., Noise Stability of Transformer Models, 2026), and with the same noisy copies
without it. Transformers on a sparse parity, as in A.6 of the first paper. Measures what claims C14 and C27 of
experiments/CLAIMS.md say.

    python -m experiments.grokking --preset laptop
    python -m experiments.grokking --preset paper --models-per-device 8    # on an accelerator

Leaves curves.csv (every measure at every measured epoch), models.csv (a row for each model), leads.csv (a row for each
group, measure and rule), groups.csv (means over seeds, the table that is printed), parity.csv, comparison.csv, figures
and manifest.json in the folder --out. A run that was killed continues from the last measured epoch. Setting and
figures: experiments/grokking/README.md.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from experiments import harness
from experiments.grokking import claims, estimates, figures, train
from experiments.grokking.config import PRESETS, Config, Group
from experiments.grokking.measure import MEASURES
from jaxsens.typing import Array

SETTING = {
    "optimizer": "AdamW on all examples, cross-entropy, moments 0.9 and 0.999",
    "learning rates": "every seed draws one, log-uniform in the range; all groups share them",
    "pairing": "all groups share the split of a seed, and groups of an architecture its weights",
    "initial weights": "embeddings N(0, 1), others uniform within 1 / sqrt(fan-in), positions 0",
    "lead": "last crossing of half of the way from the farthest to the last value, after a training accuracy of 0.99, "
    "medians of 5 measurements, changes beyond 5 standard deviations of the noise, of sensitivity falls only",
    "test": "pairs (a, b) of which neither order is learned; pairs of which only (b, a) is learned are mirrored",
    "key frequencies": "those of that epoch, of restricted and excluded loss; not those of the final model",
    "restricted loss": "on pairs for the test; excluded loss on those that are",
    "noisy copies": "of the embeddings of both numbers, correlated, in units of their root mean square",
}

SHOWN = (
    "architecture", "treatment", "decay", "grokked", "grokking_epoch_mean", "last_test_accuracy", "last_test_loss",
    "last_token_sensitivity", "last_output_sharpness", "last_weight_norm",
)  # fmt: skip


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``."""
    results: dict[Group, Mapping[str, Array]] = {}
    with harness.Run.open(out, config, experiment="grokking", trains=True) as run:
        run.record(matmul_precision="highest", setting=SETTING)
        for group in tqdm(config.groups, desc="groups", unit="group", dynamic_ncols=True):
            checkpoint = run.folder / "checkpoints"
            compute = partial(train.learn, config, group, checkpoint)
            results[group] = run.unit(group.name, compute, allow_nonfinite=MEASURES)
            run.discard(checkpoint)
        parity = run.unit("parity", partial(train.learn_parity, config), allow_nonfinite=train.PARITY_CURVES)
        curves = estimates.all_curves(config, results)
        rows = estimates.group_rows(curves)
        run.table("curves", estimates.curve_rows(curves))
        run.table("models", estimates.model_rows(curves))
        run.table("leads", estimates.lead_rows(curves))
        run.table("groups", rows)
        run.table("parity", estimates.parity_rows(parity))
        run.comparison(claims.claims(config, curves, parity))
        for name, figure in figures.draw(config, curves, parity).items():
            run.figure(name, figure)
        print(harness.format_table(rows, SHOWN))
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("grokking", PRESETS, execute, __doc__, every_core=True)
