"""Saving, copying and going on, for every way to make a model."""

import copy
import pickle

import keras_jax_ext as kje
from keras_jax_ext import optax
from keras_jax_ext._training.trainer import Trainer

import keras
import numpy as np
import optax as raw
import pytest

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


@keras.saving.register_keras_serializable("tests")
class Inline(kje.Model):
    def call(self, x):
        x = kje.layers.Dense(2, activation="tanh")(x)
        return kje.layers.Dense(1)(x)


@keras.saving.register_keras_serializable("tests")
class Stock(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)


def layers():
    return [keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)]


def functional():
    inputs, hidden, out = layers()
    return kje.Model(inputs, out(hidden(inputs)))


MODELS = {
    "inline": Inline,
    "functional": functional,
    "sequential": lambda: kje.Sequential(layers()),
    "extended": lambda: kje.extend(keras.Sequential(layers())),
    "extended_subclass": lambda: kje.extend(Stock()),
}
TRANSFORMATIONS = {"recorded": optax.adam(0.1), "raw": raw.adam(0.1)}
EVERY = pytest.mark.parametrize("kind", MODELS)
BOTH = pytest.mark.parametrize("origin", TRANSFORMATIONS)


def fit(model, epochs=1):
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
    return model.fit(X, Y, epochs=epochs, **arguments)


def trained(kind, origin):
    model = MODELS[kind]()
    model.compile(TRANSFORMATIONS[origin], "mse")
    fit(model)
    return model


def values(model):
    return [np.array(v.value) for v in [*model.weights, *state(model)]]


def state(model):
    return model.optimizer.variables


def assert_goes_on_as(model, other):
    assert other is not model
    if not isinstance(other, Trainer):
        # The copy of an extended model is a stock one, with the same state.
        other = kje.extend(other)
    assert isinstance(other.optimizer, kje.optimizers.OptaxOptimizer)
    for _ in range(2):
        for a, b in zip(values(model), values(other), strict=True):
            np.testing.assert_array_equal(a, b)
        fit(model)
        fit(other)


@BOTH
@EVERY
def test_a_file_goes_on_bit_for_bit(kind, origin, tmp_path):
    model = trained(kind, origin)
    model.save(tmp_path / "m.keras")
    objects = None
    if origin == "raw":
        objects = {"optax_tx": raw.adam(0.1)}
        with pytest.raises(ValueError, match=r'custom_objects=\{"optax_tx"'):
            keras.saving.load_model(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", objects)
    assert_goes_on_as(model, loaded)


def test_what_needs_the_loss_goes_on_in_an_extended_model(tmp_path):
    model = MODELS["extended_subclass"]()
    model.compile(optax.polyak_sgd(), "mse")
    fit(model)
    model.save(tmp_path / "m.keras")
    assert_goes_on_as(model, keras.saving.load_model(tmp_path / "m.keras"))
    with pytest.raises(ValueError, match="needs the loss when it updates"):
        fit(copy.deepcopy(model))


@EVERY
def test_weights_and_state_go_on_bit_for_bit(kind, tmp_path):
    model = trained(kind, "raw")
    model.save_weights(tmp_path / "m.weights.h5")
    other = MODELS[kind]()
    other(X)
    other.compile(TRANSFORMATIONS["raw"], "mse")
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "m.weights.h5")
    assert_goes_on_as(model, other)


@BOTH
@EVERY
def test_a_copy_goes_on_bit_for_bit(kind, origin):
    model = trained(kind, origin)
    assert_goes_on_as(model, copy.deepcopy(model))


@EVERY
def test_a_pickle_goes_on_bit_for_bit(kind):
    model = trained(kind, "recorded")
    assert_goes_on_as(model, pickle.loads(pickle.dumps(model)))


@BOTH
@EVERY
def test_a_compile_config_makes_the_same_optimizer(kind, origin):
    model = trained(kind, origin)
    other = MODELS[kind]()
    other(X)
    other.compile_from_config(copy.deepcopy(model.get_compile_config()))
    for each in (model, other):
        each.set_weights([np.ones(w.shape, w.dtype) for w in model.weights])
        for variable in each.optimizer.variables:
            variable.assign(np.zeros(variable.shape))
    assert_goes_on_as(model, other)


@BOTH
def test_a_clone_is_compiled(origin):
    model = trained("functional", origin)
    clone = keras.models.clone_model(model)
    assert isinstance(clone, kje.Model)
    clone.set_weights(model.get_weights())
    for variable, value in zip(state(clone), state(model), strict=True):
        variable.assign(np.array(value.value))
    assert_goes_on_as(model, clone)


def test_a_function_in_place_of_a_transformation_is_refused(tmp_path):
    def mine(learning_rate=0.5):
        return raw.adam(learning_rate)

    model = MODELS["functional"]()
    optimizer = kje.optimizers.OptaxOptimizer(mine, learning_rate=0.1)
    model.compile(optimizer, "mse")
    model.save(tmp_path / "m.keras")
    with pytest.raises(TypeError, match="must be the transformation itself"):
        keras.saving.load_model(tmp_path / "m.keras", {"optax_tx": mine})


class Stop(keras.callbacks.Callback):
    """Interrupts the training when the third epoch begins."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def lookahead():
    """What has state of its own, a rate to set, and Keras's average."""
    optimizer = kje.optimizers.OptaxOptimizer
    injected = raw.inject_hyperparams(raw.adam)(0.1)
    return optimizer(raw.lookahead(injected, 3, 0.5), use_ema=True)


def resumable(kind, callbacks):
    keras.utils.set_random_seed(0)
    model = MODELS[kind]()
    model.compile(lookahead(), "mse")
    arguments = {"batch_size": 4, "verbose": 0, "shuffle": False}
    model.fit(X, Y, epochs=4, callbacks=callbacks, **arguments)
    return model


@pytest.mark.parametrize("kind", ["inline", "extended_subclass"])
def test_training_goes_on_from_a_backup(kind, tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    halving = keras.callbacks.LearningRateScheduler(lambda _, rate: rate / 2)
    whole = resumable(kind, [halving])
    with pytest.raises(KeyboardInterrupt):
        resumable(kind, [backup(), halving, Stop()])
    resumed = resumable(kind, [backup(), halving])
    assert len(resumed.history.history["loss"]) == 2
    for a, b in zip(values(whole), values(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_best_model_of_a_checkpoint_goes_on(tmp_path):
    path = tmp_path / "m.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="loss", save_best_only=True
    )
    model = trained("inline", "recorded")
    model.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[checkpoint])
    # The loss falls in every epoch: the last one is the best.
    assert_goes_on_as(model, keras.saving.load_model(path))


@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
def test_a_checkpoint_of_orbax_goes_on(tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="needs orbax-checkpoint")
    if not hasattr(keras.callbacks, "OrbaxCheckpoint"):
        pytest.skip("this Keras has no OrbaxCheckpoint")
    directory = str(tmp_path / "checkpoints")
    model = trained("functional", "recorded")
    model.fit(
        X,
        Y,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.OrbaxCheckpoint(
                directory, monitor="loss", save_on_background=False
            )
        ],
    )
    assert_goes_on_as(model, keras.saving.load_model(directory))
