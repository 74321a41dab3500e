"""The experiment harness: configurations, runs that survive being killed, manifests, verdicts on the papers' claims."""

from experiments.harness.claims import Claim, cells, format_table, verdict
from experiments.harness.cli import Command, option, parse
from experiments.harness.run import Run
from experiments.harness.start import enable_compilation_cache, start

__all__ = [
    "Claim",
    "Command",
    "Run",
    "cells",
    "enable_compilation_cache",
    "format_table",
    "option",
    "parse",
    "start",
    "verdict",
]
