"""One thread runs a model at a time; the others wait, or are told."""

import contextlib
import copy
import pickle
import threading
import time

import keras_jax_ext as kje

import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def make():
    keras.utils.set_random_seed(0)
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def in_thread(function, errors):
    """Begin a thread that notes what its function raises."""

    def run():
        try:
            function()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="other")
    thread.start()
    return thread


def test_threads_that_predict_wait_for_each_other():
    model, errors, results = make(), [], []
    expected = model.predict(X, verbose=0)

    def predict():
        for _ in range(5):
            results.append(model.predict(X, verbose=0))

    threads = [in_thread(predict, errors) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(results) == 20
    for result in results:
        np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_another_thread_is_told_that_the_model_trains(method):
    model, errors = make(), []
    data = (X,) if method == "predict" else (X, Y)

    class Other(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            call = getattr(model, method)
            in_thread(lambda: call(*data, verbose=0), errors).join()

    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[Other()])
    assert len(errors) == 4
    with pytest.raises(RuntimeError, match=r"while fit\(\) runs in thread"):
        raise errors[0]
    alone = make()
    alone.fit(X, Y, batch_size=16, verbose=0)
    for a, b in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_worker_of_the_data_cannot_run_the_model():
    class Mining(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            model.predict(X, verbose=0)
            return X[:16], Y[:16]

    model = make()
    with pytest.raises(RuntimeError, match="clone_model"):
        model.fit(Mining(workers=2), verbose=0)
    model.fit(X, Y, verbose=0)


def test_a_callback_may_evaluate_and_predict():
    model, losses = make(), []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            losses.append(model.evaluate(X, Y, verbose=0))
            assert model.predict(X, verbose=0).shape == (64, 1)

    model.fit(X, Y, epochs=2, verbose=0, callbacks=[Look()])
    assert losses[1] < losses[0]


def test_a_model_that_has_run_is_copied_and_pickled():
    model = make()
    model.fit(X, Y, verbose=0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.fit(X, Y, verbose=0)


def test_one_that_predicts_in_a_loop_does_not_keep_out_the_others():
    model, errors, ended = make(), [], []
    model.predict(X, verbose=0)

    def predict():
        while not ended:
            with contextlib.suppress(RuntimeError):  # it trains
                model.predict(X, verbose=0)
                counts.append(1)

    counts = []
    thread = in_thread(predict, errors)
    while not counts:
        time.sleep(0.001)
    before = len(counts)
    waited = []

    class Begin(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            waited.append(len(counts) - before)

    try:
        model.fit(X, Y, verbose=0, callbacks=[Begin()])
    finally:
        ended.append(1)
        thread.join()
    assert errors == []
    # The one that ran, and one that may have begun before `fit` asked.
    assert waited[0] <= 3
