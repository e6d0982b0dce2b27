"""Callbacks go on with what they knew, in another process."""

import contextlib
import inspect
import json
from pathlib import Path

import keras_jax_ext as kje
from keras_jax_ext._loop.callback_states import (
    append_to_files,
    read_states,
    set_states,
)

import keras
import numpy as np
import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "reliability.md"
LOSSES = [5.0, 4.0, 3.95, 3.94, 3.93, 3.92, 1.0, 2.0, 2.0, 2.0]


def public():
    """The classes of `keras.callbacks`, and ours."""
    found = {n for n, c in vars(keras.callbacks).items() if inspect.isclass(c)}
    return sorted(
        {n for n in found if n[0].isupper()} | {*kje.callbacks.__all__}
    )


@pytest.mark.parametrize("name", public())
def test_the_guide_says_what_is_kept_of_each_class(name):
    _, _, table = GUIDE.read_text().partition("### What is kept of callbacks")
    rows = table.partition("###")[0].splitlines()
    named = " ".join(row.split("|")[1] for row in rows if row.startswith("|"))
    assert f"`{name}`" in named


def make():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def begin(make_callbacks, folder):
    callbacks = make_callbacks(folder)
    return keras.callbacks.CallbackList(
        callbacks, add_history=True, model=make(), epochs=len(LOSSES)
    )


def run(callbacks, epochs):
    """Call the hooks that `fit` calls."""
    weights = callbacks.model.trainable_variables
    for epoch in epochs:
        callbacks.on_epoch_begin(epoch)
        for weight in weights:
            weight.assign(weight.value * 0.9 + 0.1 * epoch)
        callbacks.on_epoch_end(epoch, {"loss": LOSSES[epoch]})
        if callbacks.model.stop_training:
            break


def left(callbacks, folder):
    """What callbacks have done in the end."""
    callbacks.on_train_end()
    model = callbacks.model
    variables = [np.asarray(v) for v in model.variables]
    variables += [np.asarray(v) for v in model.optimizer.variables]
    files = {p.name for p in folder.iterdir()}
    return variables, model.history.history, model.history.epoch, files


def stopping(folder):
    return [
        keras.callbacks.EarlyStopping(
            "loss", patience=4, min_delta=0.5, restore_best_weights=True
        )
    ]


def plateau(folder):
    return [keras.callbacks.ReduceLROnPlateau("loss", patience=1, cooldown=1)]


def checkpoint(folder):
    path = folder / "{epoch}.weights.h5"
    return [
        kje.callbacks.EvaluationWeights(
            keras.callbacks.ModelCheckpoint(
                path, "loss", save_best_only=True, save_weights_only=True
            )
        )
    ]


def swap(folder):
    return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


@pytest.mark.parametrize(
    "make_callbacks", [stopping, plateau, checkpoint, swap]
)
@pytest.mark.parametrize("at", [1, 2, 3, 5, 7])
def test_callbacks_of_keras_go_on(make_callbacks, at, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    callbacks = begin(make_callbacks, folders[0])
    callbacks.on_train_begin()
    run(callbacks, range(len(LOSSES)))
    expected = left(callbacks, folders[0])

    first = begin(make_callbacks, folders[1])
    first.on_train_begin()
    run(first, range(at))
    if not first.model.stop_training:
        states, arrays = read_states(first.callbacks)
        states = json.loads(json.dumps(states))
        second = begin(make_callbacks, folders[1])
        second.on_train_begin()
        for name in ("variables", "optimizer.variables"):
            old, new = (variables(c.model, name) for c in (first, second))
            for v, w in zip(new, old, strict=True):
                v.assign(w.value)
        set_states(second.callbacks, states, arrays)
        run(second, range(at, len(LOSSES)))
        first = second
    found = left(first, folders[1])
    for a, b in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert found[1:] == expected[1:]


def variables(model, path):
    return model.variables if path == "variables" else model.optimizer.variables


@pytest.mark.parametrize("at", [0, 3])
def test_a_csv_file_has_one_head(at, tmp_path):
    def begun():
        logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
        return begin(lambda folder: [logger], tmp_path)

    first = begun()
    first.on_train_begin()
    run(first, range(at))
    states, arrays = read_states(first.callbacks)
    # A process that is killed has its rows on the disk.
    first.on_train_end()
    second = begun()
    append_to_files(second.callbacks)
    second.on_train_begin()
    set_states(second.callbacks, states, arrays)
    run(second, range(at, 5))
    second.on_train_end()
    rows = (tmp_path / "log.csv").read_text().splitlines()
    heads = [row.partition(",")[0] for row in rows]
    assert heads == ["epoch", "0", "1", "2", "3", "4"]


def test_members_that_stopped_stay_so(tmp_path):
    def train(*callbacks):
        keras.utils.set_random_seed(5)
        ensemble = kje.Ensemble(build, 3)
        ensemble.compile(
            keras.optimizers.Adam(0.05), "mse", steps_per_execution=4
        )
        stops = kje.callbacks.MemberEarlyStopping(
            "loss", patience=2, min_delta=0.1, restore_best_weights=True
        )
        history = ensemble.fit(
            x,
            x[:, :1],
            epochs=20,
            batch_size=8,
            verbose=0,
            callbacks=[stops, *callbacks],
        )
        weights = [np.asarray(w) for w in ensemble.weights]
        return stops, history.members, weights

    def build():
        return kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    def die(epoch, logs):
        if epoch == at:
            raise KeyboardInterrupt

    x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    stops, members, weights = train(keras.callbacks.LambdaCallback())
    at = int(stops.stopped_epoch[stops.stopped_epoch > 0].min()) + 1
    assert stops.stopped_epoch.max() > at, "one stops after the resume"
    backup = kje.callbacks.BackupAndRestore(tmp_path / "b")
    with contextlib.suppress(KeyboardInterrupt):
        train(keras.callbacks.LambdaCallback(on_epoch_end=die), backup)
        pytest.fail("it did not end")
    again = train(keras.callbacks.LambdaCallback(), backup)
    np.testing.assert_array_equal(again[0].stopped_epoch, stops.stopped_epoch)
    for name, values in members.items():
        np.testing.assert_array_equal(again[1][name], values)
    for a, b in zip(again[2], weights, strict=True):
        np.testing.assert_array_equal(a, b)
