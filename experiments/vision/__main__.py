"""Run the experiment: ``python -m experiments.vision --help``."""

from experiments.vision.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
