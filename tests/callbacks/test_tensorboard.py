"""The TensorBoard callback, read back with TensorBoard's own readers."""

import builtins
import json

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

pytest.importorskip("tensorboard", reason="it reads the files back")

from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)
from tensorboard.util import tensor_util

X = np.linspace(-1, 1, 12, dtype="float32").reshape(12, 1)
Y = X**2


class Seen(kje.Model):
    """Shows a scalar, a histogram and images of its values."""

    def call(self, x):
        h = layers.Dense(4, activation="tanh", name="hidden")(x)
        self.add_summary("largest", jnp.max(h))
        self.add_summary("hidden", h)
        self.add_summary("drawn", jnp.tile(h[:, :, None, None], (1, 1, 2, 3)))
        return Tail(name="tail")(h)


class Tail(kje.Layer):
    def call(self, x):
        self.add_summary("mean", jnp.mean(x))
        return layers.Dense(1)(x)


def plain():
    """A compiled model without summaries."""
    model = kje.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="d")])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def fit(model, callback, **kwargs):
    arguments = {"batch_size": 4, "epochs": 2, "verbose": 0, **kwargs}
    return model.fit(X, Y, callbacks=[callback], **arguments)


class Run:
    """One folder of events, as TensorBoard reads it."""

    def __init__(self, folder, name):
        self.events = EventAccumulator(
            str(folder / name), size_guidance={"tensors": 0}
        )
        self.events.Reload()
        self.tags = sorted(self.events.Tags()["tensors"])

    def series(self, tag):
        """The steps and values of a tag."""
        events = self.events.Tensors(tag)
        values = [tensor_util.make_ndarray(e.tensor_proto) for e in events]
        return [e.step for e in events], values

    def plugin(self, tag):
        """Which dashboard shows the tag."""
        data = self.events.SummaryMetadata(tag).plugin_data
        return data.plugin_name


def test_tags_steps_and_values_are_those_of_the_history(tmp_path):
    model = plain()
    callback = kje.callbacks.TensorBoard(tmp_path, write_steps_per_second=True)
    history = fit(model, callback, validation_data=(X, Y)).history
    train, validation = Run(tmp_path, "train"), Run(tmp_path, "validation")
    assert train.tags == [
        "epoch_learning_rate",
        "epoch_loss",
        "epoch_mae",
        "epoch_steps_per_second",
        "keras",
    ]
    assert validation.tags == [
        "epoch_loss",
        "epoch_mae",
        "evaluation_loss_vs_iterations",
        "evaluation_mae_vs_iterations",
    ]
    steps, losses = train.series("epoch_loss")
    assert steps == [0, 1]
    np.testing.assert_allclose(losses, history["loss"], rtol=1e-6)
    steps, losses = validation.series("evaluation_loss_vs_iterations")
    assert steps == [3, 6]
    np.testing.assert_allclose(losses, history["val_loss"], rtol=1e-6)
    assert train.plugin("epoch_loss") == "scalars"
    assert train.series("epoch_learning_rate")[1] == [np.float32(1e-3)] * 2
    assert min(train.series("epoch_steps_per_second")[1]) > 0


def test_batches_are_written_as_often_as_asked(tmp_path):
    callback = kje.callbacks.TensorBoard(tmp_path, update_freq=2)
    fit(plain(), callback)
    train = Run(tmp_path, "train")
    assert train.series("batch_loss")[0] == [2, 4, 6]
    assert train.series("batch_learning_rate")[0] == [2, 4, 6]
    every = kje.callbacks.TensorBoard(tmp_path / "b", update_freq="batch")
    fit(plain(), every)
    assert Run(tmp_path / "b", "train").series("batch_mae")[0] == [*range(1, 7)]


def test_no_batch_hook_without_need(tmp_path):
    def hooked(callback):
        hook = callback.on_train_batch_end
        return not getattr(hook, "_is_default", False)

    assert not hooked(kje.callbacks.TensorBoard(tmp_path))
    assert hooked(kje.callbacks.TensorBoard(tmp_path, update_freq=3))
    assert hooked(kje.callbacks.TensorBoard(tmp_path, profile_batch=3))


