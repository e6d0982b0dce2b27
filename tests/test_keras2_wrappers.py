"""`KerasClassifier` and `KerasRegressor`, as scikit-learn uses them."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest

base = pytest.importorskip("sklearn.base")
ensemble = pytest.importorskip("sklearn.ensemble")
model_selection = pytest.importorskip("sklearn.model_selection")
pipeline = pytest.importorskip("sklearn.pipeline")
preprocessing = pytest.importorskip("sklearn.preprocessing")

keras2 = kje.keras2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype("float32")
Y = np.array(["a", "b", "c"])[X.argmax(axis=1)]


def classes(units=4, loss="categorical_crossentropy", metrics=("acc",)):
    model = kje.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(units, "relu"),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=[*metrics])
    return model


def both():
    model = kje.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, "sigmoid")]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def line():
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), "mse", metrics=["mae"])
    return model


def classifier(build=classes, **params):
    return keras2.KerasClassifier(build, **{"verbose": 0, **params})


@pytest.mark.parametrize(
    "loss",
    [
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        keras.losses.CategoricalCrossentropy(),
        keras.losses.categorical_crossentropy,
    ],
)
def test_labels_of_any_kind_are_those_of_the_loss(loss):
    found = classifier(loss=loss, epochs=30)
    history = found.fit(X, Y)
    assert len(history.epoch) == 30
    assert found.score(X, Y) > 0.8
    assert (found.predict(X) == Y).mean() == pytest.approx(found.score(X, Y))
    np.testing.assert_array_equal(found.classes_, ["a", "b", "c"])
    chances = found.predict_proba(X)
    np.testing.assert_array_equal(
        found.classes_[chances.argmax(axis=1)], found.predict(X)
    )


def test_labels_may_be_one_hot():
    found = classifier()
    found.fit(X, keras.utils.to_categorical(X.argmax(axis=1)), epochs=2)
    np.testing.assert_array_equal(found.classes_, [0, 1, 2])
    with pytest.raises(ValueError, match=r"Received: y.shape=\(2, 1, 1\)"):
        found.fit(X[:2], np.ones((2, 1, 1)))


def test_one_output_is_the_chance_of_the_second_class():
    found = classifier(both)
    found.fit(X, X[:, 0] > 0)
    second = found.model.predict(X, verbose=0)
    chances = found.predict_proba(X)
    np.testing.assert_allclose(chances, np.hstack([1 - second, second]))
    np.testing.assert_array_equal(found.predict(X), second > 0.5)


def test_each_fit_begins_anew():
    found = classifier(epochs=1)
    found.fit(X, Y)
    first = found.model
    found.fit(X, Y)
    assert found.model is not first


def test_scikit_learn_copies_searches_and_votes():
    found = classifier(epochs=1, batch_size=20)
    copy = base.clone(found)
    assert copy.get_params() == found.get_params()
    assert base.is_classifier(found)
    assert not base.is_regressor(found)
    search = model_selection.GridSearchCV(found, {"units": [1, 8]}, cv=2)
    search.fit(X, Y)
    best = search.best_params_["units"]
    assert search.best_estimator_.model.layers[0].units == best
    together = ensemble.VotingClassifier(
        [("a", found), ("b", classifier())], voting="soft"
    )
    assert set(together.fit(X, Y).predict(X)) <= {"a", "b", "c"}
    steps = [("scale", preprocessing.StandardScaler()), ("model", found)]
    line = pipeline.Pipeline(steps).set_params(model__units=7).fit(X, Y)
    assert line.named_steps["model"].model.layers[0].units == 7


def test_a_regressor_has_a_row_for_each_and_a_negative_loss():
    found = keras2.KerasRegressor(line, epochs=20, verbose=0)
    assert base.is_regressor(base.clone(found))
    y = X @ np.array([1.0, 2.0, 3.0], "float32")
    found.fit(X, y)
    predicted = found.predict(X)
    assert predicted.shape == (60,)
    loss = np.mean((predicted - y) ** 2)
    np.testing.assert_allclose(found.score(X, y), -loss, rtol=1e-5)
    scores = model_selection.cross_val_score(found, X, y, cv=2)
    assert (scores < 0).all()


def test_a_class_may_make_its_model():
    class Own(keras2.KerasClassifier):
        def __call__(self, units=2):
            return classes(units)

    found = Own(units=5, verbose=0)
    found.fit(X, Y)
    assert found.model.layers[0].units == 5


def test_an_argument_that_nothing_takes_is_refused():
    with pytest.raises(ValueError, match="Received: depth="):
        classifier(depth=3)
    with pytest.raises(ValueError, match="Received: depth="):
        classifier().set_params(depth=3)


def test_a_score_needs_an_accuracy():
    found = classifier(metrics=["mae"])
    found.fit(X, Y)
    with pytest.raises(ValueError, match="metrics="):
        found.score(X, Y)
