"""A convolutional classifier of handwritten digits, watched in TensorBoard.

Trains on the 1797 digits (8 x 8) of scikit-learn, writes the losses, the
weights and the activations of the first layer for TensorBoard, and draws the
digits that it gets wrong.

    python examples/digits.py
    tensorboard --logdir out/digits_logs
"""

import argparse
from pathlib import Path

import keras_jax_ext as kje  # first: selects the JAX backend
from keras_jax_ext import layers

import keras
import matplotlib as mpl
import numpy as np
import optax
from sklearn.datasets import load_digits

mpl.use("Agg")
import matplotlib.pyplot as plt


class Block(kje.Layer):
    """Convolution, normalization, activation."""

    def __init__(self, filters):
        super().__init__()
        self.filters = filters

    def call(self, x):
        x = layers.Conv2D(self.filters, 3, padding="same", use_bias=False)(x)
        # An epoch has 23 steps: the statistics must follow within a few.
        x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.Activation("relu")(x)


class Digits(kje.Model):
    """Two blocks, the mean over the image, and one logit for each digit."""

    def call(self, x):
        x = Block(16)(x)
        self.add_summary("activations", x[..., :1])
        x = layers.MaxPooling2D()(x)
        x = layers.GlobalAveragePooling2D()(Block(32)(x))
        return layers.Dense(10, name="digit")(layers.Dropout(0.2)(x))


def data(seed):
    """Images in [0, 1] and labels, one fifth of them for validation."""
    digits = load_digits()
    x = (digits.images[..., None] / 16).astype("float32")
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order], digits.target[order]
    fifth = len(x) // 5
    return (x[fifth:], y[fifth:]), (x[:fifth], y[:fifth])


def draw_mistakes(path, x, y, logits):
    """Up to 16 digits that the model gets wrong, the surest first."""
    predicted = logits.argmax(axis=1)
    wrong = np.flatnonzero(predicted != y)
    wrong = wrong[np.argsort(-logits[wrong].max(axis=1))][:16]
    _, axes = plt.subplots(2, 8, figsize=(10, 3.2))
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, wrong, strict=False):
        axis.imshow(x[i, ..., 0], cmap="gray_r")
        axis.set_title(f"{y[i]} read as {predicted[i]}", fontsize=9)
    plt.suptitle(f"{(predicted != y).sum()} of {len(y)} digits are wrong")
    plt.tight_layout()
    plt.savefig(path, dpi=110)
    plt.close()


def parse(argv):
    """Command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="5 epochs")
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs = 5
    return args


def main(argv=None):
    """Train, report and draw; returns the accuracy in validation."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    train, validation = data(args.seed)

    model = Digits()
    model.summary(train[0][:1], depth=2)
    model.compile(
        optax.adamw(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    logs = args.out / "digits_logs"
    model.fit(
        *train,
        batch_size=64,
        epochs=args.epochs,
        validation_data=validation,
        callbacks=[kje.callbacks.TensorBoard(logs, histogram_freq=1)],
        verbose=0,
    )
    _, accuracy = model.evaluate(*validation, verbose=0)
    print(f"accuracy in validation: {accuracy:.3f}")
    x, y = validation
    draw_mistakes(args.out / "digits.png", x, y, model.predict(x, verbose=0))
    print(f"figure: {args.out / 'digits.png'}\ntensorboard --logdir {logs}")
    return accuracy


if __name__ == "__main__":
    main()
