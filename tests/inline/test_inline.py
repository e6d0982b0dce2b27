"""Declaring layers, weights and random keys in `call`."""

import copy
import functools
import json
import pickle
import threading
import types
from pathlib import Path

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import zoo
from zoo import INPUTS, X, built, paths

GOLDEN = Path(__file__).parent / "golden_paths.json"
each_model = pytest.mark.parametrize("cls", INPUTS, ids=lambda c: c.__name__)


def one_dense(activation=None, **kwargs):
    """A model of one layer, its arguments written anew at each call."""

    class Net(kje.Model):
        def call(self, x):
            make = activation or (lambda: None)
            return layers.Dense(3, activation=make(), **kwargs)(x)

    return Net()


# Names and paths.


def test_the_variable_paths_are_those_of_the_golden_file():
    now = {cls.__name__: paths(built(cls)) for cls in INPUTS}
    assert now == json.loads(GOLDEN.read_text()), (
        "paths are names in people's files; if the change is meant: "
        "KERAS_BACKEND=jax PYTHONPATH=. python tests/test_inline.py"
    )


@each_model
def test_equal_models_have_equal_paths_whatever_was_built_before(cls):
    first = built(cls)
    zoo.Nested()(X)
    keras.layers.Dense(2)(X)
    second = built(cls)
    assert paths(second) == paths(first)
    assert len(paths(first)) == len({id(v) for v in first.variables})


def test_children_are_attributes_layers_and_can_be_looked_up():
    model = built(zoo.Mixture)
    assert [layer.name for layer in model.layers] == [
        "backbone",
        "component",
        "component_1",
        "component_2",
        "gating",
    ]
    assert model.get_layer("gating") is model.gating
    assert type(model.backbone) is keras.layers.Dense
    model.backbone.trainable = False
    assert len(model.trainable_variables) == 8


def test_a_child_assigned_in_call_is_one_child_named_by_the_attribute():
    model = built(zoo.Assigned)
    assert [layer.name for layer in model.layers] == [
        "first",
        "dense_1",
        "last",
    ]
    assert model.first.name == "first"
    assert model.both[1].name == "last"


def test_automatic_names_skip_attributes_of_the_owner():
    class Net(kje.Model):
        def __init__(self):
            super().__init__()
            self.dense = "taken"

        def call(self, x):
            return layers.Dense(1)(x)

    model = Net()
    model(X)
    assert [layer.name for layer in model.layers] == ["dense_1"]


def test_names_may_be_declared_in_another_order_each_time():
    class Net(kje.Model):
        def call(self, x, training=False):
            a = functools.partial(layers.Dense, 3, name="a")
            b = functools.partial(layers.Dense, 3, name="b")
            order = (a, b) if training else (b, a)
            for make in order:
                x = make()(x)
            return x

    model = Net()
    model(X)
    assert sorted(layer.name for layer in model.layers) == ["a", "b"]


def test_a_model_that_is_part_of_another_keeps_its_own_name():
    inputs = keras.Input((3,))
    outputs = [zoo.Shared()(inputs), zoo.Shared()(inputs)]
    model = kje.Model(inputs, outputs)
    assert len(set(paths(model))) == len(paths(model)) == 8


# What is found again, and trains.


@each_model
def test_fit_trains_what_call_declares_and_traces_no_more(cls):
    model = built(cls)
    outputs = model(INPUTS[cls])
    targets = jax.tree.map(np.zeros_like, outputs)
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.compile("sgd", "mse")
    model.fit(INPUTS[cls], targets, epochs=2, batch_size=2, verbose=0)
    after = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    moved = [
        not np.array_equal(a, b) for a, b in zip(before, after, strict=True)
    ]
    assert any(moved)
    assert paths(built(cls)) == paths(model)


def count_traces(model):
    """Let the model count how often its `call` runs."""
    original = type(model).call
    count = []

    def call(self, *args, **kwargs):
        count.append(1)
        return original(self, *args, **kwargs)

    model.__class__ = type(type(model).__name__, (type(model),), {"call": call})
    return count


