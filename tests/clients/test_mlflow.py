"""mlflow: autolog sees the `fit` of our models, its callback logs them."""

import re

import keras_jax_ext as kje

import keras
import mlflow
import mlflow.keras
import numpy as np
import pytest
from beside_stock import assert_as_stock, assert_fused, seeded

pytestmark = [
    # Its database models use an old option of SQLAlchemy's.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
    # Its wrapper of a saved model has hints that it does not check.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred"),
]
X = np.linspace(-1, 1, 64, dtype="float32")[:, None]
Y = X**2
EPOCHS = 3


def layers():
    return [
        keras.Input((1,)),
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.Dense(1),
    ]


def extended(layers):
    return kje.extend(keras.Sequential(layers))


WAYS = {"sequential": kje.Sequential, "extend": extended}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Making one takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def autolog(database, request):
    """Runs are logged to an experiment of this test alone."""
    before, fit = mlflow.get_tracking_uri(), keras.Model.fit
    mlflow.set_tracking_uri(f"sqlite:///{database}/runs.db")
    name = request.node.name
    mlflow.create_experiment(name, artifact_location=f"{database}/{name}")
    mlflow.set_experiment(name)
    yield mlflow.keras.autolog
    mlflow.keras.autolog(disable=True)
    assert keras.Model.fit is fit
    mlflow.set_tracking_uri(before)


def runs():
    """Every run's parameters and last metrics."""
    return [
        (run.data.params, run.data.metrics)
        for run in mlflow.search_runs(output_format="list")
    ]


def trained(sequential, verbose=0, compile_options=None, **options):
    model = sequential(layers())
    model.compile("adam", "mse", **compile_options or {})
    done = model.fit(
        X, Y, batch_size=8, epochs=EPOCHS, verbose=verbose, **options
    )
    return model, done.history


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_autolog_logs_one_run_as_of_stock(way, autolog, loops, capsys):
    autolog(log_models=False)
    _, expected, history = seeded(trained, keras.Sequential)
    capsys.readouterr()
    _, weights, own_history = seeded(lambda way: trained(way, verbose=2), way)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert own_history["loss"] == pytest.approx(history["loss"], rel=1e-5)
    ours, stock = runs()  # the newest first
    assert ours[0] == stock[0]
    assert ours[1] == pytest.approx(stock[1], rel=1e-5)
    # It has put itself in the place of Keras's loop: that runs, and says so.
    assert loops == []
    line = r"train: one step at a time, since mlflow\S* has replaced "
    assert re.search(line + "keras.Model.fit", capsys.readouterr().out)


def test_the_model_that_autolog_wrote_loads(autolog, loops, tmp_path):
    autolog(log_models=True, log_datasets=False)
    model, _ = trained(kje.Sequential)
    (logged,) = mlflow.search_logged_models(output_format="list")
    loaded = mlflow.keras.load_model(logged.model_uri)
    assert isinstance(loaded, keras.Model)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize("steps", [None, 8])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_its_callback_logs_each_epoch(way, steps, autolog, loops, capsys):
    """Its batch hook is not empty, and is called for each step."""
    chosen = {"steps_per_execution": steps} if steps else {}

    def workflow(sequential):
        with mlflow.start_run() as run:
            callback = mlflow.keras.MlflowCallback(log_every_epoch=True)
            model, history = trained(
                sequential, 2, chosen, callbacks=[callback]
            )
        client = mlflow.MlflowClient()
        logged = client.get_metric_history(run.info.run_id, "loss")
        return model, (history, [metric.value for metric in logged])

    assert_as_stock(workflow, keras.Sequential, way, loops)
    assert "one step at a time" not in capsys.readouterr().out


def test_its_callback_of_steps_sees_every_step(autolog, loops):
    def workflow(sequential):
        with mlflow.start_run() as run:
            callback = mlflow.keras.MlflowCallback(
                log_every_epoch=False, log_every_n_steps=2
            )
            model, _ = trained(sequential, callbacks=[callback])
        client = mlflow.MlflowClient()
        logged = client.get_metric_history(run.info.run_id, "loss")
        return model, [(metric.step, metric.value) for metric in logged]

    _, expected, steps = seeded(workflow, keras.Sequential)
    _, weights, own_steps = seeded(workflow, kje.Sequential)
    assert_fused(loops)
    assert len(own_steps) == EPOCHS * 64 // 8 // 2
    np.testing.assert_allclose(own_steps, steps, rtol=1e-5)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
