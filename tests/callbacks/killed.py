"""A training that is killed at any instant, and started again.

python killed.py FOLDER SAVE_FREQ: goes on from FOLDER/backup, tells each epoch,
and writes FOLDER/result.npz. SAVE_FREQ is "epoch", a number of steps, or "1s".
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


def transformation(learning_rate):
    decay = optax.cosine_decay_schedule(1.0, 4000)
    return optax.chain(
        optax.scale_by_adam(),
        optax.scale_by_schedule(decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def train(folder, save_freq):
    keras.utils.set_random_seed(0)
    x = np.random.normal(size=(700, 6)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    model = Net()
    model.compile(
        kje.optimizers.OptaxOptimizer(transformation, learning_rate=1e-2),
        "mse",
        metrics=["mae"],
    )
    counts = Counts()
    callbacks = [
        keras.callbacks.EarlyStopping(
            patience=EPOCHS - 10, restore_best_weights=True
        ),
        kje.callbacks.BackupAndRestore(folder / "backup", save_freq),
        keras.callbacks.ReduceLROnPlateau(patience=3, factor=0.9),
        keras.callbacks.CSVLogger(folder / f"{save_freq}.csv"),
        counts,
    ]
    history = model.fit(
        x,
        y,
        epochs=EPOCHS,
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


if __name__ == "__main__":
    given = sys.argv[2]
    if given == "1s":
        given = datetime.timedelta(seconds=1)
    elif given != "epoch":
        given = int(given)
    train(Path(sys.argv[1]), given)
