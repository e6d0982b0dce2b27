"""Trains in one of several processes; `test_processes.py` runs it in each.

    python together.py WHAT NUMBER PROCESSES PORT FOLDER

It prints what it found as JSON, behind a mark.
"""

import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import keras_jax_ext as kje
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import TRAIN
from keras_jax_ext._loop.program import Program

import jax
import jax.numpy as jnp
import keras
import numpy as np

MARK = "found: "
X_ROWS, BATCH = 72, 16
# What a process is killed in.
LONG = {"count": 2400, "epochs": 3}
# Seconds after which JAX ends a process of which another has died.
HEARTBEAT = 10


def rows(process, count=X_ROWS):
    """The rows that a process has."""
    random = np.random.default_rng(process)
    x = random.normal(size=(count, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def make(cls=kje.Model):
    """A small model with state of every kind."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Dense(8, activation="relu", name="wide")(inputs)
    h = keras.layers.BatchNormalization()(keras.layers.Dropout(0.2)(h))
    model = cls(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse", metrics=["mae"])
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


class Fresh:
    """Gives a model as it was made, with the programs that it has.

    Args:
        model: A compiled model.
    """

    def __init__(self, model):
        model.optimizer.build(model.trainable_variables)
        self.model = model
        self.variables = [*model.variables, *model.optimizer.variables]
        self.values = [jnp.copy(v.value) for v in self.variables]

    def __call__(self):
        keras.utils.set_random_seed(1)
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(jnp.copy(value))
        return self.model


def results(fresh, x, y):
    """What training leaves, from each kind of source, and its readers."""
    model, found = fresh(), {}
    validation = x[: X_ROWS // 2], y[: X_ROWS // 2]
    history = fit(model, epochs=2, validation_data=validation).history
    found["arrays"] = [history, weights(model)]
    found["evaluated"] = model.evaluate(x, y, batch_size=BATCH, verbose=0)
    predicted = model.predict(x, batch_size=BATCH, verbose=0)
    found["predicted"] = predicted.tolist()
    for name, data, options in [
        ("generator", batches(x, y), {"steps_per_epoch": 4}),
        ("dataset", Dataset(x, y), {}),
    ]:
        model = fresh()
        options |= {"shuffle": False, "verbose": 0}
        history = model.fit(data, epochs=2, **options).history
        found[name] = [history, weights(model)]
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


def fit(model, *callbacks, count=X_ROWS, **options):
    options = {"epochs": 4, "batch_size": BATCH, "verbose": 0, **options}
    return model.fit(*rows(ME, count), callbacks=[*callbacks], **options)


def error_of(function, *args, **kwargs):
    """The class and text of what a function raises."""
    try:
        function(*args, **kwargs)
    except BaseException as error:
        notes = getattr(error, "__notes__", [])
        return [type(error).__name__, " ".join([str(error), *notes])]
    return None


def stop(model):
    model.stop_training = True


def fail(model):
    raise RuntimeError("one process fails")


def terminate(model):
    os.kill(os.getpid(), signal.SIGTERM)


def steps_of(model):
    return int(model.optimizer.iterations.value)


def together(fresh):
    """Processes stop and fail together, and then train on."""
    found, mine = {}, ME == 1
    model = fresh()
    history = fit(model, *[Act(stop, 1, 2)] * mine)
    found["stopped in an epoch"] = [history.epoch, steps_of(model)]
    history = fit(model, *[Act(stop, 2)] * mine)
    found["stopped after one"] = [history.epoch, steps_of(model)]
    for name, act in {
        "failed": Act(fail, 1),
        "failed in a hook": Act(fail, 1, 2),
    }.items():
        model = fresh()
        error = error_of(fit, model, *[act] * mine)
        found[name] = [error, steps_of(model), weights(model)]
    found["trained on"] = [fit(model).history, weights(model)]

    def failing():
        yield from batches(*rows(ME), steps=6)
        raise OSError("no disk")

    model = fresh()
    source = failing() if mine else batches(*rows(ME))
    error = error_of(model.fit, source, steps_per_epoch=8, verbose=0)
    found["source failed"] = [error, steps_of(model)]

    model = fresh()
    short = batches(*rows(ME), steps=5 if mine else 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(short, verbose=0)
    found["ended early"] = steps_of(model)
    x, y = rows(ME)
    fewer = X_ROWS - 8 * mine
    uneven = error_of(model.fit, x[:fewer], y[:fewer], verbose=0)
    found["uneven"] = [uneven, steps_of(model)]
    return found


def scheduled(fresh):
    """How many threads give way to others: within `fit`, and behind it."""

    def note(model=None):
        tasks = map(int, os.listdir("/proc/self/task"))
        policies = [os.sched_getscheduler(task) for task in tasks]
        counts.append(policies.count(os.SCHED_BATCH))

    counts = []
    if sys.platform == "linux":
        fit(fresh(), Act(note, 0), epochs=1)
        note()
    return counts


def interrupted(fresh):
    """Ctrl-C in one process ends the work in all."""
    model = fresh()
    if ME == 1:
        threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    error = error_of(fit, model, epochs=10**6)
    return [error, steps_of(model), weights(model)]


def saved(fresh):
    """All processes call what writes files."""
    found = {}
    model, again = fresh(), make()
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
        again.load_weights(path)
        found[name] = weights(again) == weights(model)
    nowhere = FOLDER / "nowhere" / "a.keras"
    found["failed"] = error_of(model.save, nowhere)
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


def final(model, *callbacks, **options):
    """What a run of dropout and shuffling leaves, and its History."""
    # Each process shuffles in its own way.
    np.random.seed(ME)
    history = fit(model, *callbacks, **options)
    return [weights(model), history.history, history.epoch]


def resumed(fresh):
    """Runs that failed in one process, and go on in all."""
    found = {"whole": final(fresh()), "long": final(fresh(), **LONG)}
    for name, act, freq in [
        ("after an epoch", Act(fail, 2), "epoch"),
        ("in an epoch", Act(fail, 2, 3), 2),
    ]:
        # Batch hooks in both: their executions have the same steps.
        others = Act(lambda model: None, 2, 3)
        mine = act if ME == 1 else others
        first = error_of(final, fresh(), backup(save_freq=freq), mine)
        again = final(fresh(), backup(save_freq=freq), others)
        found[name] = [first[0], again == found["whole"]]
    ends = backup(save_freq=False, save_before_preemption=True)
    terminated = Act(terminate if ME == 1 else others.function, 2, 3)
    error = error_of(final, fresh(), ends, terminated)
    again = final(fresh(), backup(), others)
    found["terminated"] = [error, again == found["whole"]]
    fit(fresh(), backup(delete_checkpoint=False), epochs=2)
    if ME == 1:
        for path in (FOLDER / "backup" / "process-1").iterdir():
            path.write_bytes(path.read_bytes()[:-100])
    found["damaged"] = error_of(fit, fresh(), backup())
    found["in one"] = error_of(fit, fresh(), *[backup()] * (ME == 1))
    return found


def cut(fresh):
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
    fresh = Fresh(make())
    kept = kje.callbacks.BackupAndRestore(FOLDER / "cut")
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    act = Act(fail, 1) if ME == 1 else Act(lambda model: None, 1)
    options["callbacks"] = [kept, act]
    error = error_of(fresh().fit, x, y, epochs=3, **options)
    model = fresh()
    act.at = None
    history = model.fit(x, y, epochs=3, **options)
    model.save_weights(FOLDER / "cut.weights.h5")
    kernel = model.get_layer("wide").kernel.value
    found = {
        "error": error,
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


def collectives(fresh):
    """How many all-reduces the fused program has, and a step of Keras."""
    model, calls = fresh(), []
    run = Program.__call__

    def note(program, state, span, *kept):
        calls.append((program, state, span))
        return run(program, state, span, *kept)

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


def train(fresh):
    """Train with backups, long enough to be killed in an execution."""
    told = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: print(f"epoch {epoch}", flush=True)
    )
    fit(fresh(), epochs=1)  # A first fit draws an order to build the metrics.
    try:
        print(MARK, json.dumps(final(fresh(), backup(), told, **LONG)))
    except BaseException as error:
        finite = all(np.isfinite(w).all() for w in fresh.model.get_weights())
        notes = " ".join(getattr(error, "__notes__", []))
        print("survived: ", finite, steps_of(fresh.model), notes, flush=True)
        raise


def main(port):
    # A process started in the background ignores the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        COUNT,
        ME,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=2 * HEARTBEAT,
    )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    fresh = Fresh(make())
    if WHAT == "train":
        train(fresh)
        return
    found = {"shared": results(fresh, *rows(ME))}
    stock = Fresh(make(keras.Model))
    history = fit(stock(), epochs=2)
    found["stock"] = [history.history, weights(stock.model)]
    parts = collectives, scheduled, together, interrupted, saved, resumed, cut
    for part in parts:
        found[part.__name__] = part(fresh)
    print(MARK, json.dumps(found))


if __name__ == "__main__":
    WHAT, *NUMBERS, PORT, FOLDER = sys.argv[1:]
    ME, COUNT, FOLDER = *map(int, NUMBERS), Path(FOLDER)
    main(PORT)
