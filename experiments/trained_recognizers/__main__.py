"""Run the experiment: ``python -m experiments.trained_recognizers --help``."""

from experiments.trained_recognizers.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
