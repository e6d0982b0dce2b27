"""What `compile(updates=)` cannot do is told before anything changes."""

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from wgan import GAN, compiled, generator_loss, pictures, updates

X = np.ones((4, 3), "float32")


def loss(model):
    return jnp.sum(model.generator.trainable_variables[0] ** 2)


def update(pattern="generator/*", optimizer="sgd", **options):
    return kje.Update(loss, pattern, optimizer, **options)


def average(pattern="critic/*", of="generator/*", **options):
    return kje.MovingAverage(pattern, of=of, **{"rate": 0.1, **options})


def asks_for(name):
    return eval(f"lambda {name}: 0.0")


def asks_for_nothing():
    pass


ARGUMENTS = {
    "no loss": (
        lambda: kje.Update("mse", "*", "sgd"),
        TypeError,
        r"Received: loss='mse' \(of type str\)",
    ),
    "a stock loss": (
        lambda: kje.Update(keras.losses.MeanSquaredError(), "*", "sgd"),
        TypeError,
        "Received: loss=<",
    ),
    "a class": (
        lambda: kje.Update(kje.losses.GlobalL2, "*", "sgd"),
        TypeError,
        "Received: loss=<class",
    ),
    "an unknown name": (
        lambda: kje.Update(asks_for("modle"), "*", "sgd"),
        ValueError,
        "Received: `modle`.*Did you mean `model`",
    ),
    "no optimizer": (
        lambda: update(optimizer=None),
        TypeError,
        "Received: optimizer=None",
    ),
    "a function as optimizer": (
        lambda: update(optimizer=optax.adam),
        ValueError,
        "Call it, `adam",
    ),
    "a scaled loss": (
        lambda: update(optimizer=keras.optimizers.SGD(loss_scale_factor=8.0)),
        ValueError,
        "with a loss scale",
    ),
    "a loss scale optimizer": (
        lambda: update(
            optimizer=keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD()
            )
        ),
        ValueError,
        "with a loss scale",
    ),
    "several optimizers": (
        lambda: update(
            optimizer=keras.optimizers.MultiOptimizer(
                keras.optimizers.OptimizerMap(keras.optimizers.SGD())
            )
        ),
        ValueError,
        "An update has one optimizer",
    ),
    "no repeats": (lambda: update(repeats=0), ValueError, "repeats=0"),
    "half a repeat": (lambda: update(repeats=0.5), ValueError, "repeats=0.5"),
    "true": (lambda: update(repeats=True), ValueError, "repeats=True"),
    "no pattern": (lambda: update([]), TypeError, r"Received: \[\]"),
    "a number": (lambda: update(3), TypeError, r"Received: 3 \(of type int\)"),
    "a number in a list": (lambda: update([3]), TypeError, r"Received: \[3\]"),
    "no rate": (lambda: average(rate=0), ValueError, "rate=0"),
    "a high rate": (lambda: average(rate=1.5), ValueError, "rate=1.5"),
    "never": (lambda: average(every=0), ValueError, "every=0"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_update_checks_its_arguments(name):
    make, error, message = ARGUMENTS[name]
    with pytest.raises(error, match=message):
        make()


COMPILE = {
    "not a list": (lambda: {"updates": update()}, TypeError, "is a list of"),
    "empty": (lambda: {"updates": []}, TypeError, r"Received: updates=\[\]"),
    "losses in it": (
        lambda: {"updates": [loss]},
        TypeError,
        r"Received: updates=\[<function",
    ),
    "nothing trains": (
        lambda: {"updates": [average()]},
        ValueError,
        "moving averages only",
    ),
    "a loss beside them": (
        lambda: {"updates": updates(), "loss": "mse"},
        ValueError,
        "Received: loss='mse' beside updates",
    ),
    "loss weights beside them": (
        lambda: {"updates": updates(), "loss_weights": [1]},
        ValueError,
        r"Received: loss_weights=\[1\] beside updates",
    ),
    "an optimizer beside them": (
        lambda: {"updates": updates(), "optimizer": "adam"},
        ValueError,
        "Received: optimizer='adam' beside updates",
    ),
    "a pattern of nothing": (
        lambda: {"updates": [update("critc/*")]},
        ValueError,
        r"path of a trainable variable\. Received: pattern='critc/\*'. Did "
        r"you mean one of \['critic/",
    ),
    "one of two patterns": (
        lambda: {"updates": [update(["generator/*", "nothing"])]},
        ValueError,
        "Received: pattern='nothing'",
    ),
    "a variable in two": (
        lambda: {"updates": [update("*", name="all"), update(name="some")]},
        ValueError,
        "kernel' for the update 'all' and the update 'some'",
    ),
    "an average of other shapes": (
        lambda: {
            "updates": [update("generator/*bias"), average("*c/*", "*r/*k*")]
        },
        ValueError,
        "moving average .* with 4 variables of shapes .*, and 2 of shapes",
    ),
    "averaged of itself": (
        lambda: {
            "updates": [
                update("critic/*"),
                average("critic/*", "critic/*"),
            ]
        },
        ValueError,
        r"for the update 'loss' and the moving average \['critic/\*'\]",
    ),
    "no variable to average": (
        lambda: {"updates": [update(), average("target/*")]},
        ValueError,
        r"path of a variable\. Received: pattern='target/\*'",
    ),
    "outputs of no call": (
        lambda: {
            "updates": [kje.Update(asks_for("y_pred"), "critic/*", "sgd")]
        },
        ValueError,
        "A model without a `call` has no outputs",
    ),
}


@pytest.mark.parametrize("name", COMPILE)
def test_compile_checks_the_updates_and_keeps_what_was_compiled(name):
    make, error, message = COMPILE[name]
    gan = compiled()
    optimizer = gan.optimizer
    before = [np.array(v) for v in gan.variables]
    with pytest.raises(error, match=message):
        gan.compile(**make())
    assert gan.optimizer is optimizer
    for old, new in zip(before, gan.variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_one_optimizer_of_two_updates():
    shared = keras.optimizers.SGD()
    both = [update(optimizer=shared), update("critic/*", optimizer=shared)]
    with pytest.raises(ValueError, match="the same optimizer for several"):
        GAN().compile(updates=both)


class Inline(kje.Model):
    def call(self, x):
        return kje.layers.Dense(1, name="head")(x)


def test_a_pattern_of_nothing_in_a_model_that_is_not_built():
    def size(y_pred):
        return y_pred**2

    model = Inline()
    model.compile(updates=[kje.Update(size, "haed/*", "sgd")])
    with pytest.raises(ValueError, match=r"Did you mean one of \['head/"):
        model.fit(X, verbose=0)
    before = model.get_weights()
    model.compile(updates=[kje.Update(size, "head/*", "sgd")])
    model.fit(X, verbose=0)
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_float16_needs_a_scale_that_updates_have_not():
    keras.config.set_dtype_policy("mixed_float16")
    gan = GAN()
    with pytest.raises(ValueError, match="'mixed_float16' for 'gan'"):
        gan.compile(updates=updates())
    gan.compile(updates=updates(), auto_scale_loss=False)


def test_a_trainable_variable_of_no_update_is_told_once():
    gan = GAN()
    _, generator = updates()
    gan.compile(updates=[generator])
    with pytest.warns(UserWarning, match="in no update") as told:
        gan.fit(pictures(), epochs=2, verbose=0)
    gan.fit(pictures(), verbose=0)  # a warning would be an error
    assert len(told) == 1
    assert "kernel" in str(told[0].message)
    gan = GAN()
    gan.critic.trainable = False
    gan.compile(updates=[kje.Update(generator_loss, "generator/*", "sgd")])
    gan.fit(pictures(), verbose=0)  # a warning would be an error


def test_the_optimizer_of_updates_is_of_no_use_elsewhere():
    gan = compiled()
    gan.fit(pictures(), verbose=0)
    gradients = [v.value for v in gan.trainable_variables]
    with pytest.raises(ValueError, match="Received: a gradient for"):
        gan.optimizer.apply(gradients)
    with pytest.raises(AttributeError, match="Learning rate cannot be"):
        _ = gan.optimizer.learning_rate
    stock = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.compile(updates=[kje.Update(asks_for("x"), "*", "sgd")])
    stock.compile(other.optimizer, "mse")
    with pytest.raises(ValueError, match="belong to the model that is comp"):
        stock.fit(X, X[:, :1], verbose=0)


def test_a_loss_that_returns_nothing():
    gan = GAN()
    gan.critic.trainable = False
    gan.compile(updates=[kje.Update(asks_for_nothing, "generator/*", "sgd")])
    with pytest.raises(TypeError, match="Did you forget `return`"):
        gan.fit(pictures(), verbose=0)


def test_labels_that_a_loss_asks_for():
    gan = GAN()
    gan.critic.trainable = False

    def labelled(model, x, y_true):
        return jnp.mean((model.generator(x) - y_true) ** 2)

    gan.compile(updates=[kje.Update(labelled, "generator/*", "sgd")])
    with pytest.raises(ValueError, match="asks for `y_true`, and there are no"):
        gan.fit(pictures()[:, :4], verbose=0)


@pytest.mark.parametrize("mode", [{}, {"training": False}])
def test_statistics_within_a_derivative(mode):
    class Model(kje.Model):
        def __init__(self):
            super().__init__()
            self.net = keras.Sequential(
                [
                    keras.Input((3,)),
                    keras.layers.BatchNormalization(),
                    keras.layers.Dropout(0.5),
                    keras.layers.Dense(1),
                ]
            )

    def slope(model, x):
        def outputs(z):
            return jnp.sum(model.net(z, **mode))

        return jnp.mean(jax.grad(outputs)(x) ** 2)

    model = Model()
    model.compile(updates=[kje.Update(slope, "net/*", "sgd")])
    if mode:
        model.fit(X, verbose=0)
        return
    before = model.get_weights()
    with pytest.raises(jax.errors.UnexpectedTracerError, match="had a side"):
        model.fit(X, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
