"""What an ensemble refuses, and how it says so."""

import itertools

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax.numpy as jnp
import keras
import optax
import pytest
from solo import Plain, X, Y, ensemble, fit, functional


def net(units=4, activation="relu", rows=3):
    return keras.Sequential(
        [
            keras.Input((rows,)),
            keras.layers.Dense(units, activation=activation),
            keras.layers.Dense(1),
        ]
    )


@pytest.mark.parametrize("n", [0, -1, 2.0, True, None])
def test_a_number_of_members(n):
    with pytest.raises(ValueError, match=f"Received: n={n!r}"):
        kje.Ensemble(net, n)


@pytest.mark.parametrize("seeds", [[1], [1.5, 2], range(3)])
def test_seeds(seeds):
    with pytest.raises(ValueError, match="an integer for each member"):
        kje.Ensemble(net, 2, seeds=seeds)


def test_a_build_that_is_no_function():
    with pytest.raises(TypeError, match="Received: build=<Sequential"):
        kje.Ensemble(net(), 2)
    with pytest.raises(TypeError, match="Received: build=3"):
        kje.Ensemble(3, 2)
    with pytest.raises(TypeError, match=r"requires \['one', 'two'\]"):
        kje.Ensemble(lambda one, two: net(), 2)


def test_a_build_that_returns_no_model():
    with pytest.raises(TypeError, match="Received: None"):
        kje.Ensemble(lambda: None, 2)


def test_one_model_for_all():
    model = net()
    with pytest.raises(ValueError, match="the same model for members 0 and 1"):
        kje.Ensemble(lambda: model, 2)


def test_a_layer_for_all():
    shared = keras.layers.Dense(3)
    with pytest.raises(ValueError, match=r"the same variable '.*dense/kernel'"):
        kje.Ensemble(lambda: keras.Sequential([keras.Input((3,)), shared]), 2)


def test_other_shapes():
    with pytest.raises(ValueError, match=r"member 1 with .*\(3, 5\)"):
        kje.Ensemble(lambda seed: net(4 + seed), 2)


def test_other_layers():
    def build(seed):
        inputs = [keras.Input((3,)), keras.layers.Dense(4)]
        more = [keras.layers.Dense(1)] if seed == 0 else []
        return keras.Sequential(inputs + more)

    with pytest.raises(ValueError, match="with 2 variables, where member 0"):
        kje.Ensemble(build, 2)


def test_another_computation():
    names = itertools.cycle(["relu", "tanh"])
    with pytest.raises(ValueError, match="member 1 with a `call` that"):
        kje.Ensemble(lambda: net(activation=next(names)), 2)


def test_another_computation_is_found_at_the_first_use():
    class Scaled(kje.Model):
        def __init__(self, seed):
            super().__init__()
            self.factor = seed

        def call(self, x):
            return self.factor * layers.Dense(1)(x)

    together = ensemble(lambda seed: Scaled(seed))
    with pytest.raises(ValueError, match="member 1 with a `call` that"):
        fit(together)


def test_optimizers_that_differ_in_constants():
    def fails(optimizer, build=net):
        together = kje.Ensemble(build, 3)
        with pytest.raises(ValueError, match="optimizers of the members"):
            together.compile(optimizer, "mse")

    fails(lambda i: optax.adam(10.0**-i))
    fails(lambda i: keras.optimizers.Adam(beta_1=0.9 - 0.1 * i))
    fails(lambda i: "adam" if i else "sgd")


def test_an_optimizer_that_several_members_share():
    optimizer = keras.optimizers.Adam()
    together = kje.Ensemble(net, 2)
    with pytest.raises(ValueError, match="returns a new optimizer"):
        together.compile(lambda i: optimizer, "mse")


def test_a_function_of_optax_that_was_not_called():
    together = kje.Ensemble(net, 2)
    with pytest.raises(ValueError, match="Call it"):
        together.compile(optax.adam, "mse")
    assert not together.compiled


def test_a_member_that_is_not_there():
    together = ensemble(functional)
    with pytest.raises(IndexError, match=r"members 0 to 2\. Received: i=3"):
        together.member(3)
    assert together.member(-1).built


def test_members_before_they_are_built():
    with pytest.raises(ValueError, match="Received: `member` of"):
        ensemble(Plain).member(0)


def test_the_best_by_an_unknown_log():
    together = ensemble(Plain)
    with pytest.raises(ValueError, match=r"'val_loss', and the logs are \[\]"):
        together.best()
    fit(together)
    with pytest.raises(ValueError, match=r"the logs are \['loss'\]"):
        together.best()


def test_own_orders_are_for_arrays():
    together = ensemble(functional)

    def batches():
        while True:
            yield X[:8], Y[:8]

    before = together.get_weights()
    with pytest.raises(ValueError, match="with x of type generator"):
        together.fit(batches(), steps_per_epoch=2, shuffle="member", verbose=0)
    assert jnp.array_equal(before[0], together.get_weights()[0])
    fit(together)
    together.run_eagerly = True
    with pytest.raises(ValueError, match="the compiled loop alone"):
        fit(together, shuffle="member")


def test_the_optimizer_updates_within_fit_alone():
    together = ensemble(functional)
    with pytest.raises(ValueError, match="within the step of `fit`"):
        together.optimizer.apply([1.0])


def test_a_failing_step_keeps_the_weights():
    together = ensemble(functional, loss=lambda y_true, y_pred: 1 / 0)
    before = together.get_weights()
    with pytest.raises(ZeroDivisionError):
        fit(together)
    assert all(map(jnp.array_equal, before, together.get_weights()))
    together.compile("adam", "mse")
    fit(together)


def test_predicting_unbuilt_from_a_generator():
    with pytest.raises(ValueError, match="predicts for arrays"):
        kje.Ensemble(Plain, 2).predict(iter([X[:8]]), verbose=0)
