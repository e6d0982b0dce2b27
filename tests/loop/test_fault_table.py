"""Whatever fails, and wherever: the weights are whole, and fit goes on."""

import gc
import itertools
import logging
import multiprocessing
import os
import signal
import threading

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
Y = X.sum(1, keepdims=True)
STEPS = 4


class Faulty(keras.layers.Layer):
    """Counts the steps of training, and fails on demand."""

    fails_when = None

    def build(self, shape):
        self.steps = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        if Faulty.fails_when == "traced":
            raise ArithmeticError("broken")
        if training:
            self.steps.assign_add(1)
        if Faulty.fails_when == "run":
            jax.debug.callback(self.check, x)
        return x

    def check(self, x):
        if np.max(np.asarray(x)) > 50:
            raise ArithmeticError("broken")


class Unwritten(keras.layers.Layer):
    """Cannot be written while it fails."""

    fails = False

    def call(self, x):
        return x

    def get_config(self):
        if Unwritten.fails:
            raise ArithmeticError("broken")
        return super().get_config()


def make():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    x = Unwritten()(Faulty()(inputs))
    model = kje.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("adam", "mse", metrics=["mae"])
    return model


def fit(model, *callbacks, x=X, y=Y, **options):
    options = {"epochs": 2, "verbose": 0, "shuffle": False, **options}
    given = [*callbacks]
    if isinstance(x, np.ndarray):
        options |= {"batch_size": len(X) // STEPS, "validation_data": (X, Y)}
        return model.fit(x, y, callbacks=given, **options)
    return model.fit(x, steps_per_epoch=STEPS, callbacks=given, **options)


@pytest.fixture(scope="module")
def expected():
    """The kernel after each number of steps, of a training without faults."""
    model, kernels = make(), []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernels.append(np.asarray(model.layers[-1].kernel))

    kernels.append(np.asarray(model.layers[-1].kernel))
    fit(model, Keep())
    return kernels


@pytest.fixture(autouse=True)
def mended():
    yield
    Faulty.fails_when, Unwritten.fails = None, False


HOOKS = [
    f"on_{what}_{when}"
    for what in ("epoch", "train_batch", "test_batch", "train", "test")
    for when in ("begin", "end")
]
# Four more belong to prediction of its own.
PREDICTS = [
    f"on_predict_{when}"
    for when in ("begin", "end", "batch_begin", "batch_end")
]


def failing(hook, number=0):
    """A callback whose hook raises when it is called after so many calls."""
    calls = itertools.count()

    def strike(self, *args, **kwargs):
        if next(calls) == number:
            raise ArithmeticError("broken")

    return type("Failing", (keras.callbacks.Callback,), {hook: strike})()


def batches(fails_at=None):
    size = len(X) // STEPS
    for i in itertools.count():
        if i == fails_at:
            raise ArithmeticError("broken")
        part = slice(i % STEPS * size, (i % STEPS + 1) * size)
        yield X[part], Y[part]


class Data(keras.utils.PyDataset):
    """Fails at a batch, in one of its threads."""

    def __len__(self):
        return STEPS

    def __getitem__(self, i):
        if i == 2:
            raise ArithmeticError("broken")
        return next(itertools.islice(batches(), i, None))


def traced(model, folder):
    Faulty.fails_when = "traced"
    model.compile("adam", "mse")
    fit(model)


def run(model, folder):
    Faulty.fails_when = "run"
    model.compile("adam", "mse")
    fit(model, x=np.concatenate([X[:48], X[48:] * 1000]))


def checked(model, folder):
    broken = np.concatenate([X[:32], np.full_like(X[32:], np.nan)])
    with jax.debug_nans(True):
        fit(model, x=broken)


def saved(model, folder):
    Unwritten.fails = True
    model.save(folder / "a.keras")


def saved_within(model, folder):
    Unwritten.fails = True
    fit(model, keras.callbacks.ModelCheckpoint(folder / "a.keras"))


def loaded(model, folder):
    (folder / "a.weights.h5").write_bytes(b"broken")
    model.load_weights(folder / "a.weights.h5")


FAULTS = {
    "a generator": lambda m, _: fit(m, x=batches(5)),
    "a dataset": lambda m, _: fit(m, x=Data()),
    "a dataset of threads": lambda m, _: fit(m, x=Data(workers=2)),
    "a trace": traced,
    "a run": run,
    "a NaN": checked,
    "a save": saved,
    "a save within fit": saved_within,
    "a load": loaded,
    **{h: lambda m, _, h=h: fit(m, failing(h)) for h in HOOKS},
    "a later batch": lambda m, _: fit(m, failing("on_train_batch_end", 5)),
    **{
        h: lambda m, _, h=h: m.predict(X, verbose=0, callbacks=[failing(h)])
        for h in PREDICTS
    },
    "evaluate": lambda m, _: m.evaluate(
        X, Y, verbose=0, callbacks=[failing("on_test_batch_end")]
    ),
}


def check(model, expected):
    """The weights are those after some number of steps, and train on."""
    steps = int(model.layers[1].steps.value)
    # Exact where steps are counted; a fused loop may round otherwise.
    np.testing.assert_allclose(
        model.layers[-1].kernel, expected[steps], rtol=1e-5, atol=1e-6
    )
    Faulty.fails_when, Unwritten.fails = None, False
    model.compile("adam", "mse", metrics=["mae"])
    fit(model, epochs=1)
    assert int(model.layers[1].steps.value) == steps + STEPS
    assert all(np.isfinite(w).all() for w in model.get_weights())


def running():
    """Threads that Python began: XLA's own only seem to be when they call."""
    own = threading._DummyThread
    return [t for t in threading.enumerate() if not isinstance(t, own)]


@pytest.fixture
def nothing_left():
    """No thread, process or buffer outlives the test."""
    gc.collect()
    threads, children = running(), multiprocessing.active_children()
    buffers = len(jax.live_arrays())
    # What is logged would be kept, with the frames of what failed.
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    gc.collect()
    assert running() == threads
    assert multiprocessing.active_children() == children
    assert len(jax.live_arrays()) <= buffers


@pytest.fixture(scope="module", autouse=True)
def warm(expected):
    """What is made once in a process is made before anything is counted."""
    model = make()
    model.predict(X, verbose=0)
    model.evaluate(X, Y, verbose=0)
    fit(model, x=batches())
    fit(model, x=Data(workers=2), epochs=0)
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("name", FAULTS)
def test_the_weights_are_the_last_good_ones(
    name, expected, tmp_path, nothing_left
):
    model = make()
    with pytest.raises(
        Exception, match=r"broken|invalid value|signature not found"
    ):
        FAULTS[name](model, tmp_path)
    check(model, expected)
    del model


def test_interrupts_at_any_instant_leave_whole_steps(expected, nothing_left):
    model, rng, late = make(), np.random.default_rng(0), 0
    fit(model)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    # The alarm comes in the main thread, and interrupts as Ctrl-C does.
    alarm = signal.signal(
        signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT)
    )
    try:
        for _ in range(100):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-3, 0.06))
            with pytest.raises(KeyboardInterrupt):
                fit(model, epochs=10**6)
            steps = int(model.layers[1].steps.value)
            assert int(model.optimizer.iterations.value) == steps
            assert all(np.isfinite(w).all() for w in model.get_weights())
            late += steps
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGALRM, alarm)
    assert late > 0
    fit(model)


@pytest.mark.parametrize(
    "kind",
    [keras.callbacks.BackupAndRestore, kje.callbacks.BackupAndRestore],
    ids=["stock", "ours"],
)
def test_a_fit_after_a_resumed_one_begins_at_its_own_epoch(kind, tmp_path):
    # Keras never forgets the epoch, and would train nothing, in silence.
    callbacks = kind(tmp_path / "b"), failing("on_epoch_begin", 3)
    with pytest.raises(ArithmeticError, match="broken"):
        fit(make(), *callbacks, epochs=4)
    model = make()
    epochs = [
        fit(model, kind(tmp_path / "b"), failing("none"), epochs=4).epoch,
        fit(model, epochs=2).epoch,
        fit(model, epochs=3, initial_epoch=1).epoch,
    ]
    assert epochs[0][-1] == 3
    assert len(epochs[0]) == (1 if kind.__module__.startswith("keras.") else 4)
    assert epochs[1:] == [[0, 1], [1, 2]]
