"""How far to trust a network: 32 of them, trained at once.

Each member has its own first weights and its own order of the data. Where there
are data they agree; where there are none, each guesses something else, and
their spread says so. One network alone gives no warning.

Run: python examples/ensemble.py --out out
"""

# First: it selects the JAX backend of Keras.
import keras_jax_ext as kje
from keras_jax_ext import layers

# isort: split
import argparse
import pathlib

import keras
import matplotlib.pyplot as plt
import numpy as np


class Curve(kje.Model):
    def call(self, x):
        for _ in range(2):
            x = layers.Dense(32, activation="tanh")(x)
        return layers.Dense(1)(x)


def data(seed):
    """A sine with noise, and a gap without any data."""
    random = np.random.default_rng(seed)
    x = np.concatenate([random.uniform(-3, -1, 60), random.uniform(1, 3, 60)])
    x = x[:, None].astype("float32")
    y = np.sin(2 * x) + 0.1 * random.normal(size=x.shape)
    return x, y.astype("float32")


def draw(axes, title, data, points, mean, spread=None):
    if spread is not None:
        for factor in (1, 2):
            low, high = mean - factor * spread, mean + factor * spread
            axes.fill_between(points, low, high, color="tab:blue", alpha=0.2)
    axes.plot(points, mean, label="prediction")
    axes.plot(points, np.sin(2 * points), "k--", label="truth")
    axes.plot(*data, ".", color="tab:red", label="data")
    axes.set(xlabel="x", title=title, ylim=(-3, 3))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--members", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    parser.add_argument("--quick", action="store_true", help="100 epochs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.epochs = 100
    keras.utils.set_random_seed(arguments.seed)
    x, y = data(arguments.seed)
    ensemble = kje.Ensemble(Curve, arguments.members)
    ensemble.compile(keras.optimizers.Adam(1e-2), "mse")
    history = ensemble.fit(
        x,
        y,
        batch_size=20,
        epochs=arguments.epochs,
        shuffle="member",
        verbose=0,
    )
    losses = history.members["loss"][-1]
    print(f"losses of the members: {losses.min():.4f} to {losses.max():.4f}")

    points = np.linspace(-5, 5, 200, dtype="float32")
    predictions = ensemble.predict(points[:, None], verbose=0)[..., 0]
    mean, spread = predictions.mean(0), predictions.std(0)
    seen = (np.abs(points) > 1) & (np.abs(points) < 3)
    near, far = spread[seen].mean(), spread[~seen].mean()
    print(f"spread at the data {near:.3f}, elsewhere {far:.3f}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    best = ensemble.best("loss")
    draw(left, f"member {best} alone", (x, y), points, predictions[best])
    title = f"mean and spread of {len(predictions)}"
    draw(right, title, (x, y), points, mean, spread)
    right.legend(loc="lower right", fontsize="small")
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(arguments.out / "ensemble.png", dpi=150)
    return near, far


if __name__ == "__main__":
    main()
