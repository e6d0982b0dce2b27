"""What a step costs in several processes: the compiled loop, and Keras's own.

    python benchmarks/processes.py

Processes of one core each train the article's model (batch 4096 in all), and a
convolutional one (batch 256 in all), as one process of one core does with the
whole batch. In each, both loops take turns; the table has medians of
microseconds a step: of the clock, and of the processor's time in the first
process. Linux only: it is the kernel that holds a process to a core.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import time
from pathlib import Path

import apart

# Processes beside each other take a core each.
CORES = sorted(os.sched_getaffinity(0))
LOOPS = {"ours": "the compiled loop", "keras": "Keras's own"}


def measure(me, processes, address, rounds, rows):
    """Time both loops in this process; print what they took."""
    os.sched_setaffinity(0, {CORES[me % len(CORES)]})
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["KERAS_BACKEND"] = "jax"
    import jax

    if processes > 1:
        jax.distributed.initialize(address, processes, me)
    import fit
    import keras

    if processes > 1:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    classes = {"ours": fit.kje.Model, "keras": keras.Model}
    found = {}
    for title, work in works(fit, processes, rows).items():
        runs = {name: work.fit(cls) for name, cls in classes.items()}
        taken = {name: [] for name in runs}
        for number in range(rounds + 2):
            for name, run in runs.items():
                before = time.perf_counter(), time.process_time()
                run()
                after = time.perf_counter(), time.process_time()
                if number > 1:
                    steps = work.epochs * work.steps
                    each = zip(before, after, strict=True)
                    taken[name].append([(b - a) / steps * 1e6 for a, b in each])
        found[title] = {
            name: [statistics.median(each) for each in zip(*t, strict=True)]
            for name, t in taken.items()
        }
    print("found:", json.dumps(found))


def works(fit, processes, rows):
    """The models, with this process's share of the data and of a batch."""
    x = fit.uniform(rows * 4096 // processes, 1)
    loss = fit.mixture_nll
    batch = 4096 // processes
    article = fit.Work(fit.mixture, x, x, batch, loss, loss, 10, ())
    count = rows * 256 // processes
    images = fit.Work(
        fit.convolutional,
        fit.uniform(count, 28, 28, 1),
        fit.labels(count),
        256 // processes,
        fit.CROSSENTROPY,
        fit.cross_entropy,
        1,
        (),
    )
    return {"article's model": article, "convolutional, 28x28": images}


def in_processes(count, options):
    """What the first of some processes finds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    lines, *_ = apart.found(
        *(
            apart.start(
                "processes", me, count, address, options.rounds, options.steps
            )
            for me in range(count)
        )
    )
    (line,) = [x for x in lines if x.startswith("found:")]
    return json.loads(line.removeprefix("found:"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--steps", type=int, default=32, help="steps of an epoch"
    )
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(argv)
    counts = 1, options.processes
    table = {str(n): in_processes(n, options) for n in counts}
    print(
        f"Python {platform.python_version()}, {len(CORES)} cores; "
        "microseconds a step\n\n"
        "| work | processes | loop | clock | processor |\n|---|---|---|---|---|"
    )
    for title in next(iter(table.values())):
        for count, found in table.items():
            for name, loop in LOOPS.items():
                cells = [f"{value:.0f}" for value in found[title][name]]
                print("| " + " | ".join([title, count, loop, *cells]) + " |")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        measured = {
            "python": platform.python_version(),
            "cores": len(CORES),
            "steps": table,
        }
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
