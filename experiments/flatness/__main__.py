"""Run the experiment: ``python -m experiments.flatness --help``."""

from experiments.flatness.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
