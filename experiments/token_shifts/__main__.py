"""Run the experiment: ``python -m experiments.token_shifts --help``."""

from experiments.token_shifts.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
