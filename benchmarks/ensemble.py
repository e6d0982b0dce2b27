"""How fast an ensemble trains: against a scan by hand, and one after another.

    python benchmarks/ensemble.py --json build/ensemble.json

For each work and number of members, the time of some epochs of all members:
with `kje.Ensemble`, as a vmapped `lax.scan` written by hand in JAX and optax,
and as fits of `kje.Model` one after another, each in the compiled loop: of four
models, and the time for `n` of them reckoned from that. The members see the
same batches. Rounds are interleaved and medians reported in
microseconds a step of all members; every contender is warmed up and waits for
its results. Runs on whatever device JAX has.
"""

import argparse
import datetime
import functools
import json
import os
import platform
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
from fit import dense, medians, mixture, mixture_nll, squares, uniform

# How many models are trained one after another.
ALONE = 4
ADAM = functools.partial(optax.adam, 1e-3, eps=1e-7)


class Work:
    """A model, its data and its loss."""

    def __init__(self, outputs, x, y, batch, loss, epochs):
        self.outputs, self.x, self.y = outputs, x, y
        self.batch, self.loss, self.epochs = batch, loss, epochs
        self.steps = len(x) // batch

    def build(self):
        inputs = keras.Input(self.x.shape[1:])
        return kje.Model(inputs, self.outputs(inputs))

    def fit(self, model):
        return model.fit(
            self.x,
            self.y,
            batch_size=self.batch,
            epochs=self.epochs,
            verbose=0,
        )

    def ours(self, n):
        """A function that trains an ensemble."""
        ensemble = kje.Ensemble(self.build, n)
        ensemble.compile(ADAM(), self.loss)
        return lambda: self.fit(ensemble)

    def one_by_one(self, n):
        """A function that trains some models one after another."""
        models = [self.build() for _ in range(min(n, ALONE))]
        for model in models:
            model.compile(ADAM(), self.loss)

        def run():
            for model in models:
                self.fit(model)

        return run

    def by_hand(self, n):
        """A function that runs a vmapped scan over each epoch."""
        # Members have the same names of layers.
        ensemble = kje.Ensemble(self.build, n)
        views = [kje.functional(ensemble.member(i)) for i in range(n)]
        apply, every = views[0][0], [variables for _, variables in views]
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *every)
        optimizer, loss = ADAM(), self.loss
        data = jax.device_put((self.x, self.y))

        def step(carry, batch):
            weights, moments = carry
            x, y = batch

            def total(params):
                return jnp.mean(
                    loss(y, apply({**weights, "params": params}, x))
                )

            value, gradients = jax.value_and_grad(total)(weights["params"])
            updates, moments = optimizer.update(gradients, moments)
            params = optax.apply_updates(weights["params"], updates)
            return ({**weights, "params": params}, moments), value

        @functools.partial(jax.jit, donate_argnums=0)
        def epoch(carry, data, order):
            rows = order.reshape(self.steps, self.batch)
            batches = jax.tree.map(lambda a: a[rows], data)
            carry, values = jax.lax.scan(
                lambda c, b: jax.vmap(step, (0, None))(c, b), carry, batches
            )
            return carry, values.mean(0)

        held = [(stacked, jax.vmap(optimizer.init)(stacked["params"]))]

        def run():
            for _ in range(self.epochs):
                order = np.random.permutation(self.steps * self.batch)
                held[0], values = epoch(held[0], data, order.astype("int32"))
                np.asarray(values)

        return run


def works():
    """The works by name; whole batches alone, so that all do the same."""
    x = uniform(16000, 8)
    small = Work(dense(32, 1), x, x.sum(1, keepdims=True), 32, squares, 4)
    x = uniform(3008, 1)
    article = Work(mixture, x, x, 64, mixture_nll, 10)
    return {"8-32-1, batch 32": small, "article's model": article}


def row(title, n, times):
    """One line of the table: microseconds, and ratios to ours."""
    ours, hand, alone = (times[k] for k in ("ours", "by hand", "one by one"))
    cells = [f"{ours:.1f}", f"{hand:.1f}", f"{alone:.1f}"]
    cells += [f"{ours / hand:.3f}", f"{alone / ours:.2f}"]
    print("| " + " | ".join([title, str(n), *cells]) + " |", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1, 8, 32, 128], metavar="N"
    )
    parser.add_argument("--only", help="part of a row's title")
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
    device = jax.devices()[0].device_kind
    print(f"{versions}, {options.machine}, {device}; microseconds a step\n")
    print(
        "| work | members | ours | by hand | one by one | ours / by hand "
        "| one by one / ours |\n|---|---|---|---|---|---|---|"
    )
    table = {}
    for title, work in works().items():
        if options.only and options.only not in title:
            continue
        for n in options.sizes:
            functions = {
                "ours": work.ours(n),
                "by hand": work.by_hand(n),
                "one by one": work.one_by_one(n),
            }
            steps = work.epochs * work.steps
            times = medians(functions, options.rounds, steps)
            times["one by one"] *= n / min(n, ALONE)
            row(title, n, times)
            table.setdefault(title, {})[n] = times
    if options.json:
        measured = {
            "versions": versions,
            "machine": options.machine,
            "device": device,
            "date": datetime.date.today().isoformat(),
            "microseconds_a_step": table,
        }
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
