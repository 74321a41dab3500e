"""All rules of verdicts in one place: what each assumes, what contradicts it, how often it errs, how often it succeeds.

A rule turns measurements of independent units into a `Verdict`: ``supported``, ``contradicted`` or ``inconclusive``.
Both one-sided errors are at most 0.025 (``ERROR / 2``) under the assumptions that the rule states: the probability of
"supported" where the claim is false, and of "contradicted" where it is true. Every verdict carries its rule, its units,
that level, and the power of the rule with so many units.

=================  ==============================================  ====================================================
rule               claim                                           supported if / contradicted if
=================  ==============================================  ====================================================
`mean`             a mean or difference is above, below, within    interval wholly on the side / wholly on the other
`bounded_mean`     the same, of values that may fail all or none   the same, widened for failures that were not seen
`share`            a share of models is above or below             Clopper-Pearson wholly on the side / on the other
`rises_in_each`    all of several means are above a bound          all lower ends above it / one upper end below it
`slope`            a slope is at most -1, with a tolerance         upper end below -1 + tolerance / lower end above it
`correlation`      a rank correlation is positive or negative      interval wholly on the side / on the other
`no_exception`     something holds of everything that was checked  no exception in enough / a single exception
=================  ==============================================  ====================================================

Three guards hold for all rules. A verdict on trained models needs three seeds and a grid of learning rates with the
best rate inside it (`Design`). A rule that cannot give both other verdicts with so many units is inconclusive, and says
how many it takes. Several verdicts within one claim are corrected together, by `holm` or `false_discovery_rate`.

A `Verdict` is given to `Claim` as it is: its rule, units, level, power and reason become columns of
``comparison.csv``. The rules stand in `means` and `counts`, corrections in `corrections`, and levels and powers in
`levels`.
"""

from experiments.harness.verdicts.corrections import false_discovery_rate, holm
from experiments.harness.verdicts.counts import FEWEST_UNITS, correlation, no_exception, share
from experiments.harness.verdicts.design import FEWEST_SEEDS, NOT_TRAINED, Design
from experiments.harness.verdicts.judging import Verdict
from experiments.harness.verdicts.levels import ERROR, level, power
from experiments.harness.verdicts.means import (
    bounded_mean,
    empirical_logit,
    mean,
    on_logits,
    outer_means,
    rises_in_each,
    slope,
)
from experiments.harness.verdicts.uses import Use

__all__ = [
    "ERROR",
    "FEWEST_SEEDS",
    "FEWEST_UNITS",
    "NOT_TRAINED",
    "Design",
    "Use",
    "Verdict",
    "bounded_mean",
    "correlation",
    "empirical_logit",
    "false_discovery_rate",
    "holm",
    "level",
    "mean",
    "no_exception",
    "on_logits",
    "outer_means",
    "power",
    "rises_in_each",
    "share",
    "slope",
]
