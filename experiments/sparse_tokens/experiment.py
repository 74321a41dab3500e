"""Which of two solutions of data with sparse and frequent tokens is learned, and by which models?

The synthetic experiment of Vasudeva et al. (Transformers Learn Low Sensitivity Functions, s.4): in every example a few
sparse tokens and the majority of many frequent tokens both tell the label, and the two rules differ in sensitivity.
Single-layer attention with a linear read-out, as published, beside a linear model, an MLP and an LSTM; all by SGD, at
learning rates chosen on other examples. Examples whose sparse tokens are those of the other label tell which rule a
model follows. Measures what claim C7 of experiments/CLAIMS.md says, and compares the published table with the exact
sensitivities at every size of the vocabulary.

    python -m experiments.sparse_tokens --preset laptop
    python -m experiments.sparse_tokens --preset paper --models-per-device 64    # on an accelerator

Leaves models.csv (a row for each model), groups.csv (means over seeds, the table that is printed), published.csv (the
published table row by row), conventions.csv (other readings of the definition), comparison.csv, figures and
manifest.json in the folder --out. Setting, results and figures: experiments/sparse_tokens/README.md.
"""

from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from experiments import harness
from experiments.sparse_tokens import claims, estimates, figures, published, train
from experiments.sparse_tokens.config import PRESETS, Config

SETTING = {
    "optimizer": "SGD without momentum at a constant learning rate, cross-entropy",
    "pairing": "all kinds, initial scales and learning rates of a seed share its examples",
    "chosen": "learning rate with the smallest mean validation loss over seeds, for each kind, case and initial scale",
    "frequent tokens": "drawn without replacement, as n_f < m suggests; order of tokens is random",
    "not published": "vocabulary, learning rate, epochs, initial weights, width, seeds",
}

SHOWN = (
    "case", "kind", "initial_scale", "learning_rate", "fitted", "follow_it", "test_accuracy_mean",
    "other_accuracy_mean", "sensitivity_mean", "exact_sparse", "exact_frequent",
)  # fmt: skip


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``."""
    results: estimates.Results = {}
    with harness.Run.open(out, config, experiment="sparse_tokens", trains=True) as run:
        run.record(matmul_precision="highest", setting=SETTING)
        units = [(kind, case) for case in config.cases for kind in config.kinds]
        for kind, case in tqdm(units, desc="kinds and cases", unit="group", dynamic_ncols=True):
            compute = partial(train.learn, config, kind, case)
            results[kind, case] = run.unit(f"{kind}-{case}", compute, allow_nonfinite=["validation_loss"])
        groups = estimates.groups(config, results)
        rows = [group.row() for group in groups.values()]
        run.table("models", estimates.model_rows(config, results))
        run.table("groups", rows)
        run.table("published", published.rows(config.vocabulary))
        run.table("conventions", published.conventions())
        run.comparison(claims.claims(config, groups))
        for name, figure in figures.draw(config, groups).items():
            run.figure(name, figure)
        print(harness.format_table(rows, SHOWN))
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("sparse_tokens", PRESETS, execute, __doc__, every_core=True)
