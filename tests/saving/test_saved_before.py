"""Files of each kind that earlier code wrote are read, and train on."""

import json
import pickle
import sys
from pathlib import Path

import keras_jax_ext as kje

import keras
import pytest

SAVED = Path(__file__).parent / "saved"
sys.path.insert(0, str(SAVED))
import kinds  # noqa: E402

VERSIONS = sorted(path for path in SAVED.iterdir() if path.name[0].isdigit())


def close(told):
    """Figures to compare with, to the rounding of another machine."""
    if isinstance(told, dict):
        return {name: close(value) for name, value in told.items()}
    if isinstance(told, list):
        return [close(value) for value in told]
    return pytest.approx(told, rel=1e-3, abs=1e-5)


def figures(folder, name):
    return json.loads((folder / "figures.json").read_text())[name]


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", kinds.MODELS)
def test_a_file_of_earlier_code_is_read_and_trains_on(name, folder):
    model = keras.saving.load_model(folder / f"{name}.keras")
    stock = name in ("stock", "extended")
    assert isinstance(model, kje.Model | kje.Sequential) != stock
    if name == "extended":  # a stock model until it is extended again
        model = kje.extend(model)
    assert kinds.figures(model) == close(figures(folder, name))


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda path: path.name)
def test_a_legacy_file_of_earlier_code_is_read(folder):
    model = keras.saving.load_model(folder / "functional.h5", compile=False)
    told = figures(folder, "functional")["predicted"]
    assert kinds.figures(model) == close({"predicted": told})


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda path: path.name)
def test_weights_and_config_of_earlier_code_are_read(folder):
    model = kinds.Inline()
    config = json.loads((folder / "inline.json").read_text())
    model.compile_from_config(config)
    model(kinds.X)
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / "inline.weights.h5")
    assert kinds.figures(model) == close(figures(folder, "inline"))


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda path: path.name)
def test_a_pickle_of_earlier_code_is_read(folder):
    model = pickle.loads((folder / "inline.pickle").read_bytes())
    assert kinds.figures(model) == close(figures(folder, "inline"))
