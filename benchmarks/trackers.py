"""What it costs to log each batch, ours and stock Keras's.

    python benchmarks/trackers.py

The models, data and optimizers are those of `fit.py`. `logs`: a callback that
converts the logs of each batch and writes a line of JSON, as a tracker does.
`wandb`: Weights & Biases' own callback with `log_freq="batch"`, offline, where
wandb is installed. Rounds are interleaved; the table has the medians of a
step's time, and those with logs as multiples of those without.
"""

import argparse
import importlib.util
import json
import os
import tempfile
from pathlib import Path

import keras_jax_ext as kje

import keras
from backup import trains
from fit import medians, works

ROWS = ("article's model", "784-128-128-10, batch 32", "LSTM, batch 64")
KINDS = {"stock": keras.Model, "ours": kje.Model}


class Tracker(keras.callbacks.Callback):
    """Writes the logs of each batch."""

    reads_only_logs = True

    def __init__(self, path):
        super().__init__()
        self._path = path

    def on_train_begin(self, logs=None):
        self._file = self._path.open("w")

    def on_train_batch_end(self, batch, logs=None):
        row = {f"batch/{name}": float(value) for name, value in logs.items()}
        row["batch/learning_rate"] = float(self.model.optimizer.learning_rate)
        self._file.write(json.dumps({"batch": batch, **row}) + "\n")

    def on_train_end(self, logs=None):
        self._file.close()


def trackers(folder):
    """Functions that make the callbacks of a `fit`, by name."""
    made = {
        "without": list,
        "logs": lambda: [Tracker(folder / "logs.jsonl")],
    }
    if importlib.util.find_spec("wandb"):
        from wandb.integration.keras import WandbMetricsLogger

        made["wandb"] = lambda: [WandbMetricsLogger(log_freq="batch")]
    return made


def measured(work, folder, options):
    """Microseconds of a step by kind of model and tracker."""
    functions = {
        f"{kind}, {name}": trains(work, options.epochs, callbacks, cls)
        for kind, cls in KINDS.items()
        for name, callbacks in trackers(folder).items()
    }
    return medians(functions, options.rounds, options.epochs * work.steps)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(argv)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        run = None
        if importlib.util.find_spec("wandb"):
            import wandb

            os.environ["WANDB_SILENT"] = "true"
            run = wandb.init(project="trackers", dir=folder, mode="offline")
        for title in ROWS:
            rows[title] = measured(works()[title], Path(folder), options)
        if run is not None:
            run.finish()
    print("| model | logging | stock, us a step | ours | cost of ours |")
    print("|---|---|---|---|---|")
    for title, times in rows.items():
        for name in trackers(None):
            stock, ours = (times[f"{kind}, {name}"] for kind in KINDS)
            cost = ours / times["ours, without"]
            print(
                f"| {title} | {name} | {stock:.1f} | {ours:.1f} | {cost:.2f} |"
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
