"""Weights & Biases, offline: its callbacks log and save our models."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest
import wandb
from beside_stock import assert_as_stock, assert_fused, assert_single, seeded
from wandb.integration.keras import WandbMetricsLogger, WandbModelCheckpoint

X = np.linspace(-1, 1, 64, dtype="float32")[:, None]
Y = X**2


def trained(sequential, callbacks, optimizer="adam", **options):
    hidden = keras.layers.Dense(4, activation="tanh")
    model = sequential([keras.Input((1,)), hidden, keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **options)
    done = model.fit(
        X, Y, batch_size=8, epochs=2, verbose=2, callbacks=callbacks
    )
    return model, done.history


def extended(layers):
    return kje.extend(keras.Sequential(layers))


WAYS = {"sequential": kje.Sequential, "extend": extended}


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """Make a run that stays on this machine; note what is logged to it."""

    def start():
        run = wandb.init(project="test", dir=tmp_path, mode="offline")
        rows = []
        log = run.log

        def noting(data, *args, **kwargs):
            rows.append(dict(data))
            return log(data, *args, **kwargs)

        monkeypatch.setattr(wandb, "log", noting)
        return rows

    yield start
    wandb.finish()


@pytest.mark.parametrize("steps", [None, 8])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_epochs_are_logged_as_of_stock(way, steps, logged, loops, capsys):
    """It counts steps in its batch hook, which is called for each."""
    chosen = {"steps_per_execution": steps} if steps else {}

    def workflow(sequential):
        rows = logged()
        callbacks = [WandbMetricsLogger()]
        model, history = trained(sequential, callbacks, **chosen)
        wandb.finish()
        assert [row["epoch/epoch"] for row in rows] == [0, 1]
        return model, (history, rows)

    assert_as_stock(workflow, keras.Sequential, way, loops)
    assert "one step at a time" not in capsys.readouterr().out


def test_batches_are_logged_one_by_one(logged, loops):
    def workflow(sequential):
        rows = logged()
        logger = WandbMetricsLogger(log_freq="batch")
        model, _ = trained(sequential, [logger])
        wandb.finish()
        return model, [row for row in rows if "batch/loss" in row]

    _, _, expected = seeded(workflow, keras.Sequential)
    _, _, rows = seeded(workflow, kje.Sequential)
    assert_fused(loops)
    assert len(rows) == len(expected) == 16
    for row, stock in zip(rows, expected, strict=True):
        assert row == pytest.approx(stock, rel=1e-5)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_its_checkpoint_of_each_epoch_loads(
    way, logged, loops, tmp_path, capsys
):
    path = tmp_path / "best.keras"

    def workflow(sequential):
        logged()
        checkpoint = WandbModelCheckpoint(path, monitor="loss")
        model, history = trained(sequential, [checkpoint])
        wandb.finish()
        return model, history

    model = assert_as_stock(workflow, keras.Sequential, way, loops, ())
    out = capsys.readouterr().out
    assert_single(loops, out, "WandbModelCheckpoint")
    loaded = keras.saving.load_model(path)
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
