"""`model.summary`: its rows, shapes and sizes, and that it changes nothing."""

import keras_jax_ext as kje
from keras_jax_ext import layers

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest


class Mixture(kje.Model):
    def call(self, x):
        x = layers.Dense(64, name="backbone")(x)
        y = [layers.Dense(2, name="component")(x) for _ in range(5)]
        return jnp.stack(y, axis=1), layers.Dense(5, name="gating")(x)


class Block(kje.Layer):
    def call(self, x):
        shared = layers.Dense(8, name="shared")
        dropped = layers.Dropout(0.5)(x)
        return {"twice": shared(shared(x)), "parts": (dropped, x[:, :1])}


class Nested(kje.Model):
    def call(self, x):
        x = Block()(layers.Dense(8)(x))["twice"]
        return layers.BatchNormalization()(x)


def text_of(model, *args, line_length=150, **kwargs):
    """What `summary` prints."""
    texts = []
    model.summary(
        *args, line_length=line_length, print_fn=texts.append, **kwargs
    )
    return "\n".join(texts)


def cells(text):
    """The rows of the table, each a list of its cells."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in lines]


def zeros(*shape):
    return np.zeros(shape, "float32")


def test_a_sample_input_builds_the_model_and_shows_every_leaf():
    model = Mixture()
    (row,) = cells(text_of(model, zeros(64, 1), depth=0))
    assert row == [
        "mixture (Mixture)",
        "[(64, 5, 2), (64, 5)]",
        "1,103 (4.31 KB)",
    ]
    assert model.built
    assert model.count_params() == 1103


def test_rows_are_in_order_of_call_with_bytes():
    rows = cells(text_of(Mixture(), zeros(64, 1), depth=1))
    assert [row[0].split()[0] for row in rows] == [
        "backbone",
        "component",
        "component_1",
        "component_2",
        "component_3",
        "component_4",
        "gating",
    ]
    assert rows[0] == ["backbone (Dense)", "(64, 64)", "128 (512.00 B)"]


def test_without_a_sample_the_batch_is_unknown():
    model = Mixture()
    model(zeros(7, 1))
    rows = cells(text_of(model))
    assert rows[0][1] == "(None, 64)"
    (row,) = cells(text_of(model, depth=0))
    assert row[1] == "[(None, 5, 2), (None, 5)]"


def test_a_length_that_was_unknown_stays_so():
    class Tagger(kje.Model):
        def call(self, x):
            x = layers.Embedding(10, 4)(x)
            return layers.Conv1D(3, 2, padding="same")(x), x[:, 1:]

    model = Tagger()
    model.build((None, None))
    (row,) = cells(text_of(model, depth=0))
    assert row[1] == "[(None, None, 3), (None, None, 4)]"


def test_a_symbolic_sample_keeps_what_is_unknown():
    model = Mixture()
    (row,) = cells(text_of(model, keras.KerasTensor((None, 1)), depth=0))
    assert row[1] == "[(None, 5, 2), (None, 5)]"
    assert model.built


def test_depth_nests_and_counts_what_is_below():
    model = Nested()
    assert len(cells(text_of(model, zeros(4, 3), depth=1))) == 3
    rows = cells(text_of(model, zeros(4, 3), depth=2))
    assert rows == cells(text_of(model, zeros(4, 3), expand_nested=True))
    assert rows == [
        ["dense (Dense)", "(4, 8)", "32 (128.00 B)"],
        [
            "block (Block)",
            "{twice: (4, 8), parts: [(4, 8), (4, 1)]}",
            "72 (288.00 B)",
        ],
        ["└ dropout (Dropout)", "(4, 8)", "0"],
        ["└ shared (Dense)", "(4, 8) x 2", "72 (288.00 B)"],
        ["batch_normalization (BatchNormalization)", "(4, 8)", "32 (128.00 B)"],
    ]


def test_a_layer_called_on_two_shapes_shows_both():
    class Twice(kje.Model):
        def call(self, x):
            dense = layers.Dense(3, name="d")
            return dense(x), dense(x[:, 0])

    rows = cells(text_of(Twice(), zeros(4, 2, 3), depth=1))
    assert [row[1] for row in rows] == ["(4, 2, 3)", "(4, 3)"]


def test_totals_are_those_of_keras():
    model = Nested()
    model.compile("adam", "mse")
    model.fit(zeros(4, 3), zeros(4, 8), verbose=0)
    stock = []
    super(kje.models.Summary, model).summary(print_fn=stock.append)
    totals = [line for line in stock[0].splitlines() if "params:" in line]
    ours = text_of(model).splitlines()
    assert [line for line in ours if "params:" in line] == totals
    assert totals[-1].startswith(" Optimizer params: ")


@pytest.mark.parametrize("kind", ["sequential", "functional", "subclassed"])
def test_a_classic_model_is_printed_by_keras(kind):
    text = text_of(classic(kje, kind), show_trainable=True)
    stock = text_of(classic(keras, kind), show_trainable=True)
    assert text == stock
    assert "dense (Dense)" in stock


def classic(module, kind):
    """The same model, of Keras's classes or of ours."""
    keras.utils.clear_session()
    if kind == "subclassed":

        class Classic(module.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(2)

            def call(self, x):
                return self.dense(x)

        model = Classic()
        model(zeros(2, 3))
        return model
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(2)
    if kind == "sequential":
        return module.Sequential([inputs, dense])
    left, right = dense(inputs), keras.layers.Dense(2)(inputs)
    return module.Model(inputs, keras.layers.add([left, right]))


def test_a_classic_model_with_a_depth_or_a_sample():
    model = classic(kje, "functional")
    rows = cells(text_of(model, depth=1))
    assert [row[:2] for row in rows] == [
        ["dense (Dense)", "(None, 2)"],
        ["dense_1 (Dense)", "(None, 2)"],
        ["add (Add)", "(None, 2)"],
    ]
    model = kje.Sequential([keras.layers.Dense(8), Block()])
    with pytest.raises(ValueError, match="shapes of its inputs are not known"):
        text_of(model, depth=1)
    rows = cells(text_of(model, zeros(5, 2), depth=2))
    assert [row[0] for row in rows] == [
        "dense_2 (Dense)",
        "block (Block)",
        "└ dropout (Dropout)",
        "└ shared (Dense)",
    ]


def test_a_stack_is_built_by_a_sample_of_the_right_dtype():
    model = kje.Sequential([keras.layers.Embedding(9, 8), keras.layers.GRU(2)])
    rows = cells(text_of(model, np.zeros((5, 7), "int32"), depth=1))
    assert [row[1] for row in rows] == ["(5, 7, 8)", "(5, 2)"]
    assert model.built


def test_a_stack_without_symbolic_inputs_is_printed_as_in_keras():
    class Entry(keras.layers.Layer):
        def call(self, inputs):
            return inputs["a"]

    texts = []
    for cls in (keras.Sequential, kje.Sequential):
        layers = [Entry(name="entry"), keras.layers.Dense(3, name="out")]
        model = cls(layers, name="stack")
        model({"a": np.ones((3, 2)), "b": np.ones((3, 2))})
        texts.append(text_of(model))
    assert texts[0] == texts[1]
    assert "(3, 3)" in texts[0]


def test_an_extended_model_takes_a_sample():
    model = kje.extend(classic(keras, "subclassed"))
    (row,) = cells(text_of(model, zeros(5, 3), depth=1))
    assert row == ["dense (Dense)", "(5, 2)", "8 (32.00 B)"]


def test_several_inputs_are_spread():
    class Pair(kje.Model):
        def call(self, left, right):
            return layers.Dense(2)(left + right)

    rows = cells(text_of(Pair(), (zeros(4, 3), zeros(4, 3))))
    assert rows[0][1] == "(4, 2)"
    model = Pair()
    with pytest.raises(ValueError, match="takes the inputs"):
        text_of(model, zeros(4, 3))
    assert not model.built


def test_columns_are_those_asked_for():
    model = Nested()
    text = text_of(model, zeros(4, 3), line_length=70, show_trainable=True)
    assert max(map(len, text.splitlines())) == 70
    model.dense.trainable = False
    rows = cells(text_of(model, depth=1, show_trainable=True))
    trained = [row[3] for row in rows if row[0]]
    assert trained == ["N", "Y", "Y"]
    rows = cells(text_of(model, layer_range=("block", "batch.*")))
    assert [row[0].split(" ")[0] for row in rows if row[0]] == [
        "block",
        "batch_normalization",
    ]
    wide = text_of(model, positions=[0.6, 0.8, 1.0], line_length=100)
    assert wide.splitlines()[1].index("┳") == 60
    with pytest.raises(ValueError, match="4 characters"):
        text_of(model, positions=[0.01, 0.5, 1.0])


def test_the_first_argument_may_be_the_line_length_as_in_keras():
    model = Nested()
    model(zeros(4, 3))
    texts = []
    model.summary(66, print_fn=texts.append)
    assert max(map(len, texts[0].splitlines())) == 66


def test_it_prints_to_the_terminal_and_to_the_log(capsys):
    model = Mixture()
    model.summary(zeros(2, 1))
    assert 'Model: "mixture"' in capsys.readouterr().out


def test_a_model_without_layers_yet_says_how_to_see_them():
    assert "summary(x)" in text_of(Mixture())


def test_nothing_is_computed_and_nothing_changes():
    class Stateful(kje.Model):
        def call(self, x, training=False):
            ran.append(isinstance(x, jax.core.Tracer))
            key = self.next_rng_key()
            x = layers.BatchNormalization()(x) + jax.random.normal(key)
            return layers.Dropout(0.5)(layers.Dense(2)(x))

    ran = []
    model = Stateful()
    text_of(model, zeros(4, 3), depth=2)
    assert all(ran)
    before = [np.array(v) for v in model.variables]
    text_of(model, zeros(9, 3), depth=2)
    text_of(model)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert "call" not in vars(model.dense)
    model(zeros(4, 3))


def test_a_model_that_cannot_be_traced_stays_as_it_was():
    class Broken(kje.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(4)

        def call(self, x):
            h = layers.Dense(4)(self.first(x))
            return h @ jnp.ones((3, 3))

    model = Broken()
    with pytest.raises(ValueError, match=r"x=float32\[2, 5\]"):
        model.summary(zeros(2, 5))
    assert not model.built
    assert not model.first.built
    assert model.weights == []
    assert not hasattr(model, "dense")

    stack = kje.Sequential([keras.layers.Dense(4), keras.layers.Conv1D(2, 2)])
    with pytest.raises(ValueError, match="Pass a sample of what `call` takes"):
        stack.summary(zeros(2, 5))
    assert not stack.built
    assert not stack.layers[0].built
    stack.summary(zeros(2, 5, 3), print_fn=len)


def test_a_broken_rule_of_inline_declaration_is_reported_as_such():
    class Late(kje.Model):
        def call(self, x):
            keras.layers.Dense(2)(x)
            return layers.Dense(2)(x)

    with pytest.raises(ValueError, match="stock layer made in `call`"):
        Late().summary(zeros(2, 3))


@pytest.mark.parametrize("depth", [-1, 1.5, True])
def test_a_depth_is_a_number_of_levels(depth):
    with pytest.raises(ValueError, match=f"depth={depth}"):
        Mixture().summary(zeros(2, 1), depth=depth)


@pytest.mark.parametrize("x", [["a"], object(), 1.5])
def test_a_sample_is_made_of_arrays(x):
    with pytest.raises(ValueError, match="takes a sample input"):
        Mixture().summary(x)


def test_plot_model_still_works():
    pytest.importorskip("pydot", reason="keras.utils.model_to_dot needs it")
    dots = [
        keras.utils.model_to_dot(classic(module, "functional"))
        for module in (kje, keras)
    ]
    edges = [len(dot.get_edges()) for dot in dots]
    assert edges == [4, 4]
