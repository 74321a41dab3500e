"""Print what presets cost: ``python -m experiments.plan --help``."""

import argparse
from collections.abc import Sequence

from experiments.plan.counts import EXPERIMENTS
from experiments.plan.parts import CEILING, ESTIMATED, hours

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of forwards, operations and hours."""
    parser = argparse.ArgumentParser(prog="python -m experiments.plan", description="What presets cost on one device.")
    parser.add_argument("experiments", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; by default all")
    parser.add_argument("--preset", default="paper", help="smoke, laptop or paper")
    parser.add_argument("--rate", type=float, help="operations a second as measured; estimates for an H100 if none")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.experiments) - set(EXPERIMENTS))
    if unknown or (options.rate is not None and not options.rate > 0):
        parser.error(f"no such experiment: {unknown[0]}" if unknown else f"--rate must be above 0, got {options.rate}")
    if options.rate is None:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in ESTIMATED.items())
        print(f"estimated rates, none measured: of {CEILING:.3g} operations a second, {shares}")
    print(f"{'experiment':20} {'part':32} {'forwards':>9} {'operations':>10} {'hours':>8}")
    for name in options.experiments or EXPERIMENTS:
        presets, count = EXPERIMENTS[name]
        if options.preset not in presets:
            parser.error(f"--preset must be one of {', '.join(presets)}, got {options.preset}")
        parts = count(presets[options.preset])
        for part in parts:
            took = hours(part, options.rate)
            print(f"{name:20} {part.name:32} {part.forwards:9.3g} {part.operations:10.3g} {took:8.2f}")
        total = [sum(values) for values in zip(*((p.forwards, p.operations) for p in parts), strict=True)]
        took = sum(hours(part, options.rate) for part in parts)
        print(f"{name:20} {'all':32} {total[0]:9.3g} {total[1]:10.3g} {took:8.2f}")


if __name__ == "__main__":
    main()
