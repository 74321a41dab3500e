"""Run the experiment: ``python -m experiments.length_and_sharpness --help``."""

from experiments.length_and_sharpness.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
