"""Bad calls of the whole public API: each ends in an error that names an argument, or in a right result.

Every case takes a call that is right and replaces one argument by a value of another shape, dtype, kind or range. The
values marked ``bad`` are wrong for certain, so that a result is a failure; for the others a result is allowed, too. An
error is named if code of this project raised it, as one of a few types, and its message names one of the arguments.
Values that are wrong for certain are refused before anything compiles, which is why the test takes seconds.

The file, and its functions, are long since every public function has an entry.
"""
# ruff: noqa: B008, E501 (calls as defaults: each entry is a call with its right arguments)

import dataclasses
import functools
import random
import re
import traceback
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsens
from experiments import harness
from experiments.harness import verdicts
from jaxsens import (
    boolean,
    changes,
    corruptions,
    curvature,
    embedding_space,
    noise_stability,
    norm_balls,
    perturb,
    scales,
    theory,
    training,
)
from jaxsens import labels as class_labels
from jaxsens.boolean import blow_up, decisions, languages, lipschitz, strings, truth_tables
from jaxsens.curvature import density
from jaxsens.data import image_folder, images, modular_addition, patches, sparse_tokens, text, word_frequency
from jaxsens.embedding_space import smallest_shifts, vocabulary
from jaxsens.execution import Execution, checks, fix_cpu_threads, require_key
from jaxsens.models import pair_transformer, pretrained, recognizers
from jaxsens.models.images import cnn, convmixer, densenet, mlp, resnet, simple_vit, small_data_vit, vit
from jaxsens.models.recognizers import baselines
from jaxsens.models.text import bert, gpt2, lstm, tokenizer
from jaxsens.sharpness import classification, loss_landscape
from jaxsens.statistics import correlation, estimate, sequential, variance_components

ROOT = Path(jaxsens.__file__).resolve().parents[1]
OURS = (str(ROOT / "jaxsens"), str(ROOT / "experiments"))
ALLOWED = (ValueError, TypeError, FloatingPointError, OSError, ImportError)
SEED = 16


