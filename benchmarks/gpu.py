"""How fast training is on a GPU, and what the GPU does in a step.

    python benchmarks/gpu.py --json build/gpu.json

The rows of `fit.py` and those of `models.py`, in float32 and in
mixed_bfloat16: stock Keras at one step an execution and at several,
`keras_jax_ext`, and the scan by hand where there is one. Then, from JAX's
profiler, for the article's model: kernels a step, the time that they take, the
time between them, and the bytes that come from the host. The kernels of a CUDA
graph are no events of their own.

It begins no row after `--minutes`, which the types of numbers share; rows that
are left out are named. `--only` with parts of titles, `--policies`, `--without`
a contender and `--steps` make it shorter: Keras compiles several steps as often
as there are steps, which takes minutes of a large model.
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
CONTENDERS = ("stock", "best", "ours", "scan")


def works():
    """Functions that make the rows, by title; `fit.py`'s first."""
    rows = {title: lambda w=work: w for title, work in fit.works().items()}
    return {**rows, **models.makers()}


def contenders(work, without):
    """Functions that train, by name."""
    several = {"steps_per_execution": min(work.best)}
    made = {
        "stock": lambda: work.fit(keras.Model),
        "best": lambda: work.fit(keras.Model, **several),
        "ours": lambda: work.fit(kje.Model),
    }
    if work.by_hand is not None:
        made["scan"] = work.scan
    return {name: made[name]() for name in made if name not in without}


def row(title, times):
    """One line: microseconds a step, and ratios."""

    def shown(over, under=None, digits=2):
        if over not in times or (under and under not in times):
            return ""
        return f"{times[over] / (times[under] if under else 1):.{digits}f}"

    cells = [title, *(shown(name, digits=1) for name in CONTENDERS)]
    cells += [shown("stock", "ours"), shown("best", "ours")]
    cells.append(shown("ours", "scan"))
    print("| " + " | ".join(cells) + " |", flush=True)


def table(policy, until, options):
    """Microseconds a step by title; `None` for rows that time has left out."""
    keras.config.set_dtype_policy(policy)
    print(
        f"\n{policy}\n\n| work | stock | stock, several steps | ours | scan "
        "| stock / ours | several / ours | ours / scan |\n" + "|---" * 8 + "|",
        flush=True,
    )
    found = {}
    for title, make in works().items():
        if not any(part in title for part in options.only):
            continue
        found[title] = None
        if time.monotonic() > until:
            print(f"| {title}: left out for time |", flush=True)
            continue
        work = make()
        work.epochs = max(1, options.steps // work.steps)
        steps = work.epochs * work.steps
        try:
            functions = contenders(work, options.without)
            found[title] = fit.medians(functions, options.rounds, steps)
        except Exception as error:  # the rows behind it are worth their time
            print(f"| {title}: {error!r:.200} |", flush=True)
            continue
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


def profiles(title, without):
    """Print and return what the device does in a step, by contender."""
    work = works()[title]()
    print(
        f"\nA step of {title} on the device\n\n| | kernels | busy, us "
        "| between, us | copies | bytes from the host |\n" + "|---" * 6 + "|"
    )
    found = {}
    for name, run in contenders(work, without).items():
        found[name] = profiled(run, work.epochs * work.steps)
        if found[name]:
            cells = [f"{value:.1f}" for value in found[name].values()]
            print("| " + " | ".join([name, *cells]) + " |", flush=True)
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TITLE")
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument(
        "--without", nargs="+", default=(), choices=("stock", "best", "scan")
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--profile", default="article's model", metavar="TITLE")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(argv)
    policies = options.policies
    started, share = time.monotonic(), 60 * options.minutes / len(policies)
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
    }
    if options.profile:
        measured["profile"] = profiles(options.profile, options.without)
    for i, policy in enumerate(policies):
        until = started + share * (i + 1)
        measured[policy] = table(policy, until, options)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
