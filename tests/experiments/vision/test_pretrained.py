"""Trained models on disk: measured in batches as all at once; with the 20 ImageNet images of foolbox, where it is."""

import csv
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.vision import experiment, pretrained
from experiments.vision.config import KEYS
from jaxsens import models, perturb, substitution
from jaxsens.data import images
from jaxsens.sensitivity import token

MEANS = {"vit_imagenet": [0.5] * 3, "convnext": [0.485, 0.456, 0.406]}
DEVIATIONS = {"vit_imagenet": [0.5] * 3, "convnext": [0.229, 0.224, 0.225]}


def save_random_models(folder, classes):
    """Write a small ViT and a small ConvNeXt with random weights, and return their folders."""
    for number, name in enumerate(MEANS):
        module = models.build(name, "small", image_shape=(32, 32, 3), classes=classes, patch=8)
        if name == "convnext":
            module = type(module)(replace(module.config, stem=4, patch=4))
        variables = models.init(module, jax.random.key(number))
        # Random heads say the same of every image: larger ones do not.
        head = variables["params"]["head" if name == "convnext" else "classifier"]
        head["kernel"] = 20 * head["kernel"]
        models.pretrained.save(folder / name, module, variables)
        settings = {"image_mean": MEANS[name], "image_std": DEVIATIONS[name]}
        (folder / name / "preprocessor_config.json").write_text(json.dumps(settings))
    return tuple(str(folder / name) for name in MEANS)


def images_of_foolbox():
    """The 20 labeled ImageNet images, their label in the name of the file."""
    found = importlib.util.find_spec("foolbox")
    paths = [] if found is None else sorted((Path(found.origin).parent / "data").glob("imagenet_*"))
    return [(path, int(path.stem.rpartition("_")[2])) for path in paths]


@pytest.fixture(params=["random", "foolbox"])
def class_folders(request, tmp_path):
    root = tmp_path / "images"
    if request.param == "random":
        draws = np.random.default_rng(0)
        for number in range(6):
            place = root / f"n{number % 3}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(place / f"{number}.png")
        return root
    if not (paths := images_of_foolbox()):
        pytest.skip("foolbox is not installed")
    for path, label in paths:
        place = root / f"n{label:08d}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / path.name)
    return root


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.whole
def test_models_on_disk_are_measured_in_parts_as_all_at_once(class_folders, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(pretrained, "PART", 4)
    folder = images.image_folder(class_folders, image_size=32)
    weights = save_random_models(tmp_path / "weights", folder.classes)
    config = replace(
        experiment.PRESETS["imagenet"], weights=weights, image_folder=str(class_folders), patch=8, batch=4, workers=0,
        measured=20, draws=1, sites_drawn=5,
    )  # fmt: skip
    out = experiment.execute(config, tmp_path / "run")
    rows = {row["subject"]: row for row in read(out / "comparison.csv") if not row["reference"]}
    (compared,) = [row for row in read(out / "comparison.csv") if row["reference"]]
    assert (compared["claim"], compared["subject"], compared["reference"]) == ("C4", "vit_imagenet", "convnext")
    assert int(compared["units"]) == len(folder), "images, since both models are given"
    pixels = folder.arrays(20, workers=0)[0]
    tokens = images.to_patches(images.normalize(pixels), 8)
    predictions, log_odds = len(folder) * 5, []
    for name, path in zip(MEANS, weights, strict=True):
        module, variables, _ = models.pretrained.load(path)
        scaled = (pixels / np.float32(255) - np.float32(MEANS[name])) / np.float32(DEVIATIONS[name])
        own = images.to_patches(scaled, module.config.patch)
        given = pretrained.load(path, config)
        expected = models.evaluation(module)(variables, own)
        np.testing.assert_allclose(given.apply(variables, tokens), expected, rtol=1e-3, atol=1e-4)
        measure = token.token_sensitivity(
            substitution.one_at_a_time(given.apply), perturb.gaussian(15.0), draws=1, sites_drawn=5
        )
        whole = measure(KEYS(0, "noise"), variables, tokens).mean
        np.testing.assert_allclose(float(rows[name]["measured"]), whole, atol=1e-12)
        assert 0 < whole < 1
        log_odds.append(np.log((predictions * whole + 0.5) / (predictions * (1 - whole) + 0.5)))
    np.testing.assert_allclose(float(compared["measured"]), log_odds[0] - log_odds[1], rtol=1e-6)
    before = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    (out / "units" / "convnext-from4.npz").unlink()
    experiment.execute(config, out)
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == before


def test_what_does_not_fit_is_named(tmp_path):
    preset = experiment.PRESETS["imagenet"]
    with pytest.raises(ValueError, match="weights and image_folder: give a folder of weights for each of vit_imagenet"):
        experiment.execute(preset, tmp_path / "run")
    with pytest.raises(ValueError, match="give no data and no models"):
        experiment.execute(preset, tmp_path / "run", models={"mine": None})
    pytest.importorskip("safetensors")
    path, _ = save_random_models(tmp_path / "weights", 3)
    with pytest.raises(ValueError, match="patch must be 8, that of the model in"):
        pretrained.load(path, preset)
    (Path(path) / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="must give image_mean and image_std"):
        pretrained.load(path, replace(preset, patch=8))
