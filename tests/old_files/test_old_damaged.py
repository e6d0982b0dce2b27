"""A damaged or hostile file of Keras 2 is an error, and runs nothing."""

import json
import random
import re
import shutil
import warnings
from pathlib import Path

import keras_jax_ext as kje

import h5py
import keras
import numpy as np
import old_models
import pytest
from contents import same, values
from json_places import VALUES, places


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return old_models.unpack(tmp_path_factory.mktemp("keras_2"))


def changed(document, path, value):
    tree = json.loads(json.dumps(document))
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    if value == "removed":
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return tree


def edited(folder, tmp_path, name, edit):
    path = tmp_path / f"{name}.h5"
    shutil.copy(folder / f"{name}.h5", path)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def test_a_document_is_read_or_refused_in_words(folder):
    """Nothing of Python's or Keras's own comes to the user."""
    rng, told = random.Random(0), {}
    text = (folder / "op_add_shared.json").read_text()
    document = json.loads(text)
    for path in places(document):
        for value in (rng.choice(VALUES), "removed"):
            bad = json.dumps(changed(document, path, value))
            try:
                with warnings.catch_warnings(action="ignore"):
                    kje.models.model_from_json(bad)
            except ValueError as error:
                told[path, str(value)] = str(error)
    bare = {k: t for k, t in told.items() if not re.search("eceived|file", t)}
    assert bare == {}
    assert len(told) > 60


def training(file):
    """The settings of the optimizer, of another type."""
    config = json.loads(file.attrs["training_config"])
    config["optimizer_config"]["config"]["learning_rate"] = ["x"]
    file.attrs["training_config"] = json.dumps(config)


def kernel(make):
    def edit(file):
        group = file["model_weights/dense/dense"]
        old = group["kernel:0"][()]
        del group["kernel:0"]
        made = make(old)
        if made is not None:
            group["kernel:0"] = made

    return edit


def beside(file, old):
    """Another file, which holds the array."""
    path = Path(file.filename).with_name("other.h5")
    with h5py.File(path, "w") as other:
        other["x"] = old
    return str(path)


def linked(file):
    """The array of another file."""
    group = file["model_weights/dense/dense"]
    path = beside(file, group["kernel:0"][()])
    del group["kernel:0"]
    group["kernel:0"] = h5py.ExternalLink(path, "/x")


def virtual(file):
    """An array that is put together of another file's."""
    group = file["model_weights/dense/dense"]
    old = group["kernel:0"][()]
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[:] = h5py.VirtualSource(beside(file, old), "x", old.shape, old.dtype)
    del group["kernel:0"]
    group.create_virtual_dataset("kernel:0", layout)


def outside(file):
    """An array whose bytes are those of another file."""
    group = file["model_weights/dense/dense"]
    old = group["kernel:0"][()]
    path = Path(file.filename).with_name("bytes")
    path.write_bytes(old.tobytes())
    del group["kernel:0"]
    places = [(str(path), 0, old.nbytes)]
    group.create_dataset("kernel:0", old.shape, old.dtype, external=places)


def bomb(file):
    """A gigabyte in no bytes."""
    group = file["model_weights/dense/dense"]
    del group["kernel:0"]
    group.create_dataset(
        "kernel:0", (1 << 10, 1 << 20), "u1", chunks=(1 << 10, 1 << 10)
    )


ARRAYS = {
    "removed": kernel(lambda old: None),
    "another shape": kernel(lambda old: old.T),
    "text": kernel(lambda old: np.full(old.shape, b"x")),
    "complex": kernel(lambda old: old + 1j),
    "empty": kernel(lambda old: h5py.Empty("f4")),
    "external": kernel(lambda old: h5py.ExternalLink("a.h5", "/x")),
    "soft": kernel(lambda old: h5py.SoftLink("/model_weights")),
    "linked": linked,
    "virtual": virtual,
    "outside": outside,
    "bomb": bomb,
    "a layer removed": lambda f: f.pop("model_weights/dense"),
    "no names": lambda f: f["model_weights"].attrs.pop("layer_names"),
    "other names": lambda f: f["model_weights/dense"].attrs.modify(
        "weight_names", [b"x", b"y"]
    ),
    "no document": lambda f: f.attrs.modify("model_config", "{"),
    "a list": lambda f: f.attrs.modify("model_config", "[]"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_damaged_file_changes_nothing(name, folder, tmp_path):
    path = edited(folder, tmp_path, "dense", ARRAYS[name])
    message = r"damaged|mismatch|Expecting"
    with pytest.raises(ValueError, match=message):
        kje.models.load_model(path)
    if name in ("no document", "a list"):
        return
    model = kje.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="dense"),
            keras.layers.Dense(2, name="dense_1"),
        ]
    )
    before = values(model)
    with pytest.raises(ValueError, match=message):
        model.load_weights(path)
    assert same(values(model), before)


def test_settings_that_nobody_wrote_are_told(folder, tmp_path):
    path = edited(folder, tmp_path, "adam", training)
    with pytest.raises(ValueError, match=r"compile=False|damaged"):
        kje.models.load_model(path)
    assert not kje.models.load_model(path, compile=False).compiled


def of_other_names(file):
    config = json.loads(file.attrs["training_config"])
    inner = config["optimizer_config"]
    scaled = {"inner_optimizer": inner, "initial_scale": 2.0}
    config["optimizer_config"] = {
        "class_name": "LossScaleOptimizer",
        "config": scaled,
    }
    config["loss"] = "cosine"
    file.attrs["training_config"] = json.dumps(config)


@pytest.mark.filterwarnings("ignore:The optimizer .* begins anew")
def test_settings_of_other_names_are_known(folder, tmp_path):
    path = edited(folder, tmp_path, "adam", of_other_names)
    model = kje.models.load_model(path)
    assert type(model.optimizer) is keras.optimizers.LossScaleOptimizer
    assert type(model.optimizer.inner_optimizer) is keras.optimizers.Adam
    x, y = np.ones((1, *model.input_shape[1:])), np.ones((1, 2))
    loss = keras.losses.cosine_similarity(y, model(x))
    assert float(model.compute_loss(x, y, model(x))) == pytest.approx(
        float(np.mean(loss))
    )


@pytest.mark.parametrize("cut", [0, 8, 100, 3000])
def test_a_file_that_is_cut_is_an_error(cut, folder, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes((folder / "dense.h5").read_bytes()[:cut])
    with pytest.raises(OSError, match=r"open file|truncated"):
        kje.models.load_model(path)


def layer_of(name, config):
    layers = [{"class_name": name, "config": {"name": "a", **config}}]
    return {"class_name": "Sequential", "config": layers}


HOSTILE = {
    "a function of TensorFlow": (
        {"function": "io.write_file"},
        r"tf\.io\.write_file",
    ),
    "one of Python": ({"function": "__class__"}, "tf.__class__"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_only_functions_of_the_table_are_called(name, folder):
    settings, message = HOSTILE[name]
    document = json.loads((folder / "op_add_shared.json").read_text())
    for layer in document["config"]["layers"]:
        if layer["class_name"] == "TFOpLambda":
            layer["config"] |= settings
    with pytest.raises(ValueError, match=message):
        kje.models.model_from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "module"),
    [("system", "os"), ("get_file", "keras.utils"), ("Popen", "subprocess")],
)
def test_only_classes_of_keras_and_the_user_are_made(name, module):
    document = layer_of(name, {"command": "true"})
    document["config"][0]["module"] = module
    document["keras_version"] = "2.15.0"
    with pytest.raises(ValueError, match=f"has a class '{name}'"):
        kje.models.model_from_json(json.dumps(document))