def test_weights_are_histograms_and_images(tmp_path):
    model = kje.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(3, 2, name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, name="dense"),
        ]
    )
    model.compile("sgd", "mse")
    callback = kje.callbacks.TensorBoard(
        tmp_path, histogram_freq=2, write_images=True
    )
    x = np.ones((4, 6, 6, 1), "float32")
    model.fit(x, x[:, 0, 0], epochs=3, verbose=0, callbacks=[callback])
    train = Run(tmp_path, "train")
    steps, histograms = train.series("sequential/dense/kernel/histogram")
    assert steps == [0, 2]
    assert histograms[0].shape == (30, 3)
    kernel = np.asarray(model.layers[-1].kernel)
    buckets = histograms[1]
    assert buckets[:, 2].sum() == kernel.size
    np.testing.assert_allclose(buckets[0, 0], kernel.min(), rtol=1e-6)
    np.testing.assert_allclose(buckets[-1, 1], kernel.max(), rtol=1e-6)
    images = train.series("sequential/dense/kernel/image")[1][0]
    assert images[:2].tolist() == [b"75", b"1"]
    assert train.plugin("sequential/conv/bias/histogram") == "histograms"
    assert train.plugin("sequential/conv/kernel/image") == "images"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_is_read_back_exactly(channels, tmp_path):
    from matplotlib import image as mpl_image

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels))
    pixels = pixels.astype("uint8")
    path = tmp_path / "a.png"
    path.write_bytes(kje.callbacks.events.png(pixels))
    read = mpl_image.imread(path)
    read = read.reshape(5, 7, -1)[..., :channels]
    np.testing.assert_array_equal((read * 255).round(), pixels)


def test_histograms_of_equal_and_of_infinite_values(tmp_path):
    events = kje.callbacks.events.Events(str(tmp_path / "train"))
    events.histogram("equal", np.full(5, 2.0), 0)
    events.histogram("bad", np.array([np.nan, 1.0, np.inf, 3.0]), 0)
    events.histogram("empty", np.array([np.nan]), 0)
    events.close()
    run = Run(tmp_path, "train")
    assert run.series("equal")[1][0][-1].tolist() == [2.0, 2.0, 5.0]
    bad = run.series("bad")[1][0]
    assert (bad[0, 0], bad[-1, 1], bad[:, 2].sum()) == (1.0, 3.0, 2)
    assert not run.series("empty")[1][0].any()


def test_the_graph_tab_draws_the_layers(tmp_path):
    from tensorboard.plugins.graph import keras_util

    inputs = keras.Input((1,), name="given")
    hidden = keras.layers.Dense(2, name="hidden")(inputs)
    model = kje.Model(inputs, keras.layers.Dense(1, name="out")(hidden))
    model.compile("sgd", "mse")
    fit(model, kje.callbacks.TensorBoard(tmp_path), epochs=1)
    train = Run(tmp_path, "train")
    assert train.plugin("keras") == "graph_keras_model"
    (written,) = train.series("keras")[1]
    graph = keras_util.keras_model_to_graph_def(json.loads(written.item()))
    nodes = {node.name.split("/")[-1]: list(node.input) for node in graph.node}
    assert nodes["hidden"] == [f"{model.name}/given"]
    assert nodes["out"] == [f"{model.name}/hidden"]


def test_a_subclassed_model_has_no_graph(tmp_path):
    model = Seen()
    model.compile("sgd", "mse")
    fit(model, kje.callbacks.TensorBoard(tmp_path), epochs=1)
    assert "keras" not in Run(tmp_path, "train").tags


