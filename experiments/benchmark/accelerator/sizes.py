"""Sizes of all cases: for an accelerator, and for a rehearsal on a CPU."""

from dataclasses import dataclass

__all__ = ["REAL", "REHEARSED", "Sizes"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of all cases; a turn should take an H100 a tenth of a second or more.

    Attributes:
        product: Rows and columns of the matrices that measure the ceilings.
        copy: Bytes of the array that is copied.
        launches: Empty launches that are timed together.
        texts: Texts, their tokens, and the encoder's width, depth and heads.
        recognizers: Layers, heads, head size and multiplier; then strings, and strings at once in PyTorch.
        length: Bits of a string.
        budgets: Multiples of the memory budget.
        side: Side of images, in pixels.
        variant: Variant of image models.
        images: The image models; for each its images, and images at once in PyTorch.
        models: Numbers of recognizers that are trained together.
        training: Layers, heads, head size and multiplier of these; bits, strings, batch, epochs.
        cubes: Variables of truth tables.
        hidden: Widths of the perceptron whose loss surface is measured.
        examples: Its examples.
        eigenpairs: Pairs, and products for the Krylov space.
        draws: Perturbed models.
        chunks: Images, and the number of chunks to cut them into.
        families: Names of the families that are checked; empty for all.
        repeated: The beginnings of the names of cases whose bits are compared between two processes.
        turns: Number of repeats of every program that is timed.
        turn_seconds: The least that a turn takes; a shorter program is called several times.
    """

    product: int
    copy: int
    launches: int
    texts: tuple[int, int, int, int, int]
    recognizers: tuple[tuple[tuple[int, int, int, int], int, int], ...]
    length: int
    budgets: tuple[int, ...]
    side: int
    variant: str
    images: dict[str, tuple[int, int]]
    models: tuple[int, ...]
    training: tuple[tuple[int, int, int, int], int, int, int, int]
    cubes: tuple[int, ...]
    hidden: tuple[int, ...]
    examples: int
    eigenpairs: tuple[int, int]
    draws: int
    chunks: tuple[int, int]
    families: tuple[str, ...]
    repeated: tuple[str, ...]
    turns: int
    turn_seconds: float


REAL = Sizes(
    product=8192,
    copy=2**31,
    launches=1000,
    texts=(8, 128, 768, 12, 12),
    recognizers=(((2, 4, 32, 4), 1024, 64), ((2, 8, 64, 4), 96, 16)),
    length=100,
    budgets=(1, 2),
    side=32,
    variant="paper",
    images={"cnn": (4096, 256), "convmixer": (4096, 256), "vit": (128, 16), "resnet": (256, 32)},
    models=(1, 10, 50),
    training=((2, 4, 32, 4), 40, 1024, 256, 2),
    cubes=(20, 26),
    hidden=(4096, 4096),
    examples=2048,
    eigenpairs=(5, 40),
    draws=100,
    chunks=(1024, 64),
    families=(),
    repeated=(
        "a. encoder",
        "b. recognizer",
        "c. cnn",
        "d. vit",
        "f. resnet",
        "e. fit_many",
        "h. eigenpairs",
    ),
    turns=5,
    turn_seconds=0.05,
)
"""What keeps an H100 busy."""

REHEARSED = Sizes(
    product=64,
    copy=2**16,
    launches=3,
    texts=(2, 4, 8, 1, 2),
    recognizers=(((2, 2, 4, 2), 4, 2),),
    length=5,
    budgets=(1, 16),
    side=8,
    variant="small",
    images={"cnn": (4, 2), "vit": (4, 2)},
    models=(2,),
    training=((1, 2, 4, 2), 5, 16, 8, 2),
    cubes=(4,),
    hidden=(8, 8),
    examples=20,
    eigenpairs=(2, 6),
    draws=40,
    chunks=(4, 2),
    families=("mlp", "recognizer, MLP", "curvature", "truth tables", "nearest rows"),
    repeated=("b. recognizer",),
    turns=5,
    turn_seconds=0.0,
)
"""What a CPU does in seconds."""
