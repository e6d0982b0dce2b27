"""KerasTuner searches over models of ours; its checkpoints load again."""

import keras_jax_ext as kje

import keras
import keras_tuner
import numpy as np
import optax
import pytest
from beside_stock import assert_fused, seeded

pytestmark = [
    # Its oracles ask for threads by old names.
    pytest.mark.filterwarnings(
        r"ignore:(currentThread|getName)\(\) is deprecated:DeprecationWarning"
    ),
    # It loads weights before the optimizer is built, with stock Keras too.
    pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning"),
]
X = np.linspace(-1, 1, 64, dtype="float32")[:, None]
Y = X**2


def build(sequential, optimizer, **options):
    """What a tuner calls: a model of the hyperparameters it chose."""

    def made(hp):
        width = hp.Choice("width", [2, 4])
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
        hidden = keras.layers.Dense(width, activation="tanh")
        model = sequential([keras.Input((1,)), hidden, keras.layers.Dense(1)])
        model.compile(optimizer(rate), loss="mse", **options)
        return model

    return made


def random_search(folder, hypermodel):
    return keras_tuner.RandomSearch(
        hypermodel,
        objective="val_loss",
        max_trials=2,
        seed=1,
        directory=folder,
        project_name="search",
    )


def hyperband(folder, hypermodel):
    return keras_tuner.Hyperband(
        hypermodel,
        objective="val_loss",
        max_epochs=2,
        factor=2,
        seed=1,
        directory=folder,
        project_name="search",
    )


def searched(tuner, verbose=0):
    """Search; return the best model, and what every trial came to."""
    tuner.search(
        *(X[::2], Y[::2]),
        validation_data=(X[1::2], Y[1::2]),
        batch_size=8,
        epochs=2,
        verbose=verbose,
    )
    trials = {
        name: (trial.score, trial.hyperparameters.values)
        for name, trial in sorted(tuner.oracle.trials.items())
    }
    return tuner.get_best_models(1)[0], trials


def extended(layers):
    return kje.extend(keras.Sequential(layers))


@pytest.mark.parametrize(
    ("tuner", "way"),
    [(random_search, kje.Sequential), (hyperband, extended)],
)
def test_a_search_finds_what_stock_finds(tuner, way, loops, tmp_path, capsys):
    def workflow(sequential):
        hypermodel = build(sequential, keras.optimizers.Adam)
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return searched(tuner(folder, hypermodel), verbose=2)

    _, expected, trials = seeded(workflow, keras.Sequential)
    capsys.readouterr()
    assert loops == []
    model, weights, own_trials = seeded(workflow, way)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert own_trials.keys() == trials.keys()
    for name, (score, values) in trials.items():
        assert own_trials[name][1] == values
        assert own_trials[name][0] == pytest.approx(score, rel=1e-5)
    # Its callback calls the tuner for each batch, which does nothing.
    assert_fused(loops, {name for name, _ in loops})
    assert "one step at a time" not in capsys.readouterr().out
    assert model.evaluate(X[1::2], Y[1::2], verbose=0) == pytest.approx(
        min(score for score, _ in trials.values()), rel=1e-5
    )


@pytest.mark.parametrize(
    ("tuner", "optimizer"),
    [(random_search, optax.adam), (hyperband, kje.optax.adam)],
)
def test_models_with_optax_are_searched_and_loaded(
    tuner, optimizer, loops, tmp_path
):
    def workflow(optimizer):
        hypermodel = build(kje.Sequential, optimizer, steps_per_execution=4)
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return searched(tuner(folder, hypermodel))

    _, expected, trials = seeded(workflow, keras.optimizers.Adam)
    loops.clear()
    model, weights, own_trials = seeded(workflow, optimizer)
    # Adam's epsilon: 1e-7 in Keras, 1e-8 in optax.
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    scores = [score for score, _ in own_trials.values()]
    assert scores == pytest.approx([s for s, _ in trials.values()], rel=1e-3)
    assert model.evaluate(X[1::2], Y[1::2], verbose=0) == pytest.approx(
        min(scores), rel=1e-5
    )
    assert_fused(loops, ("train", "test"))


def test_a_new_search_loads_the_checkpoints_of_the_old(loops, tmp_path):
    hypermodel = build(kje.Sequential, kje.optax.adam, steps_per_execution=4)
    model, trials = searched(random_search(tmp_path, hypermodel))
    again = random_search(tmp_path, hypermodel)
    again.reload()
    assert {
        name: trial.score for name, trial in again.oracle.trials.items()
    } == {name: score for name, (score, _) in trials.items()}
    loaded = again.get_best_models(1)[0]
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    loaded.fit(X, Y, verbose=0)
    assert_fused(loops, ("train", "test"))