def test_summaries_of_layers_are_written_by_kind(tmp_path):
    model = Seen()
    model.compile("sgd", "mse")
    fit(model, kje.callbacks.TensorBoard(tmp_path), validation_data=(X, Y))
    train, validation = Run(tmp_path, "train"), Run(tmp_path, "validation")
    tags = ["seen/drawn", "seen/hidden", "seen/largest", "seen/tail/mean"]
    assert [tag for tag in train.tags if tag.startswith("seen")] == tags
    assert [tag for tag in validation.tags if tag.startswith("seen")] == tags
    kinds = [train.plugin(tag) for tag in tags]
    assert kinds == ["images", "histograms", "scalars", "scalars"]
    steps, values = validation.series("seen/largest")
    assert steps == [0, 1]
    # The last batch of validation has the last epoch's weights.
    hidden = model.hidden(X[8:])
    np.testing.assert_allclose(values[1], jnp.max(hidden), rtol=1e-6)
    assert train.series("seen/hidden")[1][1][:, 2].sum() == 16
    assert train.series("seen/drawn")[1][0][:2].tolist() == [b"2", b"4"]


def test_two_callbacks_write_the_same(tmp_path):
    model = Seen()
    model.compile("sgd", "mse")
    both = [kje.callbacks.TensorBoard(tmp_path / name) for name in "ab"]
    model.fit(X, Y, epochs=2, verbose=0, callbacks=both)
    one, other = (Run(tmp_path / name, "train") for name in "ab")
    assert "seen/largest" in one.tags
    assert one.tags == other.tags
    assert one.series("seen/largest")[0] == [0, 1]
    assert other.series("seen/largest") == one.series("seen/largest")
    assert not kje._seeing.reports._receivers(model)


def test_a_callback_of_a_failed_training_hears_no_more(tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    model = Seen()
    model.compile("sgd", "mse")
    held = kje.callbacks.TensorBoard(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[held, Fails()])
    held._summaries = {}
    model.fit(X, Y, verbose=0)
    assert held._summaries == {}
    fit(model, kje.callbacks.TensorBoard(tmp_path / "b"))
    assert held._summaries == {}
    assert Run(tmp_path / "b", "train").series("seen/largest")[0] == [0, 1]
    fit(model, held, epochs=1)
    assert "seen/largest" in Run(tmp_path / "a", "train").tags


def test_summaries_between_batches(tmp_path):
    model = Seen()
    model.compile("sgd", "mse")
    fit(model, kje.callbacks.TensorBoard(tmp_path, update_freq=2))
    assert Run(tmp_path, "train").series("seen/largest")[0] == [2, 4, 6]


def test_summaries_are_free_when_nothing_listens(tmp_path):
    model = Seen()
    model.compile("sgd", "mse")
    model(X)

    def program():
        state = [v.value for v in model.variables]
        train, fixed = state[: len(model.trainable_variables)], []
        return str(
            jax.make_jaxpr(lambda t: model.stateless_call(t, fixed, X))(train)
        )

    assert "callback" not in program()
    callback = kje.callbacks.TensorBoard(tmp_path)
    callback.set_model(model)
    assert "callback" in program()
    callback.on_train_end()
    assert "callback" not in program()
    callback.set_model(model)
    del callback
    assert "callback" not in program()


def test_a_model_trained_before_is_compiled_anew_and_then_again(tmp_path):
    model = Seen()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    fit(model, kje.callbacks.TensorBoard(tmp_path))
    assert "seen/largest" in Run(tmp_path, "train").tags
    assert model.train_function is None
    model.fit(X, Y, verbose=0)


def test_standalone_evaluation(tmp_path):
    model = Seen()
    model.compile("sgd", "mse")
    callback = kje.callbacks.TensorBoard(tmp_path)
    loss = model.evaluate(X, Y, callbacks=[callback], verbose=0)
    run = Run(tmp_path, "validation")
    assert run.series("evaluation_loss_vs_iterations")[0] == [0]
    np.testing.assert_allclose(
        run.series("evaluation_loss_vs_iterations")[1], [loss], rtol=1e-6
    )
    assert "seen/largest" in run.tags


def test_the_learning_rate_of_a_schedule_and_of_a_hidden_one(tmp_path):
    model = plain()
    model.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
        ),
        "mse",
    )
    fit(model, kje.callbacks.TensorBoard(tmp_path / "a"))
    rates = Run(tmp_path / "a", "train").series("epoch_learning_rate")[1]
    np.testing.assert_allclose(rates, [0.05, 0.025], rtol=1e-6)
    schedule = optax.exponential_decay(0.1, 3, 0.5)
    model.compile(
        kje.optimizers.OptaxOptimizer(optax.sgd, learning_rate=schedule), "mse"
    )
    fit(model, kje.callbacks.TensorBoard(tmp_path / "c"))
    rates = Run(tmp_path / "c", "train").series("epoch_learning_rate")[1]
    np.testing.assert_allclose(rates, [0.05, 0.025], rtol=1e-6)
    model.compile(optax.sgd(0.1), "mse")
    fit(model, kje.callbacks.TensorBoard(tmp_path / "b"))
    tags = Run(tmp_path / "b", "train").tags
    assert "epoch_loss" in tags
    assert "epoch_learning_rate" not in tags


