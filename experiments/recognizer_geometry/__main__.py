"""Run the experiment: ``python -m experiments.recognizer_geometry --help``."""

from experiments.recognizer_geometry.experiment import main

if __name__ == "__main__":
    print(f"\nresults in {main()}")
