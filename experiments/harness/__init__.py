"""Shared parts of all experiments: settings, runs that can be resumed, manifests, verdicts on claims."""

from experiments.harness.claims import Claim, corrected
from experiments.harness.cli import Command, parse
from experiments.harness.evaluation import outputs_on
from experiments.harness.keys import Keys
from experiments.harness.main import Experiment
from experiments.harness.run import Run
from experiments.harness.search import added_rates, search_rates
from experiments.harness.settings import Settings, option
from experiments.harness.start import enable_compilation_cache, start
from experiments.harness.tables import cell, cells, format_table, mean_and_interval, row_interval

__all__ = [
    "Claim",
    "Command",
    "Experiment",
    "Keys",
    "Run",
    "Settings",
    "added_rates",
    "cell",
    "cells",
    "corrected",
    "enable_compilation_cache",
    "format_table",
    "mean_and_interval",
    "option",
    "outputs_on",
    "parse",
    "row_interval",
    "search_rates",
    "start",
]
