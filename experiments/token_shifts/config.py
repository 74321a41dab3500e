"""Settings of ``experiments.token_shifts``."""

from dataclasses import dataclass
from typing import Literal

from experiments.harness import Settings, option
from experiments.images.config import SETTINGS
from jaxsens.models import pretrained
from jaxsens.models.text import bert, gpt2

__all__ = ["KINDS", "PRESETS", "STATES", "Config"]

KINDS = ("minilm", "bert", "gpt2", "vit")
STATES = ("before", "after")
"""Of training here: MiniLM as it was published and fine-tuned, the others with random weights and trained."""


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the experiment; the defaults are the paper's where it states them."""

    model: str | None = option(None, "folder of MiniLM: config.json, model.safetensors, tokenizer.json", identity=False)
    data_dir: str | None = option(None, "folder of prepared TFDS data sets", identity=False)
    texts: str | None = option(None, "a CSV or JSONL with columns text and label in place of IMDb", identity=False)
    # What is measured of one kind does not depend on the others: a run can be continued with more kinds.
    kinds: tuple[str, ...] = option(KINDS, "kinds of model, minilm among them", choices=KINDS, identity=False)
    images: str = option("digits", f"images of the ViT, one of {', '.join(SETTINGS)}", choices=tuple(SETTINGS))
    seed: int = option(0, "random seed for data, weights and draws")
    seeds: int = option(3, "models of each kind that are trained here", at_least=1)
    held_out: float = option(0.2, "fraction of the texts held out from training", above=0, below=1)
    sequences: int = option(500, "held-out texts in which every token is replaced, for the embedding", at_least=1)
    followed: int = option(500, "of these, texts in which shifts are measured in all layers", at_least=1)
    identified: int = option(500, "of these, texts in which every state is looked up in the embedding", at_least=1)
    tested: int = option(5000, "held-out texts, or images, that accuracy is measured on", at_least=1)
    pool: int = option(5000, "held-out texts from which tokens of every commonness are chosen", at_least=1)
    longest: int = option(512, "tokens of a text that MiniLM reads; the rest is cut off", at_least=1)
    small_longest: int = option(256, "tokens of a text that the small models read", at_least=1)
    least: int = option(
        5, "least-shifting tokens of a text, and as many random ones, measured in all layers", at_least=1
    )
    bins: int = option(10, "bins of commonness", at_least=1)
    per_bin: int = option(50, "tokens of each bin, all different, in different texts", at_least=1)
    top: int = option(20, "most counted tokens whose counts are ranked", at_least=2)
    resamples: int = option(2000, "resamples of the bootstrap", at_least=2)
    read_out: Literal["class", "pooler", "mean"] = option("pooler", "what MiniLM's classifier reads")
    train_texts: int = option(20_000, "texts that MiniLM is fine-tuned on", at_least=1)
    epochs: int = option(2, "passes of MiniLM over its texts", at_least=1)
    batch: int = option(16, "texts in a step of MiniLM", at_least=1)
    learning_rate: float = option(1e-4, "peak learning rate of MiniLM", above=0)
    small_texts: int = option(20_000, "texts that the small BERT and the small GPT-2 learn from", at_least=1)
    small_epochs: int = option(8, "passes of the small models over their texts", at_least=1)
    small_batch: int = option(32, "texts or images in a step of the small models", at_least=1)
    small_learning_rate: float = option(1e-3, "peak learning rate of the small models", above=0)
    width: int = option(128, "width of the small models", at_least=1)
    depth: int = option(6, "layers of the small models", at_least=2)
    heads: int = option(4, "heads of the small models", at_least=1)
    image_epochs: int = option(60, "passes of the ViT over its training images", at_least=1)
    dropout: float = option(0.1, "dropout in training, of all models")
    chunk: int = option(
        3, "model forwards at once; 2 to 4 are fastest on a CPU, 256 or more on an accelerator", at_least=1
    )
    embedding_chunk: int = option(16, "embeddings of a text at once, where no layer is computed", at_least=1)
    parts: int = option(2, "parts of a batch, for several devices to share", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("followed", "identified"):
            if getattr(self, name) > self.sequences:
                raise ValueError(f"{name} must be at most sequences={self.sequences}, got {getattr(self, name)}")
        for name in ("batch", "small_batch"):
            if getattr(self, name) % self.parts:
                raise ValueError(f"{name} must be a multiple of parts={self.parts}, got {getattr(self, name)}")
        if "minilm" not in self.kinds:
            raise ValueError(f"kinds must have minilm among them, got {self.kinds}")
        self.small_bert(1), self.small_gpt2(1)  # which check their sizes

    @property
    def sizes(self) -> dict[str, float]:
        """What the models with random weights have in common."""
        return {
            "width": self.width, "depth": self.depth, "heads": self.heads, "hidden": 4 * self.width,
            "dropout": self.dropout,
        }  # fmt: skip

    def small_bert(self, vocabulary: int) -> bert.Config:
        """Return the configuration of the small BERT: its blocks normalize after each sum."""
        text = {"vocabulary": vocabulary, "positions": self.small_longest, "classes": 2}
        return bert.Config(**self.sizes, **text, read_out="mean")

    def small_gpt2(self, vocabulary: int) -> gpt2.Config:
        """Return the configuration of the small GPT-2: its blocks normalize before attention and MLP."""
        text = {"vocabulary": vocabulary, "positions": self.small_longest, "classes": 2}
        return gpt2.Config(**self.sizes, **text, read_out="last")

    def small_vit(self, image_shape: tuple[int, int, int], classes: int) -> pretrained.vit.Config:
        """Return the configuration of the small ViT, which normalizes where GPT-2 does."""
        image = {"image_shape": image_shape, "patch": SETTINGS[self.images][0], "classes": classes}
        return pretrained.vit.Config(**self.sizes, **image)


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
