"""Bad declarations: each a clear error, and the model unchanged after it."""

import cProfile
import sys

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import zoo
from zoo import X

HERE = r"test_inline_errors\.py:\d+"


def model_of(call):
    """A model with this `call(self, x, training=False)`."""
    return type("Net", (kje.Model,), {"call": call})()


def stock_layer(self, x, training=False):
    return keras.layers.Dense(3)(layers.Dense(3)(x))


def stock_wrapper(self, x, training=False):
    return keras.layers.TimeDistributed(keras.layers.Dense(3))(x[None])


def own_stock_layer(self, x, training=False):
    return Foreign(3)(x)


class Foreign(keras.layers.Dense):
    """A user's layer of stock Keras."""


def bare_variable(self, x, training=False):
    return x * keras.Variable("ones", shape=(3,), name="scale")


def metric_in_call(self, x, training=False):
    mean = keras.metrics.Mean(name="mean")
    mean.update_state(x)
    return x


def changed_arguments(self, x, training=False):
    return layers.Dense(4 if training else 3, name="head")(x)


def changed_class(self, x, training=False):
    cls = layers.EinsumDense if training else layers.Dense
    args = ("ab,bc->ac", 3) if training else (3,)
    return cls(*args, name="head")(x)


def two_lines(self, x, training=False):
    if training:
        return layers.Dense(3)(x)
    return layers.Dense(3)(x)


def taken_by_method(self, x, training=False):
    return layers.Dense(3, name="compile")(x)


def tensor_argument(self, x, training=False):
    return layers.Rescaling(jnp.max(x))(x)


def unknown_dimension(self, x, training=False):
    return layers.Dense(x.shape[0])(x)


def weight_of_two_shapes(self, x, training=False):
    shape = (3,) if training else (3, 3)
    return x @ self.add_weight(name="w", shape=shape)


def weight_of_two_dtypes(self, x, training=False):
    dtype = "int32" if training else "float32"
    self.add_weight(name="w", shape=(3,), dtype=dtype, initializer="zeros")
    return x


def inside_a_stock_layer(self, x, training=False):
    return layers.Lambda(lambda t: layers.Dense(3)(t))(x)


BAD = {
    stock_layer: rf"stock layer made in `call`.*Dense 'dense.*' in the `call` "
    rf"of Net, at .*{HERE}. Use layers.Dense",
    stock_wrapper: r"stock layer made in `call`.*Dense 'dense",
    own_stock_layer: rf"Foreign '.*{HERE}. Use keras_jax_ext.inline\(Foreign\)",
    bare_variable: rf"variable made in `call`.*'scale'.*{HERE}. .*add_weight",
    metric_in_call: rf"metric made in `call`.*{HERE}. Make it in `__init__`",
    changed_arguments: r"(?s)'head' of Net is made once.*Dense\(4, name='head'"
    rf"\) at .*{HERE} after Dense\(3, name='head'\).*name of its own",
    changed_class: r"(?s)made once, and its class.*EinsumDense.*Dense\(3",
    two_lines: rf"One name cannot mean two lines.*'dense' as Dense\(3\) at "
    rf".*{HERE} and as Dense\(3\) at .*{HERE}. Give them different names",
    taken_by_method: rf"another attribute of that name.*'compile' at .*{HERE}",
    tensor_argument: r"made once, from plain values.*Rescaling\(...\)",
    weight_of_two_shapes: rf"(?s)'w' of Net.*shape cannot change.*{HERE}",
    weight_of_two_dtypes: r"(?s)dtype cannot change.*int32.*float32",
    inside_a_stock_layer: rf"'lambda' is a stock layer.*{HERE}. Derive it",
}


@pytest.mark.parametrize("call", BAD, ids=lambda f: f.__name__)
def test_a_broken_rule_is_an_error_and_leaves_the_model_unchanged(call):
    model = model_of(call)
    for use in (model, model.predict):
        with pytest.raises(ValueError, match=BAD[call]):
            use(X)
    assert model.layers == []
    assert model.variables == []
    assert not model.built


def test_an_unknown_dimension_is_not_an_argument():
    model = model_of(unknown_dimension)
    with pytest.raises(ValueError, match=r"unknown dimension.*Dense\(...\)"):
        model.build((None, 3))


def test_changed_arguments_after_the_build():
    class Net(kje.Model):
        units = 3

        def call(self, x):
            return layers.Dense(self.units)(x)

    model = Net()
    before = model(X)
    model.units = 4
    with pytest.raises(ValueError, match=r"Dense\(4\) at .*after Dense\(3\)"):
        model(X)
    model.units = 3
    assert np.array_equal(model(X), before)


