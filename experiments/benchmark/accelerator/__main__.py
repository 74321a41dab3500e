"""Check the results and measure the speeds of this library on an accelerator, in one command of at most eight minutes.

    scripts/prove_on_accelerator [--out FILE.json] [--seconds 470] [--seed 0]
    scripts/prove_on_accelerator --rehearse            # everything, tiny, on a CPU

It measures what the machine can do at most, checks the answers of every family of models against float64 on the CPU,
and then times the library's main work, each case in turns with PyTorch's strongest form where there is one. The file is
written after every number. What does not fit into the time is skipped, and said. The exit status is 1 if an answer was
wrong, 2 if the machine has no accelerator.
"""

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

__all__ = ["command", "main"]

SECONDS = 470.0
MEMORY_BESIDE_PYTORCH = "0.6"


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, prove, and return the exit status."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("accelerator.json"), help="file of results (JSON)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="deadline, from the start of the command")
    parser.add_argument("--seed", type=int, default=0, help="random seed for data, weights and draws")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--without-pytorch", action="store_true", help="do not use PyTorch, even if it is installed")
    parser.add_argument("--digests", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    _set_environment(options)

    # Only now: JAX reads the environment when it is imported.
    import jax

    try:
        from experiments.benchmark import peers  # noqa: F401
    except Exception as error:
        print(f"PyTorch is installed but cannot be used: {error}", flush=True)
        os.environ["JAXSENS_WITHOUT_PYTORCH"] = "1"
    from experiments.benchmark.accelerator import proof, repeats
    from experiments.benchmark.accelerator.record import Record

    sizes = repeats.sizes_of(options.rehearse)
    if options.digests:
        proof.print_digests(sizes, options.seed)
        return 0
    if jax.default_backend() == "cpu" and not options.rehearse:
        print("there is no accelerator here: pass --rehearse to try everything on the CPU", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = Record(options.out, options.seconds, started)
    right = proof.prove(record, sizes, options.seed, rehearse=options.rehearse)
    print(f"-> {options.out}", flush=True)
    return 0 if right else 1


def _set_environment(options: argparse.Namespace) -> None:
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        os.environ["JAX_PLATFORMS"] = f"{platforms},cpu"  # answers are compared with those of the CPU
    if options.rehearse:
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles faster
    if options.without_pytorch:
        os.environ["JAXSENS_WITHOUT_PYTORCH"] = "1"
    elif importlib.util.find_spec("torch"):
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", MEMORY_BESIDE_PYTORCH)


def command() -> None:
    """Run ``main`` and end the process with its status, without waiting for threads that still compile."""
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    command()
