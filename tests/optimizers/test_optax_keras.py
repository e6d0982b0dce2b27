"""What Keras does around an optimizer, against the Keras equivalent."""

import os
import subprocess
import sys

import keras_jax_ext as kje
from keras_jax_ext.optimizers import OptaxOptimizer

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = 2 * X.sum(axis=1, keepdims=True)


def network(cls=keras.Sequential, **dense):
    keras.utils.set_random_seed(1)
    return cls(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh", name="hidden", **dense),
            keras.layers.Dense(1, name="out"),
        ]
    )


def fit(model, optimizer, callbacks=()):
    # Ours runs these steps in one program, stock in one program each.
    steps = 4 if isinstance(model, kje.Model) else 1
    model.compile(optimizer, "mse", steps_per_execution=steps)
    model.fit(
        X,
        Y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def trained(optimizer, callbacks=(), **dense):
    return fit(network(**dense), optimizer, callbacks)


def fused(optimizer, callbacks=(), **dense):
    return fit(network(kje.Sequential, **dense), optimizer, callbacks)


def ours_and_stock(callbacks=lambda: (), **around):
    """The same maths, of optax in a fused fit, and of Keras."""
    tx = optax.sgd(0.01, momentum=0.9)
    return (
        fused(OptaxOptimizer(tx, **around), callbacks()),
        trained(keras.optimizers.SGD(0.01, 0.9, **around), callbacks()),
    )


def assert_equal(ours, stock):
    for a, b in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


# They add epsilon at different places.
ADAM = optax.adam(0.01, eps=1e-12)


def stock_adam():
    return keras.optimizers.Adam(0.01, epsilon=1e-12)


AROUND = [
    {"clipnorm": 0.2},
    {"clipvalue": 0.05},
    {"global_clipnorm": 0.2},
    {"use_ema": True, "ema_momentum": 0.8},
    {"use_ema": True, "ema_overwrite_frequency": 3},
    {"gradient_accumulation_steps": 3},
    {"loss_scale_factor": 4.0},
]


@pytest.mark.parametrize("around", AROUND, ids=lambda a: [*a][-1])
def test_arguments_around_an_optimizer(around):
    ours, stock = ours_and_stock(**around)
    assert_equal(ours, stock)
    assert around.items() <= vars(ours.optimizer).items()
    assert int(ours.optimizer.iterations) == int(stock.optimizer.iterations)
    plain = fused(OptaxOptimizer(optax.sgd(0.01, momentum=0.9)))
    moved = not np.allclose(plain.get_weights()[0], ours.get_weights()[0])
    assert moved is ("loss_scale_factor" not in around)


def test_accumulation_in_a_stock_model():
    tx = optax.sgd(0.01, momentum=0.9)
    around = {"gradient_accumulation_steps": 3, "clipnorm": 0.2}
    assert_equal(
        trained(OptaxOptimizer(tx, **around)),
        trained(keras.optimizers.SGD(0.01, 0.9, **around)),
    )


def test_a_constraint():
    dense = {"kernel_constraint": keras.constraints.MaxNorm(0.5)}
    ours = fused(OptaxOptimizer(optax.sgd(0.05)), **dense)
    assert_equal(ours, trained(keras.optimizers.SGD(0.05), **dense))
    norms = np.linalg.norm(ours.get_weights()[0], axis=0)
    assert norms.max() == pytest.approx(0.5, rel=1e-5)


def test_swap_ema_weights():
    class Seeing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.get_weights()[0])

    def callbacks():
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        return [swap, Seeing()]

    seen: list = []
    ours, stock = ours_and_stock(callbacks, use_ema=True, ema_momentum=0.8)
    assert_equal(ours, stock)
    (_, ours, _, stock) = seen
    np.testing.assert_allclose(ours, stock, rtol=1e-6, atol=1e-6)


