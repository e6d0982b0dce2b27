"""Sources are read as by stock Keras: no batch more, none by another thread."""

import contextlib
import decimal
import signal
import sqlite3
import threading

import keras_jax_ext as kje

import keras
import numpy as np
import pytest
from keras.src.trainers.data_adapters.generator_data_adapter import (
    GeneratorDataAdapter,
)

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
CLASSES = keras.Sequential, kje.Sequential


def make(cls, **options):
    """A linear model whose loss is the number of the batch."""
    keras.utils.set_random_seed(0)
    model = cls([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", lambda y, p: y[:, 0] + 0 * p[:, 0], **options)
    return model


class Numbers:
    """Batches that hold their number, and the numbers that were drawn."""

    def __init__(self, count=1000):
        self.drawn, self.count = [], count

    def generator(self):
        for i in range(self.count):
            self.drawn.append(i)
            yield X, np.full((8, 1), i, "float32")


class StopAt(keras.callbacks.Callback):
    """Stops, or raises, after a step of fit or evaluate."""

    def __init__(self, step, name, error=None):
        super().__init__()
        self.step, self.name, self.error = step, name, error
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))
        if batch >= self.step and self.name:
            if self.error:
                raise self.error
            setattr(self.model, self.name, True)

    on_test_batch_end = on_train_batch_end


def stop_in_fit(model, numbers):
    callback = StopAt(2, "stop_training")
    options = {"steps_per_epoch": 20, "epochs": 3, "callbacks": [callback]}
    model.fit(numbers.generator(), verbose=0, shuffle=False, **options)
    return callback.losses


def raise_in_fit(model, numbers):
    callback = StopAt(2, "x", OSError("enough"))
    with pytest.raises(OSError, match="enough"):
        model.fit(
            numbers.generator(),
            steps_per_epoch=20,
            callbacks=[callback],
            verbose=0,
            shuffle=False,
        )
    return callback.losses


def stop_in_validation(model, numbers):
    callback = StopAt(2, "stop_evaluating")
    model.fit(
        X,
        X[:, :1],
        epochs=3,
        validation_data=numbers.generator(),
        validation_steps=8,
        callbacks=[callback],
        verbose=0,
    )
    return callback.losses


def fit_twice_from_one_generator(model, numbers):
    source, losses = numbers.generator(), []
    for _ in range(2):
        history = model.fit(
            source, steps_per_epoch=3, epochs=2, verbose=0, shuffle=False
        )
        losses += history.history["loss"]
    return losses


def stop_at_an_epoch(model, numbers):
    stopping = keras.callbacks.EarlyStopping("loss", patience=1)
    history = model.fit(
        numbers.generator(),
        steps_per_epoch=5,
        epochs=9,
        callbacks=[stopping],
        verbose=0,
        shuffle=False,
    )
    return history.history["loss"]


def evaluate_twice(model, numbers):
    source = numbers.generator()
    return [model.evaluate(source, steps=3, verbose=0) for _ in range(2)]


def cap_the_steps(model, numbers):
    keras.config.set_max_steps_per_epoch(3)
    try:
        with pytest.warns(UserWarning, match="Limiting"):
            history = model.fit(
                numbers.generator(), epochs=2, verbose=0, shuffle=False
            )
    finally:
        keras.config.set_max_steps_per_epoch(None)
    return history.history["loss"]


WAYS = [
    stop_in_fit,
    raise_in_fit,
    stop_in_validation,
    fit_twice_from_one_generator,
    stop_at_an_epoch,
    evaluate_twice,
    cap_the_steps,
]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_generator_loses_the_batches_that_stock_takes(way, steps):
    results = []
    for cls in CLASSES:
        model, numbers = make(cls, steps_per_execution=steps), Numbers()
        losses = way(model, numbers)
        results.append((losses, numbers.drawn))
    stock, ours = results
    assert ours[1] == stock[1]
    np.testing.assert_allclose(ours[0], stock[0], rtol=1e-6)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_so_it_does_with_automatic_steps(way):
    expected, numbers = Numbers(), Numbers()
    losses = way(make(keras.Sequential), expected)
    ours = way(make(kje.Sequential), numbers)
    assert numbers.drawn == expected.drawn
    np.testing.assert_allclose(ours, losses, rtol=1e-6)


