"""An error band for a trained network, from the Jacobian of its outputs.

The Laplace approximation: near the trained weights the network is taken as
linear in them, and the band is that of Bayesian linear regression. It needs the
derivative of each output by each weight, which `kje.functional` lets JAX take.

Run: python examples/error_band.py --out out
"""

# First: it selects the JAX backend of Keras.
import keras_jax_ext as kje
from keras_jax_ext import layers

# isort: split
import argparse
import pathlib

import jax
import keras
import matplotlib.pyplot as plt
import numpy as np
from jax.flatten_util import ravel_pytree

NOISE, PRIOR = 0.1, 1.0  # standard deviations of the data and of the weights


class Curve(kje.Model):
    def call(self, x):
        x = layers.Dense(16, activation="tanh")(x)
        x = layers.Dense(16, activation="tanh")(x)
        return layers.Dense(1)(x)


def data(seed):
    """A sine with noise, and a gap without any data."""
    random = np.random.default_rng(seed)
    x = np.concatenate([random.uniform(-3, -1, 40), random.uniform(1, 3, 40)])
    x = x[:, None].astype("float32")
    y = np.sin(2 * x) + NOISE * random.normal(size=x.shape)
    return x, y.astype("float32")


def band(model, x, points):
    """The standard deviation of the outputs at some points.

    Args:
        model: A trained model with one output.
        x: Inputs it was trained on, of shape `(rows, 1)`.
        points: Inputs of shape `(count, 1)`.

    Returns:
        Array of shape `(count,)`.
    """
    apply, variables = kje.functional(model)
    flat, unravel = ravel_pytree(variables["params"])

    def output(flat, row):
        return apply({**variables, "params": unravel(flat)}, row[None])[0, 0]

    jacobian = jax.jit(jax.vmap(jax.grad(output), (None, 0)))
    at_data = np.asarray(jacobian(flat, x), "float64")
    at_points = np.asarray(jacobian(flat, points), "float64")
    precision = at_data.T @ at_data / NOISE**2
    precision += np.eye(len(flat)) / PRIOR**2
    spread = np.linalg.solve(precision, at_points.T)
    return np.sqrt(np.einsum("ij,ji->i", at_points, spread))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    parser.add_argument("--quick", action="store_true", help="300 epochs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.epochs = 300
    keras.utils.set_random_seed(arguments.seed)
    x, y = data(arguments.seed)
    model = Curve()
    model.compile("adam", "mse")
    model.fit(x, y, batch_size=80, epochs=arguments.epochs, verbose=0)

    points = np.linspace(-5, 5, 200, dtype="float32")[:, None]
    mean = model.predict(points, verbose=0)[:, 0]
    deviation = band(model, x, points)
    inside = np.abs(points[:, 0]) > 1
    inside &= np.abs(points[:, 0]) < 3
    outside = np.abs(points[:, 0]) > 4
    near, far = deviation[inside].mean(), deviation[outside].mean()
    print(f"standard deviation near the data {near:.3f}, far from it {far:.3f}")

    figure, axes = plt.subplots(figsize=(6, 4))
    for factor in (1, 2):
        low, high = mean - factor * deviation, mean + factor * deviation
        axes.fill_between(points[:, 0], low, high, color="tab:blue", alpha=0.2)
    axes.plot(points[:, 0], mean, label="network")
    axes.plot(points[:, 0], np.sin(2 * points[:, 0]), "k--", label="truth")
    axes.plot(x, y, ".", color="tab:red", label="data")
    axes.set(xlabel="x", ylabel="y", ylim=(-4, 4))
    axes.legend(loc="upper left")
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(arguments.out / "error_band.png", dpi=150)
    return near, far


if __name__ == "__main__":
    main()
