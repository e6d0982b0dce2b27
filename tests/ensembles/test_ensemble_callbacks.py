"""Callbacks see an ensemble as a model; members stop, and fail, alone."""

import warnings

import keras_jax_ext as kje
from keras_jax_ext.callbacks import MemberEarlyStopping

import keras
import numpy as np
import optax
import pytest
from solo import (
    Net,
    Plain,
    X,
    Y,
    alone,
    assert_same_logs,
    assert_same_model,
    assert_same_optimizer,
    ensemble,
    fit,
)

# Two that go on for longer than one that is too small to improve by 1e-3.
RATES = [1e-1, 3e-2, 1e-6]
EPOCHS = 8


def sweep(build=Plain):
    return ensemble(build, optimizer=lambda i: keras.optimizers.Adam(RATES[i]))


def stopping(cls, **options):
    return cls("loss", min_delta=1e-3, patience=1, **options)


@pytest.mark.parametrize("build", [Plain, Net])
def test_members_stop_as_alone(build):
    together = sweep(build)
    callback = stopping(MemberEarlyStopping)
    history = fit(together, epochs=EPOCHS, callbacks=[callback])
    assert callback.stopped_epoch[2] > 0
    for i in (0, 2):
        model = alone(i, build, keras.optimizers.Adam(RATES[i]))
        own = stopping(keras.callbacks.EarlyStopping)
        logs = fit(model, epochs=EPOCHS, callbacks=[own]).history["loss"]
        assert callback.stopped_epoch[i] == own.stopped_epoch
        np.testing.assert_allclose(
            logs, history.members["loss"][: len(logs), i], 1e-5
        )
        assert_same_model(together.member(i), model, 1e-5)
        assert_same_optimizer(together.member(i), model, 1e-5)


def test_members_get_their_best_weights_back():
    together = sweep()
    callback = stopping(MemberEarlyStopping, restore_best_weights=True)
    history = fit(together, epochs=EPOCHS, callbacks=[callback])
    for i in (0, 2):
        model = alone(i, Plain, keras.optimizers.Adam(RATES[i]))
        own = stopping(keras.callbacks.EarlyStopping, restore_best_weights=True)
        fit(model, epochs=EPOCHS, callbacks=[own])
        assert callback.best_epoch[i] == own.best_epoch
        for a, b in zip(together.member(i).weights, model.weights, strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    best = history.members["loss"].min(0)
    assert together.best("loss") == np.argmin(best)


def test_fit_ends_when_all_have_stopped():
    together = ensemble(Plain, optimizer=keras.optimizers.SGD(0.0))
    callback = MemberEarlyStopping("loss", patience=2)
    history = fit(together, epochs=9, shuffle=False, callbacks=[callback])
    assert history.members["loss"].shape == (3, 3)
    assert not together.active.any()
    # The next one trains all.
    fit(together, epochs=1)
    assert together.active.all()


def test_a_baseline_and_a_first_epoch():
    options = {"baseline": 1e-9, "patience": 2, "start_from_epoch": 1}
    callback = MemberEarlyStopping("loss", **options)
    model, own = (
        alone(1, Plain),
        keras.callbacks.EarlyStopping("loss", **options),
    )
    fit(model, epochs=9, callbacks=[own])
    fit(ensemble(Plain, 2), epochs=9, callbacks=[callback])
    assert callback.stopped_epoch[1] == own.stopped_epoch


def test_stopping_compiles_once():
    traces = []

    class Counted(kje.Model):
        def call(self, x):
            traces.append(x.shape)
            return kje.layers.Dense(1)(x)

    together = ensemble(Counted)
    for _ in range(2):
        before = len(traces)
        callback = MemberEarlyStopping("loss", patience=1, min_delta=10)
        fit(together, batch_size=14, callbacks=[callback])
    assert len(traces) == before
    assert callback.stopped_epoch.all()


def test_a_callback_may_stop_members_itself():
    class Stop(keras.callbacks.Callback):
        def set_model(self, model):
            super().set_model(model)
            model.active = [True] * 3

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.active = [False, True, False]

    together = ensemble(Plain)
    fit(together, callbacks=[Stop()])
    model = alone(0, Plain)
    fit(model, epochs=1)
    assert_same_model(together.member(0), model)


def test_early_stopping_is_for_ensembles():
    with pytest.raises(TypeError, match=r"members of a `kje\.Ensemble`"):
        fit(alone(0, Plain), callbacks=[MemberEarlyStopping()])


def test_a_log_that_is_not_there():
    together = ensemble(Plain)
    with pytest.raises(ValueError, match="monitor='mae', and the logs are"):
        fit(together, callbacks=[MemberEarlyStopping("mae")])


def test_a_member_that_diverges_is_named_and_alone():
    rates = [1e-2, 1e20, 1e-2]
    together = ensemble(
        Plain, optimizer=lambda i: keras.optimizers.SGD(rates[i])
    )
    with pytest.warns(UserWarning, match=r"members \[1\] is not finite"):
        history = fit(together, callbacks=[keras.callbacks.TerminateOnNaN()])
    losses = history.members["loss"]
    assert losses.shape == (3, 3)
    assert not np.isfinite(losses[-1, 1])
    np.testing.assert_allclose(
        history.history["loss"][-1], losses[-1, [0, 2]].mean(), 1e-6
    )
    model = alone(2, Plain, keras.optimizers.SGD(1e-2))
    assert_same_logs(fit(model), history, 2)
    assert together.best("loss") in (0, 2)


def test_it_is_named_once():
    together = ensemble(Plain, optimizer=keras.optimizers.SGD(1e20))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(together, epochs=4)
    assert sum("is not finite" in str(w.message) for w in caught) == 1


def test_all_members_gone_stop_the_training():
    together = ensemble(Plain, optimizer=keras.optimizers.SGD(1e20))
    with pytest.warns(UserWarning, match=r"members \[0, 1, 2\]"):
        history = fit(
            together, epochs=9, callbacks=[keras.callbacks.TerminateOnNaN()]
        )
    assert len(history.members["loss"]) < 9


@pytest.mark.parametrize("is_sweep", [False, True])
def test_callbacks_move_the_learning_rates(is_sweep):
    rates = [1e-2, 1e-3, 1e-4] if is_sweep else [1e-2] * 3
    together = ensemble(
        Plain, optimizer=lambda i: keras.optimizers.Adam(rates[i])
    )
    schedule = keras.callbacks.LearningRateScheduler(lambda _, rate: rate / 2)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "loss", factor=0.1, patience=1, min_delta=100
    )
    history = fit(together, callbacks=[schedule, plateau])
    expected = np.array(rates) / 2**3 * 0.1
    # The first epoch is always an improvement.
    expected *= 0.1 if len(history.epoch) > 2 else 1
    np.testing.assert_allclose(
        together.optimizer.learning_rates, expected, 1e-5
    )
    model = alone(2, Plain, keras.optimizers.Adam(rates[2]))
    fit(
        model,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda _, rate: rate / 2),
            keras.callbacks.ReduceLROnPlateau(
                "loss", factor=0.1, patience=1, min_delta=100
            ),
        ],
    )
    np.testing.assert_allclose(
        together.optimizer.learning_rates[2],
        np.asarray(model.optimizer.learning_rate),
        1e-5,
    )


