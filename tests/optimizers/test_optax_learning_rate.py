"""`learning_rate`: the true value, or an error that names the fix."""

from concurrent.futures import ThreadPoolExecutor

import keras_jax_ext as kje
from keras_jax_ext import optax
from keras_jax_ext.optimizers import OptaxOptimizer

import keras
import numpy as np
import optax as raw
import pytest

X = np.ones((8, 2), "float32")


def fitted(optimizer, callbacks=(), epochs=1, cls=kje.Sequential):
    model = cls([keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(optimizer, "mse")
    model.fit(
        X,
        X[:, :1],
        epochs=epochs,
        batch_size=4,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def test_the_function_form_is_the_same_update():
    keras.utils.set_random_seed(0)
    plain = fitted(OptaxOptimizer(raw.adamw(0.1, weight_decay=0.2)))
    keras.utils.set_random_seed(0)
    apart = fitted(
        OptaxOptimizer(raw.adamw, learning_rate=0.1, weight_decay=0.2)
    )
    np.testing.assert_array_equal(
        plain.get_weights()[0], apart.get_weights()[0]
    )


def halving():
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)


def plateau():
    return keras.callbacks.ReduceLROnPlateau("loss", 0.1, 1, min_delta=1e9)


def each_batch():
    def set_rate(batch, logs=None):
        callback.model.optimizer.learning_rate = 0.1 / (1 + batch)

    callback = keras.callbacks.LambdaCallback(on_train_batch_begin=set_rate)
    return callback


@pytest.mark.parametrize("callback", [halving, plateau, each_batch])
@pytest.mark.parametrize(
    "make",
    [
        lambda: OptaxOptimizer(raw.sgd, learning_rate=0.1),
        lambda: raw.inject_hyperparams(raw.sgd)(0.1),
    ],
    ids=["function", "injected"],
)
def test_callbacks_set_it_as_they_set_that_of_keras(make, callback):
    ours = fitted(make(), [callback()], 3)
    stock = fitted(keras.optimizers.SGD(0.1), [callback()], 3, keras.Sequential)
    rates = [float(m.optimizer.learning_rate) for m in (ours, stock)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-6)
    assert rates[1] < 0.06
    for name, values in stock.history.history.items():
        ours_values = ours.history.history[name]
        np.testing.assert_allclose(ours_values, values, rtol=1e-6)
    for a, b in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


HIDDEN = r"cannot be read.*OptaxOptimizer\(optax.adam"
CONSTANT = r"that is a constant, cannot be set.*OptaxOptimizer\(optax.adam"
SCHEDULE = "of a schedule, cannot be set.*Give a number in its place"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: raw.sgd(0.1), HIDDEN),
        (lambda: optax.sgd(0.1), CONSTANT),
        (lambda: optax.sgd(optax.linear_schedule(0.1, 0.0, 9)), SCHEDULE),
    ],
    ids=["raw", "recorded", "schedule"],
)
def test_a_callback_that_cannot_set_it_fails_before_the_first_step(
    make, message
):
    model = kje.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(make(), "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(X, X[:, :1], verbose=0, callbacks=[halving()])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(X, X[:, :1], verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_it_can_be_set_before_the_build():
    optimizer = OptaxOptimizer(raw.sgd, learning_rate=0.1)
    optimizer.learning_rate = 0.0
    assert optimizer.learning_rate == 0.0
    model = fitted(optimizer)
    assert float(model.optimizer.learning_rate) == 0.0


@pytest.mark.parametrize(
    "make",
    [
        lambda s: OptaxOptimizer(raw.adam, learning_rate=s),
        lambda s: optax.adam(s),
        lambda s: keras.optimizers.Adam(s),
    ],
    ids=["function", "recorded", "keras"],
)
def test_a_schedule_shows_the_rate_of_the_next_update(make):
    class Seeing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    rates: list = []
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 10, 0.0)
    model = fitted(make(schedule), [Seeing()], 2)
    np.testing.assert_allclose(rates, [0.4, 0.3], rtol=1e-6)
    if isinstance(model.optimizer, OptaxOptimizer):
        with pytest.raises(ValueError, match="of a schedule, cannot be set"):
            model.optimizer.learning_rate = 0.1


def test_a_schedule_in_the_state_shows_the_rate_of_the_last_update():
    schedule = raw.linear_schedule(0.5, 0.0, 10)
    model = fitted(raw.inject_hyperparams(raw.sgd)(schedule))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.45)


def test_a_scaled_loss_hides_nothing():
    keras.config.set_dtype_policy("mixed_float16")
    model = fitted(OptaxOptimizer(raw.sgd, learning_rate=0.1), [halving()])
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.history.history["learning_rate"] == [pytest.approx(0.05)]


def test_recorded_transformations_show_what_they_were_given():
    assert OptaxOptimizer(optax.adam(0.25)).learning_rate == 0.25
    chained = optax.chain(
        optax.clip(1.0), optax.sgd(raw.linear_schedule(1, 0, 4))
    )
    assert float(fitted(OptaxOptimizer(chained)).optimizer.learning_rate) == 0.5
    with pytest.raises(ValueError, match="that is a constant, cannot be set"):
        fitted(OptaxOptimizer(optax.adam(0.25))).optimizer.learning_rate = 0.1


def test_an_unknown_rate_is_an_error_that_names_the_fix():
    optimizer = fitted(OptaxOptimizer(raw.adam(0.1))).optimizer
    with pytest.raises(ValueError, match=r"OptaxOptimizer\(optax.adam"):
        optimizer.learning_rate  # noqa: B018
    with pytest.raises(ValueError, match="cannot be set"):
        optimizer.learning_rate = 0.1
    two = optax.chain(optax.sgd(0.1), optax.sgd(0.2))
    with pytest.raises(ValueError, match="cannot be read"):
        OptaxOptimizer(two).learning_rate  # noqa: B018


def test_a_rate_that_cannot_be_set_fails_the_build_and_nothing_else():
    optimizer = OptaxOptimizer(raw.adam(0.1))
    optimizer.learning_rate = 0.1
    with pytest.raises(ValueError, match="that is a constant"):
        optimizer.build([keras.Variable([1.0])])
    assert not optimizer.built


def test_another_thread_reads_it_while_an_update_runs():
    seen = []

    def update(updates, state, params=None):
        with ThreadPoolExecutor(1) as other:
            read = other.submit(getattr, optimizer, "learning_rate")
            seen.append((optimizer.learning_rate, read.result()))
        return updates, state

    looks = raw.GradientTransformation(lambda params: (), update)
    optimizer = OptaxOptimizer(
        lambda learning_rate: raw.chain(raw.sgd(learning_rate), looks),
        learning_rate=0.5,
    )
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    seen.clear()  # the build probes `update`
    optimizer.apply([np.ones(1, "float32")], [variable])
    # Keras's own reading goes to an update that ignores it.
    ((in_update, in_thread),) = seen
    assert in_update is None
    assert float(in_thread) == 0.5
