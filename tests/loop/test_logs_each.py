"""Callbacks that log each step, called for it after many have run."""

import keras_jax_ext as kje
from keras_jax_ext._loop.modes import PREDICT, TEST, TRAIN
from keras_jax_ext._loop.trackers import TRACKERS
from keras_jax_ext._loop.watching import logs_batches

import jax
import keras
import numpy as np
import pytest

ROWS = 340  # a smaller batch is left over
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class Tracker(keras.callbacks.Callback):
    """Notes all that a tracker may look at."""

    reads_only_logs = True

    def __init__(self):
        super().__init__()
        self.calls = []

    def note(self, name, batch, logs=None):
        optimizer = self.model.optimizer
        rate = float(optimizer.learning_rate)
        iterations = int(optimizer.iterations.numpy())
        self.calls.append((name, batch, iterations, rate, dict(logs or {})))

    def on_train_batch_begin(self, batch, logs=None):
        self.note("begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self.note("end", batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        self.note("test", batch, logs)


def make(cls=kje.Sequential, rate=0.02):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    model = cls(layers)
    model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae"])
    return model


def batches():
    while True:
        for i in range(0, ROWS, 10):
            yield X[i : i + 10], Y[i : i + 10]


def arrays(model, callback):
    validation = X[:50], Y[:50]
    return model.fit(
        X,
        Y,
        batch_size=8,
        epochs=3,
        validation_data=validation,
        verbose=0,
        callbacks=[callback],
    )


def generator(model, callback):
    return model.fit(
        batches(),
        steps_per_epoch=20,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )


def halves(model, callback):
    """Epochs that end within a pass, and the bar."""
    return model.fit(
        X, Y, epochs=2, steps_per_epoch=5, verbose=1, callbacks=[callback]
    )


def evaluation(model, callback):
    return model.evaluate(
        X, Y, batch_size=8, verbose=0, callbacks=[callback], return_dict=True
    )


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)


@pytest.mark.parametrize("rate", [lambda: 0.02, schedule])
@pytest.mark.parametrize("run", [arrays, generator, halves, evaluation])
def test_each_step_is_logged_as_of_stock(run, rate, executions, capsys):
    stock, ours = Tracker(), Tracker()
    expected = run(make(keras.Sequential, rate()), stock)
    model = make(kje.Sequential, rate())
    found = run(model, ours)
    assert [call[:3] for call in ours.calls] == [c[:3] for c in stock.calls]
    for call, theirs in zip(ours.calls, stock.calls, strict=True):
        assert call[3] == pytest.approx(theirs[3], rel=1e-6)
        assert call[4] == pytest.approx(theirs[4], rel=1e-5)
        assert list(call[4]) == list(theirs[4])
        assert all(type(value) is float for value in call[4].values())
    if run is not evaluation:
        expected, found = expected.history, found.history
        steps = sum(name == "end" for name, *_ in ours.calls)
        assert int(model.optimizer.iterations) == steps
        assert isinstance(model.optimizer.iterations.value, jax.Array)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
    logged = [name for name, *_ in ours.calls if name != "begin"]
    assert sum(executions) == len(logged)
    assert len(executions) < len(logged)
    assert "one step at a time" not in capsys.readouterr().out


def tracker_of(package, name):
    """A class as a package writes it."""
    code = f"""class {name}(Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.seen = logs
"""
    space = {
        "__name__": f"{package}.keras",
        "Callback": keras.callbacks.Callback,
    }
    exec(code, space)
    return space[name]


@pytest.mark.parametrize("known", sorted(TRACKERS))
def test_known_trackers_read_only_logs(known):
    cls = tracker_of(*known)
    assert logs_batches(cls(), TRAIN)
    assert not logs_batches(tracker_of("mine", known[1])(), TRAIN)

    class More(cls):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.get_weights()

    assert not logs_batches(More(), TRAIN)


class Reading(Tracker):
    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(self.model.get_weights()[0].copy())