class Late(kje.Model):
    """Declares more when asked to."""

    more = False

    def call(self, x):
        x = layers.Dense(3)(x)
        if self.more == "layer":
            x = layers.Dense(3)(x) if self.more else x
        if self.more == "weight":
            x = x * self.add_weight(name="scale", shape=())
        if self.more == "key":
            x = x + jax.random.normal(self.next_rng_key(), x.shape)
        if self.more == "stock":
            x = keras.layers.Dense(3)(x)
        return x


@pytest.mark.parametrize("more", ["layer", "weight", "key"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_late_declaration_is_an_error(more, compiled):
    model = Late()
    model(X)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    model.compile("sgd", "mse")
    model.more = more
    match = rf"of Late was not declared when.*{HERE}. Declare it uncond"
    with pytest.raises(ValueError, match=match):
        model.fit(X, X, verbose=0) if compiled else model(X)
    model.more = False
    for value, old in zip(model.variables, before, strict=True):
        assert np.array_equal(value, old)
    assert [layer.name for layer in model.layers] == ["dense"]


def test_a_stock_layer_made_late_in_a_compiled_step_is_an_error():
    model = Late()
    model(X)
    model.more = "stock"
    state = [v.value for v in model.trainable_variables]
    step = jax.jit(lambda t, x: model.stateless_call(t, [], x))
    with pytest.raises(ValueError, match="made inside a compiled step"):
        step(state, X)


@pytest.mark.filterwarnings("ignore:.build... was called on layer 'stock'")
def test_a_block_first_reached_in_a_compiled_step():
    class Stock(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)
            self.block = zoo.Block(3)

        def call(self, x, training=False):
            x = self.dense(x)
            return self.block(x) if training else x

    model = Stock()
    model(X)
    model.compile("sgd", "mse")
    match = r"of Block is first reached inside a compiled.*`block\(x\)`"
    with pytest.raises(ValueError, match=match):
        model.fit(X, X, verbose=0)


def test_a_failed_trace_says_so_when_its_declarations_are_missed():
    class Guided(kje.Model):
        def call(self, x, target=None, training=False):
            x = layers.Dense(3)(x)
            if training:
                x = layers.Dense(3)(x) - target
            return x

    model = Guided()
    model(X)
    match = r"(?s)'dense_1' of Guided was not declared.*trace that would"
    with pytest.raises(ValueError, match=match):
        model(X, target=X, training=True)


def test_an_error_of_the_user_is_the_users_error_and_nothing_is_half_built():
    class Net(kje.Model):
        fail = True

        def call(self, x):
            x = layers.Dense(3)(x)
            if self.fail:
                raise RuntimeError("mine")
            return layers.Dense(2)(x)

    model = Net()
    with pytest.raises(RuntimeError, match="mine"):
        model(X)
    assert not model.built
    assert model.layers == []
    model.fail = False
    assert model(X[:, :2]).shape == (4, 2)


def test_a_weight_name_taken_in_init():
    class Net(kje.Layer):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight(name="w", shape=(3,))

        def call(self, x):
            return x * self.add_weight(name="w", shape=(3,))

    with pytest.raises(ValueError, match=rf"has a weight of that.*{HERE}"):
        Net()(X)


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        (
            {"left": X, "wrong": X},
            r"takes the inputs \['left', 'right'\].*Received: a dict of "
            r"\['left', 'wrong'\]",
        ),
        ((X,), r"Received: 1 inputs"),
        ((X, X, X), r"Received: 3 inputs"),
        (X, r"Received: one input"),
    ],
    ids=["dict", "short", "long", "array"],
)
def test_inputs_that_do_not_fit_call(inputs, match):
    with pytest.raises(ValueError, match=match):
        zoo.Pair()(inputs)


def without_self(x):
    return layers.Dense(3)(x)


def without_inputs(self, training=False):
    return self


@pytest.mark.parametrize("call", [without_self, without_inputs])
def test_a_call_without_self_or_inputs(call):
    match = r"takes `self` and at least one input. Received: Net.call\("
    with pytest.raises(TypeError, match=match):
        model_of(call)


@pytest.mark.parametrize("method", ["save", "save_weights"])
def test_a_model_that_was_never_built_is_not_saved(method, tmp_path):
    path = tmp_path / f"model{'.weights.h5' if 'w' in method else '.keras'}"
    with pytest.raises(ValueError, match=r"never called. Call it on a batch"):
        getattr(zoo.Nested(), method)(path)
    assert not path.exists()


def test_an_error_does_not_end_a_profiler():
    def call(self, x):
        return keras.layers.Dense(3)(x)

    profiler = cProfile.Profile()
    profiler.enable()
    before = sys.getprofile()
    try:
        with pytest.raises(ValueError, match="nothing keeps it"):
            model_of(call)(zoo.X)
        assert sys.getprofile() is before
    finally:
        profiler.disable()
