"""Masks and labels written out by path, where automatic names pass nine."""

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import optax
import pytest

X = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
NAMES = ["dense", *(f"dense_{i}" for i in range(1, 11))]


def network():
    """Eleven layers of one kind, with the names that Keras gives them."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    model = kje.Sequential(
        [keras.Input((2,)), *(keras.layers.Dense(2) for _ in NAMES)]
    )
    assert [layer.name for layer in model.layers] == NAMES
    return model


def literal(value_of):
    """A plain dict by path, as a user writes it, in any order."""
    layers = {
        name: {
            "bias": value_of(name, "bias"),
            "kernel": value_of(name, "kernel"),
        }
        for name in sorted(NAMES)
    }
    return {"sequential": layers}


def nines(name, kind):
    return name == "dense_9" and kind == "kernel"


def rates(name, kind):
    """Another learning rate for every layer, none for a bias."""
    return str(NAMES.index(name)) if kind == "kernel" else "frozen"


def by_rate(labels):
    parts = {str(i): optax.sgd(0.01 * (i + 1)) for i in range(len(NAMES))}
    return optax.partition({**parts, "frozen": optax.set_to_zero()}, labels)


MADE = {
    "masked": lambda: optax.chain(
        optax.masked(optax.scale(5.0), literal(nines)), optax.sgd(0.01)
    ),
    "partition": lambda: by_rate(literal(rates)),
    "weight_decay": lambda: optax.adamw(0.01, mask=literal(nines)),
    "selective_transform": lambda: optax.selective_transform(
        optax.sgd(0.01), freeze_mask=literal(nines)
    ),
}


def by_hand(transformation, steps):
    """The same training, its parameters a plain dict of the same paths."""
    model = network()
    variables = model.trainable_variables
    flat = {tuple(v.path.split("/")): v.value for v in variables}
    params = literal(lambda *names: flat["sequential", *names])

    @jax.jit
    def step(params, state):
        def loss(params):
            layers = params["sequential"]
            values = [layers[n][k] for n in NAMES for k in ("kernel", "bias")]
            y, _ = model.stateless_call(values, [], X)
            return ((y - X) ** 2).mean()

        updates, state = transformation.update(
            jax.grad(loss)(params), state, params
        )
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    layers = params["sequential"]
    return [layers[n][k] for n in NAMES for k in ("kernel", "bias")]


@pytest.mark.parametrize("name", MADE)
def test_a_dict_by_path_means_what_it_says(name):
    expected = by_hand(MADE[name](), 2)
    model = network()
    model.compile(MADE[name](), "mse")
    model.fit(X, X, epochs=2, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_path_that_is_missing_is_an_error():
    mask = literal(nines)
    del mask["sequential"]["dense_9"]
    model = network()
    model.compile(optax.masked(optax.sgd(0.01), mask), "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match="mask_by_path"):
        model.fit(X, X, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
