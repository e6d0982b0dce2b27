"""`crossentropy_of_logits`: beside losses that are given the logits."""

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import pytest

RNG = np.random.default_rng(0)
X = (255 * RNG.uniform(size=(64, 6))).astype("float32")
CLASS = X[:, :3].argmax(axis=1)
HOT = keras.utils.to_categorical(CLASS)
EACH = {
    "categorical_crossentropy": ("softmax", HOT),
    "sparse_categorical_crossentropy": ("softmax", CLASS),
    "binary_crossentropy": ("sigmoid", HOT),
}


@pytest.fixture(autouse=True)
def _of_logits():
    kje.keras2.crossentropy_of_logits()
    yield
    kje.keras2.crossentropy_of_logits(False)


def trained(loss, activation, y, own_layer=False):
    """The losses of a model whose data are not scaled."""
    last = [keras.layers.Dense(3, None if own_layer else activation)]
    if own_layer:
        last.append(keras.layers.Activation(activation))
    model = kje.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "relu"), *last]
    )
    values = np.random.default_rng(1)
    model.set_weights([values.normal(size=w.shape) for w in model.weights])
    model.compile(keras.optimizers.Adam(0.01), loss)
    history = model.fit(X, y, epochs=5, shuffle=False, verbose=0).history
    return history["loss"]


@pytest.mark.parametrize("own_layer", [False, True])
@pytest.mark.parametrize("name", EACH)
def test_a_model_trains_as_if_the_loss_got_the_logits(name, own_layer):
    activation, y = EACH[name]
    kind = "".join(part.title() for part in name.split("_"))
    reference = getattr(keras.losses, kind)(from_logits=True)
    expected = trained(reference, "linear", y)
    found = trained(name, activation, y, own_layer)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    kje.keras2.crossentropy_of_logits(False)
    assert not np.allclose(trained(name, activation, y), expected, rtol=0.1)


def test_a_loss_takes_the_logits_of_either_as_tensorflow_does():
    logits = np.array([[2.0, -1.0, 0.5]], "float32")
    y = np.array([[1.0, 0.0, 0.0]], "float32")
    found = keras.losses.binary_crossentropy(
        y, keras.activations.softmax(logits)
    )
    expected = np.log1p(np.exp([-2.0, -1.0, 0.5])).mean()
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    found = keras.losses.categorical_crossentropy(
        y, keras.activations.sigmoid(logits)
    )
    expected = np.log(np.exp(logits).sum()) - 2.0
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_an_axis_that_is_not_the_last_is_left_alone():
    logits = RNG.normal(size=(3, 2)).astype("float32")
    y = np.eye(3, 2, dtype="float32")
    output = keras.ops.softmax(logits, axis=0)
    found = keras.ops.categorical_crossentropy(y, output, axis=0)
    expected = -(y * np.log(np.asarray(output))).sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_output_that_was_changed_is_a_probability():
    logits = np.array([[-50.0]], "float32")
    output = keras.activations.sigmoid(logits) * 1.0
    found = keras.losses.binary_crossentropy(np.ones((1, 1)), output)
    np.testing.assert_allclose(found, [-np.log(2e-7)], rtol=1e-5)


def test_outputs_without_an_activation_are_cut_as_by_keras_2():
    """The values are tf_keras's."""
    output = np.array([[2.0, -1.0, 0.5], [0.3, 0.3, 0.2]], "float32")
    y = np.array([1, 0])
    loss = keras.losses.sparse_categorical_crossentropy
    found = loss(y, output)
    np.testing.assert_allclose(found, [16.523561, 0.9808292], rtol=1e-5)
    gradient = jax.grad(lambda p: loss(y, p).sum())(output)
    expected = [[0.0, 0.0, 0.6666666], [-2.0833333, 1.2500001, 1.25]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    found = keras.losses.binary_crossentropy(
        np.array([[1], [1], [0]]), np.array([[-1.0], [0.5], [3.0]], "float32")
    )
    expected = [15.424949, 0.69314694, 15.333239]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    kje.keras2.crossentropy_of_logits(False)
    assert not np.allclose(loss(y, output), [16.523561, 0.9808292], rtol=0.01)


def test_nothing_outlives_its_output():
    from keras_jax_ext._keras import logits

    before = len(logits._kept)
    output = keras.activations.softmax(np.ones((2, 3), "float32"))
    assert len(logits._kept) == before + 1
    del output
    assert len(logits._kept) == before


def test_outputs_of_an_activation_are_looked_up_whatever_is_said():
    """And those of an operation are what they are said to be."""
    logits = np.array([[2.0, -1.0, 0.5]], "float32")
    y = np.array([[1.0, 0.0, 0.0]], "float32")
    wanted = keras.losses.categorical_crossentropy(y, logits, from_logits=True)
    for softmax, same in (
        (keras.activations.softmax, True),
        (keras.ops.softmax, False),
    ):
        output = softmax(keras.ops.convert_to_tensor(logits))
        found = keras.losses.categorical_crossentropy(
            y, output, from_logits=True
        )
        assert np.allclose(found, wanted, rtol=1e-6) == same


def test_an_operation_is_looked_up_by_the_loss_of_its_kind_alone():
    """A sigmoid of what softmax was given is another number."""
    logits = keras.ops.convert_to_tensor(np.zeros((1, 10), "float32"))
    y = np.eye(1, 10, dtype="float32")
    found = keras.losses.binary_crossentropy(y, keras.ops.softmax(logits))
    expected = -(np.log(0.1) + 9 * np.log(0.9)) / 10
    np.testing.assert_allclose(found, [expected], rtol=1e-5)
    found = keras.losses.categorical_crossentropy(y, keras.ops.sigmoid(logits))
    np.testing.assert_allclose(found, [np.log(10)], rtol=1e-5)
    far = keras.ops.convert_to_tensor(np.full((1, 1), -50.0, "float32"))
    found = keras.losses.binary_crossentropy(
        np.ones((1, 1)), keras.ops.sigmoid(far)
    )
    np.testing.assert_allclose(found, [50.0], rtol=1e-5)