def test_nothing_is_traced_again_after_the_first_epoch():
    model = zoo.Nested()
    count = count_traces(model)
    model.compile("sgd", "mse")
    model.fit(X, X, batch_size=2, verbose=0)
    first = len(count)
    model.fit(X, X, batch_size=2, epochs=3, verbose=0)
    assert first > 0
    assert len(count) == first


def test_an_inline_model_is_the_same_program_as_the_classic_one():
    class Classic(kje.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(8, activation="relu")
            self.last = keras.layers.Dense(1)

        def call(self, x):
            return self.last(self.hidden(x))

    class Inline(kje.Model):
        def call(self, x):
            x = layers.Dense(8, activation="relu")(x)
            return layers.Dense(1)(x)

    def program(model):
        model(X)
        state = [
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
        ]
        step = jax.jit(lambda t, n, x: model.stateless_call(t, n, x))
        return step.lower(*state, X).as_text()

    assert program(Inline()) == program(Classic())


@pytest.mark.parametrize(
    "make",
    [
        lambda: lambda t: t * 2.0,
        lambda: functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
        lambda: keras.layers.LeakyReLU(0.1),
        lambda: "relu",
    ],
    ids=["lambda", "partial", "layer", "name"],
)
def test_arguments_written_anew_are_the_same_arguments(make):
    model = one_dense(make)
    assert np.array_equal(model(X), model(X))
    assert len(model.weights) == 2


@pytest.mark.parametrize(
    "kwargs",
    [
        {"kernel_initializer": keras.initializers.HeNormal(seed=1)},
        {"kernel_regularizer": keras.regularizers.L2(1e-3)},
        {"bias_initializer": keras.initializers.Constant(2.0)},
        {"kernel_constraint": keras.constraints.MaxNorm(1.0)},
    ],
    ids=lambda k: next(iter(k)),
)
def test_equal_objects_are_the_same_arguments(kwargs):
    class Net(kje.Model):
        def call(self, x):
            return layers.Dense(3, **copy.deepcopy(kwargs))(x)

    model = Net()
    assert np.array_equal(model(X), model(X))


def test_positional_and_keyword_arguments_are_the_same():
    class Net(kje.Model):
        def call(self, x, training=False):
            args, kwargs = ((3,), {}) if training else ((), {"units": 3})
            return layers.Dense(*args, **kwargs)(x)

    assert Net()(X).shape == (4, 3)


def test_a_variable_free_layer_may_be_declared_late():
    class Net(kje.Model):
        late = False

        def call(self, x):
            x = layers.Dense(3)(x)
            return layers.ReLU()(x) if self.late else x

    model = Net()
    model(X)
    model.late = True
    assert float(jnp.min(model(X))) >= 0.0


def test_add_weight_in_call_finds_its_weight():
    model = built(zoo.State)
    assert [w.name for w in model.weights] == ["scale", "weight", "count"]
    assert float(model.weights[2]) == 1.0
    model(X)
    assert float(model.weights[2]) == 2.0


def test_add_weight_in_build_and_init_is_stock():
    class Scale(kje.Layer):
        def __init__(self):
            super().__init__()
            self.offset = self.add_weight(shape=(), name="offset")

        def build(self, input_shape):
            self.scale = self.add_weight(shape=input_shape[-1:], name="scale")

        def call(self, x):
            return x * self.scale + self.offset

    layer = Scale()
    assert layer(X).shape == X.shape
    assert [w.path for w in layer.weights] == ["scale/offset", "scale/scale"]


def test_random_keys_differ_each_call_and_repeat_under_a_seed():
    def two():
        keras.utils.set_random_seed(7)
        model = zoo.State()
        return np.array(model(X)), np.array(model(X))

    (a, b), (c, d) = two(), two()
    assert not np.array_equal(a, b)
    assert np.array_equal(a, c)
    assert np.array_equal(b, d)


# Ways to reach `call` first.


@pytest.mark.parametrize(
    "first",
    [
        lambda m: jax.jit(lambda x: m(x))(X),
        lambda m: jax.grad(lambda x: m(x).sum())(X),
        lambda m: jax.eval_shape(m, X),
        lambda m: m.build((None, 3)),
        lambda m: m.build(X.shape),
        lambda m: m(keras.Input((3,))),
        lambda m: m.predict(X, verbose=0),
        lambda m: m.compute_output_spec(keras.KerasTensor((None, 3))),
        lambda m: m.call(X),
        lambda m: m(X, training=True),
    ],
    ids=[
        "jit",
        "grad",
        "eval_shape",
        "build",
        "build_batch",
        "symbolic",
        "predict",
        "spec",
        "call",
        "training",
    ],
)
def test_the_first_use_may_be(first):
    model = zoo.Nested()
    first(model)
    assert [layer.name for layer in model.layers] == [
        "block",
        "block_1",
        "dropout",
        "batch_normalization",
        "gaussian_noise",
    ]
    assert all(isinstance(v.value, jax.Array) for v in model.variables)
    assert not any(
        isinstance(v.value, jax.core.Tracer) for v in model.variables
    )
    assert model(X).shape == X.shape


def test_threads_build_one_model_once():
    model, shapes = zoo.Nested(), []
    threads = [
        threading.Thread(target=lambda: shapes.append(model(X).shape))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [X.shape] * 4
    assert paths(model) == paths(built(zoo.Nested))


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.Sequential([zoo.Block(4), keras.layers.Dense(2)]),
        lambda: kje.Sequential([zoo.Block(4), layers.Dense(2)]),
    ],
    ids=["stock", "ours"],
)
def test_a_sequential_model_may_hold_inline_layers(make):
    model = make()
    model.compile("sgd", "mse")
    history = model.fit(X, np.zeros((4, 2)), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert len(model.trainable_variables) == 6


@pytest.mark.parametrize("base", [keras.Model, kje.Model])
def test_a_functional_model_may_hold_inline_layers(base):
    inputs = keras.Input((3,))
    model = base(inputs, zoo.Nested()(zoo.Block(4)(inputs)))
    model.compile("sgd", "mse")
    history = model.fit(X, np.zeros((4, 3)), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert keras.models.clone_model(model)(X).shape == (4, 3)


def test_a_stock_model_may_hold_inline_layers():
    class Stock(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = zoo.Block(4)

        def call(self, x):
            return self.block(x)

    model = Stock()
    model.compile("sgd", "mse")
    model.fit(X, X, verbose=0)
    assert len(model.trainable_variables) == 4


@pytest.mark.parametrize(
    ("inputs", "kwargs"),
    [
        ((X, X), {}),
        ([X, X], {}),
        ({"left": X, "right": X, "unused": X}, {}),
        (X, {"right": X}),
    ],
    ids=["tuple", "list", "dict", "call"],
)
def test_a_structure_is_spread_over_several_arguments(inputs, kwargs):
    keras.utils.set_random_seed(1)
    expected = zoo.Pair()((X, X))
    keras.utils.set_random_seed(1)
    assert np.array_equal(zoo.Pair()(inputs, **kwargs), expected)


@pytest.mark.parametrize("as_dict", [False, True])
def test_fit_and_predict_spread_their_inputs(as_dict):
    inputs = {"left": X, "right": X} if as_dict else (X, X)
    model = zoo.Pair()
    model.compile("sgd", "mse")
    model.fit(inputs, np.zeros((4, 2)), verbose=0)
    assert model.predict(inputs, verbose=0).shape == (4, 2)


def test_one_argument_receives_the_structure_whole():
    class Net(kje.Model):
        def call(self, inputs):
            return layers.Dense(2)(inputs["a"]) + layers.Dense(2)(inputs["b"])

    model = Net()
    model.compile("sgd", "mse")
    model.fit({"a": X, "b": X}, np.zeros((4, 2)), verbose=0)
    assert len(model.weights) == 4


def test_masks_reach_call_at_the_first_use():
    masked = []

    class Pool(kje.Layer):
        supports_masking = True

        def call(self, x, mask=None):
            masked.append(mask is not None)
            return layers.GlobalAveragePooling1D()(layers.Dense(2)(x), mask)

    model = keras.Sequential([keras.layers.Embedding(10, 4, mask_zero=True)])
    assert Pool()(model(zoo.TOKENS)).shape == (2, 2)
    assert masked == [True] * 3  # two traces, and the call


def test_mixed_precision_and_stateful_layers():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = zoo.Nested()
    assert model(X).dtype == jnp.bfloat16
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    keras.config.set_dtype_policy("float32")

    class Stateful(kje.Model):
        def call(self, x):
            return layers.LSTM(2, stateful=True)(x)

    model, x = Stateful(), np.ones((2, 3, 4), "float32")
    assert not np.array_equal(model(x), model(x))


@pytest.mark.filterwarnings("ignore:.*quantize.*:UserWarning")
def test_quantize_changes_the_children_in_place():
    model = built(zoo.Nested)
    expected = model(X)
    model.quantize("int8")
    assert model.block.dense.kernel.dtype == "int8"
    assert np.allclose(model(X), expected, atol=0.1)


@pytest.mark.parametrize("kind", ["jax", "flax"])
def test_layers_of_jax_and_flax_functions(monkeypatch, kind):
    # Keras asks TensorFlow, on any backend, whether it traces: without
    # TensorFlow its own JaxLayer fails.
    answer = types.SimpleNamespace(inside_function=lambda: False)
    monkeypatch.setattr("keras.src.utils.jax_layer.tf", answer)
    if kind == "flax":
        nn = pytest.importorskip("flax.linen")
        make = functools.partial(layers.FlaxLayer, nn.Dense(2))
    else:
        make = functools.partial(layers.JaxLayer, matmul, matrix)

    class Net(kje.Model):
        def call(self, x):
            return make()(x)

    model = Net()
    model.compile("sgd", "mse")
    history = model.fit(X, np.zeros((4, 2)), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def matmul(params, inputs):
    return inputs @ params["w"]


def matrix(rng, inputs):
    return {"w": jax.random.normal(rng, (inputs.shape[-1], 2))}


def test_a_call_that_cannot_be_traced_runs_as_in_keras():
    class Eager(kje.Model):
        def call(self, x):
            y = layers.Dense(3, kernel_initializer="identity")(x)
            return y if float(jnp.sum(x)) > 100.0 else -y

    model = Eager()
    assert np.array_equal(model(X), -X)
    assert paths(model) == ["eager/dense/kernel", "eager/dense/bias"]


def test_training_may_need_what_inference_does_not_give():
    class Guided(kje.Model):
        def call(self, x, target=None, training=False):
            x = layers.Dense(3)(x)
            return x - target if training else x

    model = Guided()
    assert model(X).shape == X.shape
    assert len(model.weights) == 2


# The namespace.


def test_the_namespace_stands_for_the_classes_of_keras():
    class Double(layers.Dense):
        def call(self, x):
            return 2.0 * super().call(x)

    layer = layers.Dense(2)
    assert type(layer) is keras.layers.Dense
    assert isinstance(layer, layers.Dense)
    assert issubclass(Double, layers.Dense)
    assert layers.Dense.from_config(layer.get_config()).units == 2
    assert layers.Dense == keras.layers.Dense
    assert pickle.loads(pickle.dumps(layers.Dense)) == layers.Dense
    assert set(dir(keras.layers)) <= set(dir(layers))
    assert layers.add is keras.layers.add
    assert layers.Layer is kje.Layer
    with pytest.raises(AttributeError, match="Dens"):
        layers.Dens  # noqa: B018


def test_inline_makes_any_layer_class_declarable():
    class Doubled(keras.layers.Dense):
        pass

    inline = kje.inline(Doubled)

    class Net(kje.Model):
        def call(self, x):
            return inline(2)(x)

    model = Net()
    model(X)
    assert type(model.doubled) is Doubled
    assert kje.inline(inline) is inline is kje.inline(Doubled)
    with pytest.raises(TypeError, match=r"takes a subclass of keras\.Layer"):
        kje.inline(int)


def test_subclasses_sequential_and_functional_models_in_any_order():
    class Bare(kje.Model):
        pass

    bases = kje.Model.__bases__
    inputs = keras.Input((3,))
    functional = Bare(inputs, layers.Dense(2)(inputs))
    assert isinstance(functional, Bare)
    assert type(functional).__name__ == "Bare"

    class Later(Bare):
        def call(self, x):
            return layers.Dense(5)(x)

    class Own(kje.Model):
        def __init__(self, units=4):
            inputs = keras.Input((3,))
            super().__init__(inputs, layers.Dense(units)(inputs))

    assert Later()(X).shape == (4, 5)
    assert Own()(X).shape == (4, 4)
    assert type(kje.Model(inputs, inputs)).__name__ == "Functional"
    assert kje.Sequential([layers.Dense(1)])(X).shape == (4, 1)
    assert kje.Model.__bases__ == bases
    assert Bare.__bases__ == (kje.Model,)


if __name__ == "__main__":
    keras.utils.clear_session()
    golden = {cls.__name__: paths(built(cls)) for cls in INPUTS}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


@keras.saving.register_keras_serializable("test_inline")
class Small(kje.Model):
    def call(self, x):
        return layers.Dense(1)(x)


@pytest.mark.parametrize("name", ["small_7", "small", "teacher", None])
@pytest.mark.parametrize(
    "again",
    [
        lambda m, path: m.save(path) or keras.models.load_model(path),
        lambda m, path: pickle.loads(pickle.dumps(m)),
        lambda m, path: copy.deepcopy(m),
        lambda m, path: keras.models.clone_model(m),
    ],
    ids=["file", "pickle", "deepcopy", "clone"],
)
def test_a_name_that_was_given_is_kept(name, again, tmp_path):
    for _ in range(2):  # the second one has a number
        model = Small(name=name)
        model(X)
        start = "small" if name is None else name
        assert paths(model) == [f"{start}/dense/kernel", f"{start}/dense/bias"]
        other = again(model, tmp_path / "model.keras")
        other(X)
        assert other.name == model.name
        assert paths(other) == paths(model)


def test_a_recursive_function_is_the_same_at_each_call():
    class Recursive(kje.Model):
        def call(self, x):
            def act(t, n=1):
                return act(t, n - 1) if n else t

            def even(n):
                return n == 0 or odd(n - 1)

            def odd(n):
                return n != 0 and even(n - 1)

            def unbound(t):
                return never(t) if t is None else t

            if x is None:
                never = act
            partial = functools.partial(act, n=2)
            itself = functools.partial(lambda t, p=[]: t, p=[])
            itself.keywords["p"].append(itself)
            x = layers.Dense(2, activation=act)(x)
            x = layers.Dense(2, activation=lambda t: t if even(2) else None)(x)
            x = layers.Dense(2, activation=unbound)(x)
            x = layers.Dense(2, activation=partial)(x)
            return layers.Dense(2, activation=itself)(x)

    model = Recursive()
    model(X)
    assert np.array_equal(model(X), model(X))


def test_a_recursive_function_that_changes_is_another():
    class Changing(kje.Model):
        scale = 1

        def call(self, x):
            scale = self.scale

            def act(t, n=1):
                return act(t, n - 1) if n else t * scale

            return layers.Dense(2, activation=act)(x)

    model = Changing()
    model(X)
    model.scale = 2
    with pytest.raises(
        kje._inline.arguments.DeclarationError, match="cannot change"
    ):
        model(X)
