"""Callbacks that only log are told of steps while the next ones run."""

import keras_jax_ext as kje
from keras_jax_ext._loop.arrays import Arrays

import keras
import numpy as np
import pytest

ROWS = 170  # a smaller batch is left over
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
STEPS = -(-ROWS // 8)


class Tracker(keras.callbacks.Callback):
    """Notes what a tracker may look at, and how much has run then."""

    reads_only_logs = True

    def __init__(self, executions=()):
        super().__init__()
        self.calls = []
        self.executions, self.begun = executions, []

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        rate = float(optimizer.learning_rate)
        ended = len(self.model.history.epoch)
        numbers = int(optimizer.iterations.numpy()), rate, logs["loss"]
        self.calls.append((ended, batch, *numbers))
        self.begun.append(len(self.executions))


def make(cls=kje.Sequential):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    model = cls(layers)
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def fit(model, *callbacks, **options):
    given = {"batch_size": 8, "epochs": 4, "verbose": 0} | options
    return model.fit(X, Y, callbacks=[*callbacks], **given)


def source(steps):
    """Batches that end with an error."""
    for i in range(steps):
        yield X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]
    raise OSError("no disk")


VALIDATED = {"validation_data": (X[:20], Y[:20])}


@pytest.mark.parametrize("options", [{}, VALIDATED, {"steps_per_epoch": 5}])
def test_it_sees_what_it_would_with_stock(options):
    stock, ours = Tracker(), Tracker()
    expected = fit(make(keras.Sequential), stock, **options).history
    model = make()
    found = fit(model, ours, **options).history
    assert len(ours.calls) == len(stock.calls) > 0
    np.testing.assert_allclose(ours.calls, stock.calls, rtol=1e-5)
    assert int(model.optimizer.iterations) == len(ours.calls)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_it_is_told_of_an_epoch_while_the_next_one_runs(executions):
    tracker, model = Tracker(executions), make()
    fit(model, epochs=2)  # learns the pace
    executions.clear()
    fit(model, tracker, epochs=6)
    ran = np.cumsum(executions)
    # The execution that holds each step, and how many had begun.
    held = np.searchsorted(ran, np.arange(ran[-1]), side="right")
    expected = np.minimum(held + 2, len(executions))
    assert tracker.begun == expected.tolist()


def test_the_data_are_read_once(monkeypatch):
    reads, read = [], Arrays.read
    monkeypatch.setattr(
        Arrays, "read", lambda self: reads.append(1) or read(self)
    )
    fit(make(), Tracker())
    assert len(reads) == 1


class Epochs(Tracker):
    """Does more when an epoch ends: it may read weights, or change data."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append((len(self.calls), self.model.get_weights()[0].copy()))


def test_a_hook_of_epochs_is_called_before_the_next_begins():
    stock, ours = Epochs(), Epochs()
    fit(make(keras.Sequential), stock)
    fit(make(), ours)
    assert [told for told, _ in ours.ends] == [STEPS * i for i in (1, 2, 3, 4)]
    for (_, found), (_, expected) in zip(ours.ends, stock.ends, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_beside_the_progress_bar_it_is_told_at_once(executions, capsys):
    tracker = Tracker(executions)
    fit(make(), tracker, verbose=1)
    ran = np.cumsum(executions)
    held = np.searchsorted(ran, np.arange(ran[-1]), side="right")
    assert tracker.begun == (held + 1).tolist()
    assert f"{STEPS}/{STEPS}" in capsys.readouterr().out


def test_when_a_source_fails_it_knows_of_all_that_ran(executions):
    tracker, model = Tracker(), make()
    with pytest.raises(OSError, match="no disk"):
        model.fit(source(12), shuffle=False, verbose=0, callbacks=[tracker])
    assert len(tracker.calls) == sum(executions) > 0
    assert int(model.optimizer.iterations) == len(tracker.calls)


def test_after_one_that_fails_no_other_hook_is_called():
    class Failing(Tracker):
        reads_only_logs = True

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if len(self.calls) == STEPS + 3:
                raise RuntimeError("no network")

    tracker, model = Failing(), make()
    fit(model, epochs=2)  # learns the pace: an execution is an epoch
    with pytest.raises(RuntimeError, match="no network"):
        fit(model, tracker)
    assert len(tracker.calls) == STEPS + 3
    assert model.history.epoch == [0]
    # The weights are those of the last step that ran.
    assert int(model.optimizer.iterations) % STEPS == 0
    assert np.isfinite(fit(model, Tracker()).history["loss"]).all()


def test_a_stop_ends_training_after_what_had_begun(executions):
    class Stopping(Tracker):
        reads_only_logs = True

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            self.model.stop_training = True

    tracker, model = Stopping(executions), make()
    fit(model, tracker, epochs=9)
    assert len(executions) == 2
    assert len(tracker.calls) == sum(executions)


def test_a_learning_rate_that_it_sets_counts_later():
    class Writing(Tracker):
        reads_only_logs = True

        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.0

    model = make()
    model.compile("adam", "mse")
    before = model.get_weights()
    fit(model, Writing(), epochs=3)
    assert float(model.optimizer.learning_rate) == 0.0
    after = model.get_weights()
    assert not np.array_equal(before[0], after[0])
    fit(model, epochs=1)
    for value, expected in zip(model.get_weights(), after, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_backup_has_what_it_was_told(tmp_path):
    class Counting(Tracker):
        """Has a state, which a backup keeps."""

        reads_only_logs = True
        seen = 0

        def on_train_batch_end(self, batch, logs=None):
            self.seen += 1

        def get_state(self):
            return {"seen": self.seen}

        def set_state(self, state):
            self.seen = state["seen"]

    def trained(epochs, **options):
        backup = kje.callbacks.BackupAndRestore(
            tmp_path, save_freq=9, delete_checkpoint=False
        )
        tracker, model = Counting(), make()
        fit(model, tracker, backup, epochs=epochs, **options)
        return tracker.seen, int(model.optimizer.iterations)

    assert trained(2) == (2 * STEPS, 2 * STEPS)
    # Goes on with the steps after the last snapshot.
    assert trained(3) == (3 * STEPS, 3 * STEPS)


def test_evaluate_tells_all_before_it_ends(executions):
    class Tests(Tracker):
        def on_test_batch_end(self, batch, logs=None):
            self.calls.append((batch, logs["loss"]))

        reads_only_logs = True

    found = []
    for cls in (keras.Sequential, kje.Sequential):
        tracker = Tests()
        make(cls).evaluate(X, Y, 8, 0, callbacks=[tracker])
        found.append(tracker.calls)
    assert len(found[0]) == len(found[1]) == STEPS == sum(executions)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