def test_embeddings_are_read_by_the_projector(tmp_path):
    from tensorboard.plugins.projector import projector_config_pb2
    from tensorboard.plugins.projector.projector_plugin import (
        _read_tensor_tsv_file,
        text_format,
    )

    class Words(kje.Model):
        def call(self, x):
            x = layers.Embedding(5, 3, name="words")(x)
            return layers.Dense(1)(keras.ops.mean(x, axis=1))

    model = Words()
    model.compile("sgd", "mse")
    x, y = np.arange(12).reshape(6, 2) % 5, np.ones((6, 1))
    callback = kje.callbacks.TensorBoard(
        tmp_path, embeddings_freq=1, embeddings_metadata={"words": "w.tsv"}
    )
    model.fit(x, y, callbacks=[callback], verbose=0)
    config = projector_config_pb2.ProjectorConfig()
    text = (tmp_path / "projector_config.pbtxt").read_text()
    text_format.Parse(text, config)
    (entry,) = config.embeddings
    assert entry.tensor_name == "words/words"
    assert entry.metadata_path == "w.tsv"
    vectors = _read_tensor_tsv_file(str(tmp_path / entry.tensor_path))
    np.testing.assert_allclose(vectors, model.words.embeddings, rtol=1e-5)

    wrong = kje.callbacks.TensorBoard(
        tmp_path, embeddings_freq=1, embeddings_metadata={"word": "w.tsv"}
    )
    with pytest.raises(ValueError, match=r"\['word'\], and the model has"):
        model.fit(x, y, callbacks=[wrong], verbose=0)


def test_a_profile_of_some_batches(tmp_path):
    callback = kje.callbacks.TensorBoard(tmp_path, profile_batch=(2, 3))
    fit(plain(), callback, epochs=1)
    profiles = list(tmp_path.glob("train/plugins/profile/*/*.xplane.pb"))
    assert len(profiles) == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("histogram_freq", -1),
        ("histogram_freq", "epoch"),
        ("update_freq", 0),
        ("update_freq", "step"),
        ("embeddings_freq", 1.5),
        ("profile_batch", -1),
        ("profile_batch", (3, 2)),
        ("profile_batch", "soon"),
    ],
)
def test_a_bad_argument_is_named(argument, value):
    with pytest.raises(ValueError, match=f"Received: {argument}="):
        kje.callbacks.TensorBoard(**{argument: value})


def test_a_folder_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    model = plain()
    before = model.get_weights()
    with pytest.raises(OSError, match="Give a folder that you may write to"):
        fit(model, kje.callbacks.TensorBoard(file / "logs"))
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_without_tensorboard_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        kje.callbacks.TensorBoard()


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"name": 3}, TypeError, "name=3"),
        ({"name": "a", "kind": "scalar"}, ValueError, r"shape \(2, 3\)"),
        ({"name": "a", "kind": "image"}, ValueError, r"kind='image'"),
        ({"name": "a", "kind": "sound"}, ValueError, r"kind='sound'"),
    ],
)
def test_a_bad_summary_is_named(kwargs, error, match):
    with pytest.raises(error, match=match):
        kje.Layer().add_summary(value=jnp.zeros((2, 3)), **kwargs)