def test_learning_rates_are_set_one_by_one_or_together():
    together = ensemble(Plain)
    together(X[:1])
    together.optimizer.learning_rate = 0.5
    np.testing.assert_array_equal(together.optimizer.learning_rates, [0.5] * 3)
    together.optimizer.learning_rate = [0.1, 0.2, 0.3]
    together.optimizer.learning_rate = 0.4
    np.testing.assert_allclose(
        together.optimizer.learning_rates, [0.2, 0.4, 0.6], 1e-6
    )
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 members"):
        together.optimizer.learning_rate = [0.1, 0.2]
    together.compile(optax.adam(1e-3), "mse")
    with pytest.raises(ValueError, match="cannot be set"):
        together.optimizer.learning_rate = 0.1


def test_stock_callbacks_act_on_the_means(tmp_path):
    together = ensemble(Plain)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", save_best_only=True
    )
    stop = keras.callbacks.EarlyStopping(
        patience=1, min_delta=100, restore_best_weights=True
    )
    history = fit(
        together, epochs=9, callbacks=[best, stop], validation_data=(X, Y)
    )
    assert len(history.history["loss"]) == 2
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert_values = np.testing.assert_allclose
    assert_values(
        loaded.evaluate(X, Y, verbose=0), min(history.history["val_loss"]), 1e-5
    )
    assert_values(
        together.evaluate(X, Y, verbose=0), history.history["val_loss"][0], 1e-5
    )


def test_callbacks_see_no_arrays():
    seen = []

    class See(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs)

        on_epoch_end = on_train_batch_end

    fit(ensemble(Plain), callbacks=[See()], validation_data=(X, Y))
    assert all(isinstance(v, float) for logs in seen for v in logs.values())
    assert {*seen[0]} == {"loss"}
