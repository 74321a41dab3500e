"""The experiment harness: configurations, runs that survive being killed, manifests, verdicts on the papers' claims."""

from jaxsens.runs.claims import Claim, format_table, verdict
from jaxsens.runs.configs import Command, parse
from jaxsens.runs.run import Run, enable_compilation_cache

__all__ = ["Claim", "Command", "Run", "enable_compilation_cache", "format_table", "parse", "verdict"]
