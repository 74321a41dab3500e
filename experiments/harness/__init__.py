"""What every experiment is made with: settings, runs that survive being killed, manifests, verdicts on claims."""

from experiments.harness.claims import Claim, cells, format_table, verdict
from experiments.harness.cli import Command, option, parse
from experiments.harness.evaluation import outputs_on
from experiments.harness.keys import Keys
from experiments.harness.main import Experiment
from experiments.harness.run import Run
from experiments.harness.start import enable_compilation_cache, start

__all__ = [
    "Claim",
    "Command",
    "Experiment",
    "Keys",
    "Run",
    "cells",
    "enable_compilation_cache",
    "format_table",
    "option",
    "outputs_on",
    "parse",
    "start",
    "verdict",
]
