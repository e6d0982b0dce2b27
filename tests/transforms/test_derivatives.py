"""Derivatives inside losses: `apply`, `kje.derivative`, `kje.derivatives`."""

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

layers = keras.layers


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (12, 2)).astype("float32")


def by_formula(x):
    """Outputs of shape (rows, 1): u = sin(a) b^3."""
    return jnp.sin(x[:, :1]) * x[:, 1:] ** 3


def several(x):
    return jnp.concatenate([by_formula(x), x[:, :1] ** 2 * x[:, 1:]], axis=1)


def test_first_derivatives_are_those_of_the_formula(x):
    a, b = x[:, :1], x[:, 1:]
    u, (u_a, u_b) = kje.derivatives(by_formula, x)
    np.testing.assert_allclose(u, np.sin(a) * b**3, rtol=1e-5)
    np.testing.assert_allclose(u_a, np.cos(a) * b**3, rtol=1e-5)
    np.testing.assert_allclose(u_b, np.sin(a) * 3 * b**2, rtol=1e-5)
    for column, expected in enumerate((u_a, u_b)):
        found = kje.derivative(by_formula, x, column)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    both, (of_a, of_b) = kje.derivatives(several, x)
    np.testing.assert_allclose(both[:, :1], u, rtol=1e-5)
    expected = np.concatenate([u_a, 2 * a * b], axis=1)
    np.testing.assert_allclose(of_a, expected, rtol=1e-5)
    expected = np.concatenate([u_b, a**2], axis=1)
    np.testing.assert_allclose(of_b, expected, rtol=1e-5)


@pytest.mark.parametrize("function", [by_formula, several])
@pytest.mark.parametrize("columns", [(), (0,), (0, 0), (1, 0), (1, 1, 1)])
def test_they_are_those_of_each_point(function, columns, x):
    point = function
    for column in columns:

        def point(rows, inner=point, column=column):
            def one(row):
                return inner(row[None])[0]

            return jax.vmap(jax.jacfwd(one))(rows)[:, :, column]

    found = kje.derivative(function, x, *columns)
    np.testing.assert_allclose(found, point(x), rtol=1e-4, atol=1e-5)


def network():
    keras.utils.set_random_seed(1)
    inner = [
        layers.Dense(8, "tanh", name="first"),
        layers.Dense(1, name="last"),
    ]
    return kje.Sequential([keras.Input((2,)), *inner])


def residual(x, apply):
    u, (u_x, u_t) = kje.derivatives(apply, x)
    u_xx = kje.derivative(apply, x, 0, 0)
    return {"pde": (u_t + u * u_x - 0.1 * u_xx) ** 2, "size": u**2}


def by_hand(x, steps, optimizer):
    """The same training, with derivatives of each point, in a loop."""
    apply, variables = kje.functional(network())
    params = variables["params"]

    def loss(params):
        def u(point):
            return apply({**variables, "params": params}, point[None])[0, 0]

        def parts(point):
            u_x, u_t = jax.grad(u)(point)
            u_xx = jax.hessian(u)(point)[0, 0]
            value = u(point)
            return (u_t + value * u_x - 0.1 * u_xx) ** 2 + value**2

        return jnp.mean(jax.vmap(parts)(x))

    slots, losses = optimizer.init(params), []
    step = jax.jit(jax.value_and_grad(loss))
    for _ in range(steps):
        value, gradient = step(params)
        given = {
            "value": value,
            "grad": gradient,
            "value_fn": loss,
        }
        updates, slots = optax.with_extra_args_support(optimizer).update(
            gradient, slots, params, **given
        )
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return params, losses


@pytest.mark.parametrize("make", [lambda: optax.adam(1e-2), optax.lbfgs])
def test_a_loss_of_derivatives_trains_as_by_hand(make, x):
    model = network()
    model.compile(make(), kje.losses.Loss(residual))
    history = model.fit(x, batch_size=12, epochs=8, verbose=0, shuffle=False)
    params, losses = by_hand(x, 8, make())
    np.testing.assert_allclose(history.history["loss"], losses, rtol=1e-4)
    assert {"residual_loss/pde", "residual_loss/size"} <= {*history.history}
    found = kje.functional(model)[1]["params"]
    assert losses[-1] < losses[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        found,
        params,
    )


class Reporting(kje.Model):
    """Draws, keeps statistics, reports, and adds a loss."""

    def call(self, x):
        h = kje.layers.Dense(8, "tanh", kernel_regularizer="l2")(x)
        self.add_metric(keras.ops.mean(h), name="activity")
        self.add_loss(keras.ops.mean(h**2), name="size")
        h = kje.layers.GaussianNoise(0.5)(h)
        return kje.layers.Dense(1)(h)


def test_a_step_changes_nothing_in_a_loss_that_applies_the_model(x):
    def once(y_pred):
        return y_pred**2

    def applied(x, y_pred, apply):
        # Of the same draw each time, and of no effect on the step itself.
        first, second = apply(x), apply(x)
        slope = kje.derivative(apply, x, 0, 0)
        return y_pred**2 + (first - second) ** 2 + 0 * slope

    found = []
    for loss in (once, applied):
        keras.utils.set_random_seed(2)
        model = Reporting()
        model.compile("sgd", kje.losses.Loss(loss, name="own"))
        history = model.fit(x, batch_size=4, epochs=3, verbose=0).history
        found.append((history, [np.array(w) for w in model.get_weights()]))
    (expected, weights), (history, others) = found
    assert (
        expected.keys()
        == history.keys()
        >= {"activity", "size_loss"} - {"size_loss"}
    )
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_metric_applies_the_weights_that_made_the_outputs(x):
    def gap(x, y_pred, apply):
        return jnp.abs(apply(x) - y_pred)

    model = network()
    model.compile("sgd", "mse", metrics=[gap])
    history = model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0).history
    np.testing.assert_allclose(history["gap"], 0, atol=1e-6)
    assert history["loss"][-1] < history["loss"][0]
    values = model.evaluate(x, x[:, :1], verbose=0, return_dict=True)
    assert values["gap"] == pytest.approx(0, abs=1e-6)


def test_it_infers_where_the_model_is_evaluated(x):
    def difference(x, y_pred, apply):
        return (apply(x) - y_pred) ** 2

    model = Reporting()
    model.compile("sgd", difference)
    model.fit(x, verbose=0)
    values = model.evaluate(x, verbose=0, return_dict=True)
    model(x)
    assert values["loss"] == pytest.approx(float(sum(model.losses)), rel=1e-4)
    assert values["loss"] > 0


def test_bad_input_is_named(x):
    with pytest.raises(ValueError, match=r"columns=\(2,\) and x of shape"):
        kje.derivative(by_formula, x, 2)
    with pytest.raises(ValueError, match=r"x of shape \(12,\)"):
        kje.derivatives(by_formula, x[:, 0])
    with pytest.raises(ValueError, match=r"outputs .*\(12,\)"):
        kje.derivatives(lambda x: x[:, 0], x)
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compile("sgd", kje.losses.Loss(lambda y_pred, apply: y_pred))
    with pytest.raises(ValueError, match=r"asks for `apply`.*keras_jax_ext\.M"):
        model.train_on_batch(x, x)
