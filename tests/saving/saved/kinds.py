"""One model of each kind that is written to files, as small as may be.

`python -c "import kinds; kinds.write()"`, run in this folder, writes each with
the code of this tree, into a folder of its version; `test_saved_before.py`
loads what is there.
"""

import json
import pickle
from pathlib import Path

import keras_jax_ext as kje

import keras
import numpy as np

X = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3)
Y = X.sum(-1, keepdims=True)


@keras.saving.register_keras_serializable("saved")
class Inline(kje.Model):
    def call(self, x):
        h = kje.layers.Dense(2, activation="tanh")(x)
        self.add_metric(keras.ops.mean(h), "mean")
        return Block()(h)


@keras.saving.register_keras_serializable("saved")
class Block(kje.Layer):
    def call(self, x):
        return kje.layers.Dense(1)(kje.layers.BatchNormalization()(x))


@keras.saving.register_keras_serializable("saved")
class Stock(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)


@keras.saving.register_keras_serializable("saved")
class Whole(kje.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), -1)


@keras.saving.register_keras_serializable("saved")
def spread(y_true, y_pred):
    return keras.ops.max(keras.ops.abs(y_true - y_pred), -1)


def functional():
    inputs = keras.Input((3,))
    hidden = Block(name="block")(inputs)
    return kje.Model(inputs, keras.layers.Dense(1)(hidden))


def sequential(package):
    return package.Sequential(
        [keras.Input((3,)), Block(), keras.layers.Dense(1)]
    )


def compiled(model, optimizer):
    model.compile(
        optimizer,
        loss=[Whole(), kje.losses.GlobalL2(1e-3)],
        metrics=[kje.metrics.Function(spread), "mae"],
    )
    return model


def partitioned():
    labels = kje.optimizers.label_by_path({"*/kernel": "a"}, default="b")
    optax = kje.optax
    schedule = optax.cosine_decay_schedule(0.1, 100)
    return optax.partition(
        {"a": optax.sgd(schedule, momentum=0.9), "b": optax.adam(0.01)}, labels
    )


MODELS = {
    "inline": lambda: compiled(Inline(), kje.optax.adam(0.01)),
    "functional": lambda: compiled(functional(), "adam"),
    "sequential": lambda: compiled(sequential(kje), "sgd"),
    "extended": lambda: compiled(kje.extend(Stock()), "adam"),
    "stock": lambda: sequential(keras),
    "partitioned": lambda: compiled(functional(), partitioned()),
    "searching": lambda: compiled(functional(), kje.optax.lbfgs()),
}


def trained(name):
    """A model of a kind after two epochs, the same in every process."""
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    if name == "stock":
        model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model


def figures(model):
    """What a model says, and what one more epoch makes of it."""
    told = {"predicted": model.predict(X, verbose=0).tolist()}
    if getattr(model, "compiled", False):
        told["evaluated"] = model.evaluate(X, Y, verbose=0, return_dict=True)
        history = model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
        told["trained"] = {k: v[-1] for k, v in history.history.items()}
        told["after"] = model.predict(X, verbose=0).tolist()
    return told


def write():
    """Write a file of each kind, and what the models said after it."""
    folder = Path(__file__).parent / kje.__version__
    folder.mkdir(exist_ok=True)
    told = {}
    for name in MODELS:
        model = trained(name)
        model.save(folder / f"{name}.keras")
        if name == "inline":
            model.save_weights(folder / "inline.weights.h5")
            config = json.dumps(model.get_compile_config())
            (folder / "inline.json").write_text(config)
            (folder / "inline.pickle").write_bytes(pickle.dumps(model))
        if name == "functional":
            model.save(folder / "functional.h5")
        told[name] = figures(model)
    (folder / "figures.json").write_text(json.dumps(told, indent=1))
