"""Where stock Keras can do it: the same weights, logs, names and order."""

import keras_jax_ext as kje
from keras_jax_ext.losses import on

import keras
import numpy as np
import pytest
from keras import ops

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(20, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
CLASSES = RANDOM.integers(0, 3, size=20)
WORDS = RANDOM.integers(0, 4, size=(20, 6))  # 0 is masked
TAGS = RANDOM.normal(size=(20, 6, 2)).astype("float32")
WEIGHTS = np.linspace(0.1, 2, 20).astype("float32")
BOTH = {"a": Y, "b": -2 * Y}
EACH = {"a": WEIGHTS, "b": WEIGHTS[::-1]}


def heads(cls):
    """Two outputs in a dict."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="relu")(inputs)
    dense = keras.layers.Dense
    return cls(inputs, {n: dense(1, name=n)(hidden) for n in ("a", "b")})


def dense(units, activation=None):
    """One output."""

    def make(cls):
        inputs = keras.Input((3,))
        layer = keras.layers.Dense(units, activation=activation)
        return cls(inputs, layer(inputs))

    return make


def tagger(cls):
    """A mask goes through an LSTM to each step of the output."""
    inputs = keras.Input((6,))
    words = keras.layers.Embedding(4, 3, mask_zero=True)(inputs)
    return cls(inputs, keras.layers.LSTM(2, return_sequences=True)(words))


def squares(y_true, y_pred, training):
    return ops.mean((y_pred - y_true) ** 2, axis=-1)


def weighed_heads(y_true, y_pred, training):
    a, b = (y_true[n] - y_pred[n] for n in ("a", "b"))
    return 10.0 * ops.mean(a**2, axis=-1) + ops.mean(ops.abs(b), axis=-1)


def cross_entropy(y_true, y_pred, training):
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)


def reconstruction(x, y_pred):
    return ops.mean((y_pred - x) ** 2, axis=-1)


PAIR = {"loss": {"a": "mse", "b": "mae"}}
TEN = {"loss_weights": {"a": 10.0, "b": 1.0}}
PARTS = {"loss": [on("mse", "a"), on("mae", "b")]}
# What makes the model; stock's compile and fit; ours, where they differ.
CASES = {
    "heads": (heads, PAIR, {"y": BOTH}, PARTS, {}),
    "loss weights": (
        heads,
        {**PAIR, **TEN},
        {"y": BOTH},
        {"loss": [on("mse", "a", weight=10.0), on("mae", "b")]},
        {},
    ),
    "in one loss": (
        heads,
        {**PAIR, **TEN},
        {"y": BOTH},
        {"loss": weighed_heads},
        {},
    ),
    "weights of outputs": (
        heads,
        PAIR,
        {"y": BOTH, "sample_weight": EACH},
        PARTS,
        {},
    ),
    "sample weights": (
        dense(1),
        {"loss": "mse"},
        {"y": Y, "sample_weight": WEIGHTS},
        {"loss": squares},
        {},
    ),
    "class weights": (
        dense(3, "softmax"),
        {"loss": "sparse_categorical_crossentropy"},
        {"y": CLASSES, "class_weight": {0: 3.0, 1: 1.0, 2: 0.5}},
        {"loss": cross_entropy},
        {},
    ),
    "masks": (
        tagger,
        {"loss": "mse"},
        {"x": WORDS, "y": TAGS},
        {"loss": squares},
        {},
    ),
    "masks and weights": (
        tagger,
        {"loss": "mse"},
        {"x": WORDS, "y": TAGS, "sample_weight": WEIGHTS[:, None]},
        {"loss": squares},
        {},
    ),
    "autoencoder": (
        dense(3),
        {"loss": "mse"},
        {"y": X},
        {"loss": reconstruction},
        {"y": None},
    ),
}


# Keras 3.16 nightlies warn of the mask that their own LSTM passes on.
@pytest.mark.filterwarnings(r"ignore:(.|\n)*Layer 'lstm:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_five_epochs_give_the_weights_of_keras(case):
    make, stock, data, ours, other_data = CASES[case]
    trained = []
    for cls, specs, change in (
        (keras.Model, stock, {}),
        (kje.Model, ours, other_data),
    ):
        keras.utils.set_random_seed(1)
        model = make(cls)
        model.compile("sgd", **specs)
        model.optimizer.learning_rate = 0.1
        options = {"epochs": 5, "batch_size": 8, "verbose": 0}
        history = model.fit(**{"x": X, **data, **change, **options}).history
        trained.append((model, history))
    (theirs, their_history), (model, history) = trained
    for name in history:
        np.testing.assert_allclose(
            history[name], their_history[name], rtol=1e-6, err_msg=name
        )
    for left, right in zip(theirs.weights, model.weights, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)
    # The keys too, where each of them has a loss of its own.
    if ours["loss"] is not weighed_heads:
        assert list(history) == list(their_history)


STOCK = {
    "loss": {"a": "mse", "b": "mae"},
    "loss_weights": {"a": 2.0, "b": 0.5},
    "metrics": {"a": ["mae", "mse"], "b": "mse"},
    "weighted_metrics": {"b": ["mae"]},
}


def everything(model):
    """All that the methods of a model return, and what it calls its logs."""
    data = {"y": BOTH, "sample_weight": EACH}
    quiet = {"verbose": 0, "batch_size": 10}
    results = [
        model.fit(X, **data, **quiet, validation_split=0.2, epochs=2).history,
        model.evaluate(X, **data, **quiet),
        model.evaluate(X, **data, **quiet, return_dict=True),
        model.metrics_names,
        model.train_on_batch(X, **data),
        model.train_on_batch(X, **data, return_dict=True),
        model.test_on_batch(X, **data),
        model.test_on_batch(X, **data, return_dict=True),
    ]
    return [(list(r), r) if isinstance(r, dict) else r for r in results]


@pytest.mark.parametrize(
    ("extended", "eager"), [(False, False), (True, False), (True, True)]
)
def test_stock_specs_return_what_keras_returns_in_its_order(extended, eager):
    returned = []
    for ours in (False, True):
        keras.utils.set_random_seed(1)
        model = heads(kje.Model if ours and not extended else keras.Model)
        model = kje.extend(model) if ours and extended else model
        model.compile("adam", run_eagerly=eager, **STOCK)
        returned.append(everything(model))
    assert returned[0] == returned[1]
