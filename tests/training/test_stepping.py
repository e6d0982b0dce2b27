"""Steps of Keras's own loop: the same as stock, and fast on a CPU."""

import inspect

import keras_jax_ext as kje
from keras_jax_ext import _keras

import jax
import keras
import numpy as np
import pytest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3, 3, 2)).astype("float32")
Y = RNG.normal(size=(4, 1)).astype("float32")
on_cpu = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="other devices are fast at it"
)


def small(cls, **options):
    """A model whose kernel is larger than its images."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = cls(
        [
            keras.Input((3, 3, 2)),
            layers.Conv2D(3, 5, padding="same"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", **options)
    return model


def programs(model):
    """The jaxprs of the steps of training and of testing."""
    modes = {"train_function": True, "test_function": False}
    for name, optimizer in modes.items():
        step = _keras.compiled_step(inspect.unwrap(getattr(model, name)))
        groups = [model.trainable_variables, model.non_trainable_variables]
        groups += [model.optimizer.variables] if optimizer else []
        groups.append(model.metrics_variables)
        state = tuple([v.value for v in group] for group in groups)
        yield str(step.trace(state, (X, Y, None)).jaxpr)


@on_cpu
def test_a_batch_trains_as_stock_without_slow_convolutions():
    ours, stock = small(kje.Sequential), small(keras.Sequential)
    for _ in range(2):
        losses = [m.train_on_batch(X, Y) for m in (ours, stock)]
        np.testing.assert_allclose(*losses, rtol=1e-5)
    losses = [m.test_on_batch(X, Y) for m in (ours, stock)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    pairs = zip(ours.get_weights(), stock.get_weights(), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # The gradient of the kernel, whose own is not larger, stays one.
    counts = [text.count("conv_general_dilated[") for text in programs(ours)]
    assert counts == [1, 0]
    assert "train_step" not in vars(ours)


def test_a_step_is_traced_once_and_a_disabled_jit_runs_it_plainly():
    seen = []

    class Counted(kje.Sequential):
        def train_step(self, state, data):
            seen.append(isinstance(data[0], jax.core.Tracer))
            return super().train_step(state, data)

    model = small(Counted)
    for _ in range(3):
        model.train_on_batch(X, Y)
    assert seen == [True]
    with jax.disable_jit():
        model.train_on_batch(X, Y)
    assert seen == [True, False]
