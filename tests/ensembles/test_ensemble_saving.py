"""An ensemble in files, and copies of it."""

import pickle

import keras_jax_ext as kje
from keras_jax_ext import optax as recorded
from keras_jax_ext.optimizers import OptaxOptimizer

import keras
import numpy as np
import optax
import pytest
from solo import Net, Plain, X, Y, assert_same_model, ensemble, fit, functional

RATES = [1e-1, 1e-2, 1e-3]


def resumed(together, copy):
    """Both train on alike."""
    for each in (together, copy):
        fit(each, shuffle=False)
    assert_same_model(together, copy, 0)
    pairs = zip(
        together.optimizer.variables, copy.optimizer.variables, strict=True
    )
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("build", "optimizer"),
    [
        (Net, "adam"),
        (functional, recorded.adam(1e-2)),
        (
            Plain,
            lambda i: OptaxOptimizer(recorded.adam, learning_rate=RATES[i]),
        ),
    ],
    ids=["inline", "functional", "sweep"],
)
def test_a_file_is_resumed_exactly(build, optimizer, tmp_path):
    together = ensemble(build, 3, optimizer, metrics=["mae"])
    fit(together)
    together.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    assert isinstance(loaded, kje.Ensemble)
    np.testing.assert_array_equal(
        loaded.optimizer.learning_rates, together.optimizer.learning_rates
    )
    resumed(together, loaded)
    taken = loaded.member(2)
    assert_same_model(taken, together.member(2), 0)
    assert type(taken).__name__ == type(together.member(2)).__name__


def test_weights_alone(tmp_path):
    together, other = ensemble(Net), kje.Ensemble(Net, 3, seeds=[7, 8, 9])
    other.compile("adam", "mse")
    fit(together)
    other(X[:1])
    together.save_weights(tmp_path / "ensemble.weights.h5")
    other.load_weights(tmp_path / "ensemble.weights.h5")
    assert_same_model(together, other, 0)
    fewer = ensemble(Net, 2)
    fewer(X[:1])
    with pytest.raises(ValueError, match="arrays of a file must match"):
        fewer.load_weights(tmp_path / "ensemble.weights.h5")


def test_a_pickle():
    together = ensemble(Plain)
    fit(together)
    resumed(together, pickle.loads(pickle.dumps(together)))


def test_classes_that_are_given_when_it_is_read(tmp_path):
    class Own(kje.Model):
        def call(self, x):
            return kje.layers.Dense(1)(x)

    together = ensemble(Own)
    fit(together)
    together.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(
        tmp_path / "ensemble.keras", custom_objects={"Own": Own}
    )
    # Members are made later, too.
    assert_same_model(loaded.member(1), together.member(1), 0)


def test_raw_optax_is_asked_for(tmp_path):
    together = ensemble(Plain, optimizer=optax.adam(1e-2))
    fit(together)
    together.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(
        tmp_path / "ensemble.keras",
        custom_objects={"optax_tx": optax.adam(1e-2)},
    )
    resumed(together, loaded)


@pytest.mark.parametrize("method", ["save", "save_weights"])
def test_an_ensemble_without_variables_is_not_saved(method, tmp_path):
    together = ensemble(Plain)
    with pytest.raises(ValueError, match=f"Received: `{method}` of"):
        getattr(together, method)(tmp_path / "ensemble.weights.h5")


def test_a_summary_shows_a_member(capsys):
    together = ensemble(Net)
    together(X[:1])
    together.summary()
    printed = capsys.readouterr().out
    assert "Ensemble of 3 members" in printed
    assert "batch_normalization" in printed


def test_weights_are_read_and_set():
    together = ensemble(Net)
    fit(together, epochs=1)
    weights = together.get_weights()
    assert weights[0].shape == (3, 3, 8)
    fit(together, epochs=1)
    together.set_weights(weights)
    np.testing.assert_array_equal(together.get_weights()[0], weights[0])
    assert len(together.weights) == len(together.member(0).weights)
    assert together.count_params() == 3 * together.member(0).count_params()


def test_it_is_compiled_again():
    together = ensemble(Plain)
    fit(together)
    together.compile("sgd", "mae", metrics=["mse"])
    history = fit(together, y=Y)
    assert {*history.members} == {"loss", "mse"}
    assert len(together.optimizer.variables) == 2
