"""A small transformer that writes like Python's manual, letter by letter.

Trains on the help topics that come with Python (`pydoc_data`), then writes a
text of its own. It is compared with a table of how often one letter follows
another.

    python examples/characters.py
"""

import argparse
import pydoc_data.topics
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

LENGTH = 64  # characters that the model sees


class Block(kje.Layer):
    """Attention to what came before, then a small network at each place."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def call(self, x):
        width = x.shape[-1]
        h = layers.LayerNormalization()(x)
        attend = layers.MultiHeadAttention(self.heads, width // self.heads)
        x = x + attend(h, h, use_causal_mask=True)
        h = layers.LayerNormalization()(x)
        h = layers.Dense(4 * width, activation="gelu")(h)
        return x + layers.Dense(width)(h)


class Writer(kje.Model):
    """Logits of the next character, at every place."""

    def __init__(self, characters, width=64, depth=2):
        super().__init__()
        self.characters = characters
        self.width = width
        self.depth = depth

    def call(self, x):
        places = self.add_weight(
            name="places", shape=(LENGTH, self.width), initializer="normal"
        )
        x = layers.Embedding(self.characters, self.width)(x) + places
        for _ in range(self.depth):
            x = Block(heads=4)(x)
        x = layers.LayerNormalization()(x)
        return layers.Dense(self.characters, name="next")(x)


def manual(size):
    """The first `size` characters of Python's help topics, and the alphabet."""
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics))[:size]
    alphabet = sorted(set(text))
    number = {character: i for i, character in enumerate(alphabet)}
    return np.array([number[c] for c in text], "int32"), alphabet


def windows(text, step):
    """Windows of the text, and the same one character later."""
    starts = np.arange(0, len(text) - LENGTH - 1, step)[:, None]
    places = starts + np.arange(LENGTH)
    return text[places], text[places + 1]


def pairs_loss(text, size):
    """The loss of guessing from how often one character follows another."""
    counts = np.full((size, size), 0.1)
    np.add.at(counts, (text[:-1], text[1:]), 1)
    probabilities = counts / counts.sum(axis=1, keepdims=True)
    return -np.log(probabilities[text[:-1], text[1:]]).mean()


def write(model, start, count, seed, temperature=0.7):
    """`count` characters that follow `start`, by the model's probabilities."""
    variables = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]

    def step(window, key):
        logits, _ = model.stateless_call(variables, fixed, window[None])
        character = jax.random.categorical(key, logits[0, -1] / temperature)
        return jnp.append(window[1:], character), character

    # The whole text is one compiled program.
    keys = jax.random.split(jax.random.key(seed), count)
    _, written = jax.jit(lambda w: jax.lax.scan(step, w, keys))(start)
    return np.asarray(written)


def draw(path, losses, table):
    """The loss over the epochs, and that of the table."""
    plt.figure(figsize=(6, 4))
    plt.plot(range(1, len(losses) + 1), losses, label="transformer")
    plt.axhline(table, color="gray", linestyle="--", label="table of pairs")
    plt.xlabel("epoch")
    plt.ylabel("loss of a character (nats)")
    plt.legend()
    plt.tight_layout()
    plt.savefig(path, dpi=110)
    plt.close()


def parse(argv):
    """Command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument(
        "--quick", action="store_true", help="a small model, a short text"
    )
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs = 3
    return args


def main(argv=None):
    """Train, write and draw; returns the last loss and the table's."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    text, alphabet = manual(12_000 if args.quick else 200_000)
    x, y = windows(text, step=24 if args.quick else 8)

    size = {"width": 32, "depth": 1} if args.quick else {}
    model = Writer(len(alphabet), **size)
    model.compile(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(x, y, batch_size=64, epochs=args.epochs, verbose=0)
    losses = history.history["loss"]
    table = pairs_loss(text, len(alphabet))
    print(f"loss {losses[-1]:.3f}, a table of pairs {table:.3f}")
    written = write(model, jnp.asarray(x[0]), 300, args.seed)
    print("".join(alphabet[i] for i in written))
    draw(args.out / "characters.png", losses, table)
    print(f"figure: {args.out / 'characters.png'}")
    return losses[-1], table


if __name__ == "__main__":
    main()
