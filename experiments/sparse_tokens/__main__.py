"""Run the experiment: ``python -m experiments.sparse_tokens --help``."""

from experiments.sparse_tokens.experiment import EXPERIMENT

if __name__ == "__main__":
    EXPERIMENT.main()
