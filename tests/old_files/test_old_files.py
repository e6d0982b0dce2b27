"""Models that Keras 2 saved compute, and train on, as they did there."""

import base64
import importlib.util
import json
import marshal
import shutil

import keras_jax_ext as kje

import h5py
import keras
import numpy as np
import old_models
import pytest
from old_models import REFUSED, WITH_TENSORFLOW, check_outputs, figures

COMPILED = (
    "adadelta", "adagrad", "adam", "adamax", "adamw", "amsgrad", "classes",
    "ftrl", "legacy_adagrad", "legacy_adam", "legacy_rmsprop", "legacy_sgd",
    "own_functions", "rmsprop", "sgd", "two_outputs",
)  # fmt: skip
KINDS = [n for n in old_models.names(".json") if n not in REFUSED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return old_models.unpack(tmp_path_factory.mktemp("keras_2"))


# Keras 3.16 warns so of any LSTM behind an embedding that masks.
@pytest.mark.filterwarnings("ignore:Layer 'lstm'.*was passed an input with a")
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_computes_as_in_keras_2(name, folder):
    old_models.check_kind(folder, name)


@pytest.mark.parametrize("name", old_models.names(".keras"))
def test_an_archive_of_keras_2_is_read(name, folder):
    path = folder / f"{name}.keras"
    check_outputs(kje.models.load_model(path), figures(folder, name))


@pytest.mark.parametrize("name", COMPILED)
def test_training_goes_on_as_in_keras_2(name, folder):
    losses, wanted = old_models.check_compiled(folder, name)
    np.testing.assert_allclose(losses, wanted, rtol=1e-5, atol=1e-6)


def test_a_state_that_keras_3_has_not_is_told(folder):
    with pytest.warns(UserWarning, match="'Nadam' of a file begins anew"):
        losses, wanted = old_models.check_compiled(folder, "nadam")
    assert losses != pytest.approx(wanted)


def test_a_model_may_be_left_uncompiled(folder):
    model = kje.models.load_model(folder / "own_functions.h5", compile=False)
    assert not model.compiled
    with pytest.raises(ValueError, match=r"not compiled.*compile=False"):
        kje.models.load_model(folder / "own_functions.h5")


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_another_model_is_refused(name, folder):
    if name in WITH_TENSORFLOW and importlib.util.find_spec("tensorflow"):
        pytest.skip("these layers run where TensorFlow is installed")
    with pytest.raises(ValueError, match=REFUSED[name]):
        kje.models.load_model(folder / f"{name}.h5")
    text = (folder / f"{name}.json").read_text()
    with pytest.raises(ValueError, match=REFUSED[name]):
        kje.models.model_from_json(text)


def double(x):
    return x * 2


@pytest.mark.parametrize("name", ["lambda", "lambda_named"])
def test_a_function_may_be_given_for_a_lambda(name, folder):
    objects = {"lambda": double}
    path = folder / f"{name}.h5"
    model = kje.models.load_model(path, custom_objects=objects)
    check_outputs(model, figures(folder, name))
    text = (folder / f"{name}.json").read_text()
    model = kje.models.model_from_json(text, objects)
    check_outputs(model, figures(folder, name))


def test_code_runs_only_where_the_user_says_so(folder, tmp_path):
    path = tmp_path / "lambda.h5"
    shutil.copy(folder / "lambda.h5", path)
    # The file's own is of another version of Python.
    code = base64.encodebytes(marshal.dumps(double.__code__)).decode()
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["function"] = [code, None, None]
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ValueError, match="not run"):
        kje.models.load_model(path)
    model = kje.models.load_model(path, safe_mode=False)
    check_outputs(model, figures(folder, "lambda"))


class Local(keras.layers.Layer):
    """In place of a layer that Keras 3 lacks."""

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(name=kwargs["name"])
        self.filters, self.kernel_size = filters, kernel_size

    def build(self, shape):
        steps = shape[1] - self.kernel_size[0] + 1
        width = self.kernel_size[0] * shape[2]
        sizes = (steps, width, self.filters)
        self.kernel = self.add_weight(name="kernel", shape=sizes)
        self.bias = self.add_weight(name="bias", shape=sizes[::2])

    def call(self, x):
        size = self.kernel_size[0]
        parts = [x[:, i : i + size] for i in range(x.shape[1] - size + 1)]
        rows = keras.ops.stack(parts, 1)
        rows = keras.ops.reshape(rows, (-1, len(parts), size * x.shape[2]))
        return keras.ops.einsum("bsk,skf->bsf", rows, self.kernel) + self.bias


def test_a_class_may_be_given_for_a_layer(folder):
    model = kje.models.load_model(
        folder / "locally_connected.h5", {"LocallyConnected1D": Local}
    )
    check_outputs(model, figures(folder, "locally_connected"))


@pytest.mark.parametrize("name", ["hard_sigmoid", "op_slices", "shared"])
def test_a_loaded_model_is_saved_and_extended(name, folder, tmp_path):
    model = kje.extend(kje.models.load_model(folder / f"{name}.h5"))
    model.save(tmp_path / "new.keras")
    loaded = kje.models.load_model(tmp_path / "new.keras")
    check_outputs(loaded, figures(folder, name))


def test_files_of_keras_3_are_those_of_keras(tmp_path):
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    for ending in (".keras", ".h5"):
        model.save(tmp_path / f"a{ending}")
        loaded = kje.models.load_model(tmp_path / f"a{ending}")
        assert type(loaded) is kje.Sequential
    loaded = kje.models.model_from_json(model.to_json())
    assert type(loaded) is kje.Sequential
    with pytest.raises(ValueError, match="File not found"):
        kje.models.load_model(tmp_path / "b.keras")


@pytest.mark.parametrize("loss", ["mse", "MAE", {"y": "bce"}, ["kld"]])
def test_an_h5_file_of_keras_3_is_loaded_by_short_names(loss, tmp_path):
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2, "sigmoid", name="y")(inputs)
    model = keras.Model(inputs, {"y": outputs} if "y" in loss else [outputs])
    model.compile("adam", loss)
    x, y = np.ones((4, 3)), np.ones((4, 2))
    y = {"y": y} if "y" in loss else [y]
    expected = model.evaluate(x, y, verbose=0)
    model.save(tmp_path / "a.h5")
    loaded = kje.models.load_model(tmp_path / "a.h5")
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), expected)
    assert kje.models.load_model(tmp_path / "a.h5", compile=False).loss is None


@pytest.mark.parametrize("epochs", [0, 2])
def test_training_goes_on_from_an_h5_file_of_keras_3(epochs, tmp_path):
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mean_squared_error")
    fit = {"verbose": 0, "shuffle": False}
    if epochs:
        model.fit(x, y, epochs=epochs, **fit)
    model.save(tmp_path / "model.h5")
    loaded = kje.models.load_model(tmp_path / "model.h5")
    for each in (model, loaded):
        each.fit(x, y, epochs=2, **fit)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_function_of_the_users_has_its_short_name(tmp_path):
    def mse(y_true, y_pred):
        return keras.ops.mean(0.0 * y_pred + 7.0)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", mse)
    model.save(tmp_path / "a.h5")
    loaded = kje.models.load_model(tmp_path / "a.h5", {"mse": mse})
    assert loaded.evaluate(np.ones((4, 3)), np.ones((4, 2)), verbose=0) == 7.0