def test_mixed_float16_scales_the_loss():
    keras.config.set_dtype_policy("mixed_float16")
    ours, stock = ours_and_stock()
    assert_equal(ours, stock)
    scaled = ours.optimizer
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    scales = [float(m.optimizer.dynamic_scale) for m in (ours, stock)]
    assert scales[0] == scales[1]
    # The scale is too large at first: those steps were left out.
    assert int(scaled.inner_optimizer.iterations) < 16


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not:UserWarning")
def test_float8_layers():
    def quantized(cls, optimizer):
        model = network(cls)
        model.quantize("float8")
        return fit(model, optimizer)

    ours = quantized(kje.Sequential, OptaxOptimizer(ADAM))
    stock = quantized(keras.Sequential, stock_adam())
    for a, b in zip(ours.variables, stock.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    history = ours.get_layer("hidden").inputs_amax_history
    assert np.count_nonzero(history) == 16


def test_multi_optimizer():
    def parted(hidden):
        rest = keras.optimizers.SGD(0.01)
        return keras.optimizers.MultiOptimizer(
            lambda v: hidden if "hidden" in v.path else rest
        )

    assert_equal(
        fused(parted(OptaxOptimizer(ADAM))),
        trained(parted(stock_adam())),
    )


def test_loss_scale_optimizer_skips_what_is_not_finite():
    inner = OptaxOptimizer(optax.adam(0.01))
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    variable = keras.Variable([1.0])
    scaled.build([variable])
    state, values = [v.value for v in scaled.variables], [variable.value]
    for gradient, expected in ((np.nan, 1.0), (8.0, 0.99)):
        gradients = [jnp.full(1, gradient)]
        values, state = scaled.stateless_apply(state, gradients, values)
        assert float(values[0][0]) == pytest.approx(expected)


def test_variables_that_their_gradient_replaces():
    scale = keras.Variable([1.0], name="scale")
    scale.overwrite_with_gradient = True
    kernel = keras.Variable([1.0], name="kernel")
    optimizer = OptaxOptimizer(optax.adam(0.1))
    optimizer.build([scale, kernel])
    optimizer.apply([np.array([3.0]), np.array([1.0])])
    assert float(scale[0]) == 3.0
    assert float(kernel[0]) == pytest.approx(0.9)
    assert not any("scale" in v.name for v in optimizer.variables)


def test_a_missing_gradient_leaves_weight_and_slots():
    one, two = (keras.Variable([1.0], name=n) for n in ("one", "two"))
    optimizer = OptaxOptimizer(optax.adam(0.1))
    optimizer.build([one, two])
    optimizer.apply([np.ones(1, "float32")] * 2)
    before = {v.name: np.array(v.value) for v in [*optimizer.variables, two]}
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([np.ones(1, "float32"), None])
    for variable in [*optimizer.variables, two]:
        same = np.array_equal(before[variable.name], np.array(variable.value))
        assert same == ("two" in variable.name)


def test_frozen_layers_and_a_new_compile():
    def thawed(cls, make):
        model, kernels = network(cls), []
        for trainable in (False, True):
            model.get_layer("hidden").trainable = trainable
            kernels.append(np.array(model.get_layer("hidden").kernel))
            fit(model, make())
        np.testing.assert_array_equal(*kernels)
        return model

    ours = thawed(kje.Sequential, lambda: OptaxOptimizer(ADAM))
    stock = thawed(keras.Sequential, stock_adam)
    assert_equal(ours, stock)
    assert len(ours.optimizer.variables) == 2 + 2 * 4


def test_paths_that_are_equal_or_continue_each_other():
    paths = ["a", "a/b", "a/b", "a/b_1"]
    variables = []
    for path in paths:
        variable = keras.Variable([1.0], name="x")
        variable._path = path
        variables.append(variable)
    optimizer = OptaxOptimizer(optax.adam(0.1))
    optimizer.build(variables)
    optimizer.apply([np.full(1, i + 1.0, "float32") for i in range(4)])
    moments = [v for v in optimizer.variables if v.name.endswith("mu")]
    # One tenth of each gradient: no slot went to another variable.
    values = [float(v[0]) for v in moments]
    np.testing.assert_allclose(values, [0.1, 0.2, 0.3, 0.4], rtol=1e-5)
    names = [v.path for v in optimizer.variables]
    assert len(set(names)) == len(names)


def test_a_loop_of_ones_own():
    variable = keras.Variable([1.0])
    optimizer = OptaxOptimizer(optax.sgd(0.1))
    optimizer.apply([np.ones(1, "float32")], [variable])
    assert float(variable[0]) == pytest.approx(0.9)
    state = [v.value for v in optimizer.variables]
    (value,), state = optimizer.stateless_apply(
        state, [np.ones(1, "float32")], [variable.value]
    )
    assert float(value[0]) == pytest.approx(0.8)
    assert float(variable[0]) == pytest.approx(0.9)
    assert int(state[0]) == 2


DEVICES = """
import keras_jax_ext as kje
import jax, keras, numpy as np, optax
x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")

def trained():
    keras.utils.set_random_seed(0)
    model = kje.Sequential(
        [keras.Input((3,)), keras.layers.Dense(8, name="d"),
         keras.layers.Dense(1)]
    )
    schedule = optax.linear_schedule(1.0, 0.5, 9)
    tx = optax.chain(optax.adam(0.01), optax.scale_by_schedule(schedule))
    model.compile(tx, "mse", steps_per_execution=4)
    model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0)
    return model

alone, devices = trained().get_weights(), keras.distribution.list_devices()
mesh = keras.distribution.DeviceMesh((4, 2), ["batch", "model"], devices)
layouts = keras.distribution.LayoutMap(mesh)
layouts[".*d/kernel"] = (None, "model")
for distribution in (
    keras.distribution.DataParallel(devices=devices),
    keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    ),
):
    with distribution.scope():
        model = trained()
        kernel = model.get_layer("d").kernel
        for variable in model.optimizer.variables:
            sharding = variable.value.sharding
            assert len(sharding.device_set) == len(devices) == 8
            if variable.shape == kernel.shape:
                assert sharding.is_equivalent_to(kernel.value.sharding, 2)
        for a, b in zip(model.get_weights(), alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
assert not kernel.value.sharding.is_fully_replicated
"""


def run(code, **environment):
    command = [sys.executable, "-c", code]
    subprocess.run(command, env={**os.environ, **environment}, check=True)


def test_several_devices():
    run(
        DEVICES,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )


NNX = """
import keras_jax_ext as kje
import keras, numpy as np, optax
for cls in (keras.Sequential, kje.Sequential):
    keras.utils.set_random_seed(0)
    model = cls([keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(kje.optimizers.OptaxOptimizer(optax.sgd(0.1)), "mse")
    x = np.ones((8, 2), "float32")
    losses = model.fit(x, x[:, :1], epochs=3, verbose=0).history["loss"]
    # Each step leaves 1 - 0.1 * 2 * 3 = 0.4 of the error.
    np.testing.assert_allclose(losses, [1.0, 0.4**2, 0.4**4], rtol=1e-5)
"""


def test_nnx_mode():
    pytest.importorskip("flax")
    run(NNX, KERAS_NNX_ENABLED="true")


def test_optax_is_imported_on_first_use_only():
    code = "import sys, keras_jax_ext; assert 'optax' not in sys.modules"
    run(code)


def test_labels_and_masks_by_path():
    labels = kje.optimizers.label_by_path({"*/out/*": "out"}, default="frozen")
    model = trained(
        OptaxOptimizer(
            optax.partition(
                {"out": optax.sgd(0.01), "frozen": optax.set_to_zero()}, labels
            )
        )
    )
    fresh = network()
    for layer, moved in (("hidden", False), ("out", True)):
        same = np.array_equal(
            model.get_layer(layer).kernel, fresh.get_layer(layer).kernel
        )
        assert same is not moved
