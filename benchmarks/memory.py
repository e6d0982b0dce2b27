"""How much memory `fit` takes at its peak, ours and stock Keras's.

    python benchmarks/memory.py

Each row is a process of its own on the CPU: a dense model with about 50
million parameters (200 MB, and twice as much for Adam) and arrays of about
200 MB. Built and fitted for one step, the process notes the memory it holds
and sets the kernel's mark of the peak back, then fits; the table has how far
the mark rose. `fit` of ours keeps the arrays on the device, which on a CPU is
this memory too: it may take their size more than stock's, and no copy of the
weights. Linux only: the mark is in `/proc`.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
from pathlib import Path

import apart

MEGABYTE = 2**20


def status(field):
    """A field of `/proc/self/status`, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def measure(kind, rows, width, depth, mode):
    """Fit in this process; print what memory that took."""
    os.environ["KERAS_BACKEND"] = "jax"
    if kind == "ours":
        from keras_jax_ext import Model
    else:
        from keras import Model
    import jax
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    inputs = h = keras.Input((width,))
    for _ in range(depth):
        h = keras.layers.Dense(width, activation="relu")(h)
    model = Model(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse")
    random = np.random.default_rng(0)
    x = random.random((rows, width), dtype="float32")
    y = x[:, :1].copy()

    def run(x, y, **options):
        getattr(model, mode)(x, y, batch_size=256, verbose=0, **options)

    # What is compiled and built once is not what a fit takes.
    run(x[:512], y[:512])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    live = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            live.append(sum(a.nbytes for a in jax.live_arrays()))

    run(x, y, callbacks=[Watch()])
    peak = status("VmHWM")
    print(
        json.dumps(
            {
                "before": before,
                "rise": peak - before,
                "live": max(live, default=0) / MEGABYTE,
                "data": (x.nbytes + y.nbytes) / MEGABYTE,
                "parameters": model.count_params(),
            }
        )
    )


def in_process(kind, options):
    """What `measure` finds in a process of its own."""
    shape = options.rows, options.width, options.depth
    return apart.measured("memory", kind, *shape, options.mode)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=16000)
    parser.add_argument("--width", type=int, default=3200)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--mode", default="fit", choices=["fit", "evaluate"])
    options = parser.parse_args(argv)
    print(f"Python {platform.python_version()}, megabytes; {options.mode}\n")
    print(
        "| | before | peak above it | arrays live after | data |\n"
        "|---|---|---|---|---|"
    )
    for kind in ("stock", "ours"):
        found = in_process(kind, options)
        cells = [f"{found[k]:.0f}" for k in ("before", "rise", "live", "data")]
        print("| " + " | ".join([kind, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
