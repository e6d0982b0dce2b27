"""A variational autoencoder: one loss that sees the input and every output.

The model returns `(reconstruction, mean, log_variance)`. Its loss compares
the first with the input `x` and holds the other two to a normal distribution,
so it needs no labels: `fit(x)`. Trains on the digits of scikit-learn (1797
pictures of 8x8 pixels) and draws reconstructions and new samples.

    python examples/variational_autoencoder.py
    python examples/variational_autoencoder.py --epochs 300 --latent 16

Stock Keras calls a loss once for each output, with a label for each, and never
shows it `x`: there this takes a model with a `train_step` of its own.
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


class Encoder(kje.Layer):
    """Mean and log variance of the code of each picture."""

    def __init__(self, latent, **kwargs):
        super().__init__(**kwargs)
        self.latent = latent

    def call(self, x):
        x = layers.Dense(256, activation="relu")(x)
        x = layers.Dense(128, activation="relu")(x)
        mean = layers.Dense(self.latent, name="mean")(x)
        return mean, layers.Dense(self.latent, name="log_variance")(x)


class Decoder(kje.Layer):
    """A picture for each code."""

    def call(self, z):
        z = layers.Dense(128, activation="relu")(z)
        z = layers.Dense(256, activation="relu")(z)
        return layers.Dense(64, activation="sigmoid")(z)


class VariationalAutoencoder(kje.Model):
    """Encodes, adds the noise that the code's variance allows, decodes."""

    def __init__(self, latent):
        super().__init__()
        self.latent = latent

    def call(self, x, training=False):
        mean, log_variance = Encoder(self.latent, name="encoder")(x)
        z = mean
        if training:
            noise = jax.random.normal(self.next_rng_key(), mean.shape)
            z = mean + jnp.exp(0.5 * log_variance) * noise
        return Decoder(name="decoder")(z), mean, log_variance


class EvidenceLowerBound(kje.losses.Loss):
    """The negative evidence lower bound, in nats for each picture."""

    def call(self, x, y_pred):
        reconstruction, mean, log_variance = y_pred
        p = jnp.clip(reconstruction, 1e-6, 1 - 1e-6)
        pixels = x * jnp.log(p) + (1 - x) * jnp.log(1 - p)
        divergence = mean**2 + jnp.exp(log_variance) - 1.0 - log_variance
        return {
            "reconstruction": -jnp.sum(pixels, axis=-1),
            "kl": 0.5 * jnp.sum(divergence, axis=-1),
        }


def draw(path, pictures, reconstructions, samples):
    """Pictures above their reconstructions, and below two rows of samples."""
    rows = [pictures, reconstructions, *np.split(samples, 2)]
    titles = ["digits", "reconstructions", "samples", "samples"]
    figure, axes = plt.subplots(4, len(pictures), figsize=(9, 4.2))
    for row, title, images in zip(axes, titles, rows, strict=True):
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
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--latent", type=int, default=8)
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
    x = (load_digits().data / 16.0).astype("float32")
    x = np.random.default_rng(args.seed).permutation(x)
    x, held_out = x[:1500], x[1500:]

    model = VariationalAutoencoder(args.latent)
    model.compile(
        optimizer=optax.adam(1e-3), loss=EvidenceLowerBound(name="elbo")
    )
    history = model.fit(
        x,
        batch_size=64,
        epochs=args.epochs,
        validation_data=(held_out,),
        verbose=0,
    ).history
    for name, values in history.items():
        print(f"{name}: {values[0]:.2f} at first, {values[-1]:.2f} at last")

    reconstructions, _, _ = model.predict(held_out[:12], verbose=0)
    codes = jax.random.normal(jax.random.key(args.seed), (24, args.latent))
    path = args.out / "variational_autoencoder.png"
    draw(path, held_out[:12], reconstructions, np.array(model.decoder(codes)))
    print("figure:", path)
    return history


if __name__ == "__main__":
    main()
