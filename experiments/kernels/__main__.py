"""Run the experiment: ``python -m experiments.kernels --help``."""

from experiments.kernels.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
