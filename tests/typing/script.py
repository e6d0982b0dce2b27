"""A user's script, which mypy checks and nobody runs.

`assert_type` says what a user is told; a line with `type: ignore` must be an
error, or mypy reports that the comment is unused.
"""

from typing import Any, assert_type

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import keras
import numpy as np
import optax


class Block(kje.Layer):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def call(self, x: jax.Array) -> jax.Array:
        noise = jax.random.normal(self.next_rng_key(), x.shape)
        self.add_metric(abs(noise), name="noise")
        scale = self.add_weight(name="scale", shape=())
        assert_type(scale, keras.Variable)
        return layers.Dense(self.units, activation="relu")(x * scale + noise)


class Mixture(kje.Model):
    def call(self, x: jax.Array) -> dict[str, jax.Array]:
        x = Block(8)(x)
        return {
            "means": layers.Dense(5, name="means")(x),
            "weights": layers.Dense(5, activation="softmax")(x),
        }


class NegativeLogLikelihood(kje.losses.Loss):
    def call(self, y_true: jax.Array, y_pred: Any) -> jax.Array:
        distance = (y_true - y_pred["means"]) ** 2
        return keras.ops.sum(y_pred["weights"] * distance, axis=-1)


class Spread(kje.metrics.Metric):
    def __init__(self, name: str = "spread") -> None:
        super().__init__(name=name)
        self.mean = keras.metrics.Mean()

    def update_state(self, y_pred: Any) -> None:
        self.mean.update_state(keras.ops.std(y_pred["means"], axis=-1))

    def result(self) -> jax.Array:
        return self.mean.result()


def total(y_true: jax.Array, y_pred: Any) -> jax.Array:
    return keras.ops.sum(y_pred["means"], axis=-1)


x = np.zeros((64, 3), "float32")
y = np.zeros((64, 5), "float32")

model = Mixture()
assert_type(model, Mixture)
model.compile(
    optimizer=optax.adam(1e-3),
    loss=[
        NegativeLogLikelihood(weight=0.5),
        kje.losses.on("mse", "means"),
        kje.losses.GlobalL2(1e-4),
    ],
    metrics=[Spread(), kje.metrics.Function(total)],
)
model.summary(x, depth=1)
stop = kje.callbacks.EarlyStopping(monitor="loss", patience=3)
assert_type(stop, keras.callbacks.EarlyStopping)
history = model.fit(x, y, epochs=2, callbacks=[stop, kje.callbacks.NaNFinder()])
assert_type(history, keras.callbacks.History)
model.evaluate(x, y, return_dict=True)
model.predict(x, batch_size=32)
model.save("mixture.keras")

# Names of Keras's, found in ours.
assert_type(kje.optimizers.Adam(1e-3), keras.optimizers.Adam)
assert_type(kje.losses.MeanSquaredError(), keras.losses.MeanSquaredError)
assert_type(kje.metrics.Mean(), keras.metrics.Mean)
assert_type(kje.losses.on("mse", ["means", 0]), kje.losses.Loss)
assert_type(kje.metrics.on("mae", "means"), kje.metrics.Metric)
stochastic = kje.optimizers.OptaxOptimizer(optax.sgd(0.1))
assert_type(stochastic, kje.optimizers.OptaxOptimizer)

# A model keeps its class.
assert_type(kje.extend(model), Mixture)
stock = kje.extend(keras.Sequential([keras.layers.Dense(1)]))
stock.compile(kje.optimizers.Adam(1e-3), loss=NegativeLogLikelihood())
assert_type(kje.Sequential([layers.Dense(1), Block(2)]), kje.Sequential)
assert_type(kje.inline(Block), type[Block])

# What a type checker must find.
kje.losses.GlobalL2("0.1")  # type: ignore[arg-type]
kje.losses.Loss(total, weight="0.5")  # type: ignore[arg-type]
kje.losses.on("mse", 0.5)  # type: ignore[arg-type]
kje.metrics.Function("total")  # type: ignore[arg-type]
kje.extend("model")  # type: ignore[type-var]
kje.losses.Loss(function=total)  # type: ignore[call-arg]
kje.Modle()  # type: ignore[attr-defined]
model.fit(x, y, epochs="2")  # type: ignore[arg-type]
model.save(3)  # type: ignore[arg-type]
