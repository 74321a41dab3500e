"""The parts of an experiment's work, and the time that they take at given rates."""

from dataclasses import dataclass

__all__ = ["CEILING", "ESTIMATED", "Part", "hours"]

CEILING = 60e12
"""Operations a second of products in float32 on an H100, as assumed by ``ESTIMATED``; its data sheet has 67e12."""

ESTIMATED = {"recognizers": 0.47, "image models": 0.4, "training": 0.2}
"""The share of ``CEILING`` that each kind of work is taken to reach: estimates, of which none was measured.

Kernels of programs compiled for an H100 were counted, and each given the longest of its products at the ceiling, its
traffic at 3.0 TB/s, and 3 us for its launch. Recognizers of width 128 with shared layers reach 0.21, and 2.26 times
that with larger chunks; the ViT 0.41, the CNN 0.42, the ConvMixer 0.53 when evaluated plainly. Training was not
compiled: 0.2 is half of what evaluation reaches.
"""


@dataclass(frozen=True)
class Part:
    """A part of the work of an experiment.

    Attributes:
        name: What is computed.
        kind: A kind of work, in ``ESTIMATED``.
        forwards: Model forwards that it stands for; a gradient is two more.
        operations: Floating-point operations, those that are saved not counted.
    """

    name: str
    kind: str
    forwards: float
    operations: float


def hours(part: Part, rate: float | None = None) -> float:
    """Return the hours that a part takes, at ``rate`` operations a second, or at the estimated rate of its kind."""
    return part.operations / (rate or CEILING * ESTIMATED[part.kind]) / 3600
