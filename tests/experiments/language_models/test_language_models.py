"""The experiment on language models: what a run is not continued with."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from experiments import harness
from experiments.harness.inputs import require_same
from experiments.language_models import experiment
from experiments.language_models.measure import load, load_model, read
from jaxsens.models import pretrained
from jaxsens.models.text import encoder, llama


def test_a_run_is_not_continued_with_another_model_or_other_texts(smoke_config, tmp_path):
    """The files have the names that they had, and other contents; nothing is measured."""
    config, folder = smoke_config("language_models"), tmp_path / "run"
    files = shutil.copytree(config.model, tmp_path / "model")
    config = replace(config, model=str(files), texts=shutil.copy(config.texts, tmp_path))
    module, variables, _ = load_model(config)
    data = load(config)
    with harness.Run.open(folder, config, experiment="language_models") as run:
        require_same(run, **experiment.inputs(module, variables, data, read(config, module, data)))
    turned = llama.Llama(replace(module.config, theta=77.0))
    for number, (other, weights) in enumerate(((module, encoder.init(module, jax.random.key(1))), (turned, variables))):
        pretrained.save(tmp_path / str(number), other, weights)
        shutil.copytree(tmp_path / str(number), files, dirs_exist_ok=True)
        with pytest.raises(ValueError, match="begun with other model: give those, or another --out"):
            experiment.execute(config, folder)
    shutil.copytree(smoke_config("language_models").model, files, dirs_exist_ok=True)
    with Path(config.texts).open("a") as file:
        file.write('{"text": "the cat sat", "label": 0}\n')
    with pytest.raises(ValueError, match="begun with other texts"):
        experiment.execute(config, folder)
