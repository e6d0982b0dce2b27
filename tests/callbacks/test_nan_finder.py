"""`NaNFinder` names the step and the first tensor that is not finite."""

import gc

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax.numpy as jnp
import keras
import numpy as np
import pytest


class Log(kje.Layer):
    def call(self, x):
        return jnp.log(x)


class Net(kje.Model):
    """Takes a logarithm of its input, in a layer within a layer."""

    def call(self, x):
        return layers.Dense(1)(Outer()(x))


class Outer(kje.Layer):
    def call(self, x):
        return Log(name="log")(x) + 1.0


def data(bad_row=None, value=-1.0):
    """Twelve rows in batches of four, of which one may be bad."""
    x = np.linspace(1, 2, 12, dtype="float32").reshape(12, 1)
    if bad_row is not None:
        x[bad_row] = value
    return x


def fit(model, x, **kwargs):
    arguments = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    finder = kje.callbacks.NaNFinder()
    return model.fit(
        x, np.ones_like(x), callbacks=[finder], **arguments | kwargs
    )


def compiled(model, loss="mse", **kwargs):
    model.compile(keras.optimizers.SGD(0.01), loss, **kwargs)
    return model


def test_a_good_training_is_not_changed():
    keras.utils.set_random_seed(1)
    model = compiled(Net())
    history = fit(model, data()).history
    keras.utils.set_random_seed(1)
    other = compiled(Net())
    expected = other.fit(
        data(), np.ones((12, 1)), 4, epochs=2, shuffle=False, verbose=0
    )
    assert history == expected.history
    assert "call" not in vars(model.outer.log)
    assert "train_step" not in vars(model)
    assert "stateless_apply" not in vars(model.optimizer)


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_it_names_the_step_and_the_innermost_layer(steps_per_execution):
    model = compiled(Net(), steps_per_execution=steps_per_execution)
    model(data())
    before = model.get_weights()
    message = (
        r"step 2 of epoch 1, where the first is in the output of layer "
        r"'net/outer/log' \(Log\): 1 NaN and 0 infinite of 4 values"
    )
    with pytest.raises(FloatingPointError, match=message):
        fit(model, data(bad_row=5))
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert np.isfinite(model.evaluate(data(), data(), verbose=0))


def test_the_first_bad_tensor_may_be_infinite():
    with pytest.raises(FloatingPointError, match="0 NaN and 1 infinite of 4"):
        fit(compiled(Net()), data(bad_row=0, value=0.0))


def test_it_names_the_model_that_computes_it_itself():
    class Direct(kje.Model):
        def call(self, x):
            return jnp.log(layers.Dense(1)(x) * 0.0 - 1.0)

    message = r"in the output of layer 'direct' \(Direct\): 4 NaN"
    with pytest.raises(FloatingPointError, match=message):
        fit(compiled(Direct()), data())


def test_it_leaves_nothing_behind():
    model = compiled(Net())
    finder = kje.callbacks.NaNFinder()
    model.evaluate(data(), data(), verbose=0, callbacks=[finder])
    assert "train_step" not in vars(model)

    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("out of space")

    with pytest.raises(RuntimeError, match="out of space"):
        model.fit(data(), data(), verbose=0, callbacks=[finder, Fails()])
    del finder
    gc.collect()
    # Batches of another size are traced again, through what is left.
    history = model.fit(data(5), data(), 6, epochs=3, verbose=0).history
    assert np.isnan(history["loss"]).tolist() == [True] * 3


def test_it_names_the_data():
    message = r"the data \['x'\]: 1 NaN"
    with pytest.raises(FloatingPointError, match=message):
        fit(compiled(Net()), data(bad_row=11, value=np.nan))


def test_it_names_the_loss():
    def loss(y_true, y_pred):
        return jnp.log(y_pred - y_pred - y_true)

    message = "step 1 of epoch 1, where the first is in the loss; every"
    with pytest.raises(FloatingPointError, match=message):
        fit(compiled(Net(), loss), data())


