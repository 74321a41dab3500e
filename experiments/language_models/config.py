"""Settings of ``experiments.language_models``; nothing of it is published."""

from dataclasses import dataclass, replace

from experiments.harness import Keys, Settings, option

__all__ = ["KEYS", "PRESETS", "SUBJECTS", "Config"]

KEYS = Keys("weights", "words", "noise")

SUBJECTS = ("trained", "untrained")
"""The model as it is, and one of the same size with initial weights."""


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment; the defaults are for an accelerator."""

    seed: int = option(0, "random seed for the untrained weights, words and noise")
    model: str | None = option(None, "folder of a Llama, Mistral or Qwen with its tokenizer, or of a GPT-2")
    texts: str | None = option(None, "your CSV or JSONL file with the column text, in place of imdb_reviews")
    data_dir: str | None = option(None, "folder of prepared TFDS data sets", identity=False)
    count: int = option(200, "texts", at_least=2)
    counted: int = option(2_000, "other texts that a unigram model is counted on", at_least=1)
    length: int = option(128, "tokens of a text; longer ones are cut, shorter ones are left out", at_least=3)
    draws: int = option(8, "other words for each token", at_least=1)
    noise: tuple[float, ...] = option(
        (0.1, 1.0, 4.0, 15.0), "variances of noise on an embedding, in units of its mean square", above=0, distinct=True
    )
    subjects: tuple[str, ...] = option(SUBJECTS, "models", choices=SUBJECTS, fewest=1, distinct=True)
    rows: int = option(8, "inputs of a model evaluated at once", at_least=1, identity=False)
    tile: int = option(16, "positions evaluated at once", at_least=1, identity=False)


PRESETS = {
    "laptop": replace(Config(), count=20, counted=200, length=64, draws=1, noise=(1.0,), rows=16, tile=16),
    "smoke": replace(Config(), count=3, counted=10, length=6, draws=2, noise=(1.0,), rows=2, tile=3),
    "paper": Config(),
}
