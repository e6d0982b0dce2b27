"""Entries and functions of old documents, one at a time."""

import json

import keras_jax_ext as kje
from keras_jax_ext._old_files import functions

import keras
import numpy as np
import pytest

X = np.arange(6.0, dtype="float32").reshape(2, 3)


def model_of(*layers, shape=(3,), **entries):
    """A `Sequential` of Keras 2 of pairs of a class and its config."""
    configs = [
        {"class_name": name, "config": {"name": f"l{i}", **config}}
        for i, (name, config) in enumerate(layers)
    ]
    configs[0]["config"]["batch_input_shape"] = [None, *shape]
    inner = {"name": "s", "layers": configs, **entries}
    document = {"class_name": "Sequential", "config": inner}
    document["keras_version"] = "2.15.0"
    return kje.models.model_from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "config", "entry"),
    [
        ("Dense", {"units": 2}, {"dynamic": True}),
        ("SpatialDropout1D", {"rate": 0.5}, {"noise_shape": [1]}),
        ("DepthwiseConv2D", {"kernel_size": 2}, {"groups": 2}),
        ("LSTM", {"units": 2}, {"time_major": True}),
        ("Embedding", {"input_dim": 3, "output_dim": 2}, {"sparse": True}),
        ("BatchNormalization", {}, {"virtual_batch_size": 4}),
        # It equals the False that is known, and is none.
        ("Dense", {"units": 2}, {"dynamic": 0}),
    ],
)
def test_an_entry_that_changes_a_layer_is_refused(name, config, entry):
    (key,) = entry
    with pytest.raises(ValueError, match=f"Received: {key}=.*of 'l0' in a"):
        model_of((name, config | entry))


def test_a_gru_of_the_time_before_there_was_a_choice():
    model = model_of(("GRU", {"units": 2}), shape=(4, 3))
    assert model.layers[0].reset_after is False


def test_an_initializer_of_tensorflow_1_has_a_type():
    config = {"class_name": "RandomNormal", "config": {"dtype": "float32"}}
    model = model_of(("Dense", {"units": 2, "kernel_initializer": config}))
    found = model.layers[0].kernel_initializer
    assert type(found) is keras.initializers.RandomNormal


def test_a_frozen_model_stays_frozen():
    model = model_of(("Dense", {"units": 2}), trainable=False)
    assert model.trainable_variables == []
    assert len(model.variables) == 2


def test_a_model_that_was_called_is_built():
    document = {
        "class_name": "Sequential",
        "config": {
            "name": "s",
            "layers": [
                {"class_name": "Dense", "config": {"name": "d", "units": 2}}
            ],
            "build_input_shape": [None, 3],
        },
        "keras_version": "2.15.0",
    }
    model = kje.models.model_from_json(json.dumps(document))
    assert [v.shape for v in model.variables] == [(3, 2), (2,)]


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("math.cumsum", {"reverse": True}, X[::-1].cumsum(0)[::-1]),
        ("math.cumprod", {"axis": 1}, X.cumprod(1)),
        ("argmax", {}, X.argmax(0)),
        ("math.argmin", {"axis": 1}, X.argmin(1)),
        ("split", {"num_or_size_splits": [1, -1], "axis": 1},
         [X[:, :1], X[:, 1:]]),
        ("split", {"num_or_size_splits": [-1, 2], "axis": 1},
         [X[:, :1], X[:, 1:]]),
        ("split", {"num_or_size_splits": 3, "axis": 1}, np.split(X, 3, 1)),
        ("matmul", {"b": X, "transpose_b": True}, X @ X.T),
        ("linalg.matmul", {"b": X, "transpose_a": True}, X.T @ X),
        ("norm", {"axis": 1}, np.sqrt((X**2).sum(1))),
        ("gather", {"indices": [1], "axis": 1, "name": "g"}, X[:, [1]]),
        ("pad", {"paddings": [[1, 0], [0, 1]], "constant_values": 7},
         np.pad(X, [[1, 0], [0, 1]], constant_values=7)),
        ("transpose", {"perm": [1, 0]}, X.T),
        ("where", {"x": 1.0, "y": 2.0}, np.where(X, 1.0, 2.0)),
    ],
)  # fmt: skip
def test_a_function_computes_as_in_tensorflow(function, arguments, expected):
    found = functions.call(function, "layer", X, arguments)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        ("gather", {"batch_dims": 1, "indices": [0]}),
        ("norm", {"ord": 1}),
        ("math.cumsum", {"exclusive": True}),
    ],
)
def test_an_argument_without_a_counterpart_is_refused(function, argument):
    ((key, value), *_) = argument.items()
    with pytest.raises(ValueError, match=f"Received: {key}={value}"):
        functions.call(function, "layer", X, argument)


def test_places_where_a_tensor_is_true_are_refused():
    with pytest.raises(ValueError, match="Received: x=None"):
        functions.call("where", "layer", X, {})
