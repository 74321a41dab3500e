"""Estimate the speed of this library's programs on an H100 or a TPU v5e, on a machine that has neither.

    python -m experiments.benchmark.estimate --platform cuda --plugins DIR [--only "cnn;recognizer"] [--out FILE.json]
    python -m experiments.benchmark.estimate --platform cuda --plugins DIR --memory
    python -m experiments.benchmark.estimate --platform cpu --memory --devices 8 --layers 1 --only "BERT-base, top"

The compiler of the platform compiles each program for the described device, at the default chunk of the platform. From
the compiled text follow the kernels, their operations and bytes, and the time of a roofline: a lower bound, made to
compare two forms of a program. Nothing is run, autotuning is off, and no number here has been measured on a device.
``--memory`` compiles instead what large models take the most memory for, without ``--plugins`` for the CPU.

The columns: model forwards of a chunk; kernels for each chunk; the part of the time in kernels that are bound by
products, by bytes, and by their launch; evaluations per second; seconds of CPU to compile; and MiB of arguments,
results and temporary results, as ``memory_analysis`` gives them. Rows are kept in the file by case, so that cases can
be compiled one at a time.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from experiments.benchmark.estimate import plugins

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, compile, print and store; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", choices=(*plugins.PLATFORMS, "cpu"), default="cuda")
    parser.add_argument("--plugins", type=Path, help="folder with the compilers; by default where JAX is installed")
    parser.add_argument("--only", default="", help="beginnings of the names of cases, separated by semicolons")
    parser.add_argument("--precision", default="highest", help="precision of products")
    parser.add_argument("--memory", action="store_true", help="memory of large models, in place of speed")
    parser.add_argument("--layers", type=int, help="layers of the large models, to compile a part of them")
    parser.add_argument("--devices", type=int, default=1, help="devices to spread over, for --platform cpu")
    parser.add_argument("--out", type=Path, help="file of results (JSON); rows of other cases stay")
    parser.add_argument("--text", type=Path, help="folder for the compiled programs")
    options = parser.parse_args(arguments)
    if options.platform != "cpu" and options.devices != 1:
        parser.error("--devices is for --platform cpu: one H100 or TPU v5e is described")
    if options.platform == "cpu":
        if not options.memory:
            parser.error("--platform cpu is for --memory; speeds on a CPU are measured by experiments.benchmark")
        os.environ["JAX_PLATFORMS"] = "cpu"
    else:
        folder = options.plugins or Path(__import__("jax").__file__).parents[1]
        try:
            device = plugins.use(options.platform, folder.resolve())
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    # Only now: JAX reads the environment when it is imported.
    import jax

    from experiments.benchmark.estimate import compiling, large_models, table
    from jaxsens.execution import batches

    if not 1 <= options.devices <= batches.PARTS:
        parser.error(f"--devices must be from 1 to {batches.PARTS}, got {options.devices}")
    if options.devices > 1:
        jax.config.update("jax_num_cpu_devices", options.devices)
    devices = jax.devices("cpu")[: options.devices] if options.platform == "cpu" else [device]
    if options.text:
        options.text.mkdir(parents=True, exist_ok=True)
    rows = json.loads(options.out.read_text()) if options.out and options.out.exists() else []
    chosen = tuple(options.only.split(";"))
    if options.memory:
        new_rows = large_models.rows(options.platform, devices, options.precision, chosen, options.layers)
    else:
        new_rows = compiling.rows(options.platform, device, options.precision, chosen, options.text)
    for row in new_rows:
        rows = table.merged(rows, row)
        print(table.line(row), flush=True)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
