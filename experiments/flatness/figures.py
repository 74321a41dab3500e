"""Figures of ``experiments.flatness``: sensitivity against sharpness, spectral densities, and rank correlations."""

from typing import TYPE_CHECKING

from experiments.flatness.config import Config
from experiments.flatness.estimates import Findings
from experiments.flatness.quantities import all_quantities
from experiments.flatness.treated_pairs import treated_pairs
from experiments.harness import mean_and_interval
from experiments.images.labels import model_label
from jaxsens import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["correlations", "densities", "sensitivity"]

_SQUARED = "weight$^2$"
_LOOKS = plots.in_order(["plain", "regularized"])
_SCOPES = {"all": "over all models, treatments as units", "treatment": "between seeds of a treatment"}


def sensitivity(config: Config, findings: Findings, dataset: str, sample: str) -> "Figure":
    """Draw token sensitivity against six measures of sharpness, plain and regularized models."""
    first, last = (f"{config.deviations[i]:g}" for i in (0, -1))
    panels = {
        f"output_gaussian_{first}": f"output sharpness\n(sum over logits, noise {first})",
        f"prediction_gaussian_{last}": f"prediction sharpness\n(fraction changed, noise {last})",
        "loss_by_element": f"average adaptive sharpness\n(nats, noise {config.relative_deviation:g} of each weight)",
        "worst_l2": f"worst-case sharpness\n(nats, l2 ball of {config.radius:g})",
        "trace": f"trace of the Hessian\n(nats / {_SQUARED})",
        "top_eigenvalue": f"top eigenvalue of the Hessian\n(nats / {_SQUARED})",
    }
    points, dots = {}, {}
    for name, text in panels.items():
        points[text] = {
            model_label(architecture): tuple(
                sum((mean_and_interval(findings.levels[one][key]) for key in (name, "sensitivity")), ()) for one in pair
            )
            for architecture, pair in findings.pairs.items()
        }
        dots[text] = {
            model_label(architecture): tuple(
                tuple(findings.means[one][key] for key in (name, "sensitivity")) for one in pair
            )
            for architecture, pair in findings.pairs.items()
        }
    return treated_pairs(
        points, seeds=dots, y="token sensitivity\n(fraction of predictions changed)", treatment="regularized",
        heading="Token sensitivity against sharpness", dataset=dataset, sample=sample,
    )  # fmt: skip


def densities(findings: Findings, dataset: str, sample: str) -> "Figure":
    """Draw the spectral density of the Hessian, plain and regularized."""
    return plots.spectral_densities(
        {model_label(architecture): curves for architecture, curves in findings.densities.items()},
        quantity=f"eigenvalue of the Hessian (nats / {_SQUARED})", heading="Spectral density of the Hessian",
        smallest=1e-6, dataset=dataset, sample=sample, looks=_LOOKS,
    )  # fmt: skip


def correlations(config: Config, findings: Findings, dataset: str, sample: str) -> "Figure | None":
    """Draw rank correlations of token sensitivity; None where no correlation has an interval."""
    quantities = all_quantities(config)
    panels = {
        text: {
            quantities[row["correlated_with"]].label: (row["r"], row["low"], row["high"])
            for row in findings.correlations
            if row["scope"] == scope and row["quantity"] == "sensitivity" and row["low"] is not None
        }
        for scope, text in _SCOPES.items()
    }
    panels = {text: group for text, group in panels.items() if group}
    if not panels:
        return None
    return plots.dots(
        panels, quantity="Spearman's rank correlation",
        heading="Token sensitivity with sharpness and test error, over models", dataset=dataset, sample=sample,
        limits=(-1, 1),
    )  # fmt: skip
