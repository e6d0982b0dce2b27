"""`keras.wrappers.SKLearnClassifier` in scikit-learn's GridSearchCV."""

import pickle

import keras_jax_ext as kje

import keras
import numpy as np
import optax
import pytest
from beside_stock import assert_fused, seeded
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

X, Y = make_classification(48, 6, random_state=0)
RATES = [1e-2, 1e-1]


def of_stock(rate):
    return keras.optimizers.SGD(rate, momentum=0.9)


def of_optax(rate):
    return optax.sgd(rate, momentum=0.9)


def of_recorded(rate):
    return kje.optax.sgd(rate, momentum=0.9)


# A worker makes the model: functions of a module, and classes by name.
SEQUENTIAL = {"stock": keras.Sequential, "ours": kje.Sequential}


def extended(layers):
    return kje.extend(keras.Sequential(layers))


SEQUENTIAL["extend"] = extended


def build(X, y, kind, optimizer, rate=1e-2):  # noqa: N803 (Keras's names)
    keras.utils.set_random_seed(2)
    hidden = keras.layers.Dense(4, activation="relu")
    outputs = keras.layers.Dense(y.shape[1], activation="softmax")
    model = SEQUENTIAL[kind]([keras.Input(X.shape[1:]), hidden, outputs])
    model.compile(optimizer(rate), loss="categorical_crossentropy")
    return model


def grid(kind, optimizer, jobs=1):
    estimator = keras.wrappers.SKLearnClassifier(
        build,
        model_kwargs={"kind": kind, "optimizer": optimizer},
        fit_kwargs={"epochs": 2, "batch_size": 8, "verbose": 0},
    )
    choices = [
        {"kind": kind, "optimizer": optimizer, "rate": rate} for rate in RATES
    ]
    search = GridSearchCV(
        estimator, {"model_kwargs": choices}, cv=2, n_jobs=jobs
    )
    search.fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    return search.best_estimator_.model_, (scores, search.predict(X))


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("extend", of_stock), ("extend", of_optax), ("ours", of_recorded)],
)
def test_a_grid_search_finds_what_stock_finds(kind, optimizer, loops):
    _, expected, (scores, labels) = seeded(
        lambda kind: grid(kind, of_stock), "stock"
    )
    assert loops == []
    _, weights, (own_scores, own_labels) = seeded(
        lambda kind: grid(kind, optimizer), kind
    )
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own_scores, scores)
    np.testing.assert_array_equal(own_labels, labels)
    assert_fused(loops, ("train", "predict"))


@pytest.mark.parametrize("optimizer", [of_optax, of_recorded])
def test_a_search_in_other_processes_returns_the_same(optimizer):
    _, one, (scores, _) = seeded(lambda kind: grid(kind, optimizer), "ours")
    _, two, (own_scores, _) = seeded(
        lambda kind: grid(kind, optimizer, jobs=2), "ours"
    )
    np.testing.assert_allclose(own_scores, scores)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def search_over_a_compiled_model(optimizer, jobs):
    estimator = keras.wrappers.SKLearnClassifier(
        build(X, np.eye(2)[Y], "ours", optimizer)
    )
    # The clone that a search makes forgets its `fit_kwargs`.
    sizes = [
        {"epochs": 1, "verbose": 0, "batch_size": size} for size in (8, 16)
    ]
    search = GridSearchCV(estimator, {"fit_kwargs": sizes}, cv=2, n_jobs=jobs)
    return search.fit(X, Y)


@pytest.mark.parametrize(
    ("optimizer", "jobs"),
    [
        *((of_stock, jobs) for jobs in (1, 2)),
        *((of_recorded, jobs) for jobs in (1, 2)),
        (of_optax, 1),
    ],
)
def test_a_search_clones_a_compiled_model(optimizer, jobs):
    search = search_over_a_compiled_model(optimizer, jobs)
    assert set(search.predict(X)) <= {0, 1}


def test_a_model_with_raw_optax_says_why_it_goes_to_no_other_process():
    """A file cannot hold the transformation: the error comes at once."""
    with pytest.raises(pickle.PicklingError, match="Could not pickle") as info:
        search_over_a_compiled_model(of_optax, jobs=2)
    chain = []
    error = info.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert "cannot hold its optax transformation" in " ".join(chain)
