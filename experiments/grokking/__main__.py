"""Run the experiment: ``python -m experiments.grokking --help``."""

from experiments.grokking.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
