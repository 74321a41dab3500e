"""Settings of ``experiments.benchmark``."""

import os
from dataclasses import dataclass

from experiments.harness import option

CASES = (
    "recognizers", "vit", "screened", "convmixer", "resnet", "cnn", "embeddings", "shifts", "sharpness", "eigenvalues",
    "cube", "train_recognizers", "train_full_batch",
)  # fmt: skip


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark; the defaults are those of the preset ``laptop``."""

    seed: int = option(0, "of everything")
    cases: tuple[str, ...] = option(
        tuple(name for name in CASES if name != "screened"), "what to measure; low precision is fast on accelerators"
    )
    seconds: float = option(2.0, "for each repeat of each program, about; at least a few items are computed")
    repeats: int = option(5, "of each program, in turns")
    threads: int = option(_cores(), "for PyTorch; ours uses every core that this process may use", identity=False)
    rows: tuple[int, ...] = option((2, 4, 16), "blocks of substitutions to choose from, ours")
    batches: tuple[int, ...] = option((2, 4, 8, 16, 32, 128), "to choose from, PyTorch's")
    compile: bool = option(True, "whether torch.compile is tried, on the best batch")
    published: bool = option(True, "whether the published procedures are timed too")
    length: int = option(100, "bits of a string, for recognizers")
    recognizers: int = option(10, "architectures drawn from F.1's mix")
    operations: float = option(4e11, "operations that a string may cost plainly; larger draws are left out")
    variant: str = option("paper", "size of the image models")
    side: int = option(32, "of the images, in pixels")
    tokens: int = option(128, "of a text")
    text_width: int = option(384, "of the text encoder, whose sizes are MiniLM's in proportion")
    text_depth: int = option(6, "its layers")
    hidden: tuple[int, ...] = option((512, 640), "of the perceptron whose loss surface is measured")
    deviation: float = option(0.01, "of the noise on its weights")
    eigenvalues: int = option(10, "of its Hessian")
    steps: int = option(60, "of Lanczos")
    cubes: tuple[int, ...] = option((16, 20, 26), "variables of the Boolean functions")
    boofun: int = option(16, "most variables for boofun, whose time grows faster than the table")
    models: int = option(50, "recognizers to train at once")
    train_size: tuple[int, ...] = option((2, 2, 16, 4), "their layers, heads, head size and multiplier")
    train_length: int = option(40, "bits of their strings")
    train_strings: int = option(256, "in a full batch")
    grow: bool = option(True, "whether to measure how time grows with bits, tokens, draws and examples")
    growth: tuple[int, ...] = option(
        (1, 2, 4, 8), "their sizes: in eighths of bits and tokens, in draws, and in eights of examples"
    )
    train_rows: tuple[int, ...] = option((32, 128), "blocks of their strings to choose from, ours")
    sums: int = option(3830, "examples of the full batch that is as large as that of a grokking run")

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.cases) - set(CASES)):
            raise ValueError(f"cases must be some of {', '.join(CASES)}, got {unknown}")
        if not self.cases or len(set(self.cases)) < len(self.cases):
            raise ValueError(f"cases must be some, each once, got {self.cases}")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be positive, got {self.seconds}")
        for name in ("repeats", "threads", "recognizers", "models"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rows", "batches"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be some numbers of at least 1, got {getattr(self, name)}")
        if len(self.growth) < 2 or min(self.growth) < 1 or min(self.length, self.tokens) * min(self.growth) < 8:
            raise ValueError(
                f"growth must be two sizes at least, each leaving an eighth of length = {self.length} and of tokens = "
                f"{self.tokens} whole, got {self.growth}"
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
        cases=CASES, seconds=5.0, rows=(8, 101), batches=(101, 1024, 8192), operations=1e14, tokens=256,
        hidden=(4096, 4096), train_size=(4, 4, 32, 4), train_length=100, train_strings=4096,
    ),
}  # fmt: skip
