"""How fast `fit` is: against stock Keras and against the limit.

    python benchmarks/fit.py --out build/fit.png

Each row times the same model, data and optimizer with stock `keras.Model` at
one step an execution and at its best `steps_per_execution`, with
`keras_jax_ext`, and as a scan over the epoch written by hand in JAX and optax:
the limit, but for what XLA compiles badly (see `where.py`). Rounds are
interleaved and medians reported; every contender is warmed up and waits for its
results. `others.py` does so for PyTorch, Flax NNX and Keras's nightly on the
article's model. `--json` writes what `picture.py` draws.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
from keras import layers

RANDOM = np.random.default_rng(0)


def uniform(*shape):
    return RANDOM.uniform(-1, 1, shape).astype("float32")


def mixture_nll(y_true, y_pred):
    """The article's loss, of one concatenated output."""
    y, probs = y_pred[:, :10].reshape(-1, 5, 2), y_pred[:, 10:]
    density = jax.scipy.stats.norm.pdf(y_true, y[..., 0], y[..., 1])
    return -jnp.log(jnp.maximum(jnp.sum(probs * density, axis=1), 1e-6))


def mixture(inputs):
    x = layers.Dense(64, activation="relu")(inputs)
    components = [layers.Dense(2)(x) for _ in range(5)]
    gating = layers.Dense(5, activation="softmax")(x)
    y = layers.Concatenate()(components)
    scale = np.tile([0.0, 1.0], 5).astype("float32")
    y = y * (1 - scale) + (1.0 + keras.ops.elu(y)) * scale
    return layers.Concatenate()([y, gating])


def dense(*units):
    def outputs(x):
        for width in units[:-1]:
            x = layers.Dense(width, activation="relu")(x)
        return layers.Dense(units[-1])(x)

    return outputs


def convolutional(x):
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return layers.Dense(10)(layers.Flatten()(x))


def recurrent(x):
    return layers.Dense(10)(layers.LSTM(32)(x))


CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def cross_entropy(y_true, y_pred):
    return optax.softmax_cross_entropy_with_integer_labels(y_pred, y_true)


def squares(y_true, y_pred):
    return jnp.mean((y_true - y_pred) ** 2, axis=-1)


def labels(rows):
    return RANDOM.integers(0, 10, rows).astype("int32")


