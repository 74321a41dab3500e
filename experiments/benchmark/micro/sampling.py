"""Measure how many model forwards sampling saves, at the standard error of the full protocol, on CIFAR-10.

    python -m experiments.benchmark.micro.sampling --data-dir DIR [--out FILE.json] [--models vit,cnn] [--epochs 3]
        [--full 1500] [--seed 0]

The full protocol perturbs each of 64 patches 5 times, on 15,000 images. Each model is trained briefly. Then the full
grid of patches and draws is measured on some training images, which predicts the standard error that 15,000 would
reach, and ``sampled_token_sensitivity`` measures to that standard error on the other images. No image is in both, so
that the two averages are independent, and must agree within the standard error of their difference. Writes all fields
as JSON and prints a short table.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.harness import Keys
from jaxsens import models, perturb, substitution, training
from jaxsens.data import images
from jaxsens.execution import Execution, backends
from jaxsens.sensitivity import sampled_token_sensitivity, token
from jaxsens.statistics import variance_components

IMAGES, DRAWS, PATCH, NOISE = 15_000, 5, 4, 1.0
KEYS = Keys("initialization", "training", "noise", "split")


def measure(name: str, data: images.ImageData, tokens: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """Train a model, and measure its sensitivity on the full grid and by sampling."""
    keys = {purpose: KEYS(options.seed, purpose) for purpose in KEYS.purposes}
    module = models.build(name, "small", image_shape=data.image_shape, classes=data.classes, patch=PATCH)
    apply = models.evaluation(module)
    config = training.Config(epochs=options.epochs, batch=100, learning_rate=options.learning_rate)
    variables, _ = training.fit(
        keys["training"], models.train_apply(module), models.init(module, keys["initialization"]), tokens,
        data.train_labels, config, progress=f"{name}: training",
    )  # fmt: skip
    accuracy = training.accuracy(
        apply, variables, images.to_patches(images.normalize(data.test_images), PATCH), data.test_labels
    ).mean()
    substitute, noise = substitution.one_at_a_time(apply), perturb.gaussian(NOISE)
    order = np.asarray(jax.random.permutation(keys["split"], len(tokens)))
    first, others = order[: options.full], order[options.full :]

    start = time.perf_counter()
    full = token.token_sensitivity(
        substitute,
        noise,
        draws=DRAWS,
        execution=Execution(chunk=options.chunk, progress=f"{name}: full grid"),
    )(keys["noise"], variables, tokens[first], index=first)
    full_seconds = time.perf_counter() - start
    sites = full.sites.shape[1]
    protocol_sem = full.sem * np.sqrt(len(first) / IMAGES)
    protocol_forwards = IMAGES * (sites * DRAWS + 1)  # with the clean output evaluated once, not for every draw

    start = time.perf_counter()
    sampled = sampled_token_sensitivity(
        substitute,
        noise,
        target_sem=protocol_sem,
        execution=Execution(chunk=options.chunk, progress=f"{name}: sample"),
    )(keys["noise"], variables, tokens[others])
    seconds = time.perf_counter() - start
    apart, apart_sem = sampled.mean - full.mean, float(np.hypot(sampled.sem, full.sem))
    whole, pilot = variance_components.from_changes(full.changes, full.sites), sampled.components
    return {
        "model": name,
        "parameters": models.parameter_count(variables),
        "epochs": options.epochs,
        "test_accuracy": float(accuracy),
        "protocol": {"images": IMAGES, "sites": sites, "draws": DRAWS, "forwards": protocol_forwards,
                     "sem": float(protocol_sem)},
        "full_grid": {"images": len(first), "forwards": len(first) * variance_components.forwards(sites, DRAWS),
                      "mean": full.mean, "sem": full.sem, "interval": full.interval(), "seconds": full_seconds,
                      "components": {level: getattr(whole, level) for level in variance_components.LEVELS}},
        "sampled": {"images": sampled.count, "sites": sampled.allocation.sites, "draws": sampled.allocation.draws,
                    "images_foreseen": sampled.allocation.examples, "forwards": sampled.forwards,
                    "mean": sampled.mean, "sem": sampled.sem, "interval": sampled.interval(), "seconds": seconds,
                    "reached": sampled.reached, "looks": [look._asdict() for look in sampled.looks],
                    "components": {level: getattr(pilot, level) for level in variance_components.LEVELS},
                    "set_to_zero": pilot.set_to_zero},
        "times_fewer_forwards": protocol_forwards / sampled.forwards,
        "difference": {"mean": apart, "sem": apart_sem, "agree": bool(abs(apart) <= 1.96 * apart_sem)},
    }  # fmt: skip


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--out", type=Path, default=Path("sampling.json"))
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--models", default="vit,cnn")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--full", type=int, default=1500, help="images of the full grid")
    parser.add_argument("--images", type=int, default=None, help="number of images to train and to measure on")
    parser.add_argument("--chunk", type=int, default=256, help="model forwards computed together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = images.load(options.dataset, data_dir=options.data_dir, limit=options.images)
    tokens = images.to_patches(images.normalize(data.train_images), PATCH)
    device = backends.describe_devices() | {"jax": jax.__version__}
    rows = []
    for name in options.models.split(","):
        row = measure(name, data, tokens, options)
        rows.append(row)
        full, sampled, protocol = row["full_grid"], row["sampled"], row["protocol"]
        print(
            f"{name}, test accuracy {row['test_accuracy']:.3f}\n"
            f"  full protocol   {protocol['images']:6} images x {protocol['sites']} x {protocol['draws']}, "
            f"{protocol['forwards']:,} forwards, standard error {protocol['sem']:.5f}, predicted from\n"
            f"  full grid       {full['images']:6} images, {full['forwards']:,} forwards: {full['mean']:.5f} ± "
            f"{full['sem']:.5f}\n"
            f"  sampled         {sampled['images']:6} images x {sampled['sites']} x {sampled['draws']}, "
            f"{sampled['forwards']:,} forwards: {sampled['mean']:.5f} ± {sampled['sem']:.5f} after "
            f"{len(sampled['looks'])} looks\n"
            f"  {row['times_fewer_forwards']:.1f} times fewer forwards; difference {row['difference']['mean']:+.5f} ± "
            f"{row['difference']['sem']:.5f}",
            flush=True,
        )
        content = {"source": data.source, "seed": options.seed, "device": device, "rows": rows}
        options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{device} -> {options.out}")


if __name__ == "__main__":
    main()