def test_it_names_the_gradient():
    class Root(kje.Layer):
        def call(self, x):
            return jnp.sqrt(layers.Dense(1, use_bias=False, name="d")(x))

    class Roots(kje.Model):
        def call(self, x):
            return Root(name="root")(x)

    message = "the gradient of 'roots/root/d/kernel'; the loss was finite"
    with pytest.raises(FloatingPointError, match=message):
        fit(compiled(Roots()), np.zeros((8, 1), "float32"))


def test_it_names_the_update():
    model = Net()
    model.compile(keras.optimizers.SGD(1e38), "mse")
    message = "the update of 'net/dense/(kernel|bias)'; its gradient was"
    with pytest.raises(FloatingPointError, match=message):
        fit(model, 1000 * data())


def test_an_infinity_that_does_no_harm_is_no_error():
    class Mask(kje.Layer):
        def call(self, x):
            return jnp.where(x > -1e9, -jnp.inf, x)

    class Masked(kje.Model):
        def call(self, x):
            x = layers.Dense(1)(x)
            return x * jnp.isfinite(Mask()(x))

    fit(compiled(Masked()), data())


def test_a_stock_model_and_a_later_epoch():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    class Worsen(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.layers[0].bias.assign([np.nan])

    x = data()
    finder = kje.callbacks.NaNFinder()
    message = "step 1 of epoch 2, where the first is in the weight 'sequential"
    with pytest.raises(FloatingPointError, match=message):
        model.fit(x, x, epochs=3, verbose=0, callbacks=[finder, Worsen()])
    assert np.isfinite(model.get_weights()[0]).all()


class Fails(keras.callbacks.Callback):
    """Ends the training as a user does, or an error."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_epoch_end(self, epoch, logs=None):
        raise self.error


def stock():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


@pytest.mark.parametrize("make", [Net, stock])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failed_fit_leaves_no_finder(make, error):
    model, x = compiled(make()), data()
    held = [kje.callbacks.NaNFinder() for _ in range(3)]
    for finder in [*held, held[0]]:
        with pytest.raises(error):
            model.fit(x, x, verbose=0, callbacks=[finder, Fails(error)])
        assert vars(model)["train_step"].before is None
    x[5] = np.nan
    history = model.fit(x, x, epochs=3, verbose=0).history
    assert np.isnan(history["loss"]).tolist() == [True] * 3
    left = {"call", "train_step", "make_train_function", "_step_patches"}
    for owner in (model, *model.layers):
        assert not left & {*vars(owner)}
    assert "stateless_apply" not in vars(model.optimizer)
    with pytest.raises(FloatingPointError, match="of epoch 1"):
        model.fit(x, x, verbose=0, callbacks=[held[0]])


def test_two_finders_find_one_error():
    model, x = compiled(Net()), data(bad_row=5)
    finders = [kje.callbacks.NaNFinder(), kje.callbacks.NaNFinder()]
    with pytest.raises(FloatingPointError, match="step 2 of epoch 1"):
        model.fit(x, x, 4, verbose=0, shuffle=False, callbacks=finders)
    model.fit(data(), data(), verbose=0, callbacks=finders)
    assert not {"train_step", "call", "_step_patches"} & {*vars(model)}


def test_a_finder_goes_on_with_another_model():
    one, other, x = compiled(Net()), compiled(Net()), data()
    finder = kje.callbacks.NaNFinder()
    with pytest.raises(KeyboardInterrupt):
        one.fit(x, x, verbose=0, callbacks=[finder, Fails(KeyboardInterrupt)])
    with pytest.raises(FloatingPointError, match="step 1 of epoch 1"):
        other.fit(data(0), x, verbose=0, callbacks=[finder])
    for model in (one, other):
        assert not {"train_step", "call", "_step_patches"} & {*vars(model)}
