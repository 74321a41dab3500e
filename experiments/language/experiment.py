"""Is a transformer that is trained from scratch on sentences less sensitive to one token than an LSTM?

Trains an LSTM, RoBERTa with softmax and with ReLU attention, and GPT-2 on sentences or pairs of them, several seeds
each, at the learning rate of a grid that does best on held-out texts. Measures how often a prediction changes when the
embedding of one token gets Gaussian noise (Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.6): at the
same place and scale in all families; and in the published ways, with an LSTM whose embedding and classifier stay random
and a RoBERTa that normalizes the noisy token once more. Decides claims C5 and C6 of experiments/CLAIMS.md.

    python -m experiments.language --preset laptop --data-dir DIR
    python -m experiments.language --preset paper --data-dir DIR           # on an accelerator
    python -m experiments.language --preset laptop --texts mine.jsonl      # your sentences, with columns text and label

Leaves families.csv (the table that is printed), search.csv (learning rates), training.csv, positions.csv,
cross_task.csv, comparison.csv, figures and manifest.json in the folder --out. Needs the extra ``text``.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from experiments import harness
from experiments.harness.inputs import fingerprint, require_same
from experiments.language import claims, estimates, figures
from experiments.language.config import PRESETS, Config
from experiments.language.data import Reading, load
from experiments.language.measure import search, train_and_measure
from jaxsens.data.text import TextData

__all__ = ["EXPERIMENT", "PRESETS", "execute", "inputs"]

SETTING = {
    "optimizer": "AdamW; with the schedule cosine a warm-up over a tenth of the steps",
    "learning rate": "highest accuracy on held-out texts, then on training texts, of one more model for each rate",
    "raw noise": "on the embedding of one token, in units of the variance of that embedding",
    "renormalized noise": "the same, then brought back to the mean and variance of the embedding",
    "published noise": "in absolute units; RoBERTa's embedding layer is applied once more, with positions",
    "words": "another token of the vocabulary, all being equally likely",
    "nearest": "the other token whose embedding has the largest cosine with the token's in the model itself",
    "frozen LSTM": "no gradient of embedding, its normalization and classifier; weight decay acts on them",
    "pairs": "one text with a separator, without types of tokens",
}

SHOWN = (
    "dataset", "family", "learning_rate", "parameters", "train_correct_mean", "test_correct_mean", "words_mean",
)  # fmt: skip


def execute(config: Config, out: Path, data: TextData | None = None) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``.

    Args:
        config: The settings.
        out: The folder of the run.
        data: Your texts with labels 0 and 1, in place of the file ``config.texts``, which then only names them.

    Raises:
        ValueError: If texts do not fit the settings, or ``out`` holds a run with other settings or texts.
    """
    findings: dict[str, dict[str, estimates.Family]] = {}
    searched = []
    with harness.Run.open(out, config, experiment="language", trains=True) as run:
        readings = {name: load(config, name, data) for name in config.sets}
        require_same(run, **inputs(readings))
        run.record(matmul_precision="highest", setting=SETTING)
        for name, reading in readings.items():
            run.record(
                **{f"texts {name}": f"{reading.source}; {reading.vocabulary} tokens, {reading.cut:.0%} of texts cut"}
            )
            findings[name] = {}
            for family in tqdm(config.families, desc=name, unit="family", dynamic_ncols=True):
                rate, by_rate = _best_rate(run, config, name, reading, family)
                searched += [
                    {"dataset": name, "family": family, "learning_rate": tried, "chosen": tried == rate}
                    | {what: float(value) if value < float("inf") else None for what, value in unit.items()}
                    for tried, unit in by_rate.items()
                ]
                models = [
                    run.unit(
                        f"{name}-{family}-seed{seed}", partial(train_and_measure, config, reading, family, rate, seed),
                        allow_nonfinite=estimates.quantities(config),
                    )
                    for seed in range(config.seeds)
                ]  # fmt: skip
                findings[name][family] = estimates.Family(config, family, rate, models, tuple(by_rate) or (rate,))
        rows = estimates.rows(config, findings)
        run.table("families", rows)
        if searched:
            run.table("search", searched)
        run.table("training", estimates.curve_rows(findings))
        run.table("positions", estimates.position_rows(config, findings))
        if cross := estimates.cross_task(config, findings):
            run.table("cross_task", cross)
        run.comparison(claims.claims(config, findings))
        for file, figure in figures.draw(config, findings).items():
            run.figure(file, figure)
        print(harness.format_table(rows, SHOWN))
        print(run.compiling)
    return out


def _best_rate(
    run: harness.Run, config: Config, dataset: str, reading: Reading, family: str
) -> tuple[float, dict[float, dict[str, Any]]]:
    """Return the best learning rate of a family, and what was found at each; nothing is trained for a grid of one."""

    def attempt(rate: float) -> dict[str, Any]:
        work = partial(search, config, reading, family, rate)
        return run.unit(f"{dataset}-{family}-search-{rate:g}", work, allow_nonfinite=["loss"])

    if len(config.learning_rates) == 1:
        return config.learning_rates[0], {}
    by_rate = harness.search_rates(config.learning_rates, attempt, estimates.score, config.added_rates)
    return estimates.choose(by_rate), by_rate


def inputs(readings: Mapping[str, Reading]) -> dict[str, str]:
    """Return the fingerprint of the ids and labels of every data set."""
    return {f"texts_{name}": fingerprint(one.train, one.validation, one.test) for name, one in readings.items()}


EXPERIMENT = harness.Experiment("language", PRESETS, execute, __doc__)
