"""Time corruptions of images on this machine, beside the package imagecorruptions where that is installed.

    python -m experiments.benchmark.micro.corruptions [--out FILE.json] [--side 32] [--images 2000]
        [--constants imagenet] [--package-images 20] [--severities 1,3,5] [--names fog,snow] [--repeats 3] [--seed 0]

Images of random smooth colors. For each corruption, the images per CPU second of ``jaxsens.corruptions.corrupt`` (all
threads counted; median of the repeats, without the first call, which compiles), and of the package: one image after
another in a process of its own, at the same constants (those of ImageNet-C are the only ones that it has). The repeats
of both are interleaved. CPU seconds hardly depend on what else the machine does; both sides keep every core busy, the
package with a process for each. The speedup for the mean over corruptions is the ratio of the total times of an image.
Corruptions that the installed package cannot make, since its dependencies have changed, are repaired where a renamed
argument or module is the reason, and left out of the ratio otherwise. Writes all fields as JSON and prints a table.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsens.corruptions import NAMES, corrupt
from jaxsens.execution import backends


def pictures(count: int, side: int, seed: int) -> np.ndarray:
    """Return smooth random images in color, uint8 ``[n s s 3]``."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, side // 8 + 1, side // 8 + 1, 3))
    fine = coarse.repeat(8, 1).repeat(8, 2)[:, :side, :side] + rng.normal(0, 8, (count, side, side, 3))
    return np.clip(fine, 0, 255).astype(np.uint8)


@functools.cache
def package() -> Any:
    """Return ``imagecorruptions.corrupt``, with what its dependencies renamed given to it; None without the package."""
    if importlib.util.find_spec("imagecorruptions") is None:
        return None
    import scipy.ndimage

    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda name, path: os.path.join(os.path.dirname(sys.modules[name].__file__), path)
    interpolation = types.ModuleType("scipy.ndimage.interpolation")
    interpolation.map_coordinates = scipy.ndimage.map_coordinates
    sys.modules.update({"pkg_resources": resources, "scipy.ndimage.interpolation": interpolation})
    vars(np)["float_"] = np.float64
    from imagecorruptions import corruptions

    gaussian = corruptions.gaussian
    corruptions.gaussian = lambda image, *args, multichannel=False, **options: gaussian(
        image, *args, channel_axis=-1 if multichannel else None, **options
    )
    from imagecorruptions import corrupt as of_package

    return of_package


def seconds_of_package(name: str, severities: list[int], images: np.ndarray) -> float | None:
    """Return the CPU seconds that the package takes for an image in this process; None where it fails."""
    try:
        package()(images[0], severity=severities[0], corruption_name=name)
        start = time.process_time()
        for severity in severities:
            for image in images:
                package()(image, severity=severity, corruption_name=name)
    except Exception:  # whatever its dependencies no longer have
        return None
    return (time.process_time() - start) / (len(images) * len(severities))


def seconds_of_ours(name: str, severities: list[int], images: np.ndarray, constants: str) -> tuple[float, float]:
    """Return the CPU seconds of all threads, and the seconds, that jaxsens takes for an image on all cores."""
    start, clock = time.process_time(), time.perf_counter()
    for severity in severities:
        corrupt(jax.random.key(0), images, name, severity, constants=constants)
    ends = time.process_time() - start, time.perf_counter() - clock
    return tuple(end / (len(images) * len(severities)) for end in ends)


def measure(options: argparse.Namespace, pool: concurrent.futures.Executor | None) -> list[dict[str, Any]]:
    """Return, and print, a row for each corruption."""
    severities = [int(text) for text in options.severities.split(",")]
    images, rows = pictures(options.images, options.side, options.seed), []
    for name in options.names.split(","):
        first = time.perf_counter()
        corrupt(jax.random.key(0), images, name, severities[0], constants=options.constants)
        first = time.perf_counter() - first
        ours, theirs = [], []
        for _ in range(options.repeats):
            ours.append(seconds_of_ours(name, severities, images, options.constants))
            if pool is not None:
                theirs.append(
                    pool.submit(seconds_of_package, name, severities, images[: options.package_images]).result()
                )
        cpu, clock = (statistics.median(values) for values in zip(*ours, strict=True))
        row = {"name": name, "cpu_seconds": cpu, "seconds": clock, "first_call_seconds": first}
        line = f"{name:18} {1 / cpu:10,.0f} images per CPU second, {1 / clock:8,.0f}/s  first call {first:5.1f} s"
        if theirs and None not in theirs:
            row["package_cpu_seconds"] = statistics.median(theirs)
            row["speedup"] = row["package_cpu_seconds"] / cpu
            line += f"  package {1 / row['package_cpu_seconds']:9,.0f}  speedup {row['speedup']:7.1f}"
        rows.append(row)
        print(line, flush=True)
    return rows


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("corruptions.json"))
    parser.add_argument("--side", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--constants", default="imagenet", choices=["cifar10", "imagenet"])
    parser.add_argument("--package-images", type=int, default=20, help="images for the package, 0 to leave it out")
    parser.add_argument("--severities", default="1,3,5")
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with processes(options) as pool:
        rows = measure(options, pool)
    report: dict[str, Any] = {"device": backends.describe_devices() | {"jax": jax.__version__}, "rows": rows}
    report |= {name: value for name, value in vars(options).items() if name != "out"}
    both = [row for row in rows if "speedup" in row]
    if both:
        report["speedup_of_mean"] = sum(r["package_cpu_seconds"] for r in both) / sum(r["cpu_seconds"] for r in both)
        report["median_speedup"] = statistics.median(row["speedup"] for row in both)
        print(
            f"mean over {len(both)} of {len(rows)} corruptions: speedup {report['speedup_of_mean']:.1f} of the total "
            f"time, {report['median_speedup']:.1f} in the median"
        )
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['device']} -> {options.out}" + ("" if both else "; imagecorruptions was not measured"))


def processes(options: argparse.Namespace) -> Any:
    """Return a process for the package; or nothing, where it is left out or not installed."""
    if options.package_images == 0 or package() is None:
        return contextlib.nullcontext()
    return concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


if __name__ == "__main__":
    main()
