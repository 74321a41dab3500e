"""Run the experiment: ``python -m experiments.language --help``."""

from experiments.language.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
