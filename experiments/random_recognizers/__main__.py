"""Run the experiment: ``python -m experiments.random_recognizers --help``."""

from experiments.random_recognizers.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
