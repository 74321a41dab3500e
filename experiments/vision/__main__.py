"""Run the experiment: ``python -m experiments.vision --help``."""

from experiments.vision.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
