"""The notebooks run as printed, show what they say, and become files that Jupyter reads."""

import json

import jax
import pytest

from experiments.notebooks import __main__ as command
from experiments.notebooks import _cells
from jaxsens.execution import backends

MEASURES = (
    "token_sensitivity", "sampled_token_sensitivity", "screened_token_sensitivity", "output_sharpness",
    "prediction_sharpness", "average_sharpness", "classifier_sharpness", "worst_case_sharpness", "loss_plane",
    "hessian_product", "ggn_product", "fisher_product", "trace", "xtrace", "top_eigenpairs", "spectral_density",
    "nearest_tokens", "embedding_shifts", "identifiability", "joint_shifts", "least_shifting", "truth_table",
    "sensitivity_profile", "blow_ups", "influences", "lipschitz_quotients", "map_items", "fit", "fit_many",
)  # fmt: skip


@pytest.fixture
def _as_users_run_them(tmp_path, monkeypatch):
    """Files go to a folder of their own, and ranks may be promoted; compiling is quick, since little is computed."""
    monkeypatch.chdir(tmp_path)
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.whole
@pytest.mark.parametrize("path", command.NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("_as_users_run_them")
def test_a_notebook_runs_and_shows_tables_and_figures(path, monkeypatch):
    pytest.importorskip("tokenizers" if path.stem == "text" else "matplotlib")
    several = path.stem == "many_devices"
    if not several:  # one device, as on most machines: programs for eight take longer to compile
        one = jax.local_devices()[:1]
        monkeypatch.setattr(backends, "local_devices", lambda devices=None: tuple(devices or one))
    cells = _cells.read(path)
    outputs = _cells.run(cells, path.stem)
    assert "google.colab" in next(cell.source for cell in cells if not cell.text), "it installs itself first"
    forms = [form for cell in outputs for one in cell for form in one.get("data", ())]
    assert "text/html" in forms
    assert "image/png" in forms or several
    printed = "".join(one.get("text", "") for cell in outputs for one in cell)
    assert printed.count("equal to the bit: True") == 3 * several
    assert "equal to the bit: False" not in printed


def test_every_measure_is_in_a_notebook():
    texts = "".join(path.read_text() for path in command.NOTEBOOKS)
    assert len(command.NOTEBOOKS) == 6
    assert not [name for name in MEASURES if f"{name}(" not in texts and f".{name}`" not in texts]


def test_a_notebook_is_written_as_jupyter_reads_it(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "notebooks"
    monkeypatch.setattr("sys.argv", ["notebooks", str(folder)])
    command.main()
    assert len(capsys.readouterr().out.splitlines()) == len(list(folder.glob("*.ipynb"))) == 6
    for path in command.NOTEBOOKS:
        notebook = json.loads((folder / f"{path.stem}.ipynb").read_text())
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        assert "".join(notebook["cells"][0]["source"]).startswith("# ")
        for cell, written in zip(_cells.read(path), notebook["cells"], strict=True):
            assert written["cell_type"] == ("markdown" if cell.text else "code")
            assert "".join(written["source"]) == cell.source
            assert len(cell.source.splitlines()) <= 25, "a cell is read at once"


def test_cells_show_what_they_print_and_their_last_value(tmp_path):
    path = tmp_path / "one.py"
    path.write_text("# %% [markdown]\n# Title\n#\n# text\n\n# %%\nx = 2\nprint(x)\nx + 1\n\n# %%\ny = x\n")
    cells = _cells.read(path)
    assert cells == [(True, "Title\n\ntext"), (False, "x = 2\nprint(x)\nx + 1"), (False, "y = x")]
    outputs = _cells.run(cells, "one")
    stream = {"output_type": "stream", "name": "stdout", "text": "2\n"}
    value = {"output_type": "display_data", "data": {"text/plain": "3"}, "metadata": {}}
    assert outputs == [[], [stream, value], []]
    assert [cell.get("outputs") for cell in _cells.as_ipynb(cells, outputs)["cells"]] == [None, outputs[1], []]
    for text, message in {"x = 1\n": "first line", "# %% [markdown]\nx = 1\n": "begin with '#'"}.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            _cells.read(path)
