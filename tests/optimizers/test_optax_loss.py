"""Transformations that ask for the loss, in `fit` of kje models."""

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True) ** 2
c = optax.contrib


def network(*extra):
    keras.utils.set_random_seed(1)
    model = kje.Sequential(
        [
            keras.layers.Dense(4, activation="tanh"),
            *extra,
            keras.layers.Dense(1),
        ]
    )
    model.build((None, 3))
    return model


def trained(transformation, *extra, steps=3, **compile_arguments):
    model = network(*extra)
    model.compile(transformation, "mse", **compile_arguments)
    model.fit(X, Y, batch_size=16, epochs=steps, shuffle=False, verbose=0)
    return model


def by_hand(transformation, needed, steps=3):
    """The same training as a loop over optax, with every extra argument."""
    params = dict(enumerate(v.value for v in network().trainable_variables))

    def value_fn(p):
        hidden = jnp.tanh(X @ p[0] + p[1])
        return jnp.mean((hidden @ p[2] + p[3] - Y) ** 2)

    state = transformation.init(params)
    for _ in range(steps):
        value, grad = jax.value_and_grad(value_fn)(params)
        given = {
            "value": {"value": value},
            "value_fn": {"value": value, "grad": grad, "value_fn": value_fn},
            "grad_fn": {"grad_fn": lambda p, step: jax.grad(value_fn)(p)},
        }[needed]
        updates, state = transformation.update(grad, state, params, **given)
        params = optax.apply_updates(params, updates)
    return [params[i] for i in range(4)]


CASES = {
    "lbfgs": (lambda: optax.lbfgs(), "value_fn"),
    "lbfgs_backtracking": (
        lambda: optax.lbfgs(
            linesearch=optax.scale_by_backtracking_linesearch(10)
        ),
        "value_fn",
    ),
    "polyak_sgd": (lambda: optax.polyak_sgd(0.1), "value"),
    "momo": (lambda: c.momo(0.1), "value"),
    "momo_adam": (lambda: c.momo_adam(0.1), "value"),
    "plateau": (
        lambda: optax.chain(optax.sgd(0.1), c.reduce_on_plateau()),
        "value",
    ),
    "sam_opaque": (
        lambda: c.sam(
            optax.sgd(0.1),
            optax.chain(c.normalize(), optax.sgd(0.05)),
            opaque_mode=True,
        ),
        "grad_fn",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fit_gives_what_is_asked_for(name):
    make, needed = CASES[name]
    model = trained(make())
    assert needed in model.optimizer.needs_loss
    for ours, theirs in zip(
        model.trainable_variables, by_hand(make(), needed), strict=True
    ):
        # Line searches branch on sums that XLA orders differently.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sophia_runs_with_its_hessian_estimate():
    losses = trained(c.sophia(0.05, update_interval=1)).history.history["loss"]
    assert losses[-1] < losses[0]


def test_statistics_and_seeds_advance_once_a_step():
    def extra():
        return keras.layers.BatchNormalization(), keras.layers.Dropout(
            0.2, seed=1
        )

    searched = trained(optax.lbfgs(), *extra(), steps=1)
    plain = trained(optax.sgd(0.1), *extra(), steps=1)
    for ours, stock in zip(
        searched.non_trainable_variables,
        plain.non_trainable_variables,
        strict=True,
    ):
        np.testing.assert_allclose(ours, stock, rtol=1e-6)


def test_mixed_precision_searches_on_the_same_loss():
    keras.config.set_dtype_policy("mixed_bfloat16")
    losses = trained(optax.lbfgs()).history.history["loss"]
    assert losses[-1] < losses[0]


def test_the_train_step_is_traced_once():
    traces = []

    class Counted(kje.Sequential):
        def train_step(self, state, data):
            traces.append(1)
            return super().train_step(state, data)

    model = Counted([keras.layers.Dense(1)])
    model.compile(optax.polyak_sgd(0.1), "mse")
    model.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    assert len(traces) == 1


def test_a_stock_model_is_refused_before_it_trains():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(kje.optimizers.OptaxOptimizer(optax.lbfgs()), "mse")
    with pytest.raises(ValueError, match="only the train step of a kje model"):
        model.fit(X, Y, verbose=0)
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"loss_scale_factor": 8.0}, "cannot work with a scaled loss"),
        ({"gradient_accumulation_steps": 2}, "with accumulated gradients"),
    ],
)
def test_what_changes_the_loss_is_refused_for_line_searches(arguments, match):
    model = network()
    optimizer = kje.optimizers.OptaxOptimizer(optax.lbfgs(), **arguments)
    model.compile(optimizer, "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_automatic_loss_scaling_is_refused_for_line_searches():
    keras.config.set_dtype_policy("mixed_float16")
    model = network()
    model.compile(optax.lbfgs(), "mse")
    with pytest.raises(ValueError, match="mixed_bfloat16"):
        model.fit(X, Y, verbose=0)


def test_a_value_is_given_under_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    inner = kje.optimizers.OptaxOptimizer(optax.polyak_sgd(0.1))
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    model = trained(scaled)
    losses = model.history.history["loss"]
    assert losses[-1] < losses[0]
