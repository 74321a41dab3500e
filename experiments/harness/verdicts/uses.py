"""What an experiment says of the rules that it judges by, so that one test can ask which verdicts they can give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.harness.verdicts.design import Design
from experiments.harness.verdicts.judging import Verdict

__all__ = ["Use"]


@dataclass(frozen=True)
class Use:
    """A rule as an experiment uses it at some settings.

    Attributes:
        rule: A rule with its bounds, ``partial(verdicts.mean, below=0.0)``: the object that the experiment judges with.
        units: The number of independent units that it judges.
        design: How the models are trained, at best: see `Design.at_best`.
        together: How many verdicts `holm` corrects together; 1 if none.
        examples: For a rule that is none of this package's: arguments, among which all three verdicts are.
    """

    rule: Callable[..., Verdict]
    units: int
    design: Design
    together: int = 1
    examples: Sequence[tuple[Any, ...]] | None = None
