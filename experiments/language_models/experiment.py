"""Which next-token predictions of a language model change when one token of its context is replaced?

Measures, for every token i of a text and every prediction after a token j, how much the distribution of the next token
changes (total variation, Kullback-Leibler divergence, the most probable token) when token i becomes another word, or
gets noise on its embedding. Compares a trained model with one of the same size that is not. The low sensitivity of
Vasudeva et al. (Transformers Learn Low Sensitivity Functions) is shown for small classifiers; here is what a language
model of today does. No paper claims a number for it.

    python -m experiments.language_models --model DIR --data-dir DIR --preset laptop
    python -m experiments.language_models --model DIR --texts mine.jsonl

Leaves influence.csv (the table that is printed), distances.csv, comparison.csv, figures and manifest.json in the folder
--out. Needs the extra ``text``.
"""

from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from experiments import harness
from experiments.harness.inputs import fingerprint, require_same
from experiments.language_models import claims, estimates, figures
from experiments.language_models.config import PRESETS, Config
from experiments.language_models.measure import Reading, load, load_model, measure, read, untrained
from jaxsens.data.text import TextData
from jaxsens.typing import PyTree

__all__ = ["EXPERIMENT", "PRESETS", "execute", "inputs"]

SETTING = {
    "words": "another token of the vocabulary, all being equally likely, the token itself among them",
    "noise": "Gaussian, on the embedding of one token, in units of its mean square",
    "estimates": "over texts",
    "unigram": "counts of tokens in other texts, plus one each",
}

SHOWN = ("subject", "replaced_by", "quantity", "total_mean", "total_sem", "effective_context_mean")


def execute(config: Config, out: Path, data: TextData | None = None) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``.

    Args:
        config: The settings.
        out: The folder of the run.
        data: Your texts, in place of those that ``config`` names.

    Raises:
        ValueError: If model or texts do not fit the settings, or ``out`` holds a run with others of these.
    """
    with harness.Run.open(out, config, experiment="language_models") as run:
        module, variables, _ = load_model(config)
        data = load(config) if data is None else data
        reading = read(config, module, data)
        require_same(run, **inputs(module, variables, data, reading))
        run.record(matmul_precision="highest", setting=SETTING, texts=reading.source, module=repr(module.config))
        units = {}
        for subject in config.subjects:
            weights = variables if subject == "trained" else untrained(config, module)
            units[subject] = [
                run.unit(
                    f"{subject}-{number}",
                    partial(measure, config, module, weights, reading.ids[number : number + 1], number),
                )
                for number in tqdm(range(config.count), desc=subject, unit="text", dynamic_ncols=True)
            ]
        findings = estimates.summarize(config, units)
        rows = estimates.rows(config, findings)
        run.table("influence", rows)
        run.table("distances", estimates.distance_rows(findings))
        run.comparison(claims.claims(config, reading, units, findings))
        for name, figure in figures.draw(config, reading, findings).items():
            run.figure(name, figure)
        print(harness.format_table(rows, SHOWN))
        print(run.compiling)
    return out


def inputs(module: Any, variables: PyTree, data: TextData, reading: Reading) -> dict[str, str]:
    """Return the fingerprints of the model, and of the texts and their ids."""
    return {"model": fingerprint(repr(module.config), variables), "texts": fingerprint(data.texts, reading.ids)}


EXPERIMENT = harness.Experiment("language_models", PRESETS, execute, __doc__)
