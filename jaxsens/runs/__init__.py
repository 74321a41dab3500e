"""The experiment harness: configurations, runs that survive being killed, manifests, verdicts on the papers' claims."""

from jaxsens.runs.claims import Claim, cells, format_table, verdict
from jaxsens.runs.configs import Command, option, parse
from jaxsens.runs.run import Run
from jaxsens.runs.start import enable_compilation_cache, start

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
