"""What grows in a process that trains for long, ours and stock Keras's.

    python benchmarks/long.py
    python benchmarks/long.py --executions 20000 --cycles 60 --json long.json

`executions`: one `fit` of a tiny model, so many executions of its program.
`cycles`: a model is built, compiled, fitted, evaluated, asked to predict and
deleted, so many times. Each row is a process of its own on the CPU. It counts
after each hundredth of the way, garbage collected and free memory given back
to the system, and the table has the slope of a line through the second half:
per 1000 executions, or per cycle. The first half is left out, since caches
fill. Linux only: the counts are in `/proc`.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import threading
from pathlib import Path

import apart

ROWS, BATCH = 1000, 1
COUNTS = (
    "resident KB",
    "Python objects",
    "live arrays",
    "compiled programs",
    "threads",
    "file handles",
)


def counts():
    """What this process holds now, by the names of `COUNTS`."""
    import jax

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status)
    programs = jax.devices()[0].client.live_executables()
    found = (
        int(fields["VmRSS"].split()[0]),
        len(gc.get_objects()),
        len(jax.live_arrays()),
        len(programs),
        int(fields["Threads"]),
        len(os.listdir("/proc/self/fd")),
    )
    assert threading.active_count() < 20
    return found


def make(cls):
    """A tiny model, compiled to run one step an execution."""
    import keras

    model = cls(
        [
            keras.Input((4,)),
            keras.layers.Dense(4, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"], steps_per_execution=1)
    return model


def run_executions(cls, x, y, number, noted):
    """Fit once; note the counts at each hundredth."""
    import keras

    epochs = -(-number // ROWS)
    every = max(1, epochs // 100)

    class Note(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch % every == 0:
                noted.append(((epoch + 1) * ROWS / 1000, counts()))

    make(cls).fit(
        x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[Note()]
    )


def run_cycles(cls, x, y, number, noted):
    """Build, use and delete models; note the counts at each hundredth."""
    every = max(1, number // 100)
    for cycle in range(number):
        model = make(cls)
        model.fit(x[:64], y[:64], verbose=0)
        model.evaluate(x[:64], y[:64], verbose=0)
        model.predict(x[:64], verbose=0)
        del model
        if cycle % every == 0:
            noted.append((cycle + 1, counts()))


def measure(kind, what, number):
    """Run in this process; print the slopes of the second half."""
    os.environ["KERAS_BACKEND"] = "jax"
    if kind == "ours":
        from keras_jax_ext import Sequential
    else:
        from keras import Sequential
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((ROWS, 4), dtype="float32")
    noted: list = []
    run = run_executions if what == "executions" else run_cycles
    run(Sequential, x, x[:, :1].copy(), number, noted)
    half = noted[len(noted) // 2 :]
    places = [place for place, _ in half]
    slopes = {
        name: float(np.polyfit(places, [c[i] for _, c in half], 1)[0])
        for i, name in enumerate(COUNTS)
    }
    last = dict(zip(COUNTS, noted[-1][1], strict=True))
    print(json.dumps({"slopes": slopes, "last": last}))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--executions", type=int, default=200_000)
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--json", help="path of a file for the figures")
    options = parser.parse_args(argv)
    print(
        f"Python {platform.python_version()}; slopes per 1000 executions, and "
        f"per cycle\n\n| | | number | {' | '.join(COUNTS)} |\n"
        f"|---|---|---|{'---|' * len(COUNTS)}"
    )
    found = []
    for what in ("executions", "cycles"):
        number = getattr(options, what)
        for kind in ("ours", "stock"):
            row = apart.measured("long", kind, what, number)
            found.append({"what": what, "kind": kind, "number": number, **row})
            cells = [f"{row['slopes'][name]:.3g}" for name in COUNTS]
            print(
                f"| {what} | {kind} | {number} | {' | '.join(cells)} |",
                flush=True,
            )
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
