"""Programs are compiled for batches that are met, not for lengths of data."""

import time

import keras_jax_ext as kje
from keras_jax_ext._loop.batches import Stacked
from keras_jax_ext._loop.program import Program

import jax
import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(2000, 4)).astype("float32")
Y = X[:, :1]
compiled = []


@jax.monitoring.register_event_duration_secs_listener
def note(event, _, **__):
    """Notes each program that XLA compiles in this process."""
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(event)


def make(cls):
    keras.utils.clear_session(free_memory=False)
    model = cls([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def programs(method, lengths, cls, first):
    """How many are compiled for these lengths, after a first one."""
    model = make(cls)

    def run(rows):
        data = (X[:rows], Y[:rows]) if method != "predict" else (X[:rows],)
        getattr(model, method)(*data, batch_size=16, verbose=0)

    run(first)
    compiled.clear()
    for rows in lengths:
        run(rows)
    return len(compiled)


FEW = [48, 64, 80, 96, 112, 128, 496]
FEW_AND_A_REST = [49, 65, 81, 97, 113, 129, 497]
MANY_RESTS = [33, 50, 67, 84, 5, 5, 33, 16]


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("lengths", [FEW, FEW_AND_A_REST, MANY_RESTS])
def test_no_more_programs_than_in_stock(method, lengths):
    stock = programs(method, lengths, keras.Sequential, 32)
    assert programs(method, lengths, kje.Sequential, 32) <= stock


def test_other_lengths_of_longer_data_share_one_program():
    lengths = [1100, 1500, 1900, 1228, 2000]
    assert (
        programs("fit", [n // 16 * 16 for n in lengths], kje.Sequential, 960)
        <= 1
    )


def test_one_length_again_is_one_program():
    assert programs("fit", [1000, 1000, 1000], kje.Sequential, 1000) == 0


SLOW = {"never": (), "always": range(9), "first": (0, 1, 2), "last": (7,)}


@pytest.mark.parametrize("slow", SLOW)
def test_a_source_has_one_program_fast_or_slow(slow, monkeypatch):
    call, kinds = Program.__call__, set()

    def noting(self, state, span, *kept):
        shapes = [a.shape for a in jax.tree.leaves(span.data)]
        kinds.add((type(span.data), *shapes))
        return call(self, state, span, *kept)

    def source():
        for i in range(9):
            if i in SLOW[slow]:
                time.sleep(0.02)
            yield X[:16], Y[:16]

    monkeypatch.setattr(Program, "__call__", noting)
    model = make(kje.Sequential)
    model.fit(source(), steps_per_epoch=9, verbose=0, shuffle=False)
    assert kinds == {(Stacked, (16, 16, 4), (16, 16, 1))}


class FourRows(keras.layers.Layer):
    """Refuses all batches but those of four rows."""

    def call(self, x):
        if x.shape[0] not in (None, 4):
            raise ValueError(f"only batches of 4, got {x.shape}")
        return x


def of_four(cls, rows=4):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(rows, 4))
    model = cls(inputs, keras.layers.Dense(1)(FourRows()(inputs)))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("fraction", [0.5, 0.0])
@pytest.mark.parametrize("shuffle", [True, "batch", False])
def test_a_batch_that_is_never_reached_is_not_traced(shuffle, fraction):
    results = []
    for cls in (keras.Model, kje.Model):
        model = of_four(cls)
        model.resident_fraction = fraction
        history = model.fit(
            X[:10],
            Y[:10],
            batch_size=4,
            steps_per_epoch=2,
            shuffle=shuffle,
            validation_data=(X[:11], Y[:11]),
            validation_steps=2,
            verbose=0,
        ).history
        options = {"batch_size": 4, "steps": 2, "verbose": 0}
        loss = model.evaluate(X[:10], Y[:10], **options)
        predicted = model.predict(X[:10], **options)
        assert predicted.shape == (8, 1)
        results.append([*history.values(), loss, predicted])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_batch_larger_than_the_data_is_not_traced():
    losses = []
    for cls in (keras.Model, kje.Model):
        model = of_four(cls)
        losses.append(model.fit(X[:4], Y[:4], verbose=0).history["loss"])
        losses[-1].append(model.evaluate(X[:4], Y[:4], verbose=0))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


def test_it_is_reached_when_a_pass_goes_on_in_the_next_epoch():
    options = {"batch_size": 4, "steps_per_epoch": 2, "epochs": 2}
    weights = []
    for cls in (keras.Sequential, kje.Sequential):
        keras.utils.set_random_seed(0)
        model = make(cls)
        with pytest.warns(UserWarning, match="ran out of data"):
            model.fit(X[:10], Y[:10], shuffle=False, verbose=0, **options)
        weights.append(model.get_weights()[0])
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-5)
    with pytest.raises(ValueError, match="only batches of 4"):
        of_four(kje.Model).fit(X[:10], Y[:10], verbose=0, **options)
