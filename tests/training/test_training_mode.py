"""`fit` acts as `model(x, training=True)`, `predict` as `training=False`."""

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

RATE = 0.1
X = np.random.default_rng(0).normal(size=(24, 4, 3)).astype("float32")
Y = X.sum(axis=(1, 2), keepdims=True)[:, 0]


def recurrent(x):
    return layers.LSTM(4, dropout=0.5)(x)


def attention(x):
    return layers.MultiHeadAttention(2, 4, dropout=0.5)(x, x)


def spectral(x):
    return layers.SpectralNormalization(layers.Dense(4))(x)


def sequential(x):
    return layers.Bidirectional(layers.GRU(4, recurrent_dropout=0.5))(x)


LAYERS = {
    "dropout": lambda x: layers.Dropout(0.5)(x),
    "spatial": lambda x: layers.SpatialDropout1D(0.5)(x),
    "normalization": lambda x: layers.BatchNormalization()(x),
    "noise": lambda x: layers.GaussianNoise(0.5)(x),
    "recurrent": recurrent,
    "bidirectional": sequential,
    "attention": attention,
    "spectral": spectral,
    "distributed": lambda x: layers.TimeDistributed(layers.Dropout(0.5))(x),
}


class Inner(kje.Layer):
    """The layer under test, in a layer that says nothing of `training`."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def call(self, x):
        return LAYERS[self.kind](x)


def head(x):
    return layers.Dense(1)(layers.Flatten()(x))


class Inline(kje.Model):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def call(self, x):
        return head(LAYERS[self.kind](x))


class Named(Inline):
    def call(self, x, training=False):
        return head(LAYERS[self.kind](x))


class Nested(Inline):
    def call(self, x):
        return head(Inner(self.kind)(x))


class InSequential(Inline):
    def call(self, x):
        return head(kje.Sequential([Inner(self.kind)])(x))


def subclass(base):
    class Subclass(base):
        def __init__(self, kind):
            super().__init__()
            self.inner = Inner(kind)
            self.flat = keras.layers.Flatten()
            self.out = keras.layers.Dense(1)

        def call(self, x):
            return self.out(self.flat(self.inner(x)))

    return Subclass


def functional(kind):
    x = keras.Input(X.shape[1:])
    y = keras.layers.Dense(1)(keras.layers.Flatten()(Inner(kind)(x)))
    return kje.Model(x, y)


MODELS = {
    "inline": Inline,
    "named": Named,
    "nested": Nested,
    "in_sequential": InSequential,
    "subclass": subclass(kje.Model),
    "functional": functional,
    "extended": lambda kind: kje.extend(subclass(keras.Model)(kind)),
}
# Each layer in one kind of model, and each kind of model with two layers.
pairs = [("inline", kind) for kind in LAYERS]
pairs += [(m, k) for m in MODELS for k in ("dropout", "normalization")]
each_pair = pytest.mark.parametrize(("model", "kind"), sorted({*pairs}))
each_model = pytest.mark.parametrize("model", MODELS)


def made(model, kind, **options):
    keras.utils.set_random_seed(3)
    model = MODELS[model](kind)
    model(X[:2])
    model.compile(keras.optimizers.SGD(RATE), "mse", **options)
    return model


def fit(model, **options):
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, **options)


def values(model):
    return [np.asarray(v) for v in (*model.weights, *seeds(model))]


def seeds(model):
    return [v for v in model.variables if "seed" in v.path]


def by_hand(model, training):
    """The weights after an epoch of `model(x, training=training)`."""
    trained, fixed = model.trainable_variables, model.non_trainable_variables

    @jax.jit
    def step(trainable, others, x, y):
        def loss(trainable):
            state = [
                *zip(trained, trainable, strict=True),
                *zip(fixed, others, strict=True),
            ]
            with keras.StatelessScope(state) as scope:
                y_pred = model(x, training=training)
            new = [scope.get_current_value(v) for v in fixed]
            return jnp.mean((y - y_pred) ** 2), new

        gradients, others = jax.grad(loss, has_aux=True)(trainable)
        moved = [
            v - RATE * g for v, g in zip(trainable, gradients, strict=True)
        ]
        return moved, others

    state = [v.value for v in trained], [v.value for v in fixed]
    for i in range(0, len(X), 8):
        state = step(*state, X[i : i + 8], Y[i : i + 8])
    everything = dict(
        zip(map(id, [*trained, *fixed]), [*state[0], *state[1]], strict=True)
    )
    return [
        np.asarray(everything[id(v)]) for v in (*model.weights, *seeds(model))
    ]


def close(left, right):
    return all(
        np.allclose(a, b, rtol=1e-5, atol=1e-6)
        for a, b in zip(left, right, strict=True)
    )


@each_pair
def test_fit_trains_as_a_call_with_training(model, kind):
    model = made(model, kind)
    training, inference = by_hand(model, True), by_hand(model, False)
    assert not close(training, inference)
    fit(model)
    assert close(values(model), training)


LOOPS = {
    "keras": {"jit_compile": False},
    "eager": {"run_eagerly": True, "jit_compile": False},
    "several": {"steps_per_execution": 2},
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["dropout", "normalization"])
@pytest.mark.parametrize("model", ["inline", "nested", "extended"])
def test_every_loop_trains_as_a_call_with_training(model, kind, loop):
    model = made(model, kind, **LOOPS[loop])
    training = by_hand(model, True)
    fit(model)
    assert close(values(model), training)


@each_model
def test_train_on_batch_trains_as_a_call_with_training(model):
    model = made(model, "normalization")
    training = by_hand(model, True)
    for i in range(0, len(X), 8):
        model.train_on_batch(X[i : i + 8], Y[i : i + 8])
    assert close(values(model), training)


@each_pair
def test_evaluate_and_predict_are_calls_without_training(model, kind):
    model = made(model, kind)
    fit(model, validation_data=(X[:8], Y[:8]))
    before = model.get_weights()  # recurrent layers draw seeds in any mode
    expected = np.asarray(model(X[:8], training=False))
    loss = np.mean((expected - Y[:8]) ** 2)
    validated = model.history.history["val_loss"]
    np.testing.assert_allclose(validated, [loss], rtol=1e-5)
    np.testing.assert_allclose(
        model.predict(X[:8], verbose=0), expected, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        model.evaluate(X[:8], Y[:8], verbose=0), loss, rtol=1e-5
    )
    np.testing.assert_allclose(
        model.test_on_batch(X[:8], Y[:8]), loss, rtol=1e-5
    )
    assert close(model.get_weights(), before)


@each_model
@pytest.mark.parametrize("training", [True, False, None])
def test_stateless_call_is_a_call(model, training):
    model = made(model, "dropout")
    arrays = (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    given = {} if training is None else {"training": training}
    outputs, fixed = model.stateless_call(*arrays, X, **given)
    expected = model(X, **given)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    after = [v.value for v in model.non_trainable_variables]
    assert close(fixed, after)


class Explicit(kje.Model):
    """Dropout behind a layer that is kept in inference mode."""

    def __init__(self, frozen, **given):
        super().__init__()
        self.frozen = frozen
        self.given = given

    def call(self, x):
        x = layers.Flatten()(x)
        h = layers.BatchNormalization()(x, training=self.frozen)
        return layers.Dropout(0.5)(h, **self.given)


def test_an_explicit_mode_is_for_one_layer_and_those_within_it():
    model = Explicit(False)
    model(X)
    model.compile("sgd", "mse")
    target = np.zeros((len(X), 12), "float32")
    model.fit(X, target, verbose=0)
    np.testing.assert_array_equal(model.batch_normalization.moving_mean, 0.0)
    outputs = np.asarray(model(X, training=True))
    assert 0.3 < np.mean(outputs == 0) < 0.7
    assert not np.any(model.predict(X, verbose=0) == 0)


def test_an_explicit_mode_wins_over_the_trainer():
    model = Explicit(True, training=True)
    model(X)
    model.compile("sgd", "mse")
    assert np.any(model.predict(X, verbose=0) == 0)
    model = Explicit(None, training=False)
    model(X)
    assert not np.any(np.asarray(model(X, training=True)) == 0)


def test_the_mode_reaches_a_layer_within_a_name_scope():
    class Scoped(kje.Model):
        def call(self, x):
            x = layers.BatchNormalization()(x, training=False)
            with keras.name_scope("part"):
                return layers.Dropout(0.5)(x)

    model = Scoped()
    assert np.any(np.asarray(model(X, training=True)) == 0)


def test_a_loss_that_calls_layers_calls_them_in_inference_mode():
    """The mode is the model's; a loss network stays as it is."""
    extractor = keras.Sequential([keras.Input((1,)), keras.layers.Dropout(0.5)])

    class Perceptual(kje.losses.Loss):
        def call(self, y_true, y_pred):
            return jnp.mean((extractor(y_pred) - y_pred) ** 2, axis=-1)

    model = Inline("dropout")
    model.compile("sgd", Perceptual())
    assert model.fit(X, Y, verbose=0).history["loss"] == [0.0]


def test_losses_of_a_layer_that_is_called_twice_count_twice():
    class Twice(kje.Model):
        def call(self, x):
            layer = layers.Dense(1, activity_regularizer=lambda y: jnp.sum(y))
            return layer(x) + layer(2 * x)

    model = Twice()
    model(X[:, 0])
    expected = float(sum(model.losses))
    model.compile(keras.optimizers.SGD(0.0))
    (loss,) = model.fit(X[:, 0], batch_size=24, verbose=0).history["loss"]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_registered_argument_reaches_the_layers_in_a_stateless_call():
    class Doubling(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self._register_call_context_args("double")

        def call(self, x, double=False):
            return 2 * x if double else x

    class Outer(kje.Model):
        def __init__(self):
            super().__init__()
            self.inner = Doubling()
            self._register_call_context_args("double")

        def call(self, x):
            return self.inner(x)

    model = Outer()
    expected = model(X, double=True)
    outputs, _ = model.stateless_call([], [], X, double=True)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(outputs, 2 * X)
