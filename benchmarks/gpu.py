"""How fast training is on a GPU, and what the GPU does in a step.

    python benchmarks/gpu.py --json build/gpu.json

The rows of `fit.py` and those of `models.py`, in float32 and in
mixed_bfloat16: stock Keras at one step an execution and at several,
`keras_jax_ext`, and the scan by hand where there is one. Then, from JAX's
profiler, for the article's model: kernels a step, the time that they take, the
time between them, and the bytes that come from the host. The kernels of a CUDA
graph are no events of their own.

It begins no row after `--minutes`, half of them for each type of numbers; rows
that are left out are named.
"""

import argparse
import datetime
import json
import platform
import re
import tempfile
import time
from pathlib import Path

import fit
import jax
import keras
import models
from fit import kje

POLICIES = ("float32", "mixed_bfloat16")
# A call of `fit` brings the data to the device: share that among many steps.
STEPS = 1500


def works():
    """Functions that make the rows, by title; `fit.py`'s first."""
    rows = {title: lambda w=work: w for title, work in fit.works().items()}
    return {**rows, **models.makers()}


def contenders(work):
    """Functions that train, by name."""
    made = {
        "stock": work.fit(keras.Model),
        "best": work.fit(keras.Model, steps_per_execution=min(work.best)),
        "ours": work.fit(kje.Model),
    }
    if work.by_hand is not None:
        made["scan"] = work.scan()
    return made


def row(title, times):
    """One line: microseconds a step, and ratios."""
    ours = times["ours"]
    cells = [title, *(f"{times[k]:.1f}" for k in ("stock", "best", "ours"))]
    cells.append(f"{times['scan']:.1f}" if "scan" in times else "")
    cells += [f"{times[k] / ours:.2f}" for k in ("stock", "best")]
    cells.append(f"{ours / times['scan']:.2f}" if "scan" in times else "")
    print("| " + " | ".join(cells) + " |", flush=True)


def table(policy, rounds, until, only):
    """Microseconds a step by title; `None` for rows that time has left out."""
    keras.config.set_dtype_policy(policy)
    print(
        f"\n{policy}\n\n| work | stock | stock, several steps | ours | scan "
        "| stock / ours | several / ours | ours / scan |\n" + "|---" * 8 + "|",
        flush=True,
    )
    found = {}
    for title, make in works().items():
        if only and only not in title:
            continue
        found[title] = None
        if time.monotonic() > until:
            print(f"| {title}: left out for time |", flush=True)
            continue
        work = make()
        work.epochs = max(1, STEPS // work.steps)
        steps = work.epochs * work.steps
        found[title] = fit.medians(contenders(work), rounds, steps)
        row(title, found[title])
    keras.config.set_dtype_policy("float32")
    return found


def events(run):
    """What the streams of the first device did in a call: a list of events."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
    return [
        event
        for plane in profile.planes
        if plane.name.startswith("/device:")
        for line in plane.lines
        if line.name.startswith("Stream")
        for event in line.events
    ]


def copied_bytes(event):
    """The bytes that an event brought from the host."""
    if "H2D" not in event.name:
        return 0
    details = " ".join(str(value) for _, value in event.stats)
    sizes = re.search(r"(?:size|num_bytes)[:=](\d+)", details)
    return int(sizes[1]) if sizes else 0


def profiled(run, steps):
    """What the device does in a step, from one call."""
    run()
    found = events(run)
    if not found:
        return None
    kernels = [e for e in found if "Memcpy" not in e.name]
    spans = sorted((e.start_ns, e.start_ns + e.duration_ns) for e in found)
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    whole = end - spans[0][0]
    return {
        "kernels": len(kernels) / steps,
        "busy_us": busy / 1e3 / steps,
        "between_us": (whole - busy) / 1e3 / steps,
        "copies": (len(found) - len(kernels)) / steps,
        "host_bytes": sum(map(copied_bytes, found)) / steps,
    }


def profiles(title):
    """Print and return what the device does in a step, by contender."""
    work = works()[title]()
    print(
        f"\nA step of {title} on the device\n\n| | kernels | busy, us "
        "| between, us | copies | bytes from the host |\n" + "|---" * 6 + "|"
    )
    found = {}
    for name, run in contenders(work).items():
        found[name] = profiled(run, work.epochs * work.steps)
        if found[name]:
            cells = [f"{value:.1f}" for value in found[name].values()]
            print("| " + " | ".join([name, *cells]) + " |", flush=True)
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--only", help="part of a row's title")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(argv)
    started, share = time.monotonic(), 60 * options.minutes / len(POLICIES)
    device = jax.devices()[0]
    versions = (
        f"Python {platform.python_version()}, Keras {keras.__version__}, "
        f"JAX {jax.__version__}"
    )
    print(f"{device.device_kind}; {versions}; microseconds a step")
    measured = {
        "device": device.device_kind,
        "versions": versions,
        "date": datetime.date.today().isoformat(),
        "profile": profiles("article's model"),
    }
    for i, policy in enumerate(POLICIES):
        until = started + share * (i + 1)
        args = policy, options.rounds, until, options.only
        measured[policy] = table(*args)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
