"""Trains in one of several processes; `test_processes.py` runs it in each.

    python together.py WHAT NUMBER PROCESSES PORT FOLDER

It prints what it found as JSON, behind a mark.
"""

import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import jax

MARK = "found: "
X_ROWS, BATCH = 72, 16

if __name__ == "__main__":
    WHAT, NUMBER, COUNT, PORT, FOLDER = sys.argv[1:]
    ME, COUNT, FOLDER = int(NUMBER), int(COUNT), Path(FOLDER)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jax.distributed.initialize(
        f"127.0.0.1:{PORT}",
        COUNT,
        ME,
        heartbeat_timeout_seconds=10,
        shutdown_timeout_seconds=20,
    )

import keras_jax_ext as kje
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import TRAIN
from keras_jax_ext._loop.program import Program

import keras
import numpy as np


def rows(process):
    """The rows that a process has."""
    random = np.random.default_rng(process)
    x = random.normal(size=(X_ROWS, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def make(cls=kje.Model, **options):
    """A small model with state of every kind."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Dense(8, activation="relu", name="wide")(inputs)
    h = keras.layers.BatchNormalization()(keras.layers.Dropout(0.2)(h))
    model = cls(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


def batches(x, y, steps=10**9):
    """Batches of a process, for ever or for some steps."""
    for step in range(steps):
        i = step % (len(x) // BATCH) * BATCH
        yield x[i : i + BATCH], y[i : i + BATCH]


class Dataset(keras.utils.PyDataset):
    """The same, by their numbers."""

    def __init__(self, x, y):
        super().__init__()
        self.data = x, y

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return tuple(a[i * BATCH : (i + 1) * BATCH] for a in self.data)


def weights(model):
    return [np.asarray(w).tolist() for w in model.get_weights()]


def results(x, y, cls=kje.Model, size=BATCH, **options):
    """What training leaves, from each kind of source."""
    fits = {
        "arrays": lambda model: model.fit(
            x,
            y,
            batch_size=size,
            epochs=2,
            validation_data=(x[:20], y[:20]),
            verbose=0,
            **options,
        ),
        "generator": lambda model: model.fit(
            batches(x, y), steps_per_epoch=4, epochs=2, verbose=0
        ),
        "dataset": lambda model: model.fit(
            Dataset(x, y), shuffle=False, epochs=2, verbose=0
        ),
    }
    found = {}
    for name, fit in fits.items():
        model = make(cls)
        found[name] = [fit(model).history, weights(model)]
        if name == "arrays":
            found["evaluated"] = model.evaluate(x, y, batch_size=size, verbose=0)
            if cls is kje.Model:
                predicted = model.predict(x, batch_size=size, verbose=0)
                found["predicted"] = predicted.tolist()
    return found


class Act(keras.callbacks.Callback):
    """Does something at a step or at the end of an epoch."""

    def __init__(self, function, epoch, step=None):
        super().__init__()
        self.at, self.function, self.epoch = (epoch, step), function, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.at == (epoch, None):
            self.function(self.model)

    def on_train_batch_end(self, batch, logs=None):
        if self.at == (self.epoch, batch):
            self.function(self.model)


def fit(model, *callbacks, **options):
    options = {"epochs": 4, "batch_size": BATCH, "verbose": 0, **options}
    return model.fit(*rows(ME), callbacks=[*callbacks], **options)


def error_of(function):
    """The class and text of what a function raises."""
    try:
        function()
    except BaseException as error:
        notes = getattr(error, "__notes__", [])
        return [type(error).__name__, " ".join([str(error), *notes])]
    return None


def stop(model):
    model.stop_training = True


def fail(model):
    raise RuntimeError("one process fails")


def steps_of(model):
    return int(model.optimizer.iterations.value)


def together():
    """Processes stop and fail together, and then train on."""
    found, mine = {}, ME == 1
    model = make()
    history = fit(model, *[Act(stop, 1, 2)] * mine)
    found["stopped in an epoch"] = [history.epoch, steps_of(model)]
    history = fit(model, *[Act(stop, 2)] * mine)
    found["stopped after one"] = [history.epoch, steps_of(model)]
    for name, act in {
        "failed": Act(fail, 1),
        "failed in a hook": Act(fail, 1, 2),
    }.items():
        model = make()
        error = error_of(lambda: fit(model, *[act] * mine))
        found[name] = [error, steps_of(model), weights(model)]
    found["trained on"] = [fit(model).history, weights(model)]

    def failing():
        yield from batches(*rows(ME), steps=6)
        raise OSError("no disk")

    model = make()
    source = failing() if mine else batches(*rows(ME))
    error = error_of(lambda: model.fit(source, steps_per_epoch=8, verbose=0))
    found["source failed"] = [error, steps_of(model)]

    model = make()
    short = batches(*rows(ME), steps=5 if mine else 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(short, verbose=0)
    found["ended early"] = steps_of(model)
    x, y = rows(ME)
    fewer = X_ROWS - 8 * mine
    uneven = error_of(lambda: model.fit(x[:fewer], y[:fewer], verbose=0))
    found["uneven"] = [uneven, steps_of(model)]
    return found


def interrupted():
    """Ctrl-C in one process ends the work in all."""
    model = make()
    fit(model)
    if ME == 1:
        threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    error = error_of(lambda: fit(model, epochs=10**6))
    return [error, steps_of(model), weights(model)]


def saved():
    """All processes call what writes files."""
    found = {}
    model = make()
    callbacks = [
        keras.callbacks.ModelCheckpoint(FOLDER / "new" / "{epoch}.keras"),
        keras.callbacks.ModelCheckpoint(
            FOLDER / "new" / "{epoch}.weights.h5", save_weights_only=True
        ),
        keras.callbacks.BackupAndRestore(FOLDER / "keras"),
    ]
    fit(model, *callbacks, epochs=2)
    for name in ("2.keras", "last.keras", "last.weights.h5"):
        path = FOLDER / "new" / name
        if name == "last.keras":
            model.save(path)
        elif name == "last.weights.h5":
            model.save_weights(path)
        again = make()
        again.load_weights(path)
        found[name] = weights(again) == weights(model)
    nowhere = FOLDER / "nowhere" / "a.keras"
    found["failed"] = error_of(lambda: model.save(nowhere))
    own = FOLDER / f"of-{ME}.keras"
    model.save(own)
    found["own"] = own.exists()
    if ME == 0:
        model.save(FOLDER / "one.keras")
    found["files"] = sorted(p.name for p in (FOLDER / "new").iterdir())
    found["kept"] = (FOLDER / "keras").exists()
    return found


def backup(**options):
    return kje.callbacks.BackupAndRestore(FOLDER / "backup", **options)


def final(*callbacks, epochs=6, **options):
    """What a run of dropout and shuffling leaves, and its History."""
    model = make()
    # Each process shuffles in its own way.
    np.random.seed(ME)
    history = fit(model, *callbacks, epochs=epochs, **options)
    return [weights(model), history.history, history.epoch]


def resumed():
    """Runs that were interrupted, in one process and in another way each."""
    found = {"whole": final()}
    for name, act, freq in [
        ("after an epoch", Act(fail, 2), "epoch"),
        ("in an epoch", Act(fail, 2, 3), 2),
    ]:
        # Batch hooks in both: their executions have the same steps.
        others = Act(lambda model: None, 2, 3)
        mine = act if ME == 1 else others
        first = error_of(lambda: final(backup(save_freq=freq), mine))
        again = final(backup(save_freq=freq), others)
        found[name] = [first[0], again == found["whole"]]
    fit(make(), backup(delete_checkpoint=False), epochs=1)
    if ME == 1:
        for path in (FOLDER / "backup" / "process-1").iterdir():
            path.write_bytes(path.read_bytes()[:-100])
    found["damaged"] = error_of(lambda: fit(make(), backup(), epochs=2))
    found["in one alone"] = error_of(
        lambda: fit(make(), *[backup()] * (ME == 1))
    )
    return found


def cut():
    """The kernel of the first layer is cut between the processes."""
    mesh = keras.distribution.DeviceMesh((1, COUNT), ("batch", "model"))
    layouts = keras.distribution.LayoutMap(mesh)
    layouts["wide/kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layouts, auto_shard_dataset=False
        )
    )
    x, y = rows(0)
    model = make()
    kept = kje.callbacks.BackupAndRestore(FOLDER / "cut")
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    act = Act(fail, 1) if ME == 1 else Act(lambda model: None, 1)
    error_of(lambda: model.fit(x, y, epochs=3, callbacks=[kept, act], **options))
    model = make()
    history = model.fit(x, y, epochs=3, callbacks=[kept, act], **options)
    model.save_weights(FOLDER / "cut.weights.h5")
    kernel = model.get_layer("wide").kernel.value
    found = {
        "shard": list(kernel.addressable_shards[0].data.shape),
        "history": history.history,
        "predicted": model.predict(x, batch_size=BATCH, verbose=0).tolist(),
    }
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    again = make()
    again.load_weights(FOLDER / "cut.weights.h5")
    return found | {"weights": weights(again)}


def collectives():
    """How many all-reduces the fused program has, and a step of Keras."""
    model = make()
    calls = []
    run = Program.__call__

    def note(program, state, span):
        calls.append((program, state, span))
        return run(program, state, span)

    Program.__call__ = note
    fit(model, epochs=1)
    Program.__call__ = run
    program, state, (data, start, steps, tail) = calls[0]
    program = memo(model).programs[TRAIN]
    whole = program._keeping.lower(state, data, start, steps, tail, None)
    shardings = jax.tree.map(lambda a: a.sharding, state)
    batch = jax.jit(lambda data: data.batch(0))(data)
    step = jax.jit(model.train_step, out_shardings=(None, shardings))
    one = step.lower(state, batch)
    texts = [each.compile().as_text() for each in (whole, one)]
    return {
        "all-reduces": [text.count(" all-reduce(") for text in texts],
        "others": [
            sum(text.count(f" {name}(") for name in OTHERS) for text in texts
        ],
        "tail": data.tail(0) is not None,
    }


OTHERS = (
    "all-gather",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
    "collective-broadcast",
)


def main():
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    if WHAT == "train":
        # A backup each epoch, and time to be killed.
        slow = Act(lambda model: None, 0)
        slow.on_epoch_end = lambda epoch, logs: (
            print(f"epoch {epoch}", flush=True),
            time.sleep(0.2),
        )
        found = error_of(lambda: print(MARK, json.dumps(final(backup(), slow))))
        if found:
            print("error: ", *found, flush=True)
            # A survivor has its weights.
        return
    found = {
        "shared": results(*rows(ME)),
        "ordered": results(*rows(ME), shuffle=False),
        "stock": results(*rows(ME), cls=keras.Model),
    }
    for part in (collectives, together, interrupted, saved, resumed, cut):
        found[part.__name__] = part()
    print(MARK, json.dumps(found))


if __name__ == "__main__":
    main()
