"""Where the time of a step goes: in `fit`, and in the scan written by hand.

    python benchmarks/where.py --only 784

For rows of `fit.py`: the kernels that XLA runs for a step, by kind, and how
long they keep threads busy (from JAX's profiler: on two threads, up to twice
the time on the clock); the time of a step on the clock; and the least that the
arithmetic takes, at the speed of one large matrix product on this machine.
"""

import os

# Before JAX starts: its profiler then knows each kernel.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_enable_xprof_traceme=true")

import argparse
import collections
import re
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

from keras_jax_ext._loop.program import Program
from keras_jax_ext._xla.options import compiler_options

import fit
import jax
import jax.numpy as jnp
from fit import kje

# Kinds of kernels, by what XLA calls them; the first that matches counts.
KINDS = {
    "products": "dot|ynn_fusion|custom-call",
    "convolutions": "convolution",
    "rows of the batch": "gather|dynamic-slice|dynamic-update",
    "copies": "copy|concatenate|transpose",
    "sums": "reduce",
    "element by element": "fusion|wrapped",
}
# What holds other kernels, or is no kernel.
HOLDERS = re.compile(r"::|^end: |^while|^call|^cond|^region|^\$")


def ours(work):
    """The program of `fit`, as a function of its state."""
    model = work.model(kje.Model)
    calls = []

    def note(program, state, span, *kept):
        calls.append((program, span))
        return run(program, state, span, *kept)

    run = Program.__call__
    options = {"batch_size": work.batch, "verbose": 0}
    model.fit(work.x, work.y, epochs=2, **options)
    with mock.patch.object(Program, "__call__", note):
        model.fit(work.x, work.y, **options)
    program, span = calls[-1]
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([jnp.copy(v.value) for v in group] for group in groups)
    span = span._replace(start=0, steps=work.steps)
    return lambda state: program(state, span)[2], state


def scan(work):
    """The scan by hand, as a function of its state."""
    epoch, state, data = work.by_hand_epoch()
    order = work.order()
    return lambda state: epoch(state, data, order)[0], state


def kind_of(kernel):
    """The kind of a kernel, by its name; `None` for what holds kernels."""
    if HOLDERS.search(kernel):
        return None
    for kind, pattern in KINDS.items():
        if re.search(pattern, kernel):
            return kind
    return None


def kernels(run, state, rounds, steps):
    """Of each kind: kernels a step, and microseconds of threads a step."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(rounds):
                state = jax.block_until_ready(run(state))
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    count, seconds = collections.Counter(), collections.Counter()
    for plane in profile.planes:
        for line in plane.lines:
            if line.name.startswith("python"):
                continue
            for event in line.events:
                kind = kind_of(event.name)
                count[kind] += 1 / rounds / steps
                seconds[kind] += event.duration_ns / 1e3 / rounds / steps
    return {kind: (count[kind], seconds[kind]) for kind in KINDS}


def clock(functions, states, rounds):
    """Microseconds of a call of each, from interleaved rounds."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            start = time.perf_counter()
            states[name] = jax.block_until_ready(run(states[name]))
            times[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def operations(work):
    """Arithmetic operations of a step, `None` where a step has loops."""
    epoch, state, data = work.by_hand_epoch()
    lowered = epoch.lower(state, data, work.order())
    if lowered.as_text().count("stablehlo.while") > 1:
        return None
    # XLA counts the body of a loop once; the smaller batch is a step more.
    left = len(work.x) % work.batch / work.batch
    return lowered.cost_analysis()["flops"] / (1 + left)


def full_speed(size=1024):
    """Operations a microsecond in one large product of matrices."""
    a = jnp.ones((size, size))
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    run = {"product": lambda _: product(a, a)}
    return 2 * size**3 / clock(run, {"product": a}, 100)["product"]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", help="part of a row's title")
    options = parser.parse_args(argv)
    print(f"compiler options of fit: {compiler_options(jax.default_backend())}")
    for title, work in fit.works().items():
        if options.only and options.only not in title:
            continue
        functions, states = {}, {}
        for name, make in {"fit": ours, "scan": scan}.items():
            functions[name], states[name] = make(work)
        clock(functions, states, 3)
        wall = clock(functions, states, options.rounds)
        found = [
            kernels(run, states[name], 5, work.steps)
            for name, run in functions.items()
        ]
        print(f"\n{title}\n")
        print("| a step | fit: kernels | us | scan: kernels | us |")
        print("|---|---|---|---|---|")
        for kind in KINDS:
            if any(each[kind][0] for each in found):
                cells = [
                    f"{n:.1f} | {us:.1f}"
                    for n, us in (each[kind] for each in found)
                ]
                print(f"| {kind} | " + " | ".join(cells) + " |")
        cells = [
            f"{sum(n for n, _ in each.values()):.0f} | {us / work.steps:.1f}"
            for each, us in zip(found, wall.values(), strict=True)
        ]
        print("| all, on the clock | " + " | ".join(cells) + " |")
        count = operations(work)
        if count:
            speed = full_speed()
            print(
                f"\n{count / 1e6:.2f} million operations a step: "
                f"{count / speed:.1f} us at {speed / 1e3:.0f} GFLOP/s, the "
                "speed of a product of 1024 x 1024 matrices"
            )


if __name__ == "__main__":
    main()
