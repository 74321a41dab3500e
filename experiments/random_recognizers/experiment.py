"""How sensitive are the Boolean functions that randomly initialized transformers compute?

Draws transformers, LSTMs, MLPs and random Boolean functions as App. F.1 of Kövér et al., Understanding the Parameter
Space Geometry of Transformers Encoding Boolean Functions, and measures the sensitivity of each on random strings
(Figs. 3 left and 4; claims C20 and C25).

    python -m experiments.random_recognizers --preset laptop
    python -m experiments.random_recognizers --preset paper    # on an accelerator

Leaves models.csv (a row for each model), spectra.csv, schemes.csv (the table that is printed), choices.csv (other
readings of F.1), control.csv (random functions), comparison.csv, four figures and manifest.json in the folder --out.
"""

from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from experiments import harness
from experiments.random_recognizers import report
from experiments.random_recognizers.config import PRESETS, Config, models, with_strings
from experiments.random_recognizers.measure import measure, random_functions
from jaxsens.execution import memory
from jaxsens.typing import Array

SETTING = {
    "paper": "App. F.1: 10 sets of up to 10,000 strings, 50 transformers for each initialization and set",
    "architectures": "the same for all initializations and readings of F.1: their differences are paired",
    "baselines": "LSTMs and MLPs of two layers with as many parameters as the transformers",
    "intervals": "95 %, over models, for these strings; verdicts on one claim are corrected together (Holm)",
    "random functions": "a random function of n bits has sensitivity 0 on a string with probability 2^-n",
}


def execute(config: Config, out: Path, data: Array | None = None) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``.

    Args:
        config: What to measure.
        out: Folder of the run.
        data: The user's own strings ``[count n]`` of 0 and 1, in place of random ones: every set is then these strings,
            and they decide ``length`` and, where they are fewer, ``strings``. Their fingerprint becomes part of the
            configuration, so that a run is not continued with other strings.

    Raises:
        ValueError: If ``data`` are not such strings, or the folder holds another run.
    """
    if data is not None:
        config, data = with_strings(config, data)
    members = models(config)
    with harness.Run.open(out, config, experiment="random_recognizers") as run:
        rows, execution = config.blocks
        blocks = {"rows": rows, "chunk": execution.chunk}
        run.record(budget_bytes=memory.budget(), estimators_precision="highest", setting=SETTING, **blocks)
        control = {n: run.unit(f"functions-{n}", partial(random_functions, config, n)) for n in config.control_lengths}
        work = ((model.name, partial(measure, config, model, data)) for model in members)
        results = []
        with tqdm(desc="all models", total=len(members), unit="model", dynamic_ncols=True) as bar:
            for model, values in zip(members, run.units(work, allow_nonfinite=["error"]), strict=True):
                results.append((model, values))
                bar.set_postfix_str(f"{model.kind}, width {model.architecture.width}", refresh=False)
                bar.update()
        report.write(run, config, results, control)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("random_recognizers", PRESETS, execute, __doc__)
