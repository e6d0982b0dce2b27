"""Every kind of source that Keras reads trains the same, and errors arrive."""

import importlib.util
import traceback

import keras_jax_ext as kje

import keras
import numpy as np
import pytest

ROWS, BATCH = 150, 16
X = np.random.default_rng(0).normal(size=(ROWS, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def make(model_class=kje.Sequential):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    model = model_class([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


class Dataset(keras.utils.PyDataset):
    """Batches in order; one of them may fail."""

    def __init__(self, fails_at=None, **kwargs):
        super().__init__(**kwargs)
        self.fails_at = fails_at

    def __len__(self):
        return -(-ROWS // BATCH)

    def __getitem__(self, i):
        if i == self.fails_at:
            raise OSError(f"no batch {i}")
        rows = slice(i * BATCH, (i + 1) * BATCH)
        return X[rows], Y[rows]


def threads():
    return Dataset(workers=2)


def processes():
    return Dataset(workers=2, use_multiprocessing=True)


def torch_loader():
    data = needs("torch").utils.data
    tensors = [needs("torch").from_numpy(a) for a in (X, Y)]
    return data.DataLoader(data.TensorDataset(*tensors), batch_size=BATCH)


def grain_dataset():
    rows = needs("grain").MapDataset.source(list(zip(X, Y, strict=True)))
    return rows.to_iter_dataset().batch(BATCH)


def grain_loader():
    grain = needs("grain.python")
    rows = list(zip(X, Y, strict=True))
    return grain.DataLoader(
        data_source=rows,
        sampler=grain.SequentialSampler(
            len(rows), shard_options=grain.NoSharding()
        ),
        operations=[grain.Batch(BATCH)],
    )


def tf_data():
    dataset = needs("tensorflow").data.Dataset
    return dataset.from_tensor_slices((X, Y)).batch(BATCH)


def needs(module):
    """A package, or a test skipped: none of them is required."""
    name = module.partition(".")[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(module)


SOURCES = [
    threads,
    processes,
    torch_loader,
    grain_dataset,
    grain_loader,
    tf_data,
]
forks = pytest.mark.filterwarnings("ignore:.*fork")


@forks
# Keras warns so of each source of unknown length, its own loop too.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
def test_a_source_trains_as_in_stock(source):
    options = {"epochs": 2, "verbose": 0, "shuffle": False}
    stock = make(keras.Sequential)
    expected = stock.fit(source(), **options).history
    model = make()
    history = model.fit(source(), validation_data=source(), **options).history
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for a, b in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    loss = model.evaluate(X, Y, batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(history["val_loss"][-1], loss, rtol=1e-5)
    assert model.evaluate(source(), verbose=0) == pytest.approx(loss)
    predicted = model.predict(source(), verbose=0)
    np.testing.assert_allclose(
        predicted, model.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )


# Keras warns so of validation data of unknown length.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("steps", [5, 10])
@pytest.mark.parametrize("source", [grain_dataset, torch_loader, tf_data])
def test_a_pass_that_ends_with_an_epoch_is_followed_by_another(source, steps):
    """Keras sees no more batches, and has an epoch of none."""
    data, expected, model = source(), make(), make()
    passes = {"epochs": 2, "batch_size": BATCH, "shuffle": False}
    expected.fit(X, Y, verbose=0, **passes)
    epochs = {"epochs": 20 // steps, "steps_per_epoch": steps}
    options = {"shuffle": False, "verbose": 0}
    model.fit(data, validation_data=data, **epochs, **options)
    assert int(model.optimizer.iterations.value) == 20
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_generator_that_ended_is_no_epoch():
    model = make()
    batches = ((X[i : i + 16], Y[i : i + 16]) for i in (0, 16, 32))
    options = {"steps_per_epoch": 3, "epochs": 2, "shuffle": False}
    with (
        pytest.warns(UserWarning, match="ran out of data"),
        pytest.raises(ValueError, match="have none left"),
    ):
        model.fit(batches, verbose=0, **options)
    assert int(model.optimizer.iterations.value) == 3


@forks
@pytest.mark.parametrize("options", [{}, {"use_multiprocessing": True}])
def test_an_error_in_a_worker_arrives_with_its_traceback(options):
    model = make()
    options = {"workers": 2, **options} if options else {}
    with pytest.raises(OSError, match="no batch 5") as caught:
        model.fit(Dataset(fails_at=5, **options), verbose=0)
    told = "".join(traceback.format_exception(caught.value))
    assert "in __getitem__" in told
    # The batches before it were good; no step was half made.
    assert int(model.optimizer.iterations.value) <= 5
    model.fit(Dataset(), verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_an_error_in_a_generator_arrives_with_its_traceback(method):
    def batches():
        for i in range(3):
            yield X[i : i + BATCH], Y[i : i + BATCH]
        raise OSError("disk gone")

    model = make()
    options = {"steps": 9}
    if method == "fit":
        options = {"steps_per_epoch": 9, "shuffle": False}
    with pytest.raises(OSError, match="disk gone") as caught:
        getattr(model, method)(batches(), verbose=0, **options)
    assert caught.traceback[-1].name == "batches"
    steps = 3 if method == "fit" else 0
    assert int(model.optimizer.iterations.value) == steps
