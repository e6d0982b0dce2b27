"""Files that Keras 2 wrote, and whether ours compute the same.

`tests/old_files/old_kinds.py` says what is in them.
"""

import json
import re
import tarfile
from pathlib import Path

import keras_jax_ext as kje

import keras
import numpy as np

PACKED = Path(__file__).parent / "old_files" / "keras_2.tar.xz"
WITH_TENSORFLOW = ("hashing", "integer_lookup")
# What is refused, and a part of the message.
REFUSED = {
    "einsum_function": r"tf\.einsum",
    "hashing": "requires TensorFlow",
    "integer_lookup": "requires TensorFlow",
    "lambda": r"custom_objects=\{'lambda': function\}",
    "lambda_named": r"custom_objects=\{'lambda': function\}",
    "locally_connected": r"custom_objects=\{'LocallyConnected1D'",
    "ragged": "ragged=True",
    "random_crop": "in inference Keras 2 resizes",
}


def unpack(folder):
    with tarfile.open(PACKED) as archive:
        archive.extractall(folder, filter="data")
    return folder


def names(ending):
    with tarfile.open(PACKED) as archive:
        every = archive.getnames()
    return [n.removesuffix(ending) for n in every if n.endswith(ending)]


def figures(folder, name):
    with np.load(folder / f"{name}.npz") as known:
        return dict(known)


def error(y_true, y_pred):
    """A loss of a user's own."""
    return keras.ops.abs(y_true - y_pred)


def check_outputs(model, known):
    """Compare what a model computes with what it computed in Keras 2."""
    count = sum(key.startswith("x") for key in known)
    x = [known[f"x{i}"] for i in range(count)]
    # A `Sequential` that was not called has no `input`.
    named = not isinstance(model, keras.Sequential)
    named = named and isinstance(model.input, dict)
    if named:
        x = dict(zip(sorted(model.input), x, strict=True))
    outputs = keras.tree.flatten(
        model(x if count > 1 or named else x[0], training=False)
    )
    for i, output in enumerate(outputs):
        wanted = known[f"y{i}"]
        assert output.shape == wanted.shape
        half = wanted.dtype.itemsize == 2
        np.testing.assert_allclose(
            np.asarray(output, "float64"),
            wanted.astype("float64"),
            rtol=1e-2 if half else 1e-5,
            atol=1e-2 if half else 1e-5,
        )
    assert len(outputs) + count == len(known)


def check_kind(folder, name):
    """Load a model from its file, and from its document."""
    known = figures(folder, name)
    document = folder / f"{name}.json"
    from_document = kje.models.model_from_json(document.read_text())
    path = folder / f"{name}.h5"
    if path.exists():
        model = kje.models.load_model(path)
        assert without_numbers(model) == without_numbers(from_document)
    else:  # an old version's, by hand: Keras 2.21 wrote only the weights
        model = from_document
        model.load_weights(folder / f"{name}_weights.h5")
    check_outputs(model, known)


def without_numbers(model):
    """A model's config; `tf` functions are named by counters of Keras."""
    text = json.dumps(model.get_config(), default=str, sort_keys=True)
    return re.sub(r"_\d+", "", text)


def check_compiled(folder, name):
    """Load a compiled model, evaluate it, and go on with its training."""
    known = figures(folder, name)
    model = kje.models.load_model(folder / f"{name}.h5", {"error": error})
    x, y = known["x"], known["y"]
    y = [y] * len(model.outputs) if len(model.outputs) > 1 else y
    told = np.ravel(model.evaluate(x, y, batch_size=4, verbose=0))
    np.testing.assert_allclose(told, known["told"], rtol=1e-5, atol=1e-6)
    history = model.fit(
        x, y, batch_size=4, epochs=3, shuffle=False, verbose=0
    ).history
    return history["loss"], known["losses"]
