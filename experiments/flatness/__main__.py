"""Run the experiment: ``python -m experiments.flatness --help``."""

from experiments.flatness.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
