"""Run the experiment: ``python -m experiments.trained_recognizers --help``."""

from experiments.trained_recognizers.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
