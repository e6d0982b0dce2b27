"""A mixture density network: several answers for one question.

The model of the article "Deep Learning with JAX and Elegy" (2020): for some x
there are several y, so the network predicts a mixture of normal distributions
instead of one number. It trains on the article's 3000 points, or on the iris
flowers of scikit-learn (petal length from sepal width).

    python examples/mixture_density.py
    python examples/mixture_density.py --dataset iris --epochs 300

Stock Keras, with layers made in `call`, fits for 20 epochs with 0 trainable
weights and no word of it (a regression's loss stays at 0.480).
"""

import argparse
from pathlib import Path

import keras_jax_ext as kje  # first: selects the JAX backend
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import matplotlib as mpl
import numpy as np
import optax

mpl.use("Agg")
import matplotlib.pyplot as plt


class MixtureModel(kje.Model):
    """Means and deviations of `k` normal distributions, and their weights."""

    def __init__(self, k):
        super().__init__()
        self.k = k

    def call(self, x):
        x = layers.Dense(64, activation="relu", name="backbone")(x)
        y = jnp.stack(
            [layers.Dense(2, name="component")(x) for _ in range(self.k)],
            axis=1,
        )
        y = y.at[..., 1].set(1.0 + jax.nn.elu(y[..., 1]))
        return y, layers.Dense(self.k, activation="softmax", name="gating")(x)


class MixtureNLL(kje.losses.Loss):
    """Negative log-likelihood of the labels under the predicted mixture."""

    def call(self, y_true, y_pred):
        y, probs = y_pred
        density = jax.scipy.stats.norm.pdf(y_true, y[..., 0], y[..., 1])
        likelihood = jnp.sum(probs * density, axis=1)
        return -jnp.log(jnp.maximum(likelihood, 1e-6))


def article_data(seed):
    """3000 points of x = 7 sin(0.75 y) + 0.5 y + noise, y uniform."""
    random = np.random.default_rng(seed)
    y = random.uniform(-10.5, 10.5, (3000, 1))
    x = 7.0 * np.sin(0.75 * y) + 0.5 * y + random.normal(size=y.shape)
    return scaled(x), scaled(y)


def iris_data(seed):
    """Petal length from sepal width of 150 flowers, both in centimetres."""
    from sklearn.datasets import load_iris

    flowers = load_iris().data
    return scaled(flowers[:, [1]]), scaled(flowers[:, [2]])


def scaled(values):
    """To [-1, 1], as float32."""
    low, high = values.min(), values.max()
    return (2.0 * (values - low) / (high - low) - 1.0).astype("float32")


def plot_linear_fit(path, x, y):
    """The data, and a straight line that is a bad answer to them."""
    slope, offset = np.polyfit(x[:, 0], y[:, 0], 1)
    line = np.linspace(-1, 1, 2)
    plt.figure(figsize=(7, 5))
    plt.scatter(x, y, s=4, alpha=0.4, label="data")
    plt.plot(line, slope * line + offset, color="black", label="linear fit")
    finish(path, "A linear fit has one answer for each x", "y")


def plot_components(path, x, y, grid, components, probs, threshold):
    """Each component's mean and deviation, where its weight counts."""
    plt.figure(figsize=(7, 5))
    plt.scatter(x, y, s=4, alpha=0.25, label="data")
    for k in range(probs.shape[1]):
        used = probs[:, k] > threshold
        mean, deviation = np.where(used[:, None], components[:, k], np.nan).T
        band = {"label": "one standard deviation"} if k == 0 else {}
        plt.plot(grid, mean, color="black", label="mean" if k == 0 else None)
        plt.plot(grid, mean - deviation, color="red", **band)
        plt.plot(grid, mean + deviation, color="red")
    finish(path, f"Components where their weight is over {threshold}", "y")


def plot_weights(path, grid, probs):
    """The weight of each component over x."""
    plt.figure(figsize=(7, 5))
    for k in range(probs.shape[1]):
        plt.plot(grid, probs[:, k], label=f"component {k}")
    finish(path, "Weights of the components", "probability")


def finish(path, title, ylabel):
    """Label, save and close the current figure."""
    plt.title(title)
    plt.xlabel("x")
    plt.ylabel(ylabel)
    plt.legend(loc="best")
    plt.tight_layout()
    plt.savefig(path, dpi=110)
    plt.close()


def parse(argv):
    """Command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--dataset", choices=["article", "iris"], default="article"
    )
    parser.add_argument("--epochs", type=int, default=500)
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
    x, y = {"article": article_data, "iris": iris_data}[args.dataset](args.seed)

    model = MixtureModel(5)
    model.compile(optimizer=optax.adam(3e-4), loss=MixtureNLL())
    model(x[:64])
    model.summary()
    print("parameters:", *(v.path for v in model.weights), sep="\n  ")
    before = model.evaluate(x, y, verbose=0)
    history = model.fit(
        x, y, batch_size=64, epochs=args.epochs, verbose=2 * (args.epochs < 10)
    )
    after = model.evaluate(x, y, verbose=0)
    print(f"negative log-likelihood: {before:.3f} before, {after:.3f} after")

    grid = np.linspace(-1, 1, 400, dtype="float32")[:, None]
    components, probs = model.predict(grid, verbose=0)
    name = args.out / f"mixture_density_{args.dataset}"
    plot_linear_fit(f"{name}_data.png", x, y)
    plot_components(
        f"{name}_components.png",
        x,
        y,
        grid[:, 0],
        components,
        probs,
        threshold=0.2,
    )
    plot_weights(f"{name}_weights.png", grid[:, 0], probs)
    print("figures:", *sorted(map(str, args.out.glob(f"{name.name}_*.png"))))
    return history.history


if __name__ == "__main__":
    main()
