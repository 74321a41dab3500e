"""Settings of ``experiments.benchmark``."""

import os
from dataclasses import dataclass

from experiments.harness import Settings, option

CASES = (
    "recognizers", "vit", "screened", "convmixer", "resnet", "cnn", "embeddings", "shifts", "sharpness", "eigenvalues",
    "cube", "train_recognizers", "train_full_batch",
)  # fmt: skip


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the benchmark; nothing is published, so that the defaults are those of the preset ``laptop``."""

    seed: int = option(0, "random seed for weights and inputs")
    cases: tuple[str, ...] = option(
        tuple(name for name in CASES if name != "screened"),
        "what to measure; screened is low precision, which is fast on accelerators only",
        choices=CASES, fewest=1, distinct=True,
    )  # fmt: skip
    seconds: float = option(2.0, "approximate time of each repeat of each program", above=0)
    repeats: int = option(5, "repeats of each program; programs take turns", at_least=1)
    threads: int = option(_cores(), "threads of PyTorch; jaxsens uses every core", at_least=1, identity=False)
    rows: tuple[int, ...] = option((2, 4, 16), "blocks of substitutions to choose from, jaxsens", at_least=1, fewest=1)
    batches: tuple[int, ...] = option((2, 4, 8, 16, 32, 128), "batches to choose from, PyTorch", at_least=1, fewest=1)
    inputs: tuple[int, ...] = option(
        (1,), "examples evaluated at once to choose from; PyTorch's batches hold at most those of the most", at_least=1,
        fewest=1,
    )  # fmt: skip
    compile: bool = option(True, "whether torch.compile is tried, on the best batch")
    published: bool = option(True, "whether the published procedures are timed too")
    length: int = option(100, "bits of a string, for recognizers")
    recognizers: int = option(10, "architectures drawn from F.1's mix", at_least=1)
    operations: float = option(4e11, "largest number of operations of a string, plain; larger draws are left out")
    variant: str = option("paper", "size of the image models")
    side: int = option(32, "width and height of the images, in pixels")
    tokens: int = option(128, "tokens of a text")
    text_width: int = option(384, "width of the text encoder, whose sizes are MiniLM's in proportion")
    text_depth: int = option(6, "layers of the text encoder")
    hidden: tuple[int, ...] = option((512, 640), "hidden layers of the perceptron whose loss surface is measured")
    deviation: float = option(0.01, "standard deviation of the noise on its weights")
    eigenvalues: int = option(10, "eigenvalues of its Hessian")
    steps: int = option(60, "steps of Lanczos")
    cubes: tuple[int, ...] = option((16, 20, 26), "variables of the Boolean functions")
    boofun: int = option(16, "largest number of variables for boofun, whose time grows faster than the table")
    models: int = option(50, "recognizers that are trained together", at_least=1)
    train_size: tuple[int, ...] = option((2, 2, 16, 4), "their layers, heads, head size and multiplier")
    train_length: int = option(40, "bits of their strings")
    train_strings: int = option(256, "strings in a full batch")
    grow: bool = option(True, "whether to measure how time grows with bits, tokens, draws and examples")
    growth: tuple[int, ...] = option(
        (1, 2, 4, 8), "their sizes: eighths of bits and tokens, draws, and multiples of eight examples", at_least=1,
        fewest=2,
    )  # fmt: skip
    train_rows: tuple[int, ...] = option((32, 128), "blocks of their strings to choose from, jaxsens")
    sums: int = option(3830, "examples of the full batch that is as large as that of a grokking run")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.length, self.tokens) * min(self.growth) < 8:
            raise ValueError(
                f"growth must leave an eighth of length = {self.length} and of tokens = {self.tokens} whole, got "
                f"{self.growth}"
            )
        if self.text_width % 12:
            raise ValueError(f"text_width must be a multiple of its 12 heads, got {self.text_width}")
        if len(self.train_size) != 4:
            raise ValueError(f"train_size must be layers, heads, head size and multiplier, got {self.train_size}")


PRESETS = {
    "laptop": Config(),
    "quick": Config(
        cases=tuple(name for name in CASES if name not in ("screened", "resnet")), seconds=0.3, repeats=3, rows=(4,),
        batches=(4, 32), compile=False, recognizers=2, operations=3e10, tokens=64, cubes=(14, 20), boofun=14, steps=30,
        hidden=(256, 256), models=10, train_rows=(32,), grow=False,
    ),
    "smoke": Config(
        seconds=0.01, repeats=2, rows=(4,), batches=(8,), compile=False, length=8, recognizers=1, operations=1e8,
        variant="small", side=8, tokens=8, growth=(1, 2), text_width=12, text_depth=2, hidden=(8,), eigenvalues=2,
        steps=6, cubes=(6,), boofun=6, models=2, train_size=(1, 1, 4, 2), train_length=4, train_strings=8, sums=9,
    ),
    "accelerator": Config(
        cases=CASES, seconds=5.0, rows=(8, 101), batches=(101, 1024, 8192), inputs=(1, 16, 128), operations=1e14,
        tokens=256,
        hidden=(4096, 4096), train_size=(4, 4, 32, 4), train_length=100, train_strings=4096,
    ),
}  # fmt: skip
