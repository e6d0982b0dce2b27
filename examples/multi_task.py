"""Two tasks, two labels, one joint loss with learned weights.

From a picture of a digit the model tells its class and its amount of ink. How
much each task should count is learned as well: the loss of Kendall, Gal and
Cipolla (2018), https://arxiv.org/abs/1705.07115, divides each task's error by
a variance that is one more output. It needs both labels and all outputs at
once, and logs each task by name.

    python examples/multi_task.py
    python examples/multi_task.py --epochs 100

Stock Keras calls one loss for each output and adds them with fixed weights.
"""

import argparse
from pathlib import Path

import keras_jax_ext as kje  # first: selects the JAX backend
from keras_jax_ext import layers

import jax.numpy as jnp
import keras
import matplotlib as mpl
import numpy as np
import optax
from sklearn.datasets import load_digits

mpl.use("Agg")
import matplotlib.pyplot as plt


class TwoTasks(kje.Model):
    """Logits of the class, the amount of ink, and a log variance for each."""

    def call(self, x):
        x = layers.Dense(64, activation="relu", name="shared")(x)
        log_variances = self.add_weight((2,), "zeros", name="log_variances")
        return {
            "class": layers.Dense(10, name="class")(x),
            "ink": layers.Dense(1, name="ink")(x)[:, 0],
            "log_variances": jnp.broadcast_to(log_variances, (x.shape[0], 2)),
        }


class JointLoss(kje.losses.Loss):
    """Each task's error over its variance, and what the variance costs."""

    def call(self, y_true, y_pred):
        class_error = optax.softmax_cross_entropy_with_integer_labels(
            y_pred["class"], y_true["class"]
        )
        ink_error = 0.5 * (y_pred["ink"] - y_true["ink"]) ** 2
        class_variance, ink_variance = y_pred["log_variances"].T
        return {
            "class": jnp.exp(-class_variance) * class_error,
            "ink": jnp.exp(-ink_variance) * ink_error,
            "variances": 0.5 * (class_variance + ink_variance),
        }


def ink_error(y_true, y_pred):
    """The mean absolute error, in standard deviations of the ink."""
    return jnp.abs(y_pred["ink"] - y_true["ink"])


def digits(seed):
    """Pictures, and for each its class and its ink, standardized."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.data))
    x = (data.data[order] / 16.0).astype("float32")
    ink = x.sum(axis=1)
    labels = {
        "class": data.target[order].astype("int32"),
        "ink": (ink - ink.mean()) / ink.std(),
    }
    return x, labels


def draw(path, history):
    """The parts of the loss, and the two validation metrics, over epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for part in ("class", "ink", "variances"):
        left.plot(history[f"joint_loss/{part}"], label=part)
    left.set(title="Parts of the loss", xlabel="epoch")
    right.plot(history["val_class_accuracy"], label="class: accuracy")
    right.plot(history["val_ink_error"], label="ink: mean absolute error")
    right.set(title="Validation", xlabel="epoch")
    for axis in (left, right):
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def parse(argv):
    """Command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="3 epochs")
    args = parser.parse_args(argv)
    args.epochs = 3 if args.quick else args.epochs
    return args


def main(argv=None):
    """Train, report and draw; returns the training history."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    x, labels = digits(args.seed)

    model = TwoTasks()
    model.compile(
        optimizer=optax.adam(3e-3),
        loss=JointLoss(name="joint"),
        metrics=[
            kje.metrics.on(
                keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
                "class",
            ),
            kje.metrics.Function(ink_error),
        ],
    )
    history = model.fit(
        x,
        labels,
        batch_size=64,
        epochs=args.epochs,
        validation_split=0.2,
        verbose=0,
    ).history
    print(
        f"validation: accuracy {history['val_class_accuracy'][-1]:.3f}, "
        f"error of the ink {history['val_ink_error'][-1]:.3f}"
    )
    log_variances = model.predict(x[:1], verbose=0)["log_variances"][0]
    deviations = np.exp(0.5 * log_variances)
    print("learned deviations: class {:.3f}, ink {:.3f}".format(*deviations))
    path = args.out / "multi_task.png"
    draw(path, history)
    print("figure:", path)
    return history


if __name__ == "__main__":
    main()
