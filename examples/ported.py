"""A script for tf.keras, ported.

Predicts how diabetes progresses from ten measurements (scikit-learn). It was
written for TensorFlow and Keras 2; what had to change is marked `was:`.

    python examples/ported.py
"""

import argparse
from pathlib import Path

import keras_jax_ext as kje  # was: import tensorflow as tf

import keras  # was: from tensorflow import keras
import matplotlib as mpl
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_diabetes

mpl.use("Agg")
import matplotlib.pyplot as plt


class Gated(kje.Layer):  # was: layers.Layer
    """A linear map, multiplied by a gate."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        # was: self.add_weight("value", shape=shape)
        self.value = self.add_weight(name="value", shape=shape)
        self.gate = self.add_weight(name="gate", shape=shape)

    def call(self, x):
        gate = ops.sigmoid(ops.matmul(x, self.gate))  # was: tf.sigmoid...
        # was: self.add_metric(..., aggregation="mean")
        self.add_metric(ops.mean(gate), name="openness")
        return gate * ops.matmul(x, self.value)


class Regressor(kje.Model):  # was: keras.Model
    """Classic: its layers are made in `__init__`."""

    def __init__(self):
        super().__init__()
        self.hidden = Gated(32)
        self.dropout = layers.Dropout(0.1)
        self.out = layers.Dense(1)

    def call(self, x, training=False):
        return self.out(self.dropout(self.hidden(x), training=training))

    # was: train_step(self, data), with a GradientTape
    def train_step(self, state, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = ops.clip(x, -3.0, 3.0)
        return super().train_step(state, (x, y, sample_weight))


def data():
    """Measurements and the outcome, each of mean 0 and deviation 1."""
    x, y = load_diabetes(return_X_y=True)
    y = y[:, None]
    x, y = ((a - a.mean(axis=0)) / a.std(axis=0) for a in (x, y))
    return x.astype("float32"), y.astype("float32")


def draw(path, y, predicted):
    """The predictions over the truth."""
    plt.figure(figsize=(5, 5))
    plt.scatter(y, predicted, s=8)
    plt.plot([-2, 3], [-2, 3], color="gray")
    plt.xlabel("truth")
    plt.ylabel("prediction")
    plt.tight_layout()
    plt.savefig(path, dpi=110)
    plt.close()


def parse(argv):
    """Command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="15 epochs")
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs = 15
    return args


def main(argv=None):
    """Train, report and draw; returns the History's dict."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)  # was: tf.random.set_seed
    x, y = data()
    model = Regressor()
    # was: Adam(lr=3e-3)
    model.compile(keras.optimizers.Adam(learning_rate=3e-3), "mse")
    history = model.fit(
        x[:350],
        y[:350],
        validation_data=(x[350:], y[350:]),
        epochs=args.epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(
                patience=10, restore_best_weights=True
            ),
            # was: keras.callbacks.TensorBoard
            kje.callbacks.TensorBoard(args.out / "ported_logs"),
        ],
    )
    # was: model.save("ported"), a SavedModel folder
    model.save(args.out / "ported.keras")
    predicted = model.predict(x[350:], verbose=0)
    error = np.mean((predicted - y[350:]) ** 2)
    print(f"mean squared error in validation: {error:.3f} (1 is the mean)")
    draw(args.out / "ported.png", y[350:], predicted)
    print(f"figure: {args.out / 'ported.png'}")
    return history.history


if __name__ == "__main__":
    main()
