"""A dozen models that declare inline, for the golden file and for saving."""

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import numpy as np

register = keras.saving.register_keras_serializable("zoo")
X = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
TOKENS = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]], "int32")


@register
class Mixture(kje.Model):
    """The article's model."""

    def __init__(self, k=3):
        super().__init__()
        self.k = k

    def call(self, x):
        x = layers.Dense(8, activation="relu", name="backbone")(x)
        y = jnp.stack(
            [layers.Dense(2, name="component")(x) for _ in range(self.k)],
            axis=1,
        )
        y = y.at[..., 1].set(1.0 + jax.nn.elu(y[..., 1]))
        return y, layers.Dense(self.k, activation="softmax", name="gating")(x)


@register
class Block(kje.Layer):
    """A residual block; a lambda is written anew at each call."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, x):
        h = layers.Dense(self.units, activation=lambda t: jax.nn.relu(t))(x)
        return x + layers.Dense(x.shape[-1])(h)


@register
class Nested(kje.Model):
    """Blocks in a model, and a layer only for training."""

    def call(self, x, training=False):
        x = Block(8)(x)
        x = Block(4)(x)
        x = layers.Dropout(0.5)(x)
        if training:
            x = layers.GaussianNoise(0.1)(x)
        return layers.BatchNormalization()(x)


@register
class Assigned(kje.Model):
    """Children named by the attributes that `call` assigns them to."""

    def call(self, x):
        self.first = layers.Dense(4)
        self.both = [layers.Dense(4), layers.Dense(2, name="last")]
        for layer in [self.first, *self.both]:
            x = layer(x)
        return x


@register
class Classic(kje.Model):
    """Layers made in `__init__`, as in stock Keras; the names are given."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(4, name="hidden")
        self.block = Block(4, name="block")

    def call(self, x):
        return self.block(self.hidden(x))


@register
class Wrapped(kje.Model):
    """Stock wrappers around children; masks travel."""

    def call(self, tokens):
        x = layers.Embedding(10, 4, mask_zero=True)(tokens)
        x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
        x = layers.TimeDistributed(layers.Dense(4))(x)
        x = layers.MultiHeadAttention(2, 2)(x, x)
        return layers.RNN(layers.LSTMCell(3))(x)


@register
class Sequence(kje.Model):
    """A Sequential and a Functional model built inside `call`."""

    def call(self, x):
        x = kje.Sequential([layers.Dense(4), layers.ReLU(), Block(2)])(x)
        inputs = keras.Input((4,))
        outputs = layers.Dense(2)(layers.Dense(5)(inputs))
        return kje.Model(inputs, outputs)(x)


@register
class Shared(kje.Model):
    """One layer used twice, and one reached through a method."""

    def call(self, x):
        layer = layers.Dense(3)
        return self.head(layer(layer(x)))

    def head(self, x):
        return layers.Dense(1)(x)


@register
class State(kje.Model):
    """A weight, a state and random keys, declared in `call`."""

    def call(self, x):
        scale = self.add_weight(name="scale", shape=(3,), initializer="ones")
        count = self.add_weight(
            name="count", shape=(), initializer="zeros", trainable=False
        )
        count.assign(count + 1)
        unnamed = self.add_weight((3,), "ones")
        noise = jax.random.normal(self.next_rng_key(), x.shape)
        return x * scale * unnamed + 0.1 * noise


@register
class Transformed(kje.Model):
    """Layers under JAX's transformations; the scan traces its body twice."""

    def call(self, x):
        def body(total, _):
            return total + layers.Dense(1)(x).sum(), None

        total, _ = jax.lax.scan(body, 0, None, length=3)
        x = jax.lax.cond(
            total > 0,
            lambda v: layers.Dense(3, name="positive")(v),
            lambda v: layers.Dense(3, name="negative")(v),
            x,
        )
        x = jax.checkpoint(lambda v: layers.Dense(3)(v))(x)
        return jax.vmap(lambda row: layers.Dense(3)(row[None])[0])(x)


@register
class Pair(kje.Model):
    """Two inputs, spread over the arguments."""

    def call(self, left, right):
        return layers.Dense(2)(left) + layers.Dense(2)(right)


@register
class Derived(Nested):
    """`super().call()` continues the names of the same call."""

    def call(self, x, training=False):
        x = super().call(x, training=training)
        return layers.BatchNormalization()(layers.Dense(2)(x))


@register
class Many(kje.Model):
    """More than ten of one kind: numbers, not their spelling, give order."""

    def call(self, x):
        for _ in range(12):
            x = layers.Dense(3)(x)
        return x


INPUTS = {
    Mixture: X[:, :1],
    Nested: X,
    Assigned: X,
    Classic: X,
    Wrapped: TOKENS,
    Sequence: X,
    Shared: X,
    State: X,
    Transformed: X,
    Pair: (X, X),
    Derived: X,
    Many: X,
}


def paths(model):
    """The variable paths of a model, in order."""
    return [variable.path for variable in model.variables]


def built(cls):
    """A model of the zoo, called once."""
    model = cls()
    model(INPUTS[cls])
    return model
