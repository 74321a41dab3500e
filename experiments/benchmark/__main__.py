"""Run the experiment: ``python -m experiments.benchmark --help``."""

from experiments.benchmark.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
