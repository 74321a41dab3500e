"""Run the experiment: ``python -m experiments.simplicity_bias --help``."""

from experiments.simplicity_bias.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
