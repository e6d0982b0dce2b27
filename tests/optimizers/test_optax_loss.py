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


@pytest.fixture(autouse=True)
def quick_compiles():
    """Most of the time of these tests is compilation, of line searches."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(value_fn)(params)
        given = {
            "value": {"value": value},
            "value_fn": {"value": value, "grad": grad, "value_fn": value_fn},
            "grad_fn": {"grad_fn": lambda p, step: jax.grad(value_fn)(p)},
        }[needed]
        updates, state = transformation.update(grad, state, params, **given)
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for _ in range(steps):
        params, state = step(params, state)
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


def by_stateless_calls(transformation, model, steps):
    """The training as a loop: what a step changes comes from one call of it.

    The line search sees the batch, the seeds and the statistics of its step.
    """

    @jax.jit
    def step(trainable, fixed, state):
        def compute(values):
            y, new_fixed = model.stateless_call(values, fixed, X, training=True)
            return jnp.mean(keras.losses.mean_squared_error(Y, y)), new_fixed

        def value_fn(values):
            return compute(values)[0]

        (value, fixed), grad = jax.value_and_grad(compute, has_aux=True)(
            trainable
        )
        updates, state = transformation.update(
            grad, state, trainable, value=value, grad=grad, value_fn=value_fn
        )
        return optax.apply_updates(trainable, updates), fixed, state

    trainable = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]
    state = transformation.init(trainable)
    for _ in range(steps):
        trainable, fixed, state = step(trainable, fixed, state)
    return trainable, fixed


def searching():
    return optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(3))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_statistics_and_seeds_advance_once_a_step(policy):
    keras.config.set_dtype_policy(policy)

    def extra():
        drop = keras.layers.Dropout(0.2, seed=1)
        return keras.layers.BatchNormalization(), drop

    model = trained(searching(), *extra(), steps=2)
    weights, fixed = by_stateless_calls(searching(), network(*extra()), 2)
    seeds = [v for v in fixed if v.dtype == "uint32"]
    ours = [v for v in model.non_trainable_variables if v.dtype == "uint32"]
    assert len(seeds) == 1
    np.testing.assert_array_equal(seeds[0], ours[0].value)
    # A search compares losses, which bfloat16 rounds to three digits.
    tolerance = 1e-4 if policy == "float32" else 2e-2
    for variables, values in (
        (model.trainable_variables, weights),
        (model.non_trainable_variables, fixed),
    ):
        for a, b in zip(variables, values, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def scaled_by_the_loss(kind):
    """By a user: takes an extra argument, and can do without it."""

    def update(updates, state, params=None, *, value=None, **extra):
        scale = -1e-9 if value is None else -0.1 * value
        return jax.tree.map(lambda u: scale * u, updates), state

    return optax.chain(
        kind(lambda params: optax.EmptyState(), update), optax.scale(0.5)
    )


def test_an_optional_argument_is_given_too():
    kind = optax.GradientTransformationExtraArgs
    model = trained(scaled_by_the_loss(kind))
    assert model.optimizer.needs_loss == ("value",)
    hand = by_hand(scaled_by_the_loss(kind), "value")
    for ours, theirs in zip(model.trainable_variables, hand, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    # Without a loss to give, it trains as it would have.
    stock = keras.Sequential([keras.layers.Dense(1)])
    optimizer = kje.optimizers.OptaxOptimizer(scaled_by_the_loss(kind))
    stock.compile(optimizer, "mse")
    stock.fit(X, Y, verbose=0)


def test_an_optional_argument_that_a_neighbour_refuses_is_left_out():
    def strict(updates, state, params=None):
        return updates, state

    kind = optax.GradientTransformationExtraArgs
    transformation = optax.chain(
        scaled_by_the_loss(kind), kind(lambda params: (), strict)
    )
    assert trained(transformation).optimizer.needs_loss == ()


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