class Harder(keras.callbacks.Callback):
    """Scales what a dataset yields next."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def on_train_batch_end(self, batch, logs=None):
        self.data.scale *= 0.8


@pytest.mark.parametrize("steps", ["auto", 1, 4])
def test_what_a_batch_callback_changes_is_in_the_next_batch(steps):
    weights = []
    for cls in CLASSES:

        class Data(keras.utils.PyDataset):
            scale = 1.0

            def __len__(self):
                return 8

            def __getitem__(self, i):
                return self.scale * X, self.scale * X[:, :1] + i

        data, known = Data(), {}
        callback = Harder(data)
        if steps != "auto":
            known = {"steps_per_execution": steps}
        keras.utils.set_random_seed(0)
        model = cls([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", **known)
        model.fit(data, shuffle=False, verbose=0, callbacks=[callback])
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-5)


def sqlite_rows():
    database = sqlite3.connect(":memory:")
    database.execute("create table t(a)")
    database.executemany("insert into t values(?)", [(i,) for i in range(9)])

    def batches():
        with contextlib.closing(database):
            for (value,) in database.execute("select a from t"):
                yield X, np.full((8, 1), value, "float32")

    return batches()


def thread_local_rows():
    local = threading.local()
    local.scale = 3.0

    def batches():
        for i in range(9):
            yield X, np.full((8, 1), i * local.scale, "float32")

    return batches()


def rows_in_a_context():
    decimal.getcontext().prec = 2

    def batches():
        for i in range(9):
            value = decimal.Decimal(i) / 7
            yield X, np.full((8, 1), float(value), "float32")

    return batches()


def rows_with_a_signal_handler():
    for i in range(9):
        old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, old)
        yield X, np.full((8, 1), i, "float32")


@pytest.mark.parametrize(
    "source",
    [
        sqlite_rows,
        thread_local_rows,
        rows_in_a_context,
        rows_with_a_signal_handler,
    ],
)
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_source_may_be_bound_to_the_thread_that_calls(method, source):
    results = []
    precision = decimal.getcontext().prec
    for cls in CLASSES:
        model = make(cls)
        if method == "fit":
            history = model.fit(
                source(), steps_per_epoch=9, verbose=0, shuffle=False
            )
            results.append(history.history["loss"][0])
        else:
            results.append(model.evaluate(source(), steps=9, verbose=0))
    decimal.getcontext().prec = precision
    assert results[1] == pytest.approx(results[0])


def test_no_thread_is_left():
    model = make(kje.Sequential)
    before = threading.active_count()
    model.fit(
        Numbers().generator(),
        steps_per_epoch=3,
        epochs=4,
        validation_data=Numbers().generator(),
        validation_steps=2,
        verbose=0,
        shuffle=False,
    )
    assert threading.active_count() == before


@pytest.mark.parametrize("method", ["predict", "evaluate", "fit"])
@pytest.mark.parametrize("callbacks", [[], [StopAt(99, None)]])
def test_a_generator_that_runs_its_model_is_told_so(method, callbacks):
    model = make(kje.Sequential)
    data = (X,) if method == "predict" else (X, X[:, :1])

    def batches():
        for i in range(8):
            if i == 6:
                getattr(model, method)(*data, verbose=0)
            yield X, X[:, :1]

    with pytest.raises(RuntimeError, match=r"generator.*predict_on_batch"):
        model.fit(
            batches(),
            steps_per_epoch=8,
            verbose=0,
            shuffle=False,
            callbacks=callbacks,
        )
    assert int(model.optimizer.iterations.value) == 6
    model.fit(X, X[:, :1], verbose=0)
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize("watch", [[], [StopAt(99, None)]])
def test_a_generator_may_look_at_its_model_and_call_it(watch):
    model, seen = make(kje.Sequential), []
    model.compile("sgd", "mse")

    def batches():
        for _ in range(8):
            seen.append(int(model.optimizer.iterations.value))
            assert model.predict_on_batch(X).shape == (8, 1)
            assert model(X).shape == (8, 1)
            yield X, X[:, :1]

    model.fit(
        batches(),
        steps_per_epoch=8,
        verbose=0,
        shuffle=False,
        callbacks=watch,
    )
    if watch:
        # Keras reads two when it begins.
        assert seen == [0, 0, *range(2, 8)]
    stock = make(keras.Sequential)
    stock.compile("sgd", "mse")
    again = ((X, X[:, :1]) for _ in range(8))
    stock.fit(again, steps_per_epoch=8, verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_passes_of_other_lengths_are_counted_as_in_stock(monkeypatch):
    seen = []
    for cls in CLASSES:
        # As loaders do that say no length; here without their packages.
        lengths, steps = iter([3, 3, 6, 2, 4, 4]), []
        monkeypatch.setattr(
            GeneratorDataAdapter,
            "get_jax_iterator",
            lambda _, n=lengths: (
                (X, X[:, :1]) for _ in range(1) for _ in range(next(n))
            ),
        )
        model = make(cls)
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda e, logs, m=model, s=steps: s.append(
                int(m.optimizer.iterations.value)
            )
        )
        with pytest.warns(UserWarning, match="ran out of data"):
            model.fit(
                Numbers().generator(),
                epochs=4,
                verbose=0,
                shuffle=False,
                callbacks=[note],
            )
        seen.append(steps)
    assert seen[1] == seen[0] == [3, 7, 9, 13]
