"""Run the experiment: ``python -m experiments.recognizer_geometry --help``."""

from experiments.recognizer_geometry.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
