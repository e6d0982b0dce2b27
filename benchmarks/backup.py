"""What a backup costs `fit`: one each ten seconds, on the article's model.

    python benchmarks/backup.py --rounds 5

The model, data and optimizer are those of the first row of `fit.py`. A round
trains for as long as two backups take to come, with `BackupAndRestore` and
without; rounds are interleaved, and medians of a step's time compared. The
backups of the last round are counted, and the bytes of one.
"""

import argparse
import datetime
import json
import tempfile
from pathlib import Path

import keras_jax_ext as kje

from fit import medians, works

# Backups in a round: one more would hardly change what is measured.
BACKUPS = 2


def counted(folder):
    """The backups that were made in a folder, and the bytes of one."""
    path = max(folder.glob("backup-*.zip"))
    return int(path.stem.removeprefix("backup-")), path.stat().st_size


def trains(work, epochs, callbacks, kind=kje.Model):
    """A function that trains a model for some epochs."""
    model = work.model(kind)

    def run(epochs=epochs):
        model.fit(
            work.x,
            work.y,
            batch_size=work.batch,
            epochs=epochs,
            verbose=0,
            callbacks=callbacks(),
        )

    return run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(argv)
    work = works()["article's model"]
    every = datetime.timedelta(seconds=options.seconds)
    probe = {"probe": trains(work, 100, list)}
    step = medians(probe, 3, 100 * work.steps)["probe"] / 1e6
    epochs = int((BACKUPS + 0.2) * options.seconds / (step * work.steps)) + 1
    made = []

    with tempfile.TemporaryDirectory() as folder:

        def backups():
            made.append(Path(folder) / str(len(made)))
            return [
                kje.callbacks.BackupAndRestore(
                    made[-1], every, delete_checkpoint=False
                )
            ]

        functions = {
            "without": trains(work, epochs, list),
            "with": trains(work, epochs, backups),
        }
        for function in functions.values():
            function(epochs=1)
        times = medians(
            functions, options.rounds, epochs * work.steps, warm_up=0
        )
        backups_made, size = counted(made[-1])
    cost = times["with"] / times["without"] - 1
    print(
        f"a backup each {options.seconds:g} s, {epochs} epochs of {work.steps} "
        f"steps: {times['without']:.2f} us a step without, "
        f"{times['with']:.2f} with: {cost:+.1%}; {backups_made} backups a "
        f"round, of {size / 1024:.0f} KiB"
    )
    if options.json:
        found = {**times, "cost": cost, "backups": backups_made}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