class Work:
    """A model, its data and its loss, for Keras and by hand."""

    def __init__(self, outputs, x, y, batch, loss, by_hand, epochs, best):
        self.outputs, self.x, self.y, self.batch = outputs, x, y, batch
        self.loss, self.by_hand = loss, by_hand
        self.epochs, self.best = epochs, best
        self.steps = -(-len(x) // batch)

    def model(self, cls, **options):
        keras.utils.set_random_seed(0)
        inputs = keras.Input(self.x.shape[1:])
        model = cls(inputs, self.outputs(inputs))
        model.compile("adam", self.loss, **options)
        return model

    def fit(self, cls, **options):
        """A function that trains for some epochs."""
        model = self.model(cls, **options)
        return lambda: model.fit(
            self.x,
            self.y,
            batch_size=self.batch,
            epochs=self.epochs,
            verbose=0,
        )

    def fed(self, cls):
        """As `fit`, from a generator."""
        model = self.model(cls)

        def batches():
            while True:
                for i in range(0, len(self.x) - self.batch + 1, self.batch):
                    yield self.x[i : i + self.batch], self.y[i : i + self.batch]

        return lambda: model.fit(
            batches(),
            steps_per_epoch=self.steps,
            epochs=self.epochs,
            shuffle=False,
            verbose=0,
        )

    def read(self, cls, method):
        """A function that evaluates or predicts."""
        model = self.model(cls)
        data = (self.x, self.y) if method == "evaluate" else (self.x,)
        call = getattr(model, method)

        def run():
            for _ in range(self.epochs):
                call(*data, batch_size=self.batch, verbose=0)

        return run

    def by_hand_epoch(self):
        """A compiled scan over an epoch in JAX and optax alone.

        Returns:
            `(function, state, data)`; the function is called with state, data
            and the order of the rows, and returns the state and the loss.
        """
        model = self.model(keras.Model)
        transformation = optax.adam(1e-3, eps=1e-7)
        weights = [jnp.copy(v.value) for v in model.trainable_variables]
        fixed = [v.value for v in model.non_trainable_variables]
        data = jax.device_put((self.x, self.y))
        full = len(self.x) // self.batch * self.batch

        def loss(weights, x, y):
            outputs, _ = model.stateless_call(weights, fixed, x, training=True)
            return jnp.mean(self.by_hand(y, outputs))

        def step(state, batch):
            weights, moments = state
            value, gradients = jax.value_and_grad(loss)(weights, *batch)
            updates, moments = transformation.update(gradients, moments)
            return (optax.apply_updates(weights, updates), moments), value

        @functools.partial(jax.jit, donate_argnums=0)
        def epoch(state, data, order):
            x, y = (a[order] for a in data)
            shape = (full // self.batch, self.batch)
            batches = [a[:full].reshape(*shape, *a.shape[1:]) for a in (x, y)]
            state, values = jax.lax.scan(step, state, batches)
            total = jnp.sum(values)
            if full < len(x):
                state, value = step(state, (x[full:], y[full:]))
                total += value
            return state, total / self.steps

        return epoch, (weights, transformation.init(weights)), data

    def order(self):
        """Row numbers for an epoch."""
        return np.random.permutation(len(self.x)).astype("int32")

    def scan(self):
        """The limit: one compiled scan an epoch."""
        epoch, *held, data = self.by_hand_epoch()

        def run():
            for _ in range(self.epochs):
                held[0], value = epoch(held[0], data, self.order())
                float(value)

        return run


def works():
    """The rows of the table."""
    x = uniform(3000, 1)
    article = Work(mixture, x, x, 64, mixture_nll, mixture_nll, 10, (8, 46))
    x = uniform(16000, 8)
    y = x.sum(1, keepdims=True)
    small = Work(dense(32, 1), x, y, 32, "mse", squares, 10, (16, 128))
    x = uniform(4096, 784)
    digits = [labels(4096), 32, CROSSENTROPY, cross_entropy, 1, (16, 64)]
    images = Work(dense(128, 128, 10), x, *digits)
    convolutions = Work(
        convolutional,
        uniform(1024, 28, 28, 1),
        labels(1024),
        64,
        CROSSENTROPY,
        cross_entropy,
        1,
        (4, 16),
    )

    def sequences(epochs):
        x, y = uniform(1024, 28, 16), labels(1024)
        losses = CROSSENTROPY, cross_entropy
        return Work(recurrent, x, y, 64, *losses, epochs, (4, 16))

    return {
        "article's model": article,
        "8-32-1, batch 32": small,
        "784-128-128-10, batch 32": images,
        "convolutional, 28x28": convolutions,
        "LSTM, batch 64": sequences(1),
        "LSTM, ten epochs a call": sequences(10),
    }


def contenders(work):
    return {
        "stock": work.fit(keras.Model),
        **{
            f"stock, {n}": work.fit(keras.Model, steps_per_execution=n)
            for n in work.best
        },
        "ours": work.fit(kje.Model),
        "scan": work.scan(),
    }


def medians(functions, rounds, steps, warm_up=3):
    """Microseconds a step of each, from interleaved rounds."""
    seconds = {name: [] for name in functions}
    for function in functions.values():
        for _ in range(warm_up):
            function()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: statistics.median(values) / steps * 1e6
        for name, values in seconds.items()
    }


def cold_seconds(kind):
    """Seconds from the import to the end of the first epoch."""
    code = (
        "import time, os; os.environ['KERAS_BACKEND'] = 'jax'\n"
        "start = time.perf_counter()\n"
        "import keras, numpy as np\n"
        f"from {kind} import Model\n"
        "x = np.linspace(-1, 1, 3000, dtype='float32')[:, None]\n"
        "inputs = keras.Input((1,))\n"
        "h = keras.layers.Dense(64, activation='relu')(inputs)\n"
        "parts = [keras.layers.Dense(2)(h) for _ in range(5)]\n"
        "outputs = keras.layers.Dense(1)(keras.layers.Concatenate()(parts))\n"
        "model = Model(inputs, outputs)\n"
        "model.compile('adam', 'mse')\n"
        "model.fit(x, x, batch_size=64, verbose=0)\n"
        "print(time.perf_counter() - start)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def cold(rounds):
    """Medians of the seconds to the end of the first epoch."""
    kinds = {"stock": "keras", "ours": "keras_jax_ext"}
    seconds = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, module in kinds.items():
            seconds[name].append(cold_seconds(module))
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(title, times):
    """One line of the table: microseconds, and ratios to ours."""
    ours = times["ours"]
    best = min(
        (v for k, v in times.items() if k.startswith("stock, ")), default=None
    )
    cells = [
        f"{times['stock']:.1f}",
        f"{ours:.1f}",
        f"{times['scan']:.1f}" if "scan" in times else "",
        f"{times['stock'] / ours:.2f}",
        f"{best / ours:.2f}" if best else "",
        f"{ours / times['scan']:.3f}" if "scan" in times else "",
    ]
    print("| " + " | ".join([title, *cells]) + " |", flush=True)


def draw(path, table):
    """Bars of microseconds a step, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"stock": "#c44", "best": "#e9a", "ours": "#36c", "scan": "#888"}
    names = {
        "stock": "stock fit",
        "best": "stock, best steps_per_execution",
        "ours": "keras_jax_ext fit",
        "scan": "hand-written scan",
    }
    _, axes = plt.subplots(figsize=(9, 4.5))
    for i, times in enumerate(table.values()):
        for j, kind in enumerate(names):
            if kind in times:
                axes.bar(
                    i + 0.2 * (j - 1.5),
                    times[kind],
                    0.19,
                    color=colours[kind],
                    label=names[kind] if i == 0 else None,
                )
    axes.set_yscale("log")
    axes.set_ylabel("microseconds a step")
    axes.set_xticks(range(len(table)), table, rotation=12, ha="right")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.tight_layout()
    plt.savefig(path, dpi=120)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="part of a row's title")
    parser.add_argument("--out", type=Path, help="a PNG to write")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument(
        "--machine",
        default=f"{os.cpu_count()} cores",
        help="the machine in words, for the file of numbers",
    )
    options = parser.parse_args(argv)
    versions = (
        f"Python {platform.python_version()}, Keras {keras.__version__}, "
        f"JAX {jax.__version__}"
    )
    print(f"{versions}, {options.machine}; microseconds a step\n")
    print(
        "| work | stock | ours | scan | stock / ours | best stock / ours "
        "| ours / scan |\n|---|---|---|---|---|---|---|"
    )
    table = {}

    def add(title, functions, steps):
        if options.only and options.only not in title:
            return
        times = medians(functions(), options.rounds, steps)
        row(title, times)
        stock = [v for k, v in times.items() if k.startswith("stock, ")]
        if stock:
            times["best"] = min(stock)
        table[title] = times

    rows = works()
    for title, work in rows.items():
        add(title, lambda w=work: contenders(w), work.epochs * work.steps)
    fed, read = rows["784-128-128-10, batch 32"], rows["article's model"]
    kinds = {"stock": keras.Model, "ours": kje.Model}
    add(
        "generator, 784",
        lambda: {k: fed.fed(cls) for k, cls in kinds.items()},
        fed.epochs * fed.steps,
    )
    for method in ("evaluate", "predict"):
        add(
            f"{method}, article's",
            lambda m=method: {k: read.read(cls, m) for k, cls in kinds.items()},
            read.epochs * read.steps,
        )
    if not options.only or options.only in "first epoch":
        times = cold(options.rounds)
        ratio = times["ours"] / times["stock"]
        print(
            f"\nfirst epoch of a new process: stock {times['stock']:.2f} s, "
            f"ours {times['ours']:.2f} s, ratio {ratio:.3f}"
        )
    if options.out:
        draw(options.out, table)
    if options.json:
        measured = {
            "versions": versions,
            "machine": options.machine,
            "date": datetime.date.today().isoformat(),
            "microseconds_a_step": table,
        }
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
