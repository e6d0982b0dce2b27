"""Files of models with updates, and the callbacks that steer them."""

import pickle

import keras_jax_ext as kje
from keras_jax_ext import optax as saved_optax

import h5py
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from wgan import CODES, PIXELS, STEPS, codes, compiled, network, pictures

serializable = keras.saving.register_keras_serializable("updates_tests")
X = pictures()


@serializable
class Saved(kje.Model):
    """A GAN that files can hold. Its `call` takes other inputs than `fit`."""

    def __init__(self):
        super().__init__()
        self.generator = network(CODES, 8, PIXELS)
        self.critic = network(PIXELS, 8, 1)
        self.slow = network(CODES, 8, PIXELS)

    def call(self, codes):
        return self.slow(codes)


@serializable
def saved_critic_loss(model, x, rng):
    fake = model.generator(codes(rng, x))
    return jnp.mean(model.critic(fake)) - jnp.mean(jnp.tanh(model.critic(x)))


@serializable
def saved_generator_loss(model, x, rng):
    return -jnp.mean(model.critic(model.generator(codes(rng, x))))


def make(make_optimizer):
    keras.utils.set_random_seed(4)
    gan = Saved()
    gan.compile(
        updates=[
            kje.Update(
                saved_critic_loss, "critic/*", make_optimizer(), repeats=STEPS
            ),
            kje.Update(saved_generator_loss, "generator/*", make_optimizer()),
            kje.MovingAverage("slow/*", of="generator/*", rate=0.1, every=2),
        ]
    )
    return gan


KINDS = {
    "optax": lambda: saved_optax.adam(1e-2),
    "keras": lambda: keras.optimizers.Adam(1e-2),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def state(model):
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def assert_same(left, right):
    for one, other in zip(state(left), state(right), strict=True):
        np.testing.assert_array_equal(one, other)


def train(gan, epochs=1):
    return gan.fit(X, batch_size=16, epochs=epochs, shuffle=False, verbose=0)


def reload(gan, way, path):
    if way == "file":
        gan.save(path / "gan.keras")
        return keras.saving.load_model(path / "gan.keras")
    if way == "pickle":
        return pickle.loads(pickle.dumps(gan))
    gan.save_weights(path / "gan.weights.h5")
    other = make(KINDS["optax" if way == "weights" else "keras"])
    other.optimizer.build(other.trainable_variables)
    other.load_weights(path / "gan.weights.h5")
    return other


@pytest.mark.parametrize("way", ["file", "pickle", "weights"])
@each_kind
def test_training_goes_on_from_a_file_as_if_never_stopped(kind, way, tmp_path):
    whole, half = make(KINDS[kind]), make(KINDS[kind])
    train(whole, 4)
    train(half, 2)
    if way == "weights" and kind == "keras":
        way = "weights of keras"
    loaded = reload(half, way, tmp_path)
    assert type(loaded) is Saved
    assert_same(half, loaded)
    train(loaded, 2)
    assert_same(whole, loaded)
    ones = np.ones((2, CODES), "float32")
    left, right = (m.predict(ones, verbose=0) for m in (whole, loaded))
    np.testing.assert_array_equal(left, right)


def test_a_file_holds_each_state_once(tmp_path):
    gan = make(KINDS["keras"])
    train(gan)
    gan.save_weights(tmp_path / "gan.weights.h5")
    found = []
    with h5py.File(tmp_path / "gan.weights.h5") as file:
        file.visititems(
            lambda name, node: (
                found.append(name) if isinstance(node, h5py.Dataset) else None
            )
        )
    held = [name for name in found if name.startswith("optimizer")]
    assert len(held) == len(gan.optimizer.variables)


def test_a_copy_is_compiled_with_the_same_updates():
    gan = make(KINDS["optax"])
    train(gan)
    other = keras.models.clone_model(gan)
    other.compile_from_config(gan.get_compile_config())
    assert [str(u) for u in other.optimizer.updates] == [
        str(u) for u in gan.optimizer.updates
    ]
    assert other.optimizer.updates[0].repeats == STEPS
    assert other.optimizer.updates[2].every == 2
    train(other)


def test_raw_optax_asks_for_the_updates_again(tmp_path):
    gan = make(lambda: optax.adam(1e-2))
    train(gan)
    gan.save(tmp_path / "gan.keras")
    with pytest.raises(ValueError, match="not the transformation itself"):
        keras.saving.load_model(tmp_path / "gan.keras")
    # One transformation would stand for both.
    with pytest.raises(ValueError, match="several optax transformations"):
        keras.saving.load_model(
            tmp_path / "gan.keras",
            custom_objects={"optax_tx": optax.adam(1e-2)},
        )
    loaded = keras.saving.load_model(tmp_path / "gan.keras", compile=False)
    for one, other in zip(loaded.weights, gan.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    loaded.compile(updates=make(lambda: optax.adam(1e-2)).optimizer.updates)
    train(loaded)
    with pytest.raises(pickle.PicklingError, match="cannot hold its optax"):
        pickle.dumps(gan)


def test_callbacks_find_the_learning_rates_of_all():
    gan = make(KINDS["keras"])
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1)
    history = gan.fit(X, epochs=1, callbacks=[schedule], verbose=0).history
    rates = [k for k in history if k.startswith("learning_rate_")]
    assert len(rates) == 2
    for optimizer in gan.optimizer.optimizers:
        np.testing.assert_allclose(optimizer.learning_rate, 0.1, rtol=1e-6)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "saved_generator_loss",
        factor=0.5,
        patience=1,
        min_delta=1e9,
        mode="min",
    )
    gan.fit(X, epochs=3, callbacks=[plateau], verbose=0)
    for optimizer in gan.optimizer.optimizers:
        assert float(optimizer.learning_rate) < 0.06


