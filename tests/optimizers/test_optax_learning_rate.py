"""`learning_rate`: the true value, or an error that names the fix."""

from keras_jax_ext import optax
from keras_jax_ext.optimizers import OptaxOptimizer

import keras
import numpy as np
import optax as raw
import pytest

X = np.ones((8, 2), "float32")


def fitted(optimizer, callbacks=(), epochs=1):
    model = keras.Sequential([keras.layers.Dense(1)])
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


@pytest.mark.parametrize(
    "make",
    [
        lambda: OptaxOptimizer(raw.sgd, learning_rate=1),
        lambda: OptaxOptimizer(raw.inject_hyperparams(raw.sgd)(1.0)),
    ],
)
def test_callbacks_read_and_set_it(make):
    schedule = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: 0.0 if epoch else rate * 0.01
    )
    model = fitted(make(), [schedule], epochs=1)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    kernel = model.get_weights()[0]
    history = model.fit(
        X, X[:, :1], epochs=2, initial_epoch=1, callbacks=[schedule], verbose=0
    ).history
    assert history["learning_rate"] == [0.0]
    np.testing.assert_array_equal(model.get_weights()[0], kernel)


def test_reduce_on_plateau_of_keras():
    plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.1, 1, min_delta=1e9)
    model = fitted(OptaxOptimizer(raw.sgd, learning_rate=0.1), [plateau], 3)
    assert float(model.optimizer.learning_rate) < 0.1


def test_it_can_be_set_before_the_build():
    optimizer = OptaxOptimizer(raw.sgd, learning_rate=0.1)
    optimizer.learning_rate = 0.0
    assert optimizer.learning_rate == 0.0
    model = fitted(optimizer)
    assert float(model.optimizer.learning_rate) == 0.0


def test_a_schedule_shows_its_value_and_cannot_be_set():
    schedule = raw.linear_schedule(0.5, 0.0, 10)
    model = fitted(OptaxOptimizer(raw.sgd, learning_rate=schedule))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.45)
    with pytest.raises(ValueError, match="of a schedule, cannot be set"):
        model.optimizer.learning_rate = 0.1


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
