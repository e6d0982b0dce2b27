"""Submodules answer for the names of Keras's that they stand for."""

import keras_jax_ext as kje

import keras
import pytest

NAMESPACES = [
    "callbacks",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
]


@pytest.mark.parametrize("name", NAMESPACES)
def test_every_public_name_of_keras_is_found(name):
    ours, stock = getattr(kje, name), getattr(keras, name)
    public = [n for n in dir(stock) if not n.startswith("_")]
    assert {*public} <= {*dir(ours)}
    for each in public:
        found = getattr(ours, each)
        own = getattr(found, "__module__", "").startswith("keras_jax_ext")
        assert own or found == getattr(stock, each)


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_name_of_nobody_is_an_error_that_names_the_module(name):
    message = f"'keras_jax_ext.{name}' has no attribute 'Nothing'"
    with pytest.raises(AttributeError, match=message):
        getattr(kje, name).Nothing  # noqa: B018


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_module_lists_no_more_than_its_names_and_those_of_keras(name):
    ours = getattr(kje, name)
    assert {*dir(ours)} == {*ours.__all__, *dir(getattr(keras, name))}


def test_the_package_lists_what_it_offers():
    assert {*kje.__all__} <= {*dir(kje)}


def test_our_classes_come_before_those_of_keras():
    assert kje.callbacks.TensorBoard is not keras.callbacks.TensorBoard
    assert kje.callbacks.EarlyStopping is keras.callbacks.EarlyStopping
    assert kje.optimizers.get("adam").__class__ is kje.optimizers.Adam
