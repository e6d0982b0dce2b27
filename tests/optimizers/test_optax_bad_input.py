"""Errors: early, with the fix, and the model as it was."""

import keras_jax_ext as kje
from keras_jax_ext import optimizers
from keras_jax_ext.optimizers import OptaxOptimizer

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

X = np.ones((8, 2), "float32")


def network(cls=kje.Sequential):
    keras.utils.set_random_seed(0)
    return cls([keras.Input((2,)), keras.layers.Dense(1)])


def model_with(optimizer, cls=kje.Sequential):
    model = network(cls)
    model.compile(optimizer, "mse")
    return model


def assert_equal(weights, others):
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_array_equal(a, b)


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


@pytest.mark.parametrize(
    ("optimizer", "match"),
    [
        (3, "Could not interpret optimizer identifier: 3"),
        (optax.adam, r"Call it, `adam\(learning_rate=1e-3\)`"),
        (optax.MultiSteps, r"Call it, `MultiSteps\("),
    ],
)
def test_what_is_no_optimizer_leaves_a_compiled_model(optimizer, match):
    model, straight = (model_with(optax.sgd(0.1)) for _ in range(2))
    with pytest.raises(ValueError, match=match):
        model.compile(optimizer, "mse")
    for each in (model, straight):
        each.fit(X, X[:, :1], verbose=0)
    assert_equal(model.get_weights(), straight.get_weights())


def mine(update, state=()):
    """A transformation that a user wrote."""
    return optax.GradientTransformation(lambda params: state, update)


def fails(updates, state, params=None):
    raise RuntimeError("one leaf at most")


def asks_the_value_of_a_tracer(updates, state, params=None):
    return (updates if jax.tree.leaves(updates)[0].sum() > 0 else params), state


def transposes(updates, state, params=None):
    return jax.tree.map(jnp.transpose, updates), state


def scales(updates, state, params=None):
    return updates, state * 0.5


def grows(updates, state, params=None):
    return updates, (state, state)


def grows_given_more(updates, state, params=None, **extra):
    return updates, (state, state)


FAILED = "`update` of the optax transformation failed on gradients"


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
            lambda: optax.chain(optax.clip(1.0), mine(fails)),
            f"{FAILED}.*one leaf at most",
        ),
        (lambda: mine(asks_the_value_of_a_tracer), f"{FAILED}.*boolean"),
        (
            lambda: mine(transposes),
            r"shapes and kinds of its parameters.*float32\[2,2\]",
        ),
        (lambda: mine(scales, 1), r"of its state. Received: .*float32\[\]"),
        (lambda: mine(grows, 1.0), "must keep the structure"),
        (
            lambda: optax.GradientTransformationExtraArgs(
                lambda params: 1.0, grows_given_more
            ),
            "must keep the structure",
        ),
    ],
)
def test_at_the_build(make, match):
    model = model_with(make())
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=match):
        model.fit(X, X[:, :1], verbose=0)
    assert not model.optimizer.built
    assert_equal(before, model.get_weights())
    model.compile(optax.sgd(0.1), "mse")
    model.fit(X, X[:, :1], verbose=0)


@pytest.mark.parametrize("layers", [1, 12])
@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_an_init_that_fails_runs_once(error, layers):
    runs = []

    def init(params):
        runs.append(params)
        raise error("no state")

    transformation = optax.GradientTransformation(init, lambda g, s, p: (g, s))
    variables = [keras.Variable([1.0], name=f"v_{i}") for i in range(layers)]
    with pytest.raises(ValueError, match=r"`init` .* failed .*\(no state\)"):
        OptaxOptimizer(transformation).build(variables)
    # From ten numbered names on, JAX's own `ValueError` may mean that a mask
    # by plain strings is in another order, so that both orders are tried.
    both = error is ValueError and layers > 10
    assert len(runs) == (2 if both else 1)


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
    before = second.get_weights()
    state = [np.array(v) for v in optimizer.variables]
    with pytest.raises(ValueError, match="belongs to one model"):
        second.fit(X, X[:, :1], verbose=0)
    assert_equal(before, second.get_weights())
    assert_equal(state, [np.array(v) for v in optimizer.variables])


def test_an_update_of_optax_that_fails_in_the_first_step():
    # Not traced at the build: all of it is optax's, and names no argument.
    model = model_with(optax.contrib.scale_by_muon())
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"(?s){FAILED}.*'kernel': 'float32"):
        model.fit(X, X[:, :1], verbose=0)
    assert_equal(before, model.get_weights())
    model.compile(optax.sgd(0.1), "mse")
    model.fit(X, X[:, :1], verbose=0)


def test_a_maker_whose_learning_rate_is_none():
    with pytest.raises(TypeError, match=r"missing .*'learning_rate'"):
        OptaxOptimizer(optax.adam, learning_rate=None)
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1)
    model = model_with(OptaxOptimizer(optax.adafactor))
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"cannot be read.*learning_rate=1e-3"):
        model.fit(X, X[:, :1], verbose=0, callbacks=[scheduler])
    assert_equal(before, model.get_weights())
    model.fit(X, X[:, :1], verbose=0)
    with pytest.raises(ValueError, match="that is a constant, cannot be set"):
        model.optimizer.learning_rate = 0.1
    given = model_with(OptaxOptimizer(optax.adafactor, learning_rate=0.5))
    given.fit(X, X[:, :1], verbose=0, callbacks=[scheduler])
    assert float(given.optimizer.learning_rate) == pytest.approx(0.1)


def test_no_gradient_at_all():
    optimizer = OptaxOptimizer(optax.adam(0.1))
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    state = [np.array(v) for v in optimizer.variables]
    with pytest.raises(ValueError, match="No gradients provided"):
        optimizer.apply([None], [variable])
    assert_equal(state, [np.array(v) for v in optimizer.variables])


def test_a_frozen_model_is_evaluated_as_in_stock():
    results = []
    for cls, optimizer in (
        (keras.Sequential, "adam"),
        (kje.Sequential, optax.adam(0.1)),
    ):
        model = network(cls)
        model.trainable = False
        model.compile(optimizer, "mse")
        before = model.get_weights()
        results.append(model.fit(X, X[:, :1], epochs=2, verbose=0).history)
        assert_equal(before, model.get_weights())
    assert results[0] == results[1]


BAD = np.concatenate([X, np.full_like(X, np.nan)])


def test_gradients_that_are_not_finite_are_skipped():
    model = model_with(optax.apply_if_finite(optax.adam(0.1), 5))
    model.fit(X, X[:, :1], verbose=0)
    before = [np.array(v) for v in model.weights]
    model.fit(BAD[8:], X[:, :1], batch_size=4, verbose=0)
    assert_equal(before, model.get_weights())
    (count,) = (
        v for v in model.optimizer.variables if "notfinite_count" in v.path
    )
    assert int(count) == 2
    model.fit(X, X[:, :1], verbose=0)
    assert np.isfinite(model.get_weights()[0]).all()
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_the_training_stops_at_nan_as_in_stock():
    results = []
    for cls, optimizer in (
        (keras.Sequential, keras.optimizers.SGD(0.1)),
        (kje.Sequential, optax.sgd(0.1)),
    ):
        model = model_with(optimizer, cls)
        history = model.fit(
            BAD,
            np.ones((16, 1)),
            batch_size=4,
            epochs=5,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.TerminateOnNaN()],
        ).history
        results.append([history["loss"], *model.get_weights()])
        assert int(model.optimizer.iterations) == 3
    assert len(results[0][0]) == 1
    assert_equal(*results)
