"""Burgers' equation, solved by a network that is told nothing but the equation.

u_t + u u_x = nu u_xx for x from -1 to 1 and t from 0 to 1, with nu = 0.01 / pi:
a sine steepens into a shock. The network learns u(x, t) from three sets of
points of different lengths: inside of the domain, at its edge, at its start.
Adam begins, L-BFGS goes on from its weights, both under `fit`.

Run: python examples/burgers.py --out out
"""

# First: it selects the JAX backend of Keras.
import keras_jax_ext as kje
from keras_jax_ext import layers

# isort: split
import argparse
import pathlib

import jax.numpy as jnp
import keras
import matplotlib.pyplot as plt
import numpy as np
import optax

NU = 0.01 / np.pi
INSIDE, EDGE, START = 2540, 80, 160  # how many points
WEIGHT = 10.0  # of the conditions: else the network first fits the equation


class Wave(kje.Model):
    def call(self, x):
        for _ in range(3):
            x = layers.Dense(20, activation="tanh")(x)
        return layers.Dense(1)(x)


def residual(apply, x):
    """By how much the equation is not fulfilled, at points inside."""
    u, (u_x, u_t) = kje.derivatives(apply, x)
    u_xx = kje.derivative(apply, x, 0, 0)
    return u_t + u * u_x - NU * u_xx


def burgers(x, apply):
    """The mean squared errors of the equation and of its conditions."""
    start = -jnp.sin(np.pi * x["start"][:, :1])
    return {
        "pde": jnp.mean(residual(apply, x["inside"]) ** 2),
        "edge": WEIGHT * jnp.mean(apply(x["edge"]) ** 2),
        "start": WEIGHT * jnp.mean((apply(x["start"]) - start) ** 2),
    }


def spread(count, random):
    """Points of the unit square, more even than random ones.

    Martin Roberts' R2 sequence. Random points leave gaps, and a shock is thin
    enough to hide in one.
    """
    steps = np.array([0.7548776662466927, 0.5698402909980532])
    return (random.uniform(size=2) + np.arange(count)[:, None] * steps) % 1


def sets(random):
    """The three sets, of columns x and t."""
    sides = np.where(np.arange(EDGE) % 2, 1, -1)[:, None]
    return {
        "inside": spread(INSIDE, random) * [2, 1] + [-1, 0],
        "edge": spread(EDGE, random) * [0, 1] + sides * [1, 0],
        "start": spread(START, random) * [2, 0] + [-1, 0],
    }


def harder(inside, model, random):
    """Half of the points inside, and as many where the model is wrong."""
    others = spread(20 * INSIDE, random) * [2, 1] + [-1, 0]
    wrong = np.abs(residual(model, others.astype("float32")))[:, 0]
    count = len(inside) // 2
    chosen = random.choice(
        len(others), count, replace=False, p=wrong / wrong.sum()
    )
    return np.concatenate([inside[count:], others[chosen]])


def exact(x, t):
    """The exact solution, by the transformation of Cole and Hopf.

    Its two integrals have a Gaussian factor: Gauss-Hermite quadrature.

    Args:
        x: Array of any shape.
        t: Array of the same shape, above 0.
    """
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    y = x[..., None] - np.sqrt(4 * NU * t[..., None]) * nodes
    # The largest exponent is taken out of both, which would overflow.
    factors = weights * np.exp(-(1 + np.cos(np.pi * y)) / (2 * np.pi * NU))
    return -(factors * np.sin(np.pi * y)).sum(-1) / factors.sum(-1)


def train(seed, adam_steps, lbfgs_steps, rounds=3):
    """A network that Adam trains, and then L-BFGS, on harder points."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    model, x = Wave(), sets(random)

    def fit(optimizer, count, name):
        # Compiling again keeps the weights.
        model.compile(optimizer=optimizer, loss=burgers)
        steps = min(count, 500)
        points = kje.Points(**x, steps=steps)
        history = model.fit(points, epochs=count // steps, verbose=0)
        loss = history.history["loss"][-1]
        print(f"loss {loss:.1e} after {count} steps of {name}")

    rate = optax.cosine_decay_schedule(2e-3, adam_steps, alpha=0.02)
    fit(optax.adam(rate), adam_steps, "Adam")
    inside = x["inside"]
    for _ in range(rounds):
        # The shock is thin enough to hide in a gap between even points.
        x["inside"] = harder(inside, model, random)
        fit(optax.lbfgs(memory_size=50), lbfgs_steps // rounds, "L-BFGS")
    return model


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adam", type=int, default=15_000, metavar="STEPS")
    parser.add_argument("--lbfgs", type=int, default=12_000, metavar="STEPS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.adam, arguments.lbfgs = 400, 100
    model = train(arguments.seed, arguments.adam, arguments.lbfgs)

    x, t = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(0.01, 1, 100))
    truth = exact(x, t)
    rows = np.stack([x.ravel(), t.ravel()], 1).astype("float32")
    found = model.predict(rows, verbose=0).reshape(x.shape)
    error = np.linalg.norm(found - truth) / np.linalg.norm(truth)
    print(f"relative L2 error {error:.4f}")

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True)
    shown = {"network": found, "exact": truth, "error": found - truth}
    for each, (name, values) in zip(axes, shown.items(), strict=True):
        most = np.abs(values).max()
        image = each.pcolormesh(
            t, x, values, cmap="RdBu_r", vmin=-most, vmax=most, rasterized=True
        )
        each.set(title=name, xlabel="t")
        figure.colorbar(image, ax=each)
    axes[0].set_ylabel("x")
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(arguments.out / "burgers.png", dpi=150)
    return error


if __name__ == "__main__":
    main()
