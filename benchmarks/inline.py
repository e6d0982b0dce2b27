"""What inline declaration costs: import, first epoch, and each step.

    python benchmarks/inline.py

Each comparison is made side by side, rounds interleaved, and reported as the
ratio of medians; a cold measure is a process of its own.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

os.environ["KERAS_BACKEND"] = "jax"

MODELS = """
import os, sys, time
os.environ["KERAS_BACKEND"] = "jax"
import jax, jax.numpy as jnp, keras, numpy as np
import keras_jax_ext as kje
from keras_jax_ext import layers

class Inline(kje.Model):
    def call(self, x):
        x = layers.Dense(64, activation="relu", name="backbone")(x)
        y = jnp.stack(
            [layers.Dense(2, name="component")(x) for _ in range(5)], axis=1
        )
        y = y.at[..., 1].set(1.0 + jax.nn.elu(y[..., 1]))
        return jnp.concatenate(
            [y.reshape(-1, 10), layers.Dense(5, activation="softmax")(x)], -1
        )

class Classic(keras.Model):
    def __init__(self):
        super().__init__()
        dense = keras.layers.Dense
        self.backbone = dense(64, activation="relu", name="backbone")
        self.components = [dense(2, name=f"c{i}") for i in range(5)]
        self.gating = dense(5, activation="softmax", name="gating")

    def call(self, x):
        x = self.backbone(x)
        y = jnp.stack([c(x) for c in self.components], axis=1)
        y = y.at[..., 1].set(1.0 + jax.nn.elu(y[..., 1]))
        return jnp.concatenate([y.reshape(-1, 10), self.gating(x)], -1)

def nll(y_true, y_pred):
    y, probs = y_pred[:, :10].reshape(-1, 5, 2), y_pred[:, 10:]
    density = jax.scipy.stats.norm.pdf(y_true, y[..., 0], y[..., 1])
    return -jnp.log(jnp.maximum(jnp.sum(probs * density, axis=1), 1e-6))

x = np.linspace(-1, 1, 3000, dtype="float32")[:, None]
"""

FIRST_EPOCH = (
    MODELS
    + """
jnp.zeros(3).block_until_ready()
start = time.perf_counter()
model = {"inline": Inline, "classic": Classic}[sys.argv[1]]()
model.compile("adam", nll, {options})
model.fit(x, x, batch_size=64, verbose=0)
print(time.perf_counter() - start)
"""
)


def process(code, *args):
    """The numbers of seconds that a process of its own prints."""
    environment = dict(os.environ)
    # As when it is installed: compiled once, not for each process.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *args],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def compare(title, measures, rounds):
    """Interleave `rounds` of each measure; print medians and their ratio."""
    seconds = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            seconds[name].append(measure())
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    (ours, mine), (theirs, base) = medians.items()
    print(
        f"{title}: {ours} {mine:.4g} s, {theirs} {base:.4g} s, "
        f"ratio {mine / base:.3f}",
        flush=True,
    )


def compare_imports(rounds):
    """What ours adds to `import keras`: both timed in each process."""
    code = (
        "import time, os; os.environ['KERAS_BACKEND'] = 'jax'\n"
        "start = time.perf_counter(); import keras\n"
        "middle = time.perf_counter(); import keras_jax_ext\n"
        "print(middle - start, time.perf_counter() - middle)"
    )
    pairs = [process(code) for _ in range(rounds)]
    base = statistics.median(keras for keras, _ in pairs)
    ratio = statistics.median(1 + ours / keras for keras, ours in pairs)
    print(f"import: keras {base:.4g} s, ratio with ours {ratio:.3f}")


def first_epoch_seconds(kind):
    """Measure of build and first epoch, one step an execution for both."""
    code = FIRST_EPOCH.replace("{options}", "steps_per_execution=1")
    return lambda: process(code, kind)[0]


def step_seconds(kind):
    """Measure of 100 compiled training steps of the same state and batch."""
    import jax

    scope = {}
    exec(MODELS, scope)
    model = {"inline": scope["Inline"], "classic": scope["Classic"]}[kind]()
    x = jax.numpy.asarray(scope["x"][:64])
    model.compile("adam", scope["nll"])
    model(x)
    model.optimizer.build(model.trainable_variables)
    model.train_on_batch(x, x)
    step = jax.jit(model.train_step)
    state = tuple(
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )

    def measure():
        current = state
        start = time.perf_counter()
        for _ in range(100):
            _, current = step(current, (x, x))
        jax.block_until_ready(current)
        return (time.perf_counter() - start) / 100

    measure()
    return measure


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    import jax
    import keras

    print(
        f"Python {platform.python_version()}, keras {keras.__version__}, "
        f"jax {jax.__version__}, {os.cpu_count()} cores"
    )
    compare_imports(rounds)
    compare(
        "build and first epoch",
        {
            "inline": first_epoch_seconds("inline"),
            "classic": first_epoch_seconds("classic"),
        },
        rounds,
    )
    compare(
        "step",
        {
            "inline": step_seconds("inline"),
            "classic": step_seconds("classic"),
        },
        5 * rounds,
    )


if __name__ == "__main__":
    main()