class Traced:
    """A value that is a tracer when the call is made: the call runs under ``jax.eval_shape``."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"Traced({self.value!r})"


class Thing:
    """An object of no use."""


def bad(*values):
    return [(value, True) for value in values]


def maybe(*values):
    return [(value, False) for value in values]


NOT_NUMBERS = bad(None, "3", b"3", [], [2, 3], {}, lambda x: x, 2j, Thing(), np.array([1, 2]), np.ma.masked, "")
KINDS = {
    "count": [
        *bad(0, -1, 1.5, float("nan"), float("inf"), 1e300, True, np.bool_(True), np.float32(2), np.float16(1)),
        *bad(Traced(np.int32(2)), -(2**40)),
        *NOT_NUMBERS,
    ],
    "whole": [  # at least 0
        *bad(-1, 1.5, float("nan"), float("inf"), True, np.bool_(True), np.float32(2), Traced(np.int32(2))),
        *NOT_NUMBERS,
    ],
    "size": [*bad(-1.0, -1e-30, float("nan"), float("inf"), -np.float32(1), -np.inf), *NOT_NUMBERS],
    "positive": [*bad(0, 0.0, -1.0, float("nan"), float("inf"), np.float64("nan"), -np.inf), *NOT_NUMBERS],
    "level": [*bad(0, 1, -1, 2.0, float("nan"), float("inf"), 95, np.float32(1)), *NOT_NUMBERS],
    "fraction": [*bad(-0.1, 1.5, float("nan"), float("inf"), np.float32(-1)), *NOT_NUMBERS],
    "flag": bad("no", "yes", 2, 0.5, None, [], [True], np.array([True, False]), lambda: True, float("nan"), Thing()),
    "choice": bad("nope", "", 3, None, [], ["l2"], b"l2", float("nan"), lambda x: x, Thing(), np.array([1]), {}),
    "key": bad(
        0, None, "key", 1.5, [0, 1], np.uint32([0, 1]), jnp.uint32([0, 1]), jnp.float32(1), {}, Thing(), True,
        lambda: 0, functools.partial(jax.random.split, jax.random.key(0)), functools.partial(jax.random.key, 0, impl="rbg"),
    ),
    "execution": bad(3, "pmap", {}, [], None, Thing(), lambda x: x, True),
    "function": bad(3, "f", None, [], {}, Thing(), 1.5, np.zeros(2)),
}  # fmt: skip


def arrays(good, *, integer=False, boolean_values=False, finite=True, real=True, floats=True):
    """Return values in place of an array: wrong types, dtypes, shapes and entries."""
    good = np.asarray(good)
    values = bad(
        None, "text", b"text", Thing(), lambda x: x, {}, [[1, 2], [3]], np.full(good.shape, "a"),
        np.full(good.shape, None), np.ma.masked_array(good, np.ones(good.shape, bool)), good[:0], np.zeros(()), 3,
        np.zeros((2, 2, 2, 2, 2), good.dtype), Traced(good), np.full(good.shape, "2020-01-01", "datetime64[D]"),
        np.array([Thing()] * 2), ["a", "b"],
    )  # fmt: skip
    if finite and floats:
        values += bad(
            np.full(good.shape, np.nan), np.where(np.arange(good.size).reshape(good.shape) == 0, np.inf, good)
        )
    if real:
        values += bad(good.astype(complex) * 1j + 1j)
    if integer:
        values += bad(good + 0.5, good - 100, good.astype(np.int64) + 2**32, good.astype(np.int64) + 2**40)
    if boolean_values:
        values += bad(good.astype(float), good.astype(int) + 2)
    return values


def deep(value):
    """Return whether a value is the array with five axes, which is right where any number of axes is."""
    return isinstance(value[0], np.ndarray) and value[0].ndim == 5


class Target:
    """A callable with right arguments, and the kind of each one that is varied."""

    def __init__(self, name, call, right, kinds, aliases=()):
        self.name, self.call, self.right, self.kinds, self.aliases = name, call, right, kinds, aliases


X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
W = {"w": np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)}
Y = np.array([0, 1, 2, 0])
TOKENS = X.reshape(4, 3, 2)
BITS = np.array([[0, 1, 1], [1, 0, 1]])
TABLE = np.eye(5, dtype=np.float32) + 0.1
IDS = np.array([[0, 1], [2, 3]])
KEY = jax.random.key(0)

NOISE = perturb.gaussian(0.1)
WEIGHT_NOISE = {"perturbation": "function", "draws": "count", "execution": "execution"}
RECOGNIZER = recognizers.Config(depth=1, heads=1, head_size=2)
OPTIONAL = [v for v in KINDS["count"] if v[0] is not None]
STRINGS = [
    *arrays(BITS, integer=True),
    *bad(BITS + 1, -BITS, BITS * 2, np.zeros(3, int), np.zeros((2, 0), int), BITS[:, :, None]),
]


def linear(params, x):
    return x @ params["w"]


def token_apply(params, x, mask=None):
    return x.reshape(len(x), -1) @ params["w"]


def encode(params, tokens, mask=None):
    return params[tokens][None]


def losses(params, x):
    return ((x @ params["w"]) ** 2).sum(1)


LOSS = classification.CrossEntropy(linear)
LABELS = [
    *arrays(Y, integer=True),
    *bad(Y + 1, Y - 1, -Y - 1, Y * 0 - 100, np.eye(3)[Y], np.eye(3, dtype=int)[Y], Y == 0, Y[:2], Y[:, None]),
]
INPUTS = [*arrays(X, finite=False, real=False), *bad(X[:, :5], X[:, :, None], np.full(X.shape, 1e300))]


def over_batch(measure, *, keyed=True):
    """Split a batch into inputs and labels, which are varied separately."""

    def call(key=KEY, params=W, inputs=X, labels=Y):
        return measure(key, params, (inputs, labels)) if keyed else measure(params, (inputs, labels))

    return call


PARAMS = [
    *bad(
        {"w": W["w"][:5]},
        {"v": W["w"]},
        {"w": np.full((6, 3), "a")},
        {},
        None,
        "w",
        3,
        {"w": Traced(W["w"])},
        {"w": np.ma.masked_array(W["w"], W["w"] > 0)},
        {"w": None},
        Thing(),
        {"w": np.full((6, 3), np.nan)},
        {"w": np.full((6, 3), 1e300)},
    )
]


def add_execution(add, folder, files):
    """Add the calls of execution and the shared checks."""
    add("Execution", Execution, {}, {
        "chunk": [v for v in KINDS["count"] if v[0] is not None], "precision": bad("fast", 3, [], b"highest", Thing(), lambda: 0, 1.5),
        "backend": "choice", "devices": bad(0, "cpu", [], [0], ["cpu"], {}, jax.devices() * 2, Thing(), lambda: 0, np.array([1])),
        "progress": bad(3, True, [], b"a", Thing(), 1.5, {}), "check": "flag",
    })  # fmt: skip
    add("map_items", lambda fn=jnp.sin, items=X, **k: jaxsens.map_items(fn, items, **k), {}, {
        "fn": "function", "execution": "execution",
        "items": bad(None, "text", [], np.zeros((0, 2)), 3, {}, np.array(["a"]), np.array([2**40]), Traced(X), np.ma.masked_array(X, X > 0), (X, X[:2]), Thing(), lambda: 0, [np.zeros(2), np.zeros(3)], jax.random.split(KEY, 3)),
    }, ("chunk", "items", "fn"))  # fmt: skip
    add("fix_cpu_threads", fix_cpu_threads, {"count": 8}, {"count": "count"})
    add("require_key", lambda key: require_key(key), {"key": KEY}, {"key": "key"})
    add("checks.require_count", lambda value: checks.require_count("value", value), {"value": 2}, {"value": "count"})
    add("checks.require_finite", lambda value: checks.require_finite("value", value), {"value": 2}, {"value": "size"})
    add(
        "checks.host_values",
        lambda value: checks.host_values(value, "value"),
        {"value": X},
        {
            "value": bad(
                None,
                "a",
                ["a"],
                [[1], [1, 2]],
                Thing(),
                np.array([None]),
                Traced(X),
                np.ma.masked_array(X, X > 0),
                KEY,
                lambda: 0,
            )
        },
    )
    add(
        "checks.host_arrays",
        lambda value: checks.host_arrays(value, "value"),
        {"value": X},
        {
            "value": bad(
                "a",
                ["a"],
                Thing(),
                np.array([None]),
                Traced(X),
                np.ma.masked_array(X, X > 0),
                KEY,
                np.array([2**40]),
                1e300,
                np.array([-(2**33)]),
            )
        },
    )


def add_samplers(add, folder, files):
    """Add the calls of samplers and scales."""
    for sampler, number in (
        (perturb.gaussian, "variance"),
        (perturb.uniform, "half_width"),
        (perturb.sphere, "radius"),
    ):
        add(sampler.__name__, sampler, {number: 1.0}, {number: [v for v in KINDS["size"]]})
        add(f"{sampler.__name__} called", lambda key=KEY, x=X, s=sampler: s(1.0)(key, jnp.uint32(0), x), {}, {
            "key": "key", "x": bad(np.zeros(3, int), np.zeros(3, np.float16), np.zeros(3, bool), np.zeros(3, complex), None, "text", np.array(["a"]), Thing(), [], jnp.zeros(3, jnp.bfloat16), np.array([None])),
        }, ("x", "key"))  # fmt: skip
    add(
        "antithetic",
        perturb.antithetic,
        {"sampler": NOISE},
        {"sampler": [*KINDS["function"], *bad(perturb.antithetic(NOISE))]},
    )
    add(
        "relative",
        perturb.relative,
        {"sampler": NOISE, "scale": scales.by_leaf},
        {"sampler": [*KINDS["function"], *bad(perturb.relative(NOISE, scales.by_leaf))], "scale": "function"},
    )
    add("replace_uniform", perturb.replace_uniform, {"vocabulary": 5}, {"vocabulary": [*KINDS["count"], *bad(1)]})
    add("replace_uniform called", lambda key=KEY, x=IDS[0]: perturb.replace_uniform(1000)(key, jnp.uint32(0), x), {}, {
        "key": "key", "x": bad(np.zeros(3), np.zeros(3, np.int8), np.zeros(3, np.uint8), np.zeros(3, bool), None, "text", np.array(["a"]), Thing(), [], np.array([None])),
    }, ("x", "ids"))  # fmt: skip
    for scale in (scales.absolute, scales.by_leaf, scales.by_filter, scales.by_element):
        add(
            f"scales.{scale.__name__}",
            scale,
            {"weights": W},
            {
                "weights": bad(
                    "text",
                    {"w": "a"},
                    {"w": np.array(["a"])},
                    {"w": Thing()},
                    {"w": lambda: 0},
                    {"w": KEY},
                    {"w": np.array([None])},
                )
            },
        )
    add("scales.rescale", scales.rescale, {"direction": W, "weights": W, "scale": scales.by_leaf}, {
        "direction": bad(None, "text", {"v": 1}, {"w": "a"}, (), Thing(), {"w": np.zeros(7)}), "weights": bad(None, "text", {"v": 1}, {"w": "a"}, (), Thing()), "scale": "function",
    })  # fmt: skip
    add(
        "norm_balls.norm",
        norm_balls.norm,
        {"point": W, "kind": "l2"},
        {"kind": "choice", "point": bad({}, None, "text", {"w": "a"}, Thing(), {"w": np.array([None])})},
        ("norm",),
    )
    add(
        "norm_balls.steepest_direction",
        norm_balls.steepest_direction,
        {"gradient": W, "kind": "l2"},
        {"kind": "choice"},
        ("norm",),
    )
    add(
        "norm_balls.project",
        norm_balls.project,
        {"point": W, "radius": 1.0, "kind": "l2"},
        {"kind": "choice"},
        ("norm",),
    )


def add_changes(add, folder, files):
    """Add the calls of changes."""
    outputs = bad("text", None, Thing(), np.array(["a", "b", "c"]), np.array([None] * 3), lambda: 0)
    for change in (changes.squared_change, changes.absolute_change, changes.euclidean_change, changes.largest_change):
        add(
            f"changes.{change.__name__}",
            change,
            {"clean": np.zeros(3), "changed": np.ones(3)},
            {"clean": [*outputs, *bad(np.zeros(2), np.zeros((3, 2)))], "changed": [*outputs, *bad(np.zeros(2))]},
        )
    add(
        "changes.over_positions",
        changes.over_positions,
        {"change": changes.squared_change, "positions": "all"},
        {
            "change": [*KINDS["function"], *bad(changes.over_positions())],
            "positions": bad(
                "nope", "", -1, 1.5, True, 2j, None, [], [-1], [True, False], [0.5], [[0]], [[0], [1, 2]], ["a"], {},
                Thing(), lambda: 0, Traced(np.array([0])), np.ma.masked_array([0], [True]), 2**80,
            ),
        },
    )  # fmt: skip
    add(
        "changes.over_positions called",
        changes.over_positions(changes.squared_change),
        {"clean": np.zeros((3, 2)), "changed": np.ones((3, 2))},
        {
            "clean": [*outputs, *bad(np.zeros(()), np.zeros((2, 2)), np.zeros((3, 3)))],
            "changed": [*outputs, *bad(np.zeros(()), np.zeros((2, 2)), np.zeros((3, 3)))],
        },
    )
    add(
        "changes.prediction_change",
        changes.prediction_change,
        {"clean": jnp.zeros(3), "changed": jnp.ones(3)},
        {
            "clean": [*outputs, *bad(jnp.zeros((2, 3)), jnp.zeros(3, complex), jnp.zeros(0))],
            "changed": [*outputs, *bad(jnp.zeros(2), jnp.zeros(1), jnp.zeros(3, complex))],
        },
    )
    add(
        "changes.sign_change",
        changes.sign_change,
        {"clean": jnp.zeros(1), "changed": jnp.ones(1)},
        {
            "clean": [*outputs, *bad(jnp.zeros(2), jnp.zeros(1, complex))],
            "changed": [*outputs, *bad(jnp.zeros(2), jnp.zeros(1, complex))],
        },
    )


def add_sensitivity(add, folder, files):
    """Add the calls of sensitivity."""
    one = jaxsens.one_at_a_time(token_apply)
    sites = [
        *arrays(np.ones((4, 3), bool), boolean_values=True, real=True),
        *bad(np.zeros((4, 3), bool), np.ones((3, 4), bool), np.ones((2, 3), bool), np.array([0, 7])),
    ]
    sites = [v for v in sites if v[0] is not None]
    tokens = [
        *arrays(TOKENS, finite=False, real=False),
        *bad(
            TOKENS[:, :2],
            TOKENS[:, 0],
            np.full(TOKENS.shape, 1e300),
            np.zeros((4, 3), int),
            np.zeros((0, 3, 2)),
            np.zeros((4, 0, 2)),
        ),
    ]
    add(
        "one_at_a_time",
        jaxsens.one_at_a_time,
        {"apply": token_apply},
        {"apply": "function", "rows": [v for v in KINDS["count"] if v[0] is not None]},
    )
    for name, estimator, right, kinds in (
        (
            "token_sensitivity",
            jaxsens.token_sensitivity,
            {},
            {"draws": "count", "sites_drawn": [*[v for v in KINDS["count"] if v[0] is not None], *bad(4)]},
        ),
        (
            "sampled_token_sensitivity",
            jaxsens.sampled_token_sensitivity,
            {"target_sem": 0.1, "pilot": 2, "pilot_sites": 2},
            {"target_sem": "positive", "pilot": [*KINDS["count"], *bad(1)], "pilot_sites": "count", "cost": "function"},
        ),
        (
            "screened_token_sensitivity",
            jaxsens.screened_token_sensitivity,
            {},
            {
                "draws": "count",
                "calibration": "count",
                "safety": "size",
                "audit": "whole",
                "screen_precision": bad("fast", 3, []),
            },
        ),
    ):

        def settings(substitute=one, perturbation=NOISE, estimator=estimator, **k):
            return estimator(substitute, perturbation, **k)(KEY, W, TOKENS)

        def called(key=KEY, params=W, tokens=TOKENS, estimator=estimator, right=right, **k):
            return estimator(one, NOISE, **right)(key, params, tokens, **k)

        add(
            name,
            settings,
            right,
            kinds
            | {"execution": "execution", "substitute": "function", "perturbation": "function", "change": "function"},
            ("target_sem", "precision"),
        )
        call_kinds = {"key": "key", "params": PARAMS, "tokens": tokens, "mask": sites, "sites": sites}
        if name == "token_sensitivity":
            call_kinds["index"] = [v for v in arrays(np.arange(4), integer=False) if v[0] is not None] + bad(
                np.arange(3), -np.arange(4) - 1, np.arange(4) + 2**33, np.ones(4, bool)
            )
        add(f"{name} called", called, {}, call_kinds, ("the unperturbed model", "output"))


def add_sharpness(add, folder, files):
    """Add the calls of sharpness."""
    for name, estimator, fn in (
        ("average_sharpness", jaxsens.average_sharpness, LOSS), ("classifier_sharpness", jaxsens.classifier_sharpness, linear),
        ("output_sharpness", jaxsens.output_sharpness, linear), ("prediction_sharpness", jaxsens.prediction_sharpness, linear),
    ):  # fmt: skip
        labelled = name in ("average_sharpness", "classifier_sharpness")

        def settings(fn=fn, perturbation=NOISE, draws=2, estimator=estimator, labelled=labelled, **k):
            return estimator(fn, perturbation, draws=draws, **k)(KEY, W, (X, Y) if labelled else X)

        add(
            name,
            settings,
            {},
            {**WEIGHT_NOISE, "fn": "function", "where": [v for v in KINDS["function"] if v[0] is not None]},
            ("loss", "apply"),
        )
        if labelled:
            add(
                f"{name} called",
                over_batch(estimator(fn, NOISE, draws=2)),
                {},
                {"key": "key", "params": PARAMS, "inputs": INPUTS, "labels": LABELS},
                ("batch", "output", "the unperturbed model"),
            )
        else:
            add(
                f"{name} called",
                lambda key=KEY, params=W, batch=X, m=estimator(fn, NOISE, draws=2): m(key, params, batch),
                {},
                {"key": "key", "params": PARAMS, "batch": INPUTS},
                ("the unperturbed model",),
            )
    add("worst_case_sharpness", lambda loss=LOSS, radius=0.1, **k: jaxsens.worst_case_sharpness(loss, radius, **k)(KEY, W, (X, Y)), {}, {
        "loss": "function", "radius": "size", "norm": "choice", "scale": "function", "group": [*[v for v in KINDS["count"] if v[0] is not None], *bad(3)],
        "iterations": "count", "restarts": "count", "keep": "flag", "where": [v for v in KINDS["function"] if v[0] is not None], "execution": "execution",
    })  # fmt: skip
    add(
        "worst_case_sharpness called",
        over_batch(jaxsens.worst_case_sharpness(LOSS, 0.1, iterations=1)),
        {},
        {"key": "key", "params": PARAMS, "inputs": INPUTS, "labels": LABELS},
        ("batch", "loss"),
    )
    grid = [*arrays(np.linspace(0, 1, 3)), *bad(np.zeros((2, 2)), [float("nan")])]
    add(
        "loss_plane",
        lambda loss=LOSS, coordinates=(0.0, 1.0), **k: loss_landscape.loss_plane(loss, coordinates, **k)(
            W, [W], (X, Y)
        ),
        {},
        {
            "loss": "function",
            "coordinates": grid,
            "where": [v for v in KINDS["function"] if v[0] is not None],
            "execution": "execution",
        },
    )
    add(
        "loss_plane called",
        lambda params=W, directions=[W], inputs=X, labels=Y: loss_landscape.loss_plane(LOSS, (0.0, 1.0))(
            params, directions, (inputs, labels)
        ),
        {},
        {
            "params": PARAMS,
            "directions": bad(None, [], W, [W, W], [{}], ["a"], 3, [{"w": np.zeros(2)}], Thing(), "text"),
            "inputs": INPUTS,
            "labels": LABELS,
        },
        ("batch", "loss"),
    )
    add(
        "random_directions",
        lambda key=KEY, params=W, count=1, **k: loss_landscape.random_directions(key, params, count, **k),
        {},
        {
            "key": "key",
            "count": "count",
            "params": bad({}, None, "text", 3, {"w": "a"}, {"w": np.zeros(2, int)}, Thing()),
            "scale": "function",
        },
    )
    add(
        "require_labels",
        class_labels.require_labels,
        {"labels": Y, "classes": 3},
        {"labels": [v for v in LABELS if getattr(v[0], "shape", None) not in ((0,), (2,)) or v[0].dtype == object]},
    )


def add_curvature(add, folder, files):
    """Add the calls of curvature."""
    product = curvature.hessian_product(LOSS)
    add(
        "hessian_product called",
        over_batch(curvature.trace(product, probes=2)),
        {},
        {"key": "key", "params": PARAMS, "inputs": INPUTS, "labels": LABELS},
        ("batch", "loss"),
    )
    add(
        "ggn_product called",
        over_batch(curvature.trace(curvature.ggn_product(linear), probes=2)),
        {},
        {"key": "key", "params": PARAMS, "inputs": INPUTS, "labels": [v for v in LABELS if v[0] is not None]},
        ("batch", "loss", "output", "targets"),
    )
    add(
        "fisher_product called",
        over_batch(curvature.xtrace(curvature.fisher_product(LOSS), probes=2)),
        {},
        {"key": "key", "params": PARAMS, "inputs": INPUTS, "labels": LABELS},
        ("batch", "loss"),
    )
    masks = [v for v in arrays(np.array([1, 1, 0, 1], bool), boolean_values=True, finite=False, real=False)]
    masks = [v for v in masks if v[0] is not None]  # no mask at all is right
    for name, masked in (("CrossEntropy", product), ("ggn_product", curvature.ggn_product(linear))):
        add(
            f"{name} with a mask",
            lambda mask, masked=masked: curvature.trace(masked, probes=2)(KEY, W, (X, Y, mask)),
            {"mask": np.array([True, True, False, True])},
            {"mask": [*masks, *bad(np.zeros(4, bool), np.ones((4, 1), bool))]},
            ("batch",),
        )
    indices = bad("a", 1.5, float("nan"), True, [], Thing(), 2**40, -(2**40), np.array([1, 2]), lambda: 0)
    add("CrossEntropy", lambda ignore_index: classification.CrossEntropy(linear, ignore_index), {"ignore_index": -1},
        {"ignore_index": indices})  # fmt: skip
    add("ggn_product ignoring", lambda ignore_index: curvature.ggn_product(linear, ignore_index=ignore_index),
        {"ignore_index": -1}, {"ignore_index": indices})  # fmt: skip
    for name, build, argument in (
        ("hessian_product", curvature.hessian_product, "loss"),
        ("fisher_product", curvature.fisher_product, "loss"),
        ("ggn_product", curvature.ggn_product, "apply"),
    ):
        add(
            name,
            lambda build=build, argument=argument, **k: curvature.trace(
                build(k.pop(argument, LOSS if argument == "loss" else linear), **k), probes=2
            )(KEY, W, (X, Y)),
            {},
            {
                argument: "function",
                "execution": "execution",
                "where": [v for v in KINDS["function"] if v[0] is not None],
            },
        )
    add(
        "trace",
        lambda product=product, probes=2, **k: curvature.trace(product, probes=probes, **k)(KEY, W, (X, Y)),
        {},
        {"probes": "count", "product": "function", "sampler": "function"},
    )
    add(
        "xtrace",
        lambda product=product, probes=2: curvature.xtrace(product, probes=probes)(KEY, W, (X, Y)),
        {},
        {"probes": [*KINDS["count"], *bad(1)], "product": "function"},
    )
    add("diagonal", lambda product=product, probes=2: curvature.diagonal(product, probes=probes)(KEY, W, (X, Y)), {},
        {"probes": "count", "product": "function"})  # fmt: skip
    add("diagonal called", over_batch(curvature.diagonal(product, probes=2)), {},
        {"key": "key", "params": PARAMS, "inputs": INPUTS, "labels": LABELS}, ("batch", "loss"))  # fmt: skip
    add("xdiag", lambda product=product, probes=2: curvature.xdiag(product, probes=probes)(KEY, W, (X, Y)), {},
        {"probes": [*KINDS["count"], *bad(1)], "product": "function"})  # fmt: skip
    sampled = curvature.monte_carlo_fisher_product
    add("monte_carlo_fisher_product", lambda apply=linear, **k: curvature.trace(sampled(apply, **k), probes=2)(KEY, W, (X, Y)),
        {}, {"apply": "function", "draws": "count", "seed": [*KINDS["whole"], *bad(2**40)], "execution": "execution",
             "where": [v for v in KINDS["function"] if v[0] is not None], "ignore_index": indices})  # fmt: skip
    add("monte_carlo_fisher_product called", over_batch(curvature.trace(sampled(linear), probes=2)), {},
        {"key": "key", "params": PARAMS, "inputs": INPUTS, "labels": [v for v in LABELS if v[0] is not None]},
        ("batch", "output", "targets", "logit"))  # fmt: skip
    in_inputs = curvature.of_inputs(product)
    add("of_inputs", lambda **k: curvature.trace(curvature.of_inputs(**{"product": product, **k}), probes=2)(KEY, W, (X, Y)),
        {}, {"product": [*KINDS["function"], *bad(in_inputs)], "where": [v for v in KINDS["function"] if v[0] is not None]},
    )  # fmt: skip
    add("of_inputs called", over_batch(curvature.trace(in_inputs, probes=2)), {},
        {"key": "key", "params": PARAMS, "inputs": [*INPUTS, *bad(np.ones(X.shape, int))], "labels": LABELS},
        ("batch", "loss"))  # fmt: skip
    diagonal = curvature.diagonal(product, probes=2)(KEY, W, (X, Y))
    add("Diagonal.interval", lambda level: diagonal.interval(level), {"level": 0.9}, {"level": "level"})
    add(
        "top_eigenpairs",
        lambda product=product, k=1, **o: curvature.top_eigenpairs(product, k, **o)(KEY, W, (X, Y)),
        {},
        {
            "k": [*KINDS["count"], *bad(100)],
            "order": "choice",
            "steps": [v for v in KINDS["count"] if v[0] is not None],
            "tolerance": "size",
            "product": "function",
        },
    )
    add(
        "spectral_density",
        lambda product=product, probes=1, **o: curvature.spectral_density(product, probes=probes, **o)(KEY, W, (X, Y)),
        {},
        {
            "probes": "count",
            "steps": "count",
            "width": [v for v in KINDS["positive"] if v[0] is not None],
            "points": [*KINDS["count"], *bad(10)],
            "product": "function",
        },
    )
    add(
        "smoothed",
        density.smoothed,
        {"atoms": np.zeros((2, 3)), "weights": np.ones((2, 3)) / 3, "grid": np.linspace(-1, 1, 5), "width": 0.1},
        {
            "atoms": arrays(np.zeros((2, 3))),
            "weights": arrays(np.ones((2, 3))),
            "grid": arrays(np.zeros(5)),
            "width": "positive",
        },
    )


def add_statistics(add, folder, files):
    """Add the calls of statistics."""
    values = arrays(np.arange(4.0))
    values = [v for v in values if not deep(v)]
    add(
        "from_values",
        estimate.from_values,
        {"values": np.arange(4.0)},
        {"values": values, "rate": bad("no", 2, [], np.array([True, False]), Thing())},
    )
    add(
        "from_values of rates",
        functools.partial(estimate.from_values, rate=True),
        {"values": np.ones(4)},
        {"values": [*values, *bad([0.5, 1.5], [-0.1, 1])]},
    )
    add(
        "over_models",
        estimate.over_models,
        {"values": np.ones((2, 3))},
        {
            "values": [*[v for v in arrays(np.ones((2, 3))) if not deep(v)], *bad(np.ones(3))],
            "rate": bad("no", 2, [], Thing()),
        },
    )
    add(
        "difference",
        estimate.difference,
        {"first": np.ones((2, 3)), "second": np.ones((2, 3))},
        {
            "first": [*arrays(np.ones((2, 3))), *bad(np.ones((2, 4)))],
            "second": [*arrays(np.ones((2, 3))), *bad(np.ones((2, 4)))],
        },
    )
    add(
        "unpaired_difference",
        estimate.unpaired_difference,
        {"first": np.ones(3), "second": np.ones(4)},
        {"first": arrays(np.ones(3)), "second": arrays(np.ones(3))},
    )
    add(
        "clopper_pearson",
        estimate.clopper_pearson,
        {"counts": np.array([1, 2]), "total": 4},
        {
            "counts": [
                v
                for v in arrays(np.array([1, 2]), integer=True)
                if not (isinstance(v[0], np.ndarray) and v[0].shape == (0,))
                and not (isinstance(v[0], np.ndarray) and v[0].ndim == 5)
                and not (isinstance(v[0], int))
            ],
            "total": "count",
            "level": "level",
            "comparisons": "count",
        },
    )
    add(
        "Estimate.interval",
        lambda level=0.95, method="student": estimate.from_values(np.arange(4.0)).interval(level, method=method),
        {},
        {"level": "level", "method": "choice"},
    )
    pair = arrays(np.arange(6.0))
    add(
        "rank_correlation",
        correlation.rank_correlation,
        {"x": np.arange(6.0), "y": np.arange(6.0)[::-1]},
        {
            "x": [*pair, *bad(np.arange(5.0))],
            "y": [*pair, *bad(np.arange(5.0))],
            "level": "level",
            "groups": bad(np.arange(5), "a", 3, np.zeros((6, 2)), Thing()),
            "clusters": bad(np.arange(5), "a", 3, np.zeros((6, 2)), Thing()),
        },
    )
    add(
        "fisher_interval",
        correlation.fisher_interval,
        {"r": 0.5, "freedom": 4},
        {"level": "level", "freedom": "count", "r": bad(2.0, float("nan"), None, "a", 1j, Thing(), -1.5)},
    )
    add(
        "from_changes",
        variance_components.from_changes,
        {"changes": np.random.default_rng(0).normal(size=(4, 2, 3)), "sites": np.ones((4, 3), bool)},
        {
            "changes": arrays(np.ones((4, 2, 3))),
            "sites": arrays(np.ones((4, 3), bool), boolean_values=True),
            "dependent_draws": [*KINDS["count"], *bad(3)],
        },
    )
    component = variance_components.from_changes(np.random.default_rng(0).normal(size=(8, 2, 3)), np.ones((8, 3), bool))
    add(
        "allocate",
        lambda components=component, target_sem=0.5, **k: variance_components.allocate(components, target_sem, **k),
        {},
        {
            "components": bad(None, 3, "a", Thing(), {}),
            "target_sem": "positive",
            "available": [v for v in KINDS["count"] if v[0] is not None],
            "most_draws": "count",
            "dependent_draws": "count",
            "cost": "function",
        },
    )
    add("sequential.sizes", sequential.sizes, {"first": 2, "available": 10}, {"first": "count", "available": "count"})
    add("sequential.level_of", sequential.level_of, {"look": 1, "level": 0.95}, {"look": "whole", "level": "level"})


def add_boolean(add, folder, files):
    """Add the calls of boolean functions."""
    table = [
        *arrays(np.array([0, 1, 1, 0]), integer=True),
        *bad(np.zeros(3, bool), np.zeros(0, bool), np.array([0, 1, 2, 0]), np.array([0.0, 1, 1, 0])),
    ]
    table = [v for v in table if not isinstance(v[0], Traced) and not (isinstance(v[0], np.ndarray) and v[0].ndim == 5)]
    for name in (
        "sensitivity",
        "profile",
        "average_sensitivity",
        "min_sensitivity",
        "max_sensitivity",
        "influences",
        "walsh",
        "degree_weights",
        "degree",
        "block_sensitivity",
        "certificate_complexity",
    ):
        add(
            f"truth_tables.{name}",
            lambda table, fn=getattr(truth_tables, name): fn(table),
            {"table": np.array([0, 1, 1, 0])},
            {"table": table},
        )
    add(
        "noise_stability",
        truth_tables.noise_stability,
        {"table": np.array([0, 1, 1, 0]), "rho": 0.5},
        {"table": table, "rho": bad(-1.5, 2.0, float("nan"), "a", None, [], [0.1, 0.2], 1j, Thing(), lambda: 0)},
    )
    accept = lambda x: x.sum(1) % 2 == 0  # noqa: E731
    accepts = [*KINDS["function"], *bad(lambda x: x, lambda x: x.sum(1), lambda x: True, lambda x: None)]
    add(
        "truth_table",
        truth_tables.truth_table,
        {"accept": accept, "n": 3},
        {"accept": accepts, "n": [*KINDS["count"], *bad(31, 2**40)], "chunk": "count"},
    )
    for name, right in (
        ("parity", {}),
        ("majority", {}),
        ("first", {}),
        ("dictator", {"index": 1}),
        ("sparse_parity", {"indices": [0, 2]}),
        ("sparse_majority", {"indices": [0, 2]}),
    ):
        kinds = {"n": "count"}
        if "index" in right:
            kinds["index"] = [*KINDS["whole"], *bad(3, 99)]
        if "indices" in right:
            kinds["indices"] = bad(
                None,
                3,
                "ab",
                [],
                [0, 0],
                [-1],
                [3],
                [0.5],
                [True, False],
                ["a"],
                Thing(),
                np.array([[0]]),
                [None],
                [float("nan")],
            )
        add(f"languages.{name}", getattr(languages, name), {"n": 3, **right}, kinds, ("indices",))
    add("random_language", languages.random_language, {"key": KEY, "n": 3}, {"key": "key", "n": "count"})
    add(
        "Language",
        boolean.Language,
        {"name": "parity", "n": 3},
        {"name": "choice", "n": "count", "indices": bad([0], "a", 3, Thing()), "key": bad((1, 2), "a", 3, Thing())},
    )
    add(
        "Language.accept",
        lambda strings: languages.parity(3).accept(strings),
        {"strings": BITS},
        {
            "strings": [
                v
                for v in STRINGS
                if not isinstance(v[0], Traced)
                and not (isinstance(v[0], np.ndarray) and (v[0].size == 0 or v[0].shape == (3,)))
            ]
        },
    )
    add(
        "strings.uniform",
        strings.uniform,
        {"key": KEY, "count": 2, "n": 3},
        {"key": "key", "count": "count", "n": "count"},
    )
    add("strings.exhaustive", strings.exhaustive, {"n": 3}, {"n": [*KINDS["count"], *bad(25, 2**40)]})
    for fn in (strings.balanced, strings.near_boundary):
        add(
            f"strings.{fn.__name__}",
            fn,
            {"key": KEY, "count": 2, "accept": accept, "n": 3},
            {
                "key": "key",
                "count": "count",
                "n": "count",
                "accept": accepts,
                "tries": [v for v in KINDS["count"] if v[0] is not None],
            },
        )
    add("strings.require_bits", strings.require_bits, {"strings": BITS}, {"strings": STRINGS})
    recognizer = jaxsens.one_at_a_time(lambda p, x, mask=None: x.sum(1) * 1.0)
    add(
        "sensitivity_profile",
        lambda substitute=recognizer, **k: boolean.sensitivity_profile(substitute, **k)(KEY, None, BITS),
        {},
        {"substitute": "function", "margin": "size", "audit": "whole", "execution": "execution"},
    )
    add(
        "sensitivity_profile called",
        lambda key=KEY, strings=BITS: boolean.sensitivity_profile(recognizer, audit=1)(key, None, strings),
        {},
        {"key": "key", "strings": STRINGS},
    )
    add(
        "screened_sensitivity_profile",
        lambda substitute=recognizer, **k: boolean.screened_sensitivity_profile(substitute, **k)(KEY, None, BITS),
        {},
        {
            "substitute": "function",
            "margin": "size",
            "audit": "whole",
            "calibration": "count",
            "safety": "size",
            "execution": "execution",
            "screen_precision": bad("fast", 3, []),
        },
    )
    quotient = lambda p, x: x @ p  # noqa: E731
    add(
        "lipschitz_quotients",
        lambda apply=quotient, perturbation=NOISE, draws=2, **k: lipschitz.lipschitz_quotients(
            apply, perturbation, draws=draws, **k
        )(KEY, np.ones(3, np.float32), BITS),
        {},
        {"apply": "function", "perturbation": "function", "draws": "count", "execution": "execution"},
    )
    add(
        "lipschitz_quotients called",
        lambda key=KEY, params=np.ones(3, np.float32), strings=BITS: lipschitz.lipschitz_quotients(
            quotient, NOISE, draws=2
        )(key, params, strings),
        {},
        {
            "key": "key",
            "strings": STRINGS,
            "params": bad(np.ones(2, np.float32), None, "a", np.ones(3, int), Thing(), {}),
        },
    )
    add(
        "lipschitz.diameter",
        lipschitz.diameter,
        {"stacked": {"w": np.ones((2, 3))}},
        {
            "stacked": bad(
                {},
                None,
                "a",
                {"w": "a"},
                {"w": np.ones((2, 3)), "v": np.ones((3, 3))},
                {"w": np.ones(())},
                {"w": np.full((2, 3), np.nan)},
                {"w": np.ones((2, 3), int)},
                Thing(),
            )
        },
    )
    add(
        "box_diameter",
        lipschitz.box_diameter,
        {"half_width": 1.0, "parameters": 4},
        {"half_width": "size", "parameters": "count"},
    )
    add(
        "log_count_bound",
        lipschitz.log_count_bound,
        {"lipschitz": 1.0, "diameter": 1.0, "margin": 1.0, "parameters": 4},
        {"lipschitz": "size", "diameter": "size", "margin": "positive", "parameters": "count"},
    )
    add(
        "decide",
        decisions.decide,
        {"logits": np.zeros(3), "margin": 0.1},
        {
            "margin": "size",
            "logits": bad(
                "a",
                None,
                ["a"],
                np.array([None]),
                Thing(),
                1j,
                np.zeros(3, complex),
                [[1], [1, 2]],
                np.ma.masked_array([1.0, 2.0], [True, False]),
            ),
        },
    )
    add(
        "recognizes",
        decisions.recognizes,
        {"logits": np.zeros(3), "labels": np.array([0, 1, 0])},
        {
            "margin": "size",
            "labels": [*arrays(np.array([0, 1, 0]), integer=True), *bad(np.array([-1, 1, -1]))],
            "logits": bad("a", None, ["a"] * 3, np.array([None] * 3), Thing(), np.zeros(3, complex), np.zeros(2)),
        },
    )
    add("blow_up_bound", blow_up.blow_up_bound, {"epsilon": 1e-5, "layers": 2}, {"epsilon": "size", "layers": "count"})
    add(
        "blow_ups",
        lambda internals=recognizers.internals(RECOGNIZER), **k: blow_up.blow_ups(internals, **k)(
            recognizers.init(RECOGNIZER, KEY, "normal"), BITS
        ),
        {},
        {"internals": "function", "execution": "execution"},
        ("params", "variables"),
    )
    add(
        "blow_up",
        blow_up.blow_up,
        {"normalizers": np.ones((2, 3))},
        {"normalizers": bad(None, "a", ["a"], np.array([None]), Thing(), np.full((2, 3), np.nan), -np.ones((2, 3)))},
    )


def add_embeddings(add, folder, files):
    """Add the calls of embeddings."""
    add("nearest_tokens", lambda table=TABLE, **k: embedding_space.nearest_tokens(table, **k), {}, {
        "table": [*arrays(TABLE), *bad(TABLE[0], TABLE[:1], TABLE * 0)], "k": [*KINDS["count"], *bad(5)], "metric": "choice", "block": "count", "execution": "execution",
        "exclude": bad("a", [99], [-1], [0.5], np.ones(5, bool), np.ones(4, bool), Thing(), [None], np.array([2**40])), "groups": bad(np.zeros(5, int), np.arange(4), "a", np.arange(5) - 1, np.arange(5) + 0.5, Thing(), [None] * 5, np.arange(5) + 2**40),
    })  # fmt: skip
    nearest = embedding_space.Nearest(np.array([[1], [0], [3], [2]], np.int32), np.ones((4, 1)))
    ids = [*arrays(IDS, integer=True), *bad(IDS + 4, -IDS - 1, IDS[0])]
    ids = [v for v in ids if not (isinstance(v[0], np.ndarray) and v[0].size == 0)]
    add("Nearest.replace", nearest.replace, {"tokens": IDS}, {"tokens": ids, "rank": [*KINDS["whole"], *bad(1)]})
    shifts_sites = [
        v
        for v in [*arrays(np.ones((2, 2), bool), boolean_values=True), *bad(np.zeros((2, 2), bool))]
        if v[0] is not None
    ]
    add(
        "embedding_shifts",
        lambda encode=encode, **k: embedding_space.embedding_shifts(encode, **k)(TABLE, IDS, IDS + 1),
        {},
        {
            "encode": "function",
            "norms": bad([], ["l7"], 3, None, ["l2", "l2"], [2], Thing()),
            "layers": bad("some", 3, [], [9], [-5], [0.5], None, [True], ["a"], Thing()),
            "execution": "execution",
        },
    )
    add(
        "embedding_shifts called",
        lambda tokens=IDS, alternatives=IDS + 1, params=TABLE, **k: embedding_space.embedding_shifts(encode)(
            params, tokens, alternatives, **k
        ),
        {},
        {
            "tokens": [*arrays(IDS, floats=True), *bad(IDS[0])],
            "alternatives": [*arrays(IDS, finite=True), *bad(IDS - 5, IDS[:1], IDS + 0.5)],
            "mask": shifts_sites,
            "sites": shifts_sites,
        },
    )
    add(
        "identifiability",
        lambda encode=encode, params=TABLE, table=TABLE, tokens=IDS, **k: embedding_space.identifiability(encode, **k)(
            params, table, tokens
        ),
        {},
        {
            "encode": "function",
            "table": [*arrays(TABLE), *bad(TABLE[0])],
            "tokens": [*arrays(IDS, integer=True), *bad(IDS + 9)],
            "metric": "choice",
            "block": "count",
            "layers": bad("some", 3, [], [9], None, ["a"]),
            "execution": "execution",
        },
    )
    add(
        "joint_shifts",
        lambda encode=encode, **k: embedding_space.joint_shifts(encode, **k)(
            TABLE, IDS, IDS + 1, np.array([[[0, 1]], [[0, 1]]])
        ),
        {},
        {
            "encode": "function",
            "norms": bad([], ["l7"], 3, None, [2]),
            "layers": bad("some", 3, [], [9], None, ["a"]),
            "execution": "execution",
        },
    )
    shifts = np.array([[1.0, 2.0], [3.0, 1.0]])
    add(
        "least_shifting",
        smallest_shifts.least_shifting,
        {"shifts": shifts, "count": 1},
        {"shifts": [v for v in arrays(shifts)], "count": [*KINDS["count"], *bad(3)]},
    )
    add(
        "count_tokens",
        smallest_shifts.count_tokens,
        {"tokens": IDS, "positions": np.array([[0], [1]]), "vocabulary": 9},
        {
            "tokens": arrays(IDS, integer=True),
            "positions": arrays(np.array([[0], [1]]), integer=True),
            "vocabulary": [*KINDS["count"], *bad(2)],
        },
    )
    add(
        "agreement",
        smallest_shifts.agreement,
        {"first": np.arange(4), "second": np.arange(4)[::-1]},
        {"first": arrays(np.arange(4)), "second": arrays(np.arange(4)), "top": [*KINDS["count"], *bad(1)]},
        ("counts", "correlation"),
    )
    add(
        "rank_agreement",
        smallest_shifts.rank_agreement,
        {"first": shifts, "second": shifts},
        {"first": arrays(shifts), "second": arrays(shifts)},
        ("shifts", "correlation"),
    )
    add(
        "token_strings",
        vocabulary.token_strings,
        {"ids": {"a": 0}, "rows": 2},
        {
            "rows": "count",
            "ids": bad(None, "a", 3, ["a"], {"a": 5}, {"a": -1}, {"a": "b"}, {"a": 0, "b": 0}, {3: 0}, Thing()),
        },
        ("the id of",),
    )
    add(
        "special_tokens",
        vocabulary.special_tokens,
        {"strings": ["a", "b"]},
        {"strings": bad("hello", None, 3, [3], [None], [b"a"], Thing())},
    )
    add(
        "spelling_groups",
        vocabulary.spelling_groups,
        {"strings": ["a", "b"]},
        {
            "strings": bad("hello", None, 3, [3], [None], [b"a"], Thing()),
            "case": "flag",
            "marks": bad("##", None, 3, [3], Thing()),
        },
    )


def add_data(add, folder, files):
    """Add the calls of data."""
    pixels = np.zeros((2, 4, 4, 1), np.uint8)
    image_right = {
        "name": "x",
        "train_images": pixels,
        "train_labels": np.array([0, 1]),
        "test_images": pixels,
        "test_labels": np.array([0, 1]),
        "classes": 2,
        "source": "s",
    }
    image_labels = [
        *arrays(np.array([0, 1]), integer=True),
        *bad(np.array([0, 2]), np.array([0]), np.array([-1, 0]), np.eye(2)),
    ]
    image_values = [*arrays(pixels, finite=True), *bad(pixels[0], pixels[:1], pixels[:, :0])]
    add(
        "ImageData",
        images.ImageData,
        image_right,
        {
            "train_images": image_values,
            "train_labels": image_labels,
            "test_images": image_values,
            "test_labels": image_labels,
            "classes": "count",
        },
    )
    add(
        "images.load",
        images.load,
        {"name": "digits"},
        {
            "name": [*KINDS["choice"]],
            "limit": [v for v in KINDS["count"] if v[0] is not None],
            "image_size": [v for v in KINDS["count"] if v[0] is not None],
        },
        ("scikit-learn", "data set"),
    )
    add(
        "images.load classes",
        images.load,
        {"name": "digits"},
        {"classes": bad(3, "01", [], {}, [10], [-1], [0, 0], [[]], [None], ["a"], [0.5], [True], Thing(), lambda: 0)},
    )
    add(
        "image_folder",
        image_folder.image_folder,
        {"path": ROOT},
        {
            "path": bad("nowhere", __file__, b"x/y"),
            "image_size": [v for v in KINDS["count"]],
            "resize": [v for v in KINDS["count"] if v[0] is not None],
        },
    )
    add(
        "images.normalize",
        images.normalize,
        {"images": pixels},
        {
            "images": bad(
                None,
                "a",
                ["a"],
                np.array([None]),
                Thing(),
                np.full((1, 2, 2, 1), np.nan),
                np.zeros((1, 2, 2, 1), complex),
                np.ma.masked_array([1.0], [True]),
                lambda: 0,
            )
        },
    )
    add(
        "to_patches",
        patches.to_patches,
        {"images": pixels, "patch": 2},
        {
            "images": bad(
                None, "a", 3, [[1]], Thing(), np.zeros((4, 4)), np.zeros(3), np.ma.masked_array(pixels, pixels == 0)
            ),
            "patch": [*KINDS["count"], *bad(3, 8)],
        },
    )
    add(
        "from_patches",
        patches.from_patches,
        {"tokens": np.zeros((2, 4, 4)), "patch": 2, "image_shape": (4, 4, 1)},
        {
            "tokens": bad(None, "a", 3, [[1]], Thing(), np.zeros((4, 3)), np.zeros(3)),
            "patch": [*KINDS["count"], *bad(3, 8)],
            "image_shape": bad(
                None, 3, "abc", (4, 4), (4, 4, 0), (4, 4, -1), (4.5, 4, 1), Thing(), ("a", "b", "c"), (4, 4, 1, 1)
            ),
        },
    )
    colors = np.zeros((2, 8, 8, 3), np.uint8)
    color_images = bad(
        None, "a", 3, [[1]], Thing(), colors / 255, colors[0], colors[:0], colors[..., :2], colors.astype(int),
        np.ma.masked_array(colors, colors == 0), Traced(colors),
    )  # fmt: skip
    add(
        "corrupt",
        corruptions.corrupt,
        {"key": KEY, "images": colors, "name": "contrast", "severity": 1},
        {
            "key": "key",
            "images": color_images,
            "name": [*KINDS["choice"], *bad("digits", ["fog"])],
            "severity": [*KINDS["count"], *bad(6, [1])],
            "constants": "choice",
            "index": bad(3, "a", [1.5, 2], [-1, 0], [0], np.array([2**32, 0]), Thing()),
            "execution": "execution",
        },
    )
    add(
        "corruption_error",
        lambda **options: corruptions.corruption_error(**{"apply": linear, **options}),
        {},
        {
            "apply": "function",
            "inputs": [v for v in KINDS["function"] if v[0] is not None],
            "names": bad("fog", 3, [], {}, ["fog", "fog"], ["nope"], None, Thing(), [3], [None]),
            "severities": bad("12", 3, [], {}, [1, 1], [0], [6], None, Thing(), [True], [1.5]),
            "constants": "choice",
            "execution": "execution",
        },
        ("name", "severity"),
    )
    add(
        "corruption_error called",
        lambda images=colors, labels=np.array([0, 1]), key=KEY: corruptions.corruption_error(
            lambda params, x: x.reshape(len(x), -1)[:, :2] * 1.0, names=["contrast"], severities=[1]
        )(key, None, (images, labels)),
        {},
        {"images": color_images, "key": "key", "labels": bad(None, "a", 3, [0], [0, 2], [0.5, 1], [[0, 1]], Thing())},
    )
    text_right = {"name": "x", "texts": ("a", "b"), "labels": np.array([0, 1]), "classes": 2, "source": "s"}
    add(
        "TextData",
        text.TextData,
        text_right,
        {
            "texts": bad(None, "ab", 3, (), (1, 2), (None, "a"), (b"a", b"b"), Thing(), ("a",)),
            "labels": [v for v in image_labels if v[0] is not None],
            "classes": [
                v for v in KINDS["count"] if not (isinstance(v[0], int) and v[0] == 0 and not isinstance(v[0], bool))
            ],
        },
    )
    data = text.TextData("x", ("a", "b", "c", "d"), np.array([0, 1, 0, 1]), 2, "s")
    add(
        "TextData.subset",
        data.subset,
        {"index": [0, 1]},
        {
            "index": bad(
                None,
                3,
                "ab",
                [True, False, True, False],
                [-1],
                [1.9],
                [4],
                [None],
                ["a"],
                Thing(),
                [float("nan")],
                [[0, 1]],
                np.ma.masked_array([0, 1], [True, False]),
                [2**40],
            )
        },
    )
    add(
        "held_out",
        text.held_out,
        {"data": data, "fraction": 0.5},
        {"data": bad(None, 3, "a", Thing(), []), "fraction": "level", "seed": "whole"},
    )
    add(
        "read_file",
        text.read_file,
        {"path": files["good.csv"], "text": "text", "label": "label"},
        {
            "path": bad(
                *[path for name, path in files.items() if name != "good.csv"],
                None,
                3,
                "",
                Thing(),
                folder,
                folder / "missing.csv",
                lambda: 0,
                b"x",
            ),
            "text": bad("nope", "", 3, None, [], Thing()),
            "label": bad("nope", "", 3, [], Thing()),
            "second": bad("nope", 3, [], Thing()),
            "drop_empty": "flag",
        },
        ("file", "column", "text", "csv", "jsonl", "tsv"),
    )
    add(
        "text.load",
        text.load,
        {"name": "sst2"},
        {
            "name": bad(None, 3, "", "no_such_data", [], Thing(), b"a", "../x"),
            "split": bad(None, 3, "", [], Thing()),
            "limit": [v for v in KINDS["count"] if v[0] is not None],
            "drop_empty": "flag",
        },
        ("data set", "tensorflow"),
    )
    add(
        "corpus_frequencies",
        word_frequency.corpus_frequencies,
        {"tokens": IDS, "counted": np.ones((2, 2), bool), "vocabulary": 9},
        {
            "tokens": [*arrays(IDS, integer=True), *bad(IDS + 9)],
            "counted": arrays(np.ones((2, 2), bool), boolean_values=True),
            "vocabulary": "count",
        },
    )
    add(
        "word_frequencies",
        functools.partial(word_frequency.word_frequencies, frequency=lambda word: 1.0),
        {"strings": ["a", "b"]},
        {"strings": bad("hello", None, 3, [3], [None], Thing()), "mark": bad("", 3, None, [], Thing())},
    )
    add(
        "normalized_log_frequency",
        word_frequency.normalized_log_frequency,
        {"frequencies": np.arange(3.0)},
        {
            "frequencies": [
                *[v for v in arrays(np.arange(3.0), finite=False)],
                *bad(-np.arange(3.0), np.full(3, np.nan), np.array([1, np.inf]), np.ones(3)),
            ]
        },
    )


def add_training(add, folder, files):
    """Add the calls of training."""
    add(
        "Config",
        training.Config,
        {"epochs": 1},
        {
            "epochs": "count",
            "batch": "count",
            "parts": "count",
            "reproducible": "flag",
            "learning_rate": "positive",
            "precision": bad("fast", 3, [], Thing()),
            "optimizer": bad("adam", None, 3, {}, Thing()),
        },
    )
    add(
        "ManyConfig",
        training.ManyConfig,
        {"epochs": 1},
        {
            "epochs": "count",
            "rows": "count",
            "models_per_device": OPTIONAL,
            "reproducible": "flag",
            "checkpoint_every": "count",
            "lr_patience": OPTIONAL,
            "patience": OPTIONAL,
            "target_accuracy": [v for v in KINDS["positive"] if v[0] is not None] + bad(1.5),
            "target_loss": [v for v in KINDS["size"] if v[0] is not None],
            "keep": "choice",
            "precision": bad("fast", 3, [], Thing()),
            "optimizer": bad("lion", None, 3, [], Thing()),
            "evaluate": [*KINDS["flag"], *bad(False)],
        },
    )
    add(
        "Members",
        training.Members,
        {"learning_rate": [0.1, 0.1], "batch": [2, 2], "dataset": [0, 0]},
        {
            "learning_rate": arrays(np.ones(2)),
            "batch": [*arrays(np.array([2, 2]), integer=True), *bad([0, 1], [1.5, 2])],
            "dataset": [*arrays(np.array([0, 0]), integer=True), *bad([-1, 0])],
            "weight_decay": [v for v in [*arrays(np.ones(2)), *bad([-1.0, 0.0])] if v[0] is not None],
        },
    )
    add(
        "Optimizer",
        training.Optimizer,
        {},
        {
            "name": "choice",
            "momentum": [*KINDS["fraction"], *bad(0.5, 1.0)],
            "weight_decay": [*KINDS["size"], *bad(0.5)],
            "schedule": "choice",
            "warmup": [*KINDS["fraction"], *bad(1.0)],
        },
    )
    add(
        "SharpnessAware",
        training.SharpnessAware,
        {"radius": 0.1},
        {"radius": "size", "objective": "function", "scale": "function"},
    )
    add("NoiseConsistency", training.NoiseConsistency, {}, {"variance": "size", "strength": "fraction"})
    add("GaussianAugmentation", training.GaussianAugmentation, {}, {"variance": "size"})
    add("Mixup", training.Mixup, {}, {"alpha": "positive"})
    add(
        "NoiseStabilityPenalty",
        training.NoiseStabilityPenalty,
        {},
        {"variance": "size", "strength": "fraction", "rho": [*bad(-1.1, 1.5, float("nan")), *NOT_NUMBERS]},
        ("rhos",),
    )
    add(
        "sharpness_aware",
        training.sharpness_aware,
        {"optimizer": optax.sgd(0.1), "radius": 0.1},
        {"radius": "size", "optimizer": "function", "scale": "function"},
    )
    train_apply = lambda v, x, key: (x.reshape(len(x), -1) @ v["params"]["w"], v)  # noqa: E731
    start = {"params": W}
    config = training.Config(epochs=1, batch=2)
    add("fit", lambda key=KEY, apply=train_apply, variables=start, tokens=X, labels=Y, config=config, **k: training.fit(key, apply, variables, tokens, labels, config, **k), {}, {
        "key": "key", "apply": "function", "variables": bad(None, 3, "a", {}, {"w": X}, {"params": {}}, {"params": {"w": "a"}}, Thing(), {"params": {"w": np.zeros((6, 3), int)}}, {"params": {"w": np.zeros((5, 3), np.float32)}}),
        "tokens": [*arrays(X, finite=False, real=False), *bad(X[:2], X[:, :5])], "labels": LABELS, "config": bad(None, 3, "a", {}, Thing(), training.Config(epochs=1, batch=99)), "objective": [v for v in KINDS["function"] if v[0] is not None],
        "checkpoint": bad(3, "", [], Thing(), 1.5, files["good.csv"]), "devices": bad(0, "cpu", [], [0], ["cpu"], jax.devices() * 2, Thing()), "after_epoch": [v for v in KINDS["function"] if v[0] is not None], "progress": bad(3, True, [], Thing()),
    }, ("train_apply", "batch", "params"))  # fmt: skip
    logits_apply = lambda v, x: x.reshape(len(x), -1) @ v["params"]["w"]  # noqa: E731
    add(
        "accuracy",
        lambda apply=logits_apply, variables=start, tokens=X, labels=Y, **k: training.accuracy(
            apply, variables, tokens, labels, **k
        ),
        {},
        {
            "apply": "function",
            "tokens": [*arrays(X, finite=False, real=False), *bad(X[:2], X[:, :5])],
            "labels": LABELS,
            "variables": bad(None, 3, "a", {}, {"params": {}}, {"params": {"w": "a"}}, Thing()),
            "execution": "execution",
        },
        ("params",),
    )
    stacked = training.stack([recognizers.init(RECOGNIZER, KEY, "normal")])
    many = training.ManyConfig(epochs=1, rows=4)
    members = training.Members(learning_rate=[0.01], batch=[2], dataset=[0])
    S, L = BITS[None], np.array([[0, 1]])
    add("fit_many", lambda keys=KEY, apply=recognizers.training_evaluation(RECOGNIZER), variables=stacked, members=members, strings=S, targets=L, config=many, **k: training.fit_many(keys, apply, variables, members, (strings, targets), config, **k), {}, {
        "keys": bad(0, None, "key", 1.5, [0, 1], np.uint32([0, 1]), {}, Thing(), functools.partial(jax.random.key, 0, impl="rbg"), functools.partial(jax.random.split, KEY, 3)), "apply": "function", "variables": bad(None, 3, "a", {}, Thing()), "members": bad(None, 3, "a", {}, Thing(), training.Members(learning_rate=[0.1] * 2, batch=[2] * 2, dataset=[0] * 2), training.Members(learning_rate=[0.1], batch=[2], dataset=[1])),
        "strings": [*arrays(S, integer=True, floats=False), *bad(S * 9, S - 1, S[0])], "targets": [*arrays(L, integer=True), *bad(2 * L, 2 * L - 1, L[0])], "config": bad(None, 3, "a", {}, Thing()),
        "checkpoint": bad(3, "", [], Thing(), files["good.csv"]), "devices": bad(0, "cpu", [], [0], ["cpu"], jax.devices() * 2, Thing()), "criterion": bad(3, "a", Thing()), "validation": bad(3, "a", (S,), Thing()), "after_epoch": [v for v in KINDS["function"] if v[0] is not None],
        "train_apply": [v for v in KINDS["function"] if v[0] is not None], "objective": bad(3, "a", Thing(), training.CrossEntropy()), "report_epochs": bad(3, "a", [0.5], Thing()),
    }, ("data", "key", "dataset", "params"))  # fmt: skip
    add(
        "stack",
        training.stack,
        {"models": [W, W]},
        {"models": bad([], None, 3, "ab", [W, {}], [W, {"w": np.zeros(2)}], Thing(), W)},
    )


def add_models(add, folder, files):
    """Add the calls of models."""
    shape = bad(
        None, 3, "abc", (4, 4), (4, 4, 0), (-4, 4, 1), (4.5, 4, 1), Thing(), ("a", "b", "c"), (4, 4, 1, 1), [True, 4, 1]
    )
    dtypes = bad("float17", 3, Thing(), "int32", int, "complex64", [], lambda: 0)
    right = {"classes": 3, "image_shape": (4, 4, 1), "patch": 2}
    base = {"classes": [*KINDS["count"]], "image_shape": shape, "patch": [*KINDS["count"], *bad(3, 8)], "dtype": dtypes}
    some_counts = bad(None, 3, "ab", (0,), (-1,), (1.5,), ("a",), Thing(), (True,), (None,))
    add(
        "build",
        jaxsens.models.build,
        {"name": "mlp", "variant": "small", **right},
        {"name": "choice", "variant": "choice", **base},
    )
    add("mlp.Config", mlp.Config, right, {**base, "hidden": some_counts, "activation": "choice"})
    add(
        "cnn.Config",
        cnn.Config,
        right,
        {**base, "channels": some_counts, "hidden": some_counts, "kernel": [*KINDS["count"]]},
    )
    add(
        "convmixer.Config",
        convmixer.Config,
        {**right, "width": 4, "depth": 1},
        {
            **base,
            "width": "count",
            "depth": "count",
            "kernel": "count",
            "stem": [*[v for v in KINDS["count"] if v[0] is not None]],
        },
    )
    add("resnet.Config", resnet.Config, {**right, "width": 4}, {**base, "width": "count", "blocks": some_counts})
    add(
        "densenet.Config",
        densenet.Config,
        {**right, "growth": 2, "blocks": (1,)},
        {**base, "growth": "count", "bottleneck": "count", "blocks": some_counts},
    )
    vit_right = {**right, "width": 4, "depth": 1, "heads": 2, "hidden": 4}
    transformer = {
        "width": [*KINDS["count"], *bad(5)],
        "depth": "count",
        "heads": [*KINDS["count"], *bad(3)],
        "hidden": "count",
        "activation": "choice",
        "attention": "choice",
        "epsilon": "positive",
        "dropout": [*KINDS["fraction"], *bad(1.0)],
        "dtype": dtypes,
        "fused_attention": "flag",
    }
    vits = {**base, **transformer, "pool": "choice", "positions": "choice", "normalize_patches": "flag"}
    add("vit.Config", vit.Config, vit_right, vits)
    add(
        "small_data_vit.Config",
        small_data_vit.Config,
        vit_right,
        {**vits, "shifts": "choice", "local_attention": "flag"},
    )
    add(
        "simple_vit.Config",
        simple_vit.Config,
        vit_right,
        {**vits, "normalize_embedding": "flag", "normalize_tokens": "flag"},
    )
    bert_right = {"width": 4, "depth": 1, "heads": 2, "hidden": 4, "vocabulary": 9, "positions": 5}
    language = {
        **transformer,
        "vocabulary": "count",
        "positions": "count",
        "classes": [v for v in KINDS["count"] if v[0] is not None],
        "read_out": "choice",
    }
    add("bert.Config", bert.Config, bert_right, {**language, "position_offset": "whole", "types": "whole"})
    add("gpt2.Config", gpt2.Config, bert_right, language)
    add(
        "lstm.Config",
        lstm.Config,
        {"vocabulary": 9, "width": 4, "depth": 1, "classes": 2},
        {
            "vocabulary": "count",
            "width": "count",
            "depth": "count",
            "classes": "count",
            "read_out": "choice",
            "dropout": "fraction",
            "dtype": dtypes,
        },
    )
    add(
        "recognizers.Config",
        recognizers.Config,
        {"depth": 1, "heads": 1, "head_size": 2},
        {
            "block": "choice",
            "depth": "count",
            "heads": "count",
            "head_size": "count",
            "multiplier": "count",
            "epsilon": "size",
            "norm_first": "flag",
        },
    )
    add("LSTMConfig", baselines.LSTMConfig, {"depth": 1, "width": 2}, {"depth": "count", "width": "count"})
    add(
        "MLPConfig",
        baselines.MLPConfig,
        {"length": 3, "depth": 1, "width": 2},
        {"length": "count", "depth": "count", "width": "count"},
    )
    add(
        "baselines.matched",
        baselines.matched,
        {"kind": "lstm", "parameters": 500, "length": 5},
        {"kind": "choice", "parameters": "count", "length": "count", "depth": "count"},
    )
    add(
        "recognizers.init",
        recognizers.init,
        {"config": RECOGNIZER, "key": KEY, "scheme": "normal"},
        {
            "key": "key",
            "scheme": "choice",
            "config": bad(None, 3, "a", {}, Thing()),
            "biases": "choice",
            "gains": "choice",
            "embedding": "choice",
        },
    )
    module = mlp.MLP(mlp.Config(**right, hidden=(2,)))
    add(
        "models.init",
        jaxsens.models.init,
        {"module": module, "key": KEY},
        {"key": "key", "module": bad(None, 3, "a", {}, Thing())},
    )
    variables = jaxsens.models.init(module, KEY)
    add(
        "evaluation",
        lambda module=module, variables=variables, tokens=np.zeros((2, 4, 4), np.float32), mask=None: (
            jaxsens.models.evaluation(module)(variables, tokens, mask)
        ),
        {},
        {
            "module": bad(None, 3, "a", {}, Thing()),
            "variables": bad(None, 3, "a", {}, Thing(), {"params": {}}),
            "tokens": bad(
                None,
                "a",
                np.zeros((2, 4, 3), np.float32),
                np.zeros((2, 3, 4), np.float32),
                np.zeros((4, 4)),
                Thing(),
                np.array([["a"]]),
            ),
            "mask": bad("a", 3, np.ones((2, 3), bool), np.ones((2, 4)), Thing()),
        },
    )
    add(
        "recognizers.evaluation",
        lambda variables=recognizers.init(RECOGNIZER, KEY, "normal"), strings=BITS: recognizers.evaluation(RECOGNIZER)(
            variables, strings
        ),
        {},
        {
            "variables": bad(None, 3, "a", {}, Thing(), {"params": {}}),
            "strings": [v for v in STRINGS if not isinstance(v[0], Traced | list) and np.size(v[0])],
        },
        ("params",),
    )
    add(
        "substitution.recognizer",
        jaxsens.models.substitution.recognizer,
        {"config": RECOGNIZER},
        {"config": bad(None, 3, "a", {}, Thing()), "rows": OPTIONAL},
    )
    add(
        "substitution.encoder",
        jaxsens.models.substitution.encoder,
        {"module": bert.Bert(bert.Config(**bert_right))},
        {"module": bad(None, 3, "a", {}, Thing(), module), "rows": OPTIONAL, "embeddings": "flag"},
    )
    add(
        "substitution.causal",
        jaxsens.models.substitution.causal,
        {"module": gpt2.GPT2(gpt2.Config(**bert_right))},
        {"module": bad(None, 3, "a", {}, Thing(), module), "rows": "count", "tile": "count", "embeddings": "flag"},
    )
    add(
        "substitution.convolutional",
        jaxsens.models.substitution.convolutional,
        {"module": cnn.CNN(cnn.Config(**right))},
        {"module": bad(None, 3, "a", {}, Thing(), module), "rows": OPTIONAL, "groups": OPTIONAL},
    )
    add(
        "pretrained.load",
        pretrained.load,
        {"path": folder / "model"},
        {
            "path": bad(None, 3, "", Thing(), folder, folder / "missing", files["good.csv"], *broken_models(folder)),
            "dtype": dtypes,
            "read_out": "choice",
        },
        ("config.json", "safetensors", "folder"),
    )
    add(
        "tokenizer.load",
        tokenizer.load,
        {"path": folder / "model", "vocabulary": 5},
        {"path": bad(None, 3, "", Thing(), folder, folder / "missing", files["good.csv"]), "vocabulary": "count"},
        ("tokenizer",),
    )


def add_harness(add, folder, files):
    """Add the calls of the harness."""
    add(
        "Keys called",
        lambda seed=0, purpose="noise", number=1: harness.Keys("weights", "noise")(seed, purpose, number),
        {},
        {"seed": "whole", "purpose": "choice", "number": "whole"},
        ("numbers",),
    )
    add(
        "Claim",
        harness.Claim,
        {"claim": "C1", "quantity": "q", "published": None, "place": ""},
        {
            "verdict": bad("held", 3, None, Thing(), "yes"),
            "measured": bad(float("nan"), float("inf"), "a", [], Thing()),
            "low": bad(float("nan"), "a", [], Thing()),
            "standard_error": bad(float("nan"), "a", Thing()),
        },
    )
    add(
        "Design",
        verdicts.Design,
        {"seeds": 3, "rates": (0.1, 0.2, 0.3), "best": {"m": 0.2}},
        {
            "seeds": [v for v in KINDS["whole"] if v[0] is not None],
            "rates": bad(None, 3, "ab", (0.0,), (-1,), (float("nan"),), ("a",), Thing(), (None,)),
            "best": bad(None, 3, "a", {"m": 0.5}, {"m": "a"}, {"m": None}, [], Thing()),
        },
    )
    add(
        "format_table",
        harness.format_table,
        {"rows": [{"a": 1}]},
        {"rows": bad([], None, 3, "ab", [3], Thing(), [{"a": 1}, {"b": 2}]), "columns": bad(["nope"], 3, Thing(), "x")},
    )
    add(
        "option",
        option_class,
        {"value": 2.0},
        {"value": bad(float("nan"), float("inf"), -1.0, 11.0, "a", [], Thing(), 1j, True, lambda: 0)},
    )


def add_noise_stability(add, folder, files):
    """Add the calls of noise stability."""
    tokens = [v for v in arrays(TOKENS, finite=False, real=False) if not isinstance(v[0], list)]
    rhos = bad(None, "a", [], [2.0], [0.5, 0.5], [float("nan")], [-1.5], 0.5, Thing(), [[0.5]], [1j], lambda: 0)
    for name, measure, right, kinds in (
        ("noise_stability", noise_stability.noise_stability, {"noise": noise_stability.CorrelatedGaussian(), "rhos": [0.5]}, {"noise": "function", "rhos": rhos, "product": "function"}),
        ("all_tokens_change", noise_stability.all_tokens_change, {"perturbation": NOISE}, {"perturbation": "function", "change": "function"}),
    ):  # fmt: skip
        built = {"apply": token_apply, **right}
        add(name, measure, built, {"apply": "function", "draws": "count", "execution": "execution", **kinds})
        add(
            f"{name} called",
            lambda key, tokens, measure=measure, built=built: measure(**built)(key, W, tokens),
            {"key": KEY, "tokens": TOKENS},
            {"key": "key", "tokens": tokens},
            ("batch",),
        )
    numbers = bad(None, "a", float("nan"), float("inf"), Thing(), 1j)
    add(
        "CorrelatedGaussian",
        noise_stability.CorrelatedGaussian,
        {"variance": 1.0},
        {"variance": [*numbers, *bad(-1.0)], "mean": numbers},
    )
    add("Redrawn", noise_stability.Redrawn, {"sampler": NOISE}, {"sampler": "function"})
    tables = bad(
        None,
        "text",
        Thing(),
        {},
        [],
        np.zeros(3, bool),
        np.zeros((2, 3)),
        [[1, 2], [3]],
        np.array([0, 1, 2, 0]),
        np.array([0, 1j]),
    )
    add(
        "exact_noise_stability",
        noise_stability.exact_noise_stability,
        {"values": [0, 1, 1, 0], "rhos": [0.5]},
        {"values": tables, "rhos": rhos},
        ("table",),
    )
    curve = noise_stability.NoiseStability(np.linspace(-1, 1, 3), np.ones((2, 3)), rate=False, draws=1)
    add(
        "noise_stability.degree_weights",
        noise_stability.degree_weights,
        {"stability": curve, "degree": 1},
        {"stability": bad(None, 3, [], "a", Thing(), np.ones((2, 3))), "degree": [*KINDS["whole"], *bad(3)]},
        ("rhos",),
    )
    bound = noise_stability.sensitivity_bound
    add("all_tables", bound.all_tables, {"n": 1}, {"n": [*KINDS["count"], *bad(5)]})
    add("degree_slack", bound.degree_slack, {"tables": [0, 1, 1, 0]}, {"tables": tables}, ("table", "the last axis"))
    add(
        "stability_slack",
        bound.stability_slack,
        {"tables": [0, 1, 1, 0], "rhos": [0.5]},
        {"tables": tables, "rhos": rhos, "exponent": "choice"},
        ("table", "exponent"),
    )


def add_theory(add, folder, files):
    """Add the calls of kernels, and of Fourier analysis on the cube and modulo p."""
    walsh, cyclic = theory.walsh, theory.cyclic
    values = bad(None, "text", Thing(), {}, [], np.zeros(3), [[1, 2], [3]], np.array([1j, 0]))
    add("walsh.transform", walsh.transform, {"values": np.ones(4)}, {"values": values})
    add("walsh.degree_weights", walsh.degree_weights, {"values": np.ones(4)}, {"values": values})
    add("walsh.degrees", walsh.degrees, {"n": 2}, {"n": KINDS["whole"]})
    add("walsh.signs", walsh.signs, {"n": 2}, {"n": "count"})
    kernels = [*values, *bad(np.ones((4, 2)), np.ones((3, 3)))]
    add(
        "walsh.kernel_spectrum",
        walsh.kernel_spectrum,
        {"kernel": np.eye(4)},
        {"kernel": kernels},
        ("values", "the last axis"),
    )
    add(
        "structure",
        theory.structure,
        {"kernel": np.eye(4), "tokens": 1},
        {"kernel": kernels, "tokens": bad(0, 3, -1, 1.5, None, "a", [], Thing())},
        ("values", "the last axis"),
    )
    add(
        "counterexample", theory.counterexample, {"kernel": np.eye(4)}, {"kernel": kernels}, ("values", "the last axis")
    )
    add(
        "cube_tokens",
        theory.cube_tokens,
        {"bits": 2, "tokens": 1},
        {"bits": [*KINDS["count"], *bad(13)], "tokens": [*KINDS["count"], *bad(3)]},
    )
    inputs = bad(
        None, "text", Thing(), {}, [], np.ones((2, 3)), np.full((2, 2, 2), np.nan), np.ones((2, 2, 2), complex)
    )
    for kernel in (theory.conjugate_kernel, theory.tangent_kernel):
        second = [value for value in inputs if value[0] is not None] + bad(np.ones((2, 3, 2)))
        add(
            kernel.__name__,
            kernel,
            {"first": np.ones((2, 2, 2))},
            {
                "first": inputs,
                "second": second,
                "score": bad("nope", "softmax", 3, None, Thing()),
                "read_out": bad("nope", 3, None, Thing()),
            },
        )
    add(
        "finite_width_kernel",
        theory.finite_width_kernel,
        {"kind": "conjugate"},
        {
            "kind": "choice",
            "score": "choice",
            "read_out": "choice",
            "width": "count",
            "networks": [*KINDS["count"], *bad(1)],
            "execution": "execution",
        },
    )
    add(
        "finite_width_kernel called",
        lambda key, tokens: theory.finite_width_kernel("conjugate", width=2, networks=2)(key, tokens),
        {"key": KEY, "tokens": np.ones((2, 2, 2))},
        {"key": "key", "tokens": inputs},
    )
    real = bad(
        None,
        "text",
        Thing(),
        {},
        [],
        np.ones(4),
        np.ones(1),
        np.array([1.0, np.nan, 0.0]),
        np.array([1j, 0, 0]),
        [[1, 2], [3]],
    )
    add("frequency_power", cyclic.frequency_power, {"weights": np.ones(3)}, {"weights": real})
    grids = [*real, *bad(np.ones((3, 3)), np.ones((3, 5, 1)), np.full((3, 3, 1), np.inf))]
    frequencies = bad(None, "a", [], [0], [2], [1, 1], [0.5], 1, Thing(), [[1]], [True])
    for part in (cyclic.restricted, cyclic.excluded):
        add(
            part.__name__,
            part,
            {"logits": np.ones((3, 3, 1)), "frequencies": [1]},
            {"logits": grids, "frequencies": frequencies},
        )
    for part in (cyclic.mean_by_sum, cyclic.sum_power):
        add(part.__name__, part, {"logits": np.ones((3, 3, 1))}, {"logits": grids})
    add(
        "gini",
        cyclic.gini,
        {"values": np.ones(3)},
        {"values": bad(None, "a", [], [-1.0], [np.nan], 3.0, np.ones((2, 2)), Thing(), [1j])},
    )
    add(
        "key_frequencies",
        cyclic.key_frequencies,
        {"power": np.ones(3), "count": 1},
        {"power": bad(None, "a", 3.0, [np.nan], np.ones((2, 2)), Thing()), "count": [*KINDS["count"], *bad(4)]},
    )


def add_synthetic(add, folder, files):
    """Add the calls of synthetic data, and of the model and the training that learn it."""
    law = {"vocabulary": 23, "length": 12, "sparse": 1, "frequent": 3, "excess": 1, "pool": 5}
    kinds = {name: "whole" if name == "excess" else "count" for name in law}
    add("SparseTokens", sparse_tokens.SparseTokens, law, kinds)
    task = sparse_tokens.SparseTokens(**law)
    add(
        "SparseTokens.draw",
        task.draw,
        {"key": KEY, "count": 1},
        {"key": "key", "count": "count", "sparse_of_other_label": "flag"},
    )
    add(
        "SparseTokens.sensitivity",
        task.sensitivity,
        {"solution": "sparse"},
        {"solution": "choice", "ties": "choice", "replace_by_itself": "flag"},
    )
    exact = {"own": 1, "other": 0, "ids": 1, "length": 2, "vocabulary": 4}
    add(
        "exact_sensitivity",
        sparse_tokens.exact_sensitivity,
        exact,
        {
            "own": "count",
            "other": "whole",
            "ids": "count",
            "length": "count",
            "vocabulary": "count",
            "ties": "choice",
            "replace_by_itself": "flag",
        },
    )
    add("ModularAddition", modular_addition.ModularAddition, {"modulus": 5}, {"modulus": [*KINDS["count"], *bad(1)]})
    add(
        "ModularAddition.split",
        modular_addition.ModularAddition(5).split,
        {"key": KEY, "fraction": 0.5},
        {"key": "key", "fraction": [*KINDS["positive"], *bad(1.0, 1e-3)]},
    )
    sizes = {"numbers": 5, "width": 4, "heads": 2, "hidden": 4}
    add(
        "pair_transformer.Config",
        pair_transformer.Config,
        sizes,
        {**dict.fromkeys(sizes, "count"), "residual": "flag", "normalized": "flag"},
    )
    config = pair_transformer.Config(**sizes)
    variables, apply = pair_transformer.init(config, KEY), pair_transformer.evaluation(config)
    add("pair_transformer.init", pair_transformer.init, {"config": config, "key": KEY}, {"key": "key"})
    pairs = bad(
        None,
        "text",
        Thing(),
        {},
        [[0, 5]],
        [[-1, 0]],
        [[0.0, 1.0]],
        [[0, 1, 5]],
        [0, 1],
        [[True, False]],
        np.ma.masked_array([[0, 1]], [[True, False]]),
    )
    add(
        "pair_transformer.evaluation",
        lambda variables, pairs: apply(variables, pairs),
        {"variables": variables, "pairs": np.array([[0, 1]])},
        {"variables": bad(None, {}, 3, W, Thing()), "pairs": pairs},
    )
    add(
        "pair_transformer.from_embeddings",
        lambda variables, vectors: pair_transformer.from_embeddings(config)(variables, vectors),
        {"variables": variables, "vectors": np.zeros((1, 2, 4))},
        {"vectors": bad(None, "text", Thing(), np.zeros((1, 3, 4)), np.zeros((2, 4)), np.zeros((1, 2, 5)))},
    )
    add(
        "FullBatchConfig",
        training.FullBatchConfig,
        {"steps": 4, "every": 2},
        {
            "steps": "count",
            "every": [*KINDS["count"], *bad(3)],
            "models_per_device": OPTIONAL,
            "reproducible": "flag",
            "precision": bad("fast", 3, [], Thing()),
        },
    )
    right = {
        "keys": KEY, "loss": lambda variables, data, key: (variables["params"]["w"] - data).sum(), "variables": {"params": {"w": np.zeros((2, 1), np.float32)}}, "data": np.zeros((2, 1), np.float32),
        "config": training.FullBatchConfig(steps=1, every=1), "learning_rate": [0.1, 0.1], "weight_decay": [0.0, 0.0], "measure": lambda done, variables: {"w": np.zeros(2)},
    }  # fmt: skip
    rates = bad(None, "a", 0.1, [0.1], [0.1, float("nan")], [0.1, -1.0], [[0.1, 0.1]], Thing(), [1j, 1j])
    add("fit_full_batch", training.fit_full_batch, right, {
        "keys": [v for v in KINDS["key"] if not isinstance(v[0], functools.partial)], "loss": "function", "variables": bad(None, {}, 3, W, {"params": {}}, {"params": {"w": np.zeros(3)}}, Thing()), "data": bad(None, "a", Thing(), np.zeros(3), {}),
        "config": bad(None, 3, {}, training.Config(epochs=1)), "learning_rate": [*rates, *bad([0.1, 0.0])], "weight_decay": rates, "measure": "function", "progress": bad(3, [], Thing()),
    })  # fmt: skip


PARTS = (
    add_execution,
    add_samplers,
    add_changes,
    add_sensitivity,
    add_sharpness,
    add_curvature,
    add_statistics,
    add_boolean,
    add_embeddings,
    add_data,
    add_training,
    add_models,
    add_harness,
    add_noise_stability,
    add_theory,
    add_synthetic,
)


def targets(folder):
    """Return everything that is called."""
    found = []

    def add(name, call, right, kinds, aliases=()):
        found.append(Target(name, call, right, kinds, aliases))

    files = tiny_files(folder)
    for part in PARTS:
        part(add, folder, files)
    return found


def option_class(value):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(harness.Settings):
        value: float = harness.option(1.0, "a value", at_least=0, below=10)

    return Config(value=value)


def tiny_files(folder):
    """Write files of texts, of which one is right."""
    contents = {
        "good.csv": b"text,label\na,0\nb,1\n", "comma.csv": b"text,label\nGood, but not great,0\nb,1\n", "twice.csv": b"text,text,label\na,b,0\n",
        "empty.csv": b"", "header.csv": b"text,label\n", "short.csv": b"text,label\na\n", "labels.csv": b"text,label\na,-1\n", "words.csv": b"text,label\na,good\n",
        "half.csv": b"text,label\na,0.5\n", "utf16.csv": "text,label\na,0\n".encode("utf-16"), "bytes.csv": b"text,label\n\xff\xfe,0\n", "other.pkl": b"text,label\na,0\n",
        "list.jsonl": b"[1, 2]\n", "broken.jsonl": b'{"text": "a", "label": 0\n', "deep.jsonl": b"[" * 5000 + b"\n", "number.jsonl": b'{"text": 3, "label": 0}\n', "nolabel.jsonl": b'{"text": "a"}\n',
        "surrogate.jsonl": b'{"text": "\\ud83d", "label": 0}\n', "large.jsonl": b'{"text": "a", "label": 1e400}\n', "nan.jsonl": b'{"text": "a", "label": NaN}\n', "true.jsonl": b'{"text": "a", "label": true}\n',
    }  # fmt: skip
    paths = {name: folder / name for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return paths


def broken_models(folder):
    """Return folders of models that cannot be read."""
    configs = {
        "none": None, "empty": b"", "list": b"[]", "null": b"null", "deep": b"[" * 5000, "unknown": b'{"model_type": "nope"}', "partly": b'{"model_type": "bert"}',
        "wrong": b'{"model_type": "bert", "hidden_size": "a", "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 1, "vocab_size": 5, "max_position_embeddings": 4}',
        "huge": b'{"model_type": "bert", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4, "vocab_size": 200000000, "max_position_embeddings": 4, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "type_vocab_size": 2}',
    }  # fmt: skip
    folders = []
    for name, config in configs.items():
        path = folder / f"model-{name}"
        path.mkdir(exist_ok=True)
        if config is not None:
            (path / "config.json").write_bytes(config)
            (path / "model.safetensors").write_bytes(b"\xff" * 40 if name in ("wrong", "huge") else b"")
        folders.append(path)
    return folders


def short(value):
    text = f"{type(value).__name__} {value!r}".replace("\n", " ")
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"\s+", " ", text))[:60]


def cases(found):
    """Return every case, ``(target, argument, number, value, whether it is wrong for certain)``."""
    result = []
    for target in found:
        for argument, kind in target.kinds.items():
            for number, (value, certain) in enumerate(KINDS[kind] if isinstance(kind, str) else kind):
                result.append((target, argument, number, value, certain))
    random.Random(SEED).shuffle(result)
    return result


def outcome(target, argument, value, certain):
    """Return "" for an allowed outcome, or what is wrong with it."""
    arguments = dict(target.right)
    if isinstance(value, functools.partial):
        value = value()

    def call(value):
        return target.call(**{**arguments, argument: value})

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(value, Traced):
                jax.eval_shape(lambda traced: (call(traced), None)[1], value.value)
            elif isinstance(value, dict) and any(isinstance(leaf, Traced) for leaf in value.values()):
                jax.eval_shape(
                    lambda traced: (call(traced), None)[1], {name: leaf.value for name, leaf in value.items()}
                )
            else:
                call(value)
    except ALLOWED as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        if not place.filename.startswith(OURS):
            return f"bare {type(error).__name__} from {Path(place.filename).name}: {str(error)[:90]}"
        names = {argument, *target.right, *target.kinds, *target.aliases}
        if len(str(error)) <= 15 or not any(name in str(error) for name in names):
            return f"{type(error).__name__} names no argument: {str(error)[:90]}"
        return ""
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"bare {type(error).__name__} from {Path(place.filename).name}: {str(error)[:90]}"
    return "silent" if certain else ""


@pytest.mark.whole
def test_bad_calls_are_refused_by_name(tmp_path):
    everything = cases(targets(tmp_path))
    assert len(everything) > 9000
    assert len({target.name for target, *_ in everything}) > 150
    failures = {}
    for target, argument, _, value, certain in everything:
        if result := outcome(target, argument, value, certain):
            failures.setdefault((target.name, argument), {})[type(value).__name__] = f"{short(value)}: {result}"
    assert not failures


def test_the_checker_sees_what_it_should():
    def silent(value):
        return value

    def bare(value):
        return np.zeros(value)

    def unnamed(value):
        return checks.require_count("another", value)

    def named(value):
        return checks.require_count("value", value)

    for call, expected in ((silent, "silent"), (bare, "bare"), (unnamed, "names no argument"), (named, "")):
        found = outcome(Target("", call, {}, {"value": []}), "value", -3, True)
        assert expected in found
        assert bool(expected) == bool(found)
    assert outcome(Target("", silent, {}, {"value": []}), "value", 3, False) == ""
