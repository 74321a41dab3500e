"""Settings of ``experiments.token_shifts``."""

from dataclasses import dataclass
from typing import Literal

from experiments.harness import option
from experiments.images.config import SETTINGS
from jaxsens.models.pretrained import vit as vit_pretrained
from jaxsens.models.text import bert, gpt2

KINDS = ("minilm", "bert", "gpt2", "vit")
STATES = ("before", "after")
"""Of training here: MiniLM as it was published and fine-tuned, the others with random weights and trained."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment; the defaults are those of the preset ``paper``."""

    model: str | None = option(None, "folder of MiniLM: config.json, model.safetensors, tokenizer.json", identity=False)
    data_dir: str | None = option(None, "folder of prepared TFDS data sets", identity=False)
    texts: str | None = option(None, "a CSV or JSONL with columns text and label in place of IMDb", identity=False)
    # No model's numbers hang on which others there are: a run goes on with more kinds.
    kinds: tuple[str, ...] = option(KINDS, "what is measured", identity=False)
    images: str = option("digits", f"what the ViT sees, one of {', '.join(SETTINGS)}")
    seed: int = option(0, "of everything")
    seeds: int = option(3, "models of each kind that are trained here")
    held_out: float = option(0.2, "fraction of the texts that no model learns from")
    sequences: int = option(500, "held-out texts whose every token is replaced, for the shift of the embedding")
    followed: int = option(500, "of these, those whose shifts are followed through all layers")
    identified: int = option(500, "of these, those of which every state is looked up in the embedding table")
    tested: int = option(5000, "held-out texts, or images, that accuracy is measured on")
    pool: int = option(5000, "held-out texts that tokens of every commonness are looked for in")
    longest: int = option(512, "tokens of a text that MiniLM reads; the rest is cut off")
    small_longest: int = option(256, "tokens of a text that the models with random weights read")
    least: int = option(5, "least-shifting tokens of a text, and as many drawn at random, that are followed")
    bins: int = option(10, "of commonness")
    per_bin: int = option(50, "tokens of each, all different, in different texts")
    top: int = option(20, "tokens whose counts are ranked")
    resamples: int = option(2000, "of the bootstrap")
    read_out: Literal["class", "pooler", "mean"] = option("pooler", "what MiniLM's classifier reads")
    train_texts: int = option(20_000, "that MiniLM is fine-tuned on")
    epochs: int = option(2, "of that")
    batch: int = option(16, "texts in a step of that")
    learning_rate: float = option(1e-4, "of that, at its peak")
    small_texts: int = option(20_000, "that the small BERT and the small GPT-2 learn from")
    small_epochs: int = option(8, "of that")
    small_batch: int = option(32, "texts in a step of that")
    small_learning_rate: float = option(1e-3, "of that, at its peak")
    width: int = option(128, "of the models with random weights")
    depth: int = option(6, "layers of these")
    heads: int = option(4, "of these")
    image_epochs: int = option(60, "passes of the ViT over its training images")
    dropout: float = option(0.1, "in training, of all models")
    chunk: int = option(3, "model forwards at once; 2 to 4 are fastest on a CPU, 256 or more on an accelerator")
    embedding_chunk: int = option(16, "embeddings of a text at once, where no layer is computed")
    parts: int = option(2, "parts of a batch, for several devices to share")

    def __post_init__(self) -> None:
        positive = (
            "seeds", "sequences", "followed", "identified", "tested", "pool", "longest", "small_longest", "least",
            "bins", "per_bin", "train_texts", "epochs", "batch", "small_texts", "small_epochs", "small_batch", "width",
            "depth", "heads", "image_epochs", "chunk", "embedding_chunk", "parts",
        )  # fmt: skip
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("depth", "top", "resamples"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")
        for name in ("followed", "identified"):
            if getattr(self, name) > self.sequences:
                raise ValueError(f"{name} must be at most sequences={self.sequences}, got {getattr(self, name)}")
        for name in ("learning_rate", "small_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("batch", "small_batch"):
            if getattr(self, name) % self.parts:
                raise ValueError(f"{name} must be a multiple of parts={self.parts}, got {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie strictly between 0 and 1, got {self.held_out}")
        if "minilm" not in self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds must be some of {KINDS}, minilm among them, got {self.kinds}")
        if self.images not in SETTINGS:
            raise ValueError(f"images must be one of {sorted(SETTINGS)}, got {self.images!r}")
        self.small_bert(1), self.small_gpt2(1)  # their own checks

    @property
    def sizes(self) -> dict[str, float]:
        """What the models with random weights have in common."""
        return {
            "width": self.width, "depth": self.depth, "heads": self.heads, "hidden": 4 * self.width,
            "dropout": self.dropout,
        }  # fmt: skip

    def small_bert(self, vocabulary: int) -> bert.Config:
        """Return the configuration of the small BERT, whose blocks normalise after each sum."""
        text = {"vocabulary": vocabulary, "positions": self.small_longest, "classes": 2}
        return bert.Config(**self.sizes, **text, read_out="mean")

    def small_gpt2(self, vocabulary: int) -> gpt2.Config:
        """Return the configuration of the small GPT-2, whose blocks normalise before attention and MLP."""
        text = {"vocabulary": vocabulary, "positions": self.small_longest, "classes": 2}
        return gpt2.Config(**self.sizes, **text, read_out="last")

    def small_vit(self, image_shape: tuple[int, int, int], classes: int) -> vit_pretrained.Config:
        """Return the configuration of the small ViT, which normalises where GPT-2 does."""
        image = {"image_shape": image_shape, "patch": SETTINGS[self.images][0], "classes": classes}
        return vit_pretrained.Config(**self.sizes, **image)


PRESETS = {
    "laptop": Config(
        followed=60, identified=12, tested=300, longest=96, small_longest=48, train_texts=480, learning_rate=2e-4,
        small_texts=3000, small_epochs=3, width=64, image_epochs=20, resamples=1000,
    ),
    "smoke": Config(
        sequences=6, followed=5, identified=2, tested=6, pool=12, longest=12, small_longest=10, least=2, bins=3,
        per_bin=4, top=4, resamples=20, train_texts=16, epochs=1, batch=8, small_texts=16, small_epochs=1,
        small_batch=8, width=8, depth=2, heads=2, image_epochs=1, chunk=3, read_out="mean",
    ),
    "paper": Config(),
}  # fmt: skip
