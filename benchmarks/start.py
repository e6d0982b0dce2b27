"""How long a script waits for its first epoch, and for what.

    python benchmarks/start.py --only transformer

Each row is a process that imports, builds, and trains one epoch with
validation: stock `keras.Model` and `keras_jax_ext` in turn, medians of the
rounds. Tracing, lowering and compiling are as JAX reports them; "first epoch"
is the whole of `fit`, "next epoch" the same call again, and "start" what the
first takes more. Programs are compiled beside each other and beside the first
epoch, so the stages may add up to more. With `--cache` every process runs
twice, the second time with the compiled programs of the first, and ours calls
`kje.cache_programs`.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHE = "JAX_COMPILATION_CACHE_DIR"
STAGES = (
    *("import", "build", "trace", "lower", "compile"),
    *("first epoch", "next epoch", "start"),
)
ROWS = (
    "MLP 784-512-512-10",
    "LSTM 32",
    "transformer, 6 blocks",
    "MobileNetV3Small, 64x64",
    "ResNet50, 32x32",
)
# What JAX reports, by what it is here.
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


def print_stages(title, kind):
    """Train an epoch in this process; print the seconds of each stage."""
    seconds = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def stage(name):
        start = time.perf_counter()
        yield
        seconds[name] += time.perf_counter() - start

    with stage("import"):
        import models

    import jax

    if kind == "ours" and CACHE in os.environ:
        models.kje.cache_programs()
    work = models.makers()[title]()
    with stage("build"):
        model = work.model(*models.kinds()[kind][:1])

    def hear(event, duration, **_):
        if event in EVENTS:
            seconds[EVENTS[event]] += duration

    jax.monitoring.register_event_duration_secs_listener(hear)
    half = len(work.x) // 2
    held = work.x[half:], work.y[half:]
    for name in ("first epoch", "next epoch"):
        with stage(name):
            model.fit(
                work.x, work.y, work.batch, validation_data=held, verbose=0
            )
    seconds["start"] = seconds["first epoch"] - seconds["next epoch"]
    print(json.dumps(seconds))


def stages(title, kind, cache):
    """The seconds of each stage in a process of its own."""
    settings = {
        CACHE: cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--stages", title, kind],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(settings if cache else {})},
    )
    return json.loads(done.stdout.splitlines()[-1])


def measured(title, rounds, cached):
    """Medians by contender and stage, in seconds."""
    found = {}
    for _ in range(rounds):
        for kind in ("stock", "ours"):
            if not cached:
                found.setdefault(kind, []).append(stages(title, kind, ""))
                continue
            with tempfile.TemporaryDirectory() as cache:
                for name in (kind, f"{kind}, again"):
                    made = stages(title, kind, cache)
                    found.setdefault(name, []).append(made)
    return {
        name: {s: statistics.median(each[s] for each in runs) for s in STAGES}
        for name, runs in found.items()
    }


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="part of a row's title")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--stages", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.stages:
        print_stages(*options.stages)
        return
    columns = ["seconds", *STAGES]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    table = {}
    for title in ROWS:
        if options.only and options.only not in title:
            continue
        table[title] = measured(title, options.rounds, options.cache)
        for name, seconds in table[title].items():
            cells = [f"{title}, {name}", *(f"{seconds[s]:.2f}" for s in STAGES)]
            print("| " + " | ".join(cells) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
