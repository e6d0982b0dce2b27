"""Metrics of `fit` leave out the steps that a mask leaves out."""

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import optax
import pytest

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(1, 10, (32, 5))
X[:, 3:] *= RANDOM.integers(0, 2, (32, 2))
Y = RANDOM.integers(0, 3, (32, 5))
OPTIMIZERS = {"keras": keras.optimizers.SGD, "optax": optax.sgd}


def tagger():
    """Two outputs, of which one has a mask."""
    keras.utils.set_random_seed(0)
    words = keras.Input((5,))
    h = keras.layers.Embedding(10, 4, mask_zero=True)(words)
    tags = keras.layers.Dense(3, activation="softmax", name="tags")(h)
    whole = keras.layers.GlobalAveragePooling1D()(h)
    whole = keras.layers.Dense(3, activation="softmax", name="whole")(whole)
    return kje.Model(words, {"tags": tags, "whole": whole})


class Inline(kje.Model):
    def call(self, x):
        h = kje.layers.Embedding(10, 4, mask_zero=True)(x)
        return kje.layers.Dense(3, activation="softmax")(h)


def one():
    model = tagger()
    return kje.Model(model.input, model.output["tags"])


def counted(model, y, optimizer, **options):
    """The logs of training that changes nothing, and of evaluation."""
    model.compile(
        OPTIMIZERS[optimizer](0.0),
        "sparse_categorical_crossentropy",
        metrics=options.pop("metrics", ["accuracy"]),
        **options,
    )
    found = model.fit(X, y, verbose=0).history
    logs = {name: values[-1] for name, values in found.items()}
    return logs, model.evaluate(X, y, return_dict=True, verbose=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [one, Inline])
@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 1}])
def test_fit_counts_what_evaluate_counts(make, optimizer, options):
    model = make()
    trained, evaluated = counted(model, Y, optimizer, **options)
    assert trained == pytest.approx(evaluated, abs=1e-6)
    right = np.argmax(model.predict(X, verbose=0), -1) == Y
    assert trained["accuracy"] == pytest.approx(right[X > 0].mean())
    assert right.mean() != pytest.approx(right[X > 0].mean())


def test_a_mask_of_one_of_two_outputs():
    y = {"tags": Y, "whole": Y[:, 0]}
    metrics = {"tags": "accuracy", "whole": "accuracy"}
    trained, evaluated = counted(tagger(), y, "keras", metrics=metrics)
    assert trained == pytest.approx(evaluated, abs=1e-6)
    assert len(trained) == 5


def test_members_of_an_ensemble():
    trained, evaluated = counted(kje.Ensemble(one, 2), Y, "keras")
    assert trained == pytest.approx(evaluated, abs=1e-6)


def test_batches_by_hand():
    model = one()
    model.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        metrics=["acc"],
    )
    trained = model.train_on_batch(X, Y, return_dict=True)
    assert trained == pytest.approx(model.test_on_batch(X, Y, return_dict=True))


def test_a_mask_from_within_another_program_is_left_out():
    class Compiles(kje.Model):
        def compute_loss_and_updates(self, *args, **kwargs):
            inner = super().compute_loss_and_updates
            return jax.jit(lambda: inner(*args, **kwargs))()

    model = one()
    model = Compiles(model.input, model.output)
    trained, _ = counted(model, Y, "keras")
    right = np.argmax(model.predict(X, verbose=0), -1) == Y
    assert trained["accuracy"] == pytest.approx(right.mean())
