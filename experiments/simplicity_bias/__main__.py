"""Run the experiment: ``python -m experiments.simplicity_bias --help``."""

from experiments.simplicity_bias.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
