"""Errors: early, with the fix, and the model as it was."""

import keras_jax_ext as kje
from keras_jax_ext import optimizers
from keras_jax_ext.optimizers import OptaxOptimizer

import keras
import numpy as np
import optax
import pytest

X = np.ones((8, 2), "float32")


def model_with(optimizer):
    keras.utils.set_random_seed(0)
    model = kje.Sequential([keras.layers.Dense(1)])
    model.build((None, 2))
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (
            lambda: OptaxOptimizer(optax.adam(0.1), weight_decay=0.1),
            TypeError,
            "use `optax.adamw",
        ),
        (
            lambda: OptaxOptimizer(optax.adam(0.1), learning_rate=0.1),
            TypeError,
            "takes no arguments.*learning_rate",
        ),
        (lambda: OptaxOptimizer(3), TypeError, "Received: 3"),
        (
            lambda: OptaxOptimizer(optax.adam, beta=0.1),
            TypeError,
            "`adam` cannot be called with these arguments",
        ),
        (
            lambda: OptaxOptimizer(lambda: 3),
            TypeError,
            "must return an optax transformation. Received: 3",
        ),
        (
            lambda: OptaxOptimizer(optax.sgd(0.1), clipnorm=1, clipvalue=1),
            ValueError,
            "Only one of",
        ),
        (lambda: optimizers.label_by_path({}), ValueError, "Patterns"),
        (lambda: bool(optimizers.mask_by_path("a")), TypeError, "partition"),
    ],
)
def test_at_construction(make, error, match):
    with pytest.raises(error, match=match):
        make()


def structure_changes():
    def update(updates, state, params=None, **extra):
        return updates, (state, state)

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: optax.masked(optax.sgd(0.1), {"typo": True}),
            "`init` of the optax transformation failed",
        ),
        (
            lambda: optax.masked(
                optax.sgd(0.1), optimizers.mask_by_path("*/kernal")
            ),
            r"Did you mean one of .*/kernel",
        ),
        (
            lambda: optax.partition(
                {"a": optax.sgd(0.1)},
                optimizers.label_by_path({"*/kernel": "a"}),
            ),
            "no pattern for path='.*/bias'",
        ),
        (
            lambda: optax.contrib.dpsgd(0.1, 1.0, 1.0, 0),
            "one gradient an example",
        ),
        (structure_changes, "state of the structure"),
    ],
)
@pytest.mark.filterwarnings("ignore:.seed. is deprecated")
def test_at_the_build(make, match):
    model = model_with(make())
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(X, X[:, :1], verbose=0)
    assert not model.optimizer.built
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
    model.compile(optax.sgd(0.1), "mse")
    model.fit(X, X[:, :1], verbose=0)


def test_a_state_of_something_else_than_arrays():
    transformation = optax.GradientTransformation(
        lambda params: ("text",), lambda g, s, p=None: (g, s)
    )
    with pytest.raises(TypeError, match="can only hold arrays"):
        OptaxOptimizer(transformation).build([keras.Variable([1.0])])


def test_one_optimizer_in_two_models():
    optimizer = OptaxOptimizer(optax.adam(0.1))
    model_with(optimizer).fit(X, X[:, :1], verbose=0)
    second = model_with(optimizer)
    before = second.get_weights()[0]
    with pytest.raises(ValueError, match="belongs to one model"):
        second.fit(X, X[:, :1], verbose=0)
    np.testing.assert_array_equal(before, second.get_weights()[0])


def test_no_gradient_at_all():
    optimizer = OptaxOptimizer(optax.adam(0.1))
    variable = keras.Variable([1.0])
    with pytest.raises(ValueError, match="No gradients provided"):
        optimizer.apply([None], [variable])


def test_nan_gradients_are_skipped_or_stop_the_training():
    bad = X.copy()
    bad[0] = np.nan
    model = model_with(optax.apply_if_finite(optax.adam(0.1), 5))
    before = model.get_weights()[0]
    model.fit(bad, X[:, :1], verbose=0)
    np.testing.assert_array_equal(before, model.get_weights()[0])

    model = model_with(optax.adam(0.1))
    stop = keras.callbacks.TerminateOnNaN()
    history = model.fit(
        bad, X[:, :1], epochs=5, verbose=0, callbacks=[stop]
    ).history
    assert len(history["loss"]) == 1
