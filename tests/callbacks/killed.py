"""A training that is killed at any instant, and started again.

python killed.py FOLDER SAVE_FREQ: goes on from FOLDER/backup, tells each epoch,
and writes FOLDER/result.npz. SAVE_FREQ is "epoch", a number of steps, or "1s".
FOLDER/steps holds the steps that were taken, also when the process is killed.
`benchmarks/kills.py` runs it too.
"""

import datetime
import json
import sys
from pathlib import Path

import keras_jax_ext as kje
from keras_jax_ext import layers

import keras
import numpy as np
import optax

EPOCHS = 40
STEPS = 18  # of an epoch


class Net(kje.Model):
    def call(self, x):
        x = layers.Dense(16, activation="relu")(x)
        x = layers.Dropout(0.3)(x)
        x = layers.BatchNormalization()(x)
        return layers.Dense(1)(x)


class Counts(keras.callbacks.Callback):
    """A callback of a user's own, with state."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def on_epoch_end(self, epoch, logs=None):
        self.drawn.append([epoch, float(np.random.uniform())])
        print("epoch", epoch, flush=True)

    def get_state(self):
        return {"drawn": self.drawn}

    def set_state(self, state):
        self.drawn = state["drawn"]


class Tells(keras.callbacks.Callback):
    """Writes how many steps were taken where a killed process leaves it."""

    # It brings no execution to one step.
    async_safe = True

    def __init__(self, path):
        super().__init__()
        self.taken = np.memmap(path, "int64", "w+", shape=(1,))
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.taken[0] = self.epoch * STEPS + batch + 1


def steps_told(folder):
    """The steps that a process had taken when it was killed."""
    path = folder / "steps"
    told = np.fromfile(path, "int64") if path.exists() else []
    return int(told[0]) if len(told) else 0


def transformation(learning_rate):
    decay = optax.cosine_decay_schedule(1.0, 4000)
    return optax.chain(
        optax.scale_by_adam(),
        optax.scale_by_schedule(decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def train(folder, save_freq, epochs=EPOCHS, **options):
    keras.utils.set_random_seed(0)
    x = np.random.normal(size=(700, 6)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    model = Net()
    model.compile(
        kje.optimizers.OptaxOptimizer(transformation, learning_rate=1e-2),
        "mse",
        metrics=["mae"],
        **options,
    )
    counts = Counts()
    callbacks = [
        keras.callbacks.EarlyStopping(
            patience=epochs - 10, restore_best_weights=True
        ),
        kje.callbacks.BackupAndRestore(folder / "backup", save_freq),
        keras.callbacks.ReduceLROnPlateau(patience=3, factor=0.9),
        keras.callbacks.CSVLogger(folder / f"{save_freq}.csv"),
        counts,
        Tells(folder / "steps"),
    ]
    history = model.fit(
        x,
        y,
        epochs=epochs,
        validation_split=0.2,
        verbose=0,
        callbacks=callbacks,
    )
    variables = model.variables, model.optimizer.variables
    arrays = [np.asarray(v) for group in variables for v in group]
    told = {
        "history": history.history,
        "epochs": history.epoch,
        "drawn": counts.drawn,
        "next": float(np.random.uniform()),
    }
    np.savez(folder / "result.npz", *arrays, told=json.dumps(told))


def result(folder):
    """What a training ended with, as bytes and text."""
    with np.load(folder / "result.npz") as held:
        return {name: held[name].tobytes() for name in held.files}


def frequency(text):
    """A `save_freq` from its text."""
    if text == "1s":
        return datetime.timedelta(seconds=1)
    return text if text == "epoch" else int(text)


if __name__ == "__main__":
    train(Path(sys.argv[1]), frequency(sys.argv[2]))
