"""Run the experiment: ``python -m experiments.token_shifts --help``."""

from experiments.token_shifts.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
