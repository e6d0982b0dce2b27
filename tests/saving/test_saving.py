"""What declares inline is saved, loaded, cloned, pickled and copied."""

import copy
import pickle

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import keras
import numpy as np
import pytest
import zoo
from zoo import INPUTS, X, built, paths

each_model = pytest.mark.parametrize("cls", INPUTS, ids=lambda c: c.__name__)


def assert_same(model, other):
    """Equal paths, weights and outputs; Keras saves no random state."""
    assert paths(other) == paths(model)
    for a, b in zip(model.weights, other.weights, strict=True):
        assert np.array_equal(a, b), a.path
    if isinstance(model, zoo.State):
        return
    inputs = INPUTS[type(model)]
    for a, b in zip(
        jax.tree.leaves(model(inputs)),
        jax.tree.leaves(other(inputs)),
        strict=True,
    ):
        assert np.array_equal(a, b)


@each_model
def test_a_loaded_model_is_the_saved_one(cls, tmp_path):
    model = built(cls)
    model.save(tmp_path / "model.keras")
    assert_same(model, keras.models.load_model(tmp_path / "model.keras"))


def test_training_goes_on_after_loading(tmp_path):
    model = zoo.Shared()
    model.compile("adam", "mse")
    model.fit(X, X[:, :1], epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for m in (model, loaded):
        m.fit(X, X[:, :1], epochs=2, verbose=0, shuffle=False)
    assert_same(model, loaded)


def test_weights_go_into_an_equal_model(tmp_path):
    model, other = built(zoo.Derived), built(zoo.Derived)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(model, other)
    other.set_weights(built(zoo.Derived).get_weights())
    assert not np.array_equal(model.weights[0], other.weights[0])


class Pair(kje.Model):
    """Made of built models, as a GAN whose step calls them."""

    def __init__(self):
        super().__init__()
        self.first = kje.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        self.last = kje.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def test_weights_of_a_model_of_built_ones_that_is_never_called(tmp_path):
    model, other = Pair(), Pair()
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(model.weights) == 4
    assert (model.built, other.built) == (False, False)


class Late(Pair):
    def __init__(self):
        super().__init__()
        self.late = keras.layers.Dense(1)


def test_weights_that_are_not_all_there_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="not yet been built"):
        Late().save_weights(tmp_path / "model.weights.h5")


def test_the_default_config_holds_the_arguments():
    model = zoo.Mixture(7)
    assert zoo.Mixture.from_config(model.get_config()).k == 7
    block = zoo.Block(5, name="mine", trainable=False)
    again = zoo.Block.from_config(block.get_config())
    assert (again.units, again.name, again.trainable) == (5, "mine", False)


def test_a_config_keeps_what_the_constructor_does_not_take():
    model = zoo.Mixture(2)
    model.trainable = False
    model.dtype_policy = "mixed_bfloat16"
    again = zoo.Mixture.from_config(model.get_config())
    assert not again.trainable
    assert again.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize(
    "duplicate",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
def test_a_copy_is_the_same_model(duplicate):
    model = built(zoo.Derived)
    assert_same(model, duplicate(model))
    block = duplicate(model.block)
    assert np.array_equal(block(X), model.block(X))


def test_clone_model_makes_an_equal_untrained_one():
    model = built(zoo.Mixture)
    clone = keras.models.clone_model(model)
    clone(INPUTS[zoo.Mixture])
    assert paths(clone) == paths(model)
    assert not np.array_equal(clone.weights[0], model.weights[0])


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_containers_of_inline_layers_are_saved(kind, tmp_path):
    if kind == "functional":
        inputs = keras.Input((3,))
        model = kje.Model(inputs, zoo.Nested()(zoo.Block(4)(inputs)))
    else:
        model = kje.Sequential([zoo.Block(4), layers.Dense(2)])
        model(X)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(X), model(X))
    assert keras.models.clone_model(model)(X).shape == model(X).shape


def test_a_class_without_registration_needs_custom_objects(tmp_path):
    class Local(kje.Model):
        def call(self, x):
            return layers.Dense(2)(x)

    model = Local()
    model(X)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"Local": Local}
    )
    assert np.array_equal(loaded(X), model(X))


@keras.saving.register_keras_serializable("test_saving")
class Stateful(kje.Model):
    """State that depends on the batch size; it cannot be traced."""

    def call(self, x):
        return layers.LSTM(2, stateful=True)(x)


def test_stateful_layers_are_saved(tmp_path):
    model, x = Stateful(), np.ones((2, 3, 4), "float32")
    model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    model.lstm.reset_state()
    assert np.array_equal(loaded(x), model(x))


@keras.saving.register_keras_serializable("test_saving")
class Functional(kje.Model):
    """A subclass that is made in the functional form."""

    def __init__(self, units=4, **kwargs):
        inputs = keras.Input((3,))
        outputs = layers.Dense(units)(inputs)
        super().__init__(inputs, outputs, **kwargs)


def test_a_registered_functional_subclass_is_found_by_its_name(tmp_path):
    model = Functional()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, Functional)
    assert np.array_equal(loaded(X), model(X))


def functional():
    inputs = keras.Input((3,))
    inner = kje.Sequential([keras.Input((3,)), layers.Dense(4)])
    return kje.Model(inputs, layers.Dense(2)(inner(inputs)))


def sequential():
    return kje.Sequential([keras.Input((3,)), zoo.Block(4), functional()])


@pytest.mark.parametrize("ending", ["keras", "h5", "hdf5"])
@pytest.mark.parametrize("make", [functional, sequential])
def test_a_file_keeps_the_class(make, ending, tmp_path):
    model = make()
    model.save(tmp_path / f"model.{ending}")
    loaded = keras.models.load_model(tmp_path / f"model.{ending}")
    assert np.array_equal(loaded(X), model(X))
    assert type(loaded) is type(model)
    assert list(map(type, loaded.layers)) == list(map(type, model.layers))
    model.load_weights(tmp_path / f"model.{ending}")


def test_a_stock_model_of_a_legacy_file_stays_stock(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    kje.extend(model).save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    assert not isinstance(loaded, kje.Model)


@pytest.mark.parametrize("save", [kje.Model.save, keras.saving.save_model])
def test_a_model_with_layers_of_its_own_is_saved_before_its_first_use(
    save, tmp_path
):
    path = tmp_path / "model.keras"
    with pytest.warns(UserWarning, match="has not yet been built"):
        save(zoo.Classic(), path)
    loaded = keras.models.load_model(path)
    assert loaded(X).shape == (4, 4)


@keras.saving.register_keras_serializable("test_saving")
class Given(kje.Model):
    """Its user hands a function to `call`."""

    def call(self, x, act=None):
        return act(layers.Dense(2)(x))


def test_a_file_gives_no_function_to_a_call(tmp_path):
    model = Given()
    model(X, act=keras.ops.relu)
    with pytest.warns(UserWarning, match="cannot give to `call`. Received"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"plain values\. Received"):
        keras.models.load_model(tmp_path / "model.keras")
