"""A physics-informed network trained by L-BFGS inside `fit`, beside Adam.

The network u(t) learns the damped oscillator u'' + 0.4 u' + 4 u = 0 with
u(0) = 1 and u'(0) = 0 from the equation alone. Line searches evaluate the
loss themselves; the train step of kje models hands it to them.

Run: python examples/lbfgs.py --out out
"""

# First: it selects the JAX backend of Keras.
import keras_jax_ext as kje

# isort: split
import argparse
import pathlib

import jax
import keras
import matplotlib.pyplot as plt
import numpy as np
import optax


class Oscillator(kje.Model):
    """Its output is the residual of the equation, which is to be zero."""

    def __init__(self):
        super().__init__()
        self.net = keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Dense(24, activation="tanh"),
                keras.layers.Dense(24, activation="tanh"),
                keras.layers.Dense(1),
            ]
        )

    def solution(self, t):
        # Both initial conditions hold by construction.
        return 1.0 + t**2 * self.net(t)

    def call(self, t):
        ones = jax.numpy.ones_like(t)

        def slope(t):
            return jax.jvp(self.solution, (t,), (ones,))[1]

        velocity, acceleration = jax.jvp(slope, (t,), (ones,))
        return acceleration + 0.4 * velocity + 4.0 * self.solution(t)


def exact(t):
    frequency = np.sqrt(4.0 - 0.04)
    wave = np.cos(frequency * t) + 0.2 / frequency * np.sin(frequency * t)
    return np.exp(-0.2 * t) * wave


def train(transformation, epochs, seed):
    keras.utils.set_random_seed(seed)
    t = np.linspace(0, 4, 100, dtype="float32")[:, None]
    model = Oscillator()
    model.compile(optimizer=transformation, loss="mse")
    history = model.fit(
        t, np.zeros_like(t), batch_size=100, epochs=epochs, verbose=0
    )
    error = np.abs(np.asarray(model.solution(t)) - exact(t)).max()
    return history.history["loss"], error


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    parser.add_argument("--quick", action="store_true", help="20 epochs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.epochs = 20
    transformations = {
        "optax.lbfgs()": optax.lbfgs(),
        "optax.adam(3e-3)": optax.adam(3e-3),
    }
    figure, axes = plt.subplots(figsize=(6, 4))
    for name, transformation in transformations.items():
        losses, error = train(transformation, arguments.epochs, arguments.seed)
        axes.semilogy(losses, label=name)
        print(f"{name:17} loss {losses[-1]:.1e}, largest error {error:.1e}")
    axes.set(xlabel="epoch", ylabel="mean squared residual")
    axes.legend()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(arguments.out / "lbfgs.png", dpi=150)


if __name__ == "__main__":
    main()
