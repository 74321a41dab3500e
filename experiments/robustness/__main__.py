"""Run the experiment: ``python -m experiments.robustness --help``."""

from experiments.robustness.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
