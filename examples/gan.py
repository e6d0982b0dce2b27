"""A Wasserstein GAN with gradient penalty: two networks, trained in turn.

A step has five updates of the critic and one of the generator, each with its
own loss and optimizer: `compile(updates=[...])`, and then `fit`. The penalty is
a derivative of the critic by its inputs, within the loss. Trains on the digits
of scikit-learn (1797 pictures of 8x8 pixels) and draws the same codes as the
generator shows them over the epochs.

    python examples/gan.py
    python examples/gan.py --epochs 600

Stock Keras has one loss, one optimizer and one update in a step: there this
takes a model with a `train_step` of its own.
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
from sklearn.datasets import load_digits

mpl.use("Agg")
import matplotlib.pyplot as plt

CODES = 16
PENALTY = 10.0


class GAN(kje.Model):
    """A network that draws, and one that tells drawn pictures from real."""

    def __init__(self):
        super().__init__()
        self.generator = kje.Sequential(
            [
                keras.Input((CODES,)),
                layers.Dense(64, activation="relu"),
                layers.Dense(64, activation="sigmoid"),
            ]
        )
        self.critic = kje.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(64, activation="leaky_relu"),
                layers.Dense(64, activation="leaky_relu"),
                layers.Dense(1),
            ]
        )

    def call(self, codes):
        return self.generator(codes)


def drawn(model, x, rng):
    """As many pictures as the batch has."""
    return model.generator(jax.random.normal(rng, (x.shape[0], CODES)))


def critic_loss(model, x, rng):
    """How far the critic tells both apart, and how steep it is."""
    first, second = jax.random.split(rng)
    fake = drawn(model, x, first)
    share = jax.random.uniform(second, (x.shape[0], 1))
    between = share * x + (1 - share) * fake
    slopes = jax.grad(lambda z: jnp.sum(model.critic(z)))(between)
    steepness = jnp.sqrt(jnp.sum(slopes**2, axis=1) + 1e-12)
    return {
        "distance": jnp.mean(model.critic(fake)) - jnp.mean(model.critic(x)),
        "penalty": PENALTY * jnp.mean((steepness - 1) ** 2),
    }


def generator_loss(model, x, rng):
    """How real the critic finds what is drawn."""
    return -jnp.mean(model.critic(drawn(model, x, rng)))


class Samples(keras.callbacks.Callback):
    """Keeps what the generator makes of some codes, at some epochs."""

    def __init__(self, codes, epochs):
        super().__init__()
        self.codes, self.epochs, self.kept = codes, epochs, {}

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 in self.epochs:
            self.kept[epoch + 1] = np.array(self.model(self.codes))


def draw(path, kept, real):
    """A row of samples for each epoch, and one of real digits below."""
    rows = {f"epoch {epoch}": images for epoch, images in kept.items()}
    rows["digits"] = real
    figure, axes = plt.subplots(
        len(rows), len(real), figsize=(9, 0.8 * len(rows))
    )
    for row, (title, images) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(title, rotation=0, ha="right", va="center")
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def parse(argv):
    """Command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="4 epochs")
    args = parser.parse_args(argv)
    args.epochs = 4 if args.quick else args.epochs
    return args


def main(argv=None):
    """Train, report and draw; returns the training history."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    x = (load_digits().data / 16.0).astype("float32")

    gan = GAN()
    gan.compile(
        updates=[
            kje.Update(
                critic_loss,
                "critic/*",
                optax.adam(1e-3, b1=0.5, b2=0.9),
                repeats=5,
            ),
            kje.Update(
                generator_loss, "generator/*", optax.adam(1e-3, b1=0.5, b2=0.9)
            ),
        ]
    )
    codes = jax.random.normal(jax.random.key(args.seed), (14, CODES))
    shown = np.geomspace(1, args.epochs, 6).round().astype(int)
    samples = Samples(codes, {*map(int, shown)})
    history = gan.fit(
        x, batch_size=64, epochs=args.epochs, callbacks=[samples], verbose=0
    ).history
    for name, values in history.items():
        print(f"{name}: {values[0]:.3f} at first, {values[-1]:.3f} at last")

    path = args.out / "gan.png"
    draw(path, samples.kept, x[:14])
    print("figure:", path)
    return history


if __name__ == "__main__":
    main()