class ReadingNoMore(Reading):
    reads_only_logs = True


class SaysNo(Tracker):
    reads_only_logs = False


def by_hand(says_so):
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=print)
    if says_so:
        callback.reads_only_logs = True
    return callback


@pytest.mark.parametrize(
    ("callback", "logs"),
    [
        (Tracker(), True),
        (Reading(), False),
        (ReadingNoMore(), True),
        (SaysNo(), False),
        (by_hand(False), False),
        (by_hand(True), True),
        (keras.callbacks.TerminateOnNaN(), False),
        (keras.callbacks.ModelCheckpoint("a.keras", save_freq=3), False),
    ],
)
def test_the_class_that_wrote_a_hook_says_what_it_reads(callback, logs):
    assert logs_batches(callback, TRAIN) is logs


def test_outputs_of_predict_are_not_logs():
    assert logs_batches(Tracker(), TEST)
    assert not logs_batches(Tracker(), PREDICT)


def test_beside_a_callback_that_reads_weights_each_step_is_alone(executions):
    tracker, reading = Tracker(), Reading()
    make().fit(X, Y, batch_size=17, verbose=0, callbacks=[tracker, reading])
    assert set(executions) == {1}
    weights = [w for w in reading.calls if isinstance(w, np.ndarray)]
    assert len({w.tobytes() for w in weights}) == ROWS // 17


def test_with_steps_of_the_user_it_is_called_every_so_many():
    model, tracker = make(), Tracker()
    model.compile("adam", "mse", steps_per_execution=5)
    model.fit(X, Y, batch_size=17, verbose=0, callbacks=[tracker])
    ends = [batch for name, batch, *_ in tracker.calls if name == "end"]
    assert ends == [4, 9, 14, 19]


def test_a_stop_ends_training_after_the_execution(executions):
    class Stopping(Tracker):
        def on_train_batch_end(self, batch, logs=None):
            self.note("end", batch, logs)
            self.model.stop_training = batch > 0

        reads_only_logs = True

    tracker, model = Stopping(), make()
    model.fit(X, Y, batch_size=2, epochs=4, verbose=0, callbacks=[tracker])
    ends = [batch for name, batch, *_ in tracker.calls if name == "end"]
    assert ends == list(range(sum(executions)))
    assert int(model.optimizer.iterations) == len(ends) < 4 * ROWS // 2


def test_what_a_hook_writes_counts_from_the_next_execution():
    class Writing(Tracker):
        reads_only_logs = True

        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.0

    model = make()
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[Writing()])
    before = model.get_weights()
    assert float(model.optimizer.learning_rate) == 0.0
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[Tracker()])
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_after_a_hook_that_fails_the_state_is_that_of_the_last_step(executions):
    class Failing(Tracker):
        reads_only_logs = True

        def on_train_batch_end(self, batch, logs=None):
            if batch == 9:
                raise RuntimeError("no disk")

    model = make()
    with pytest.raises(RuntimeError, match="no disk"):
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[Failing()])
    assert int(model.optimizer.iterations) == sum(executions) >= 10
    model.fit(X, Y, batch_size=8, verbose=0)


def test_logs_that_are_arrays_come_for_each_step():
    def trained(cls):
        keras.utils.set_random_seed(0)
        model = cls([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse", metrics=[keras.metrics.F1Score()])
        tracker = Tracker()
        labels = np.eye(2, dtype="float32")[(Y[:, 0] > 0).astype(int)]
        model.fit(X, labels, batch_size=68, verbose=0, callbacks=[tracker])
        return [logs["f1_score"] for name, *_, logs in tracker.calls[1::2]]

    expected = trained(keras.Sequential)
    found = trained(kje.Sequential)
    assert len(found) == 5
    for value, theirs in zip(found, expected, strict=True):
        assert value.shape == (2,)
        np.testing.assert_allclose(value, theirs, rtol=1e-5)
