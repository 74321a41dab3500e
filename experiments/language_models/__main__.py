"""Run the experiment: ``python -m experiments.language_models --help``."""

from experiments.language_models.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
