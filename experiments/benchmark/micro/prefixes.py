"""Check shared prefixes on this machine, then compare their speed with plain evaluation and with PyTorch.

    python -m experiments.benchmark.micro.prefixes [--out FILE.json] [--seconds 10] [--family llama|gpt2|lstm]
        [--size 256x4x4x2x704x2000] [--tokens 64,128] [--rows 4,8,16] [--tiles 16,32] [--repeats 5]

The check comes first: all substitutions of a text must give the same logits in all ways to 1e-4 of their scale;
otherwise it stops. Products are in float32 everywhere. Then texts per second, of a model with random weights: a Llama
or GPT-2 that reads the next token (width x depth x heads x key heads x hidden x vocabulary), or an LSTM with two
classes (width x depth x vocabulary). The plain way and shared prefixes, each at its best block and tile, in interleaved
repeats; their ratio beside that of their operations; and of a Llama both ways in PyTorch, where it is installed, with a
key-value cache for the second. Writes all fields as JSON and prints a short table.
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsens import models, substitution
from jaxsens.execution import backends
from jaxsens.models.substitution import causal, causal_operations
from jaxsens.models.substitution.prefixes import Causal
from jaxsens.models.text import encoder, gpt2, llama, lstm
from jaxsens.typing import PyTree

SIZES = {"llama": "256x4x4x2x704x2000", "gpt2": "256x4x4x4x1024x2000", "lstm": "256x4x2000"}
"""Sizes of a model by its family."""

Way = Callable[[np.ndarray, np.ndarray], np.ndarray]


def build(family: str, sizes: list[int], positions: int) -> Causal:
    """Return a model of the sizes that ``--size`` names."""
    if family == "lstm":
        width, depth, vocabulary = sizes
        return lstm.LSTM(lstm.Config(vocabulary=vocabulary, width=width, depth=depth, classes=2))
    width, depth, heads, key_heads, hidden, vocabulary = sizes
    shared = {
        "width": width, "depth": depth, "heads": heads, "hidden": hidden, "vocabulary": vocabulary,
        "positions": positions,
    }  # fmt: skip
    if family == "gpt2":
        return gpt2.GPT2(gpt2.Config(**shared))
    return llama.Llama(llama.Config(**shared, key_heads=key_heads, head_size=width // heads))


def ways(module: Causal, variables: PyTree, rows: list[int], tiles: list[int]) -> dict[tuple[str, Any], Way]:
    """Return all evaluations of a text's substitutions, by name and by block, or by block and tile."""

    def compiled(substitute: substitution.SubstituteAt) -> Way:
        @jax.jit
        @jax.default_matmul_precision("highest")
        def fn(variables: PyTree, tokens: np.ndarray, others: np.ndarray) -> jax.Array:
            return substitute(variables, tokens, others)[1]

        return lambda tokens, others: np.asarray(fn(variables, tokens, others))

    plain = models.evaluation(module)
    evaluations: dict[tuple[str, Any], Way] = {
        ("plain", block): compiled(substitution.one_at_a_time(plain, block)) for block in rows
    }
    evaluations |= {
        ("shared", (block, tile)): compiled(causal(module, block, tile))
        for block, tile in itertools.product(rows, tiles)
    }
    if isinstance(module, llama.Llama) and importlib.util.find_spec("torch"):
        import torch

        from experiments.benchmark.pytorch import decoders

        for name, block in itertools.product(("plain", "shared"), rows):
            theirs = decoders.substitutions(module, variables, block, shared=name == "shared")
            evaluations[f"PyTorch {name}", block] = lambda tokens, others, theirs=theirs: theirs(
                *(torch.from_numpy(np.asarray(ids, np.int64)) for ids in (tokens, others))
            ).numpy()
    return evaluations


def speed(way: Way, texts: np.ndarray) -> float:
    """Return texts per second."""
    start = time.perf_counter()
    for tokens, others in texts:
        way(tokens, others)
    return len(texts) / (time.perf_counter() - start)


def measure(module: Causal, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Check and time all ways for texts of one length."""
    rows, tiles = ([int(word) for word in text.split(",")] for text in (options.rows, options.tiles))
    variables = jax.device_get(encoder.init(module, jax.random.key(0)))
    texts = np.random.default_rng(0).integers(0, module.config.vocabulary, (400, 2, count)).astype(np.int32)
    evaluations = ways(module, variables, rows, tiles)
    expected = None
    for (name, how), way in evaluations.items():  # compiles, too
        changed = way(*texts[0])
        expected = changed if expected is None else expected
        if not np.abs(changed - expected).max() < 1e-4 * np.abs(expected).max():
            sys.exit(f"WRONG: {name}, {how}: other logits than the plain way")
    trials = {key: speed(way, texts[:2]) for key, way in evaluations.items()}
    best = {}
    for name in dict.fromkeys(name for name, _ in evaluations):
        best[name] = max((key for key in evaluations if key[0] == name), key=trials.__getitem__)
    texts_of = {
        name: max(1, min(len(texts), int(trials[key] * options.seconds / options.repeats)))
        for name, key in best.items()
    }
    speeds: dict[str, list[float]] = {name: [] for name in best}
    for _ in range(options.repeats):  # interleaved, so that a drift of the machine affects all
        for name, key in best.items():
            speeds[name].append(speed(evaluations[key], texts[: texts_of[name]]))
    block, tile = best["shared"][1]
    operations = causal_operations(module.config, count, block, tile)
    row: dict[str, Any] = {"tokens": count, "operations_ratio": operations[0] / operations[1]}
    for name, key in best.items():
        ratios = [b / a for a, b in zip(speeds[name], speeds["shared"], strict=True)]
        row[name] = {
            "best": key[1], "texts_per_second": statistics.median(speeds[name]), "texts": texts_of[name],
            "shared_over_it": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios),
        }  # fmt: skip
    return row


def main() -> None:
    """Check, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("prefixes.json"))
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds for each way and length")
    parser.add_argument("--family", choices=list(SIZES), default="llama")
    parser.add_argument("--size", help=f"by default {', '.join(f'{size} of a {name}' for name, size in SIZES.items())}")
    parser.add_argument("--tokens", default="64,128", help="lengths of texts")
    parser.add_argument("--rows", default="4,8,16", help="substitutions in a block")
    parser.add_argument("--tiles", default="16,32", help="positions in a tile")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    lengths = [int(word) for word in options.tokens.split(",")]
    size = options.size or SIZES[options.family]
    module = build(options.family, [int(word) for word in size.split("x")], max(lengths))
    table = []
    for count in lengths:
        table.append(measure(module, count, options))
        row = table[-1]
        print(f"{count} tokens: operations {row['operations_ratio']:.2f}x")
        for name in [name for name in row if name not in ("tokens", "operations_ratio")]:
            result = row[name]
            print(
                f"  {name:14} {result['texts_per_second']:8.2f} texts/s (best {result['best']}), shared over it "
                f"{result['shared_over_it']:.2f} [{result['lowest']:.2f}, {result['highest']:.2f}]",
                flush=True,
            )
    device = backends.describe_devices() | {"jax": jax.__version__}
    options.out.write_text(
        json.dumps({"device": device, "family": options.family, "size": size, "rows": table}, indent=1) + "\n"
    )
    print(f"{device} -> {options.out}")


if __name__ == "__main__":
    main()