def test_a_new_learning_rate_takes_effect():
    gan = make(
        lambda: kje.optimizers.OptaxOptimizer(optax.sgd, learning_rate=0.1)
    )
    train(gan)
    before = gan.get_weights()
    for optimizer in gan.optimizer.optimizers:
        optimizer.learning_rate = 0.0
    train(gan)
    count = len(gan.generator.weights) + len(gan.critic.weights)
    for old, new in zip(before[:count], gan.get_weights(), strict=False):
        np.testing.assert_array_equal(old, new)


def test_checkpoints_early_stopping_and_resumption(tmp_path):
    def callbacks():
        return [
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.weights.h5",
                monitor="val_saved_generator_loss",
                save_best_only=True,
                mode="min",
                save_weights_only=True,
            ),
            keras.callbacks.EarlyStopping(
                "saved_generator_loss",
                patience=1,
                mode="max",
                min_delta=1e9,
                restore_best_weights=True,
            ),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            kje.callbacks.NaNFinder(),
        ]

    gan = make(KINDS["keras"])
    history = gan.fit(
        X, epochs=9, verbose=0, validation_data=(X,), callbacks=callbacks()
    ).history
    assert len(history["loss"]) == 2
    assert (tmp_path / "best.weights.h5").exists()


def test_a_nan_is_found():
    gan = compiled()
    gan.critic.layers[0].kernel.assign(np.full((PIXELS, 16), np.nan))
    with pytest.raises(FloatingPointError, match="the weight"):
        gan.fit(X, verbose=0, callbacks=[kje.callbacks.NaNFinder()])


@serializable
class Plain(keras.Model):
    """A model of stock Keras."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.net = keras.layers.Dense(1)

    def call(self, x):
        return self.net(x)


@serializable
def size_loss(y_pred):
    return y_pred**2


def test_an_extended_model_is_loaded_without_its_updates(tmp_path):
    model = kje.extend(Plain())
    model.compile(updates=[kje.Update(size_loss, "net/*", "sgd")])
    model.fit(X, verbose=0)
    model.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    assert type(loaded) is Plain
    assert not loaded.compiled
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    loaded = kje.extend(loaded)
    loaded.compile(updates=[kje.Update(size_loss, "net/*", "sgd")])
    loaded.fit(X, verbose=0)
