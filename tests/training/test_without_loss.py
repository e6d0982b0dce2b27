"""Models that `compile` gives no loss: their own step, or `add_loss`."""

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")


class Rows(keras.utils.PyDataset):
    """Counts the items that are asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __len__(self):
        return 5

    def __getitem__(self, i):
        self.asked.append(i)
        return X[10 * i : 10 * i + 10]


def own_loss(base):
    class Auto(base):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, *rest, **options):
            return keras.ops.mean((x - y_pred) ** 2)

    model = Auto()
    model(X[:2])
    return model


def energy(base):
    """As GANs: a step of its own, and no `call`."""

    class Energy(base):
        def __init__(self):
            super().__init__()
            dense = keras.layers.Dense(1)
            self.net = keras.Sequential([keras.Input((3,)), dense])
            self.seen = keras.metrics.Mean(name="energy")
            self.built = True

        @property
        def metrics(self):
            return [self.seen]

        def train_step(self, state, data):
            values, fixed, slots, means = state
            x, _, _ = keras.utils.unpack_x_y_sample_weight(data)

            def loss(values):
                return jnp.mean(self.net.stateless_call(values, [], x)[0] ** 2)

            value, gradients = jax.value_and_grad(loss)(values)
            values, slots = self.optimizer.stateless_apply(
                slots, gradients, values
            )
            means = self.seen.stateless_update_state(means, value)
            logs = {"energy": self.seen.stateless_result(means)}
            return logs, (values, fixed, slots, means)

    return Energy()


def added_loss(base):
    class Penalty(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x**2))
            return x

    x = keras.Input((3,))
    return base(x, Penalty()(keras.layers.Dense(2)(x)))


MODELS = {"own_loss": own_loss, "energy": energy, "added_loss": added_loss}
WAYS = {
    "ours": lambda make: make(kje.Model),
    "extended": lambda make: kje.extend(make(keras.Model)),
}


def trained(way, kind, data, fits):
    """The Histories and weights of some fits, and what was read."""
    keras.utils.set_random_seed(1)
    model = way(MODELS[kind])
    model.compile("sgd")
    data = data()
    seen = []
    for _ in range(fits):
        history = model.fit(data, batch_size=16, epochs=2, verbose=0).history
        seen += list(history.values())
    return [*seen, *model.get_weights()], getattr(data, "asked", [])


@pytest.mark.parametrize("data", [lambda: X, Rows], ids=["arrays", "dataset"])
@pytest.mark.parametrize("fits", [1, 2])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_built_model_draws_no_batch_of_its_own(kind, way, fits, data):
    if data is Rows and kind == "energy":
        fits = 1
    expected, asked = trained(lambda make: make(keras.Model), kind, data, fits)
    values, own_asked = trained(WAYS[way], kind, data, fits)
    assert len(own_asked) == len(asked)
    for value, reference in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-7)


def test_a_built_model_that_was_never_called_reports_its_metrics():
    """Its layers report nothing until a batch is drawn to trace them."""

    class Gate(kje.Layer):
        def call(self, x):
            self.add_metric(keras.ops.mean(x), name="gate")
            return x

    class Classic(kje.Model):
        def __init__(self):
            super().__init__()
            self.gate, self.dense = Gate(), layers.Dense(1)

        def build(self, shape):
            self.dense.build(shape)
            self.gate.built = self.built = True

        def call(self, x):
            y = self.dense(self.gate(x))
            self.add_loss(keras.ops.mean(y**2))
            return y

    model = Classic()
    model.build((None, 3))
    model.compile("sgd")
    history = model.fit(X, batch_size=50, verbose=0).history
    np.testing.assert_allclose(history["gate"], [X.mean()], rtol=1e-5)
