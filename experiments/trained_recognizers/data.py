"""The strings of the experiment: those that are learned and tested, and those that sensitivity is measured on."""

import dataclasses
import types
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.harness.inputs import fingerprint
from experiments.trained_recognizers.config import KEYS, SPLITS, Config
from experiments.trained_recognizers.models import Kind, kinds, language_key, language_of
from jaxsens.boolean import strings
from jaxsens.typing import Array

Examples = tuple[np.ndarray, np.ndarray]
"""Strings ``[count n]`` (uint8) and labels ``[count]`` (float32)."""

Strings = Mapping[int, np.ndarray]
"""The user's strings ``[count n]`` (uint8) by their length n."""

NONE: Strings = types.MappingProxyType({})
"""No strings of the user: all are random."""


def examples(config: Config, kind: Kind, number: int) -> dict[str, Examples]:
    """Draw the examples of a language: for ``training``, ``validation`` and ``test``, each with a different key.

    For a random language all three are the training strings.
    """
    counts = {name: getattr(config, f"{name}_strings") for name in SPLITS}
    if kind.random:
        counts = {"training": config.random_strings}
    bits = [strings.uniform(language_key(config, name, kind, number), count, kind.n) for name, count in counts.items()]
    labels = language_of(config, kind, number).accept(np.concatenate(bits))  # in one call: each shape is compiled
    ends = np.cumsum(list(counts.values()))[:-1]
    parts = zip(bits, np.split(np.asarray(labels), ends), strict=True)
    sets = [(np.asarray(part, np.uint8), np.asarray(label, np.float32)) for part, label in parts]
    if not kind.random:
        return dict(zip(counts, sets, strict=True))
    repeated = tuple(np.concatenate([part] * config.random_passes) for part in sets[0])
    return {"training": repeated, "validation": sets[0], "test": sets[0]}


def with_strings(config: Config, data: Mapping[int, Array]) -> tuple[Config, Strings]:
    """Return the configuration of a run that measures sensitivity on the user's strings, and these strings as uint8.

    Raises:
        ValueError: If strings ``[count n]`` are not zeros and ones, if no language has their length n, or if they are
            fewer than ``config.profile_strings``.
    """
    lengths, checked = {kind.n for kind in kinds(config)}, {}
    for n, rows in sorted(data.items()):
        bits = np.asarray(rows)
        if n not in lengths:
            raise ValueError(f"data has strings of {n} bits: the languages have {sorted(lengths)}")
        if bits.ndim != 2 or bits.shape[1] != n or not np.isin(bits, (0, 1)).all():
            raise ValueError(f"data[{n}] must be strings [count {n}] of 0 and 1, got shape {bits.shape}, {bits.dtype}")
        if len(bits) < config.profile_strings:
            raise ValueError(f"data[{n}] must hold profile_strings = {config.profile_strings} strings, got {len(bits)}")
        checked[n] = bits[: config.profile_strings].astype(np.uint8)
    fingerprints = ",".join(f"{n}:{fingerprint(bits)}" for n, bits in checked.items())
    return dataclasses.replace(config, data=fingerprints), checked


def profiled(config: Config, n: int, user_strings: Strings = NONE) -> np.ndarray:
    """Return the strings ``[count n]`` that sensitivity is measured on, the same for all models of a length."""
    if n in user_strings:
        return user_strings[n]
    return np.asarray(strings.uniform(KEYS(config.seed, "profile", n), config.profile_strings, n), np.uint8)


def exact_on_strings(config: Config, kind: Kind, numbers: Sequence[int], user_strings: Strings = NONE) -> float:
    """Return the average sensitivity of languages on the strings that models are measured on, in bits.

    Its difference from the exact average is due to these strings, which all models share.
    """
    bits = profiled(config, kind.n, user_strings)
    flipped = bits[:, None] ^ np.eye(kind.n, dtype=np.uint8)
    averages = []
    for number in numbers:
        accept = language_of(config, kind, number).accept
        averages.append((np.asarray(accept(flipped)) != np.asarray(accept(bits))[:, None]).sum(1).mean())
    return float(np.mean(averages))
