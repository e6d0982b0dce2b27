"""Whether training that is killed at any instant ends as one that was not.

    python benchmarks/kills.py --kills 50

Each training of `tests/callbacks/killed.py` (Dropout, shuffling, validation, an
optax schedule, EarlyStopping, ReduceLROnPlateau) is killed up to five times:
before anything is written, while a backup is written, and at other random
instants. Then it is let end, and compared byte by byte with one that was not
killed. A kill counts as identical if its training ends so.

A training is a fork of this process, which has imported all and run nothing: a
life costs no import. The tests kill whole processes.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from keras_jax_ext._disk import archive

import jax
from tests.callbacks.killed import STEPS, frequency, result, steps_told, train

# The epochs of a training, by how often it is backed up: it lasts seconds.
EPOCHS = {"epoch": 150, "40": 150, "1s": 500}
KINDS = ("first", "writing", "any", "writing", "any")
# An epoch has several executions, so that a backup may be within it.
OPTIONS = {"steps_per_execution": 5}
# The part of a life within which it is killed first.
EARLY = 0.5
# Behind this many times an unkilled life nothing is written any more.
LONG = 3.0


def start(folder, save_freq, epochs):
    """Fork a training; return the number of its process."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        train(folder, frequency(save_freq), epochs, **OPTIONS)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(process):
    """The exit status of a process; `None` while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def is_writing(process, folder):
    """Whether a process has begun to write a backup, or was killed then."""
    try:
        names = os.listdir(folder / "backup")
    except FileNotFoundError:
        return False
    return any(name.startswith(f".{process}-backup-") for name in names)


def kill(process, kind, folder, life):
    """Kill a training; return whether it had not ended before."""
    wait = random.uniform(0, life * (EARLY if kind == "first" else 1))
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < LONG * life:
        at_write = kind != "writing" or is_writing(process, folder)
        if now > wait and at_write:
            break
        status = ended(process)
        if status is not None:
            check(status, folder)
            return False
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def check(status, folder):
    if status:
        raise RuntimeError((folder / "log").read_text()[-4000:])


def kept(folder):
    """Steps of the newest whole backup, and how many are damaged."""
    damaged = 0
    for path in sorted((folder / "backup").glob("backup-*.zip"), reverse=True):
        try:
            _, document = archive.read(path)
        except ValueError:
            damaged += 1
            continue
        return document["epoch"] * STEPS + document["step"], damaged
    return 0, damaged


class Tally:
    """What became of the kills of one frequency."""

    def __init__(self):
        self.kills = self.identical = self.nothing = self.writing = 0
        self.within = self.twice = self.damaged = self.runs = 0

    def note(self, process, folder):
        """Look at what a killed process left."""
        self.kills += 1
        self.writing += is_writing(process, folder)
        steps, damaged = kept(folder)
        self.nothing += not steps
        self.within += steps % STEPS > 0
        self.damaged += damaged
        self.twice = max(self.twice, steps_told(folder) - steps)


def training(save_freq, epochs, tally, most, life, unkilled):
    """Kill one training at most `most` times, and let it end."""
    with tempfile.TemporaryDirectory() as name:
        folder, kills = Path(name), 0
        for kind in KINDS[:most]:
            process = start(folder, save_freq, epochs)
            if not kill(process, kind, folder, life):
                break
            tally.note(process, folder)
            kills += 1
        else:
            process = start(folder, save_freq, epochs)
            _, status = os.waitpid(process, 0)
            check(os.waitstatus_to_exitcode(status), folder)
        tally.runs += 1
        tally.identical += kills * (result(folder) == unkilled)


def measured(save_freq, epochs, kills):
    """Kill trainings until there were `kills` of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(2):  # the first compiles
            begun = time.monotonic()
            process = start(folder, save_freq, epochs)
            _, status = os.waitpid(process, 0)
            check(os.waitstatus_to_exitcode(status), folder)
            life = time.monotonic() - begun
        unkilled = result(folder)
    tally = Tally()
    while tally.kills < kills:
        most = kills - tally.kills
        training(save_freq, epochs, tally, most, life, unkilled)
        print(f"{save_freq}: {tally.kills} kills", file=sys.stderr, flush=True)
    return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-freq", nargs="*", default=[*EPOCHS])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    random.seed(given.seed)
    # JAX warns of forks; this process has no thread of JAX's yet.
    warnings.simplefilter("ignore")
    columns = (
        "save_freq | kills | trainings | identical | in a write | nothing yet "
        "| within an epoch | steps twice, at most | damaged files"
    )
    print("|", columns, "|")
    print("|---" * 9 + "|")
    tallies = {}
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        for save_freq in given.save_freq:
            found = measured(save_freq, EPOCHS[save_freq], given.kills)
            tallies[save_freq] = vars(found)
            print(
                f"| {save_freq} | {found.kills} | {found.runs} "
                f"| {found.identical} | {found.writing} | {found.nothing} "
                f"| {found.within} | {found.twice} | {found.damaged} |",
                flush=True,
            )
    if given.json:
        given.json.write_text(json.dumps(tallies, indent=1) + "\n")


if __name__ == "__main__":
    main()
