"""Run the experiment: ``python -m experiments.random_recognizers --help``."""

from experiments.random_recognizers.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
