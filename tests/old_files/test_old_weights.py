"""Weights of Keras 2 reach the layers of their names, all or none."""

import keras_jax_ext as kje
from keras_jax_ext import layers

import keras
import numpy as np
import old_models
import pytest
from contents import same, values


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return old_models.unpack(tmp_path_factory.mktemp("keras_2"))


class Body(kje.Layer):
    def call(self, x):
        inner = layers.Dense(3, name="inner")(x)
        return inner * self.add_weight(name="scale", shape=(3,))


class Inline(kje.Model):
    """As `Subclassed` of `old_kinds.py`, its layers in another order."""

    units = 2

    def call(self, x):
        offset = self.add_weight(name="offset", shape=(2,))
        head = layers.Dense(self.units, name="head")
        hidden = layers.BatchNormalization(name="normal")(Body(name="body")(x))
        return head(hidden) + offset


class Wide(Inline):
    def call(self, x):
        hidden = layers.BatchNormalization(name="normal")(Body(name="body")(x))
        return layers.Dense(5, name="head")(hidden)


def inline(cls=Inline):
    model = cls()
    model(np.zeros((1, 4), "float32"))
    return model


def check(model, known):
    output = model(known["x0"], training=False)
    np.testing.assert_allclose(output, known["y0"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("by_name", [None, True])
def test_declared_layers_take_the_weights_of_their_names(by_name, folder):
    model = inline()
    path = folder / "subclassed_weights.h5"
    model.load_weights(path, by_name=by_name)
    check(model, old_models.figures(folder, "subclassed"))


class Plain(kje.Model):
    def call(self, x):
        x = layers.Dense(4, activation="relu")(x)
        return layers.Dense(2)(layers.Dropout(0.3)(x))


def plain():
    model = Plain()
    model(np.zeros((1, 3), "float32"))
    return model


# Keras 2 wrote weights alone under any ending, and whole models.
@pytest.mark.parametrize("ending", ["_weights.h5", ".h5", ".weights.h5"])
def test_layers_without_names_take_them_in_order(ending, folder, tmp_path):
    path = folder / f"dense{ending}"
    if not path.exists():
        path = tmp_path / "dense.weights.h5"
        path.write_bytes((folder / "dense_weights.h5").read_bytes())
    model = plain()
    model.load_weights(path)
    check(model, old_models.figures(folder, "dense"))


def frozen(trainable, names):
    inputs = keras.Input((4,))
    base = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4, name=names[0]),
            keras.layers.BatchNormalization(name=names[1]),
            keras.layers.Dense(4, name=names[2]),
            keras.layers.BatchNormalization(name=names[3]),
        ]
    )
    base.trainable = trainable
    return kje.Model(inputs, keras.layers.Dense(2)(base(inputs)))


SAME = ("dense", "batch_normalization", "dense_1", "batch_normalization_1")


@pytest.mark.parametrize("names", [SAME, "abcd"], ids=["same", "others"])
@pytest.mark.parametrize("trainable", [False, True])
def test_what_was_frozen_when_saved_does_not_matter(trainable, names, folder):
    model = frozen(trainable, names)
    model.load_weights(folder / "frozen.h5")
    check(model, old_models.figures(folder, "frozen"))


def test_by_name_leaves_other_layers_as_they_are(folder):
    class Longer(Inline):
        def call(self, x):
            hidden = Body(name="body")(x)
            return layers.Dense(2, name="another")(hidden)

    model = inline(Longer)
    before = values(model)
    with pytest.raises(ValueError, match=r"number of layers.*'another': 2"):
        model.load_weights(folder / "subclassed_weights.h5")
    assert same(values(model), before)
    kernel = np.array(model.another.kernel)
    model.load_weights(folder / "subclassed_weights.h5", by_name=True)
    np.testing.assert_array_equal(model.another.kernel, kernel)
    full = inline()
    full.load_weights(folder / "subclassed_weights.h5")
    assert same(values_of(model.body), values_of(full.body))


def values_of(layer):
    return [np.array(v) for v in layer.variables]


@pytest.mark.parametrize("by_name", [None, True])
def test_an_error_names_the_layer_and_the_shapes(by_name, folder):
    model = inline(Wide)
    before = values(model)
    message = (
        r"shape of 'kernel' of layer 'head' \(Dense\): \(3, 2\) in the file, "
        r"\(3, 5\) in the model"
    )
    with pytest.raises(ValueError, match=message):
        model.load_weights(folder / "subclassed_weights.h5", by_name=by_name)
    assert same(values(model), before)


def test_no_layer_of_a_name_is_an_error(folder):
    model = plain()
    with pytest.raises(ValueError, match="no layer has the name of one"):
        model.load_weights(folder / "lstm_weights.h5", by_name=True)


def test_a_model_that_was_never_called_says_so(folder):
    with pytest.raises(ValueError, match="call it on a batch"):
        Plain().load_weights(folder / "dense_weights.h5")


def test_mismatches_are_skipped_where_asked_for(folder):
    model = inline(Wide)
    with pytest.warns(UserWarning, match=r"mismatch in shape of '\w+' of"):
        model.load_weights(
            folder / "subclassed_weights.h5", by_name=True, skip_mismatch=True
        )
    full = inline()
    full.load_weights(folder / "subclassed_weights.h5")
    assert same(values_of(model.normal), values_of(full.normal))


def test_a_file_of_weights_is_no_model(folder):
    with pytest.raises(ValueError, match=r"weights alone.*load_weights"):
        kje.models.load_model(folder / "dense_weights.h5")
