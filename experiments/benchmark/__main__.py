"""Run the experiment: ``python -m experiments.benchmark --help``."""

from experiments.benchmark.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
