"""The compiled loop gives what a Python loop gives, from one program."""

import collections
import re

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext import _keras
from keras_jax_ext._loop import device
from keras_jax_ext._loop.arrays import Resident
from keras_jax_ext._loop.batches import Rows, Single, Span, Stacked
from keras_jax_ext._loop.memo import Pace
from keras_jax_ext._loop.program import Keep, Program
from keras_jax_ext._xla.convolutions import channels_last
from keras_jax_ext._xla.cpu import rewritten

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

DATA = np.arange(23 * 2, dtype="float32").reshape(23, 2)
ORDER = np.random.default_rng(0).permutation(23).astype("int32")
KEEP = Keep(lambda outputs, state: outputs, 64, has_rows=True)


def step(state, batch):
    """Depends on the order of the batches, and on every row."""
    state = [0.5 * state[0] + batch.sum(0)]
    return {"mean": batch.mean()}, state


def by_hand(batches):
    state, outputs = np.zeros(2, "float32"), []
    for batch in batches:
        state = 0.5 * state + batch.sum(0)
        outputs.append(batch.mean())
    return state, outputs


def program(**options):
    return Program(step, place=lambda batch, lead=0: batch, **options)


def zeros():
    return [jnp.zeros(2)]


@pytest.mark.parametrize("width", [1, 2, 16])
@pytest.mark.parametrize("rest", [False, True])
def test_permuted_rows(width, rest):
    order = np.concatenate([ORDER, np.zeros(5 * 16, "int32")])
    rows = Rows(DATA, jnp.asarray(order), size=5, left=3, width=width)
    _, last, state = program()(zeros(), Span(rows, 1, 3 + rest, rest))
    cut = [DATA[ORDER[i : i + 5]] for i in (5, 10, 15)]
    if rest:
        cut.append(DATA[ORDER[20:]])
    expected, outputs = by_hand(cut)
    np.testing.assert_allclose(state[0], expected, rtol=1e-6)
    if rest:
        np.testing.assert_allclose(last["mean"], outputs[-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("columns", "most", "width"),
    [
        (1, 1000, 64),  # all steps of an epoch
        (256, 1000, 32),  # as many as take 256 KB
        (2048, 1000, 1),  # large rows: one by one
        (1, 5, 5),  # as many as an execution has
    ],
)
def test_small_batches_are_gathered_many_at_once(columns, most, width):
    rows = np.zeros((512, columns), "float32")
    adapter = _keras.ArrayDataAdapter(rows, batch_size=8)
    source = Resident(adapter, rows, False, most)
    data = source.data(source.put_order(source.draw()))
    assert data.width == width
    order = np.asarray(data.order)
    np.testing.assert_array_equal(order[:512], np.arange(512))
    assert len(order) == 512 + width * 8


@pytest.mark.parametrize("shuffle", [True, "batch", False])
def test_a_pass_over_rows_goes_on_in_its_order_and_draws_nothing(shuffle):
    rows = np.arange(40, dtype="float32").reshape(20, 2)

    def cursor():
        adapter = _keras.ArrayDataAdapter(rows, batch_size=4)
        made = Resident(adapter, rows, shuffle, 5).open()
        made.allow(None)
        return made

    def batches(cursor):
        span = cursor.take(5)
        steps = range(span.start, span.start + span.steps)
        return [np.asarray(span.data.batch(i)) for i in steps]

    keras.utils.set_random_seed(0)
    first, again = cursor(), cursor()
    expected = batches(first)
    before = np.random.get_state()[1].copy()
    again.skip(2, first.place())
    np.testing.assert_array_equal(batches(again), expected[2:])
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert (first.place() is None) == (shuffle is False)


def test_stacked_batches_and_the_outputs_of_every_step():
    stacked = Stacked(DATA[:20].reshape(4, 5, 2))
    run = program()
    kept, last, state = run(zeros(), Span(stacked, 1, 3), KEEP)
    expected, outputs = by_hand([DATA[5:10], DATA[10:15], DATA[15:20]])
    np.testing.assert_allclose(state[0], expected, rtol=1e-6)
    np.testing.assert_allclose(kept["mean"][:3], outputs, rtol=1e-6)
    # Room for what the data have, no more.
    assert kept["mean"].shape == (4,)
    assert last is None


def test_permuted_rows_and_the_outputs_of_every_step():
    order = np.concatenate([ORDER, np.zeros(5, "int32")])
    rows = Rows(DATA, jnp.asarray(order), size=5, left=3, width=1)
    run = program()
    kept, last, state = run(zeros(), Span(rows, 1, 4, True), KEEP)
    cut = [DATA[ORDER[i : i + 5]] for i in (5, 10, 15)]
    expected, outputs = by_hand([*cut, DATA[ORDER[20:]]])
    np.testing.assert_allclose(state[0], expected, rtol=1e-6)
    np.testing.assert_allclose(kept["mean"][:3], outputs[:3], rtol=1e-6)
    np.testing.assert_allclose(last["mean"], outputs[3], rtol=1e-6)


def test_one_program_serves_any_number_of_steps():
    traces = []

    def counting(state, batch):
        traces.append(batch.shape)
        return step(state, batch)

    run = Program(counting, place=lambda batch, lead=0: batch)
    stacked = Stacked(jnp.asarray(DATA[:20].reshape(4, 5, 2)))
    for steps in (1, 2, 4, 3):
        run(zeros(), Span(stacked, 0, steps))
    assert traces == [(5, 2)]


def test_a_method_is_traced_anew_for_a_new_program():
    class Model:
        rate = 1.0

        def step(self, state, batch):
            return {}, [state[0] - self.rate]

    def run():
        state = new()(zeros(), Span(Single(DATA[:5]), 0, 1))[2]
        return float(state[0][0])

    def new():
        held.append(Program(model.step, place=lambda batch, lead=0: batch))
        return held[-1]

    model, held = Model(), []
    assert run() == -1.0
    model.rate = 3.0  # as `compile` with another optimizer does
    assert run() == -3.0


def test_the_state_is_donated():
    state = zeros()
    program()(state, Span(Single(DATA[:5]), 0, 1))
    assert state[0].is_deleted()


def test_a_program_that_calls_python_keeps_the_state():
    def calling(state, batch):
        jax.debug.callback(lambda: None)
        return step(state, batch)

    state = zeros()
    run = Program(calling, place=lambda batch, lead=0: batch)
    run(state, Span(Single(DATA[:5]), 0, 1))
    assert run.can_fail
    np.testing.assert_array_equal(state[0], [0, 0])


def test_a_step_that_drops_state_is_an_error():
    run = Program(lambda s, b: ({}, []), place=lambda batch, lead=0: batch)
    with pytest.raises(ValueError, match="as many state arrays"):
        run(zeros(), Span(Single(DATA[:5]), 0, 1))


def test_a_span_is_cut_to_what_a_call_can_keep():
    parts = list(Span(None, 2, 7, True).split(3))
    assert [(p.start, p.steps, p.has_tail) for p in parts] == [
        (2, 3, False),
        (5, 3, False),
        (8, 1, True),
    ]


def test_the_pace_grows_by_16_at_most_and_follows_the_clock():
    pace = Pace()
    assert pace.steps(0.1) == 1
    pace.learn(1, 1e-5)
    assert pace.steps(0.1) == 16
    pace.learn(16, 16e-4)
    assert pace.steps(0.1) == 256
    pace.learn(256, 256e-3)
    assert pace.steps(0.1) == 100


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_canonical_convolutions_have_the_same_values_and_gradients(rank):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *[9] * rank, 4)).astype("float32")
    kernel = random.normal(size=(*[3] * rank, 2, 6)).astype("float32")
    space = "XYZ"[:rank]

    def loss(x, kernel):
        outputs = jax.lax.conv_general_dilated(
            x,
            kernel,
            [2] * rank,
            "SAME",
            rhs_dilation=[2] * rank,
            dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
            feature_group_count=2,
        )
        return jnp.sum(jnp.sin(outputs))

    function = jax.value_and_grad(loss, argnums=(0, 1))
    changed = rewritten(function)
    expected, given = function(x, kernel), changed(x, kernel)
    for a, b in zip(
        jax.tree.leaves(given), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    specs = {
        str(e.params["dimension_numbers"])
        for e in every_equation(jax.make_jaxpr(changed)(x, kernel).jaxpr)
        if e.primitive.name == "conv_general_dilated"
    }
    assert len(specs) == 1


def every_equation(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from every_equation(value.jaxpr)


@pytest.mark.parametrize("columns", [1, 2, 32, 33])
@pytest.mark.parametrize("shape", [(64, 128), (16, 4, 128)])
def test_the_gradient_of_a_narrow_kernel_has_the_same_values(columns, shape):
    random = np.random.default_rng(0)
    x = random.normal(size=shape).astype("float32")
    kernel = random.normal(size=(shape[-1], columns)).astype("float32")

    def loss(kernel):
        return jnp.sum(jnp.sin(x @ kernel))

    gradient = jax.grad(loss)
    changed = rewritten(gradient)
    np.testing.assert_allclose(
        changed(kernel), gradient(kernel), rtol=1e-5, atol=1e-5
    )


def product_shapes(function, *args):
    """Shapes of the products that XLA computes."""
    text = jax.jit(function).lower(*args).compile().as_text()
    return re.findall(r"= f32\[([\d,]+)\]\S* dot\(", text)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (128, 2, "2,128"),
        (128, 32, "32,128"),
        (128, 33, "128,33"),
        (32, 32, "32,32"),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_xla_computes_a_narrow_product_with_few_rows(
    rows, columns, expected, swap
):
    x, y = jnp.ones((64, rows)), jnp.ones((64, columns))

    def product(x, y):
        first = ((0,), (0,)), ((), ())
        if swap:
            return jax.lax.dot_general(x, y, first)
        return jax.lax.dot_general(y, x, first).T

    assert product_shapes(rewritten(product), x, y) == [expected]


def test_equal_equations_and_shared_programs_are_rewritten_once():
    x, kernels = jnp.ones((64, 128)), [jnp.ones((128, 2))] * 3

    @jax.jit
    def loss(kernel):
        return jnp.sum(jnp.sin(x @ kernel))

    def gradients(kernels):
        # Of one program that is called twice, and of an equation like its own.
        again = jax.grad(lambda kernel: jnp.sum(jnp.cos(x @ kernel)))
        called = jax.jit(jax.grad(loss))
        return called(kernels[0]), called(kernels[1]), again(kernels[2])

    def programs(function):
        """How many different programs of each name are called."""
        called = [
            (e.params["name"], id(e.params["jaxpr"]))
            for e in every_equation(jax.make_jaxpr(function)(kernels).jaxpr)
            if "jaxpr" in e.params
        ]
        return collections.Counter(name for name, _ in {*called})

    before, after = programs(gradients), programs(rewritten(gradients))
    assert after == {**before, "_product": 1}


def test_a_function_that_no_rule_changes_is_called_as_it_is():
    calls = []

    def function(x):
        calls.append(x)
        return jnp.sin(x)

    rewritten(function)(1.0)
    assert calls[-1] == 1.0


@pytest.mark.parametrize("swap", [False, True])
def test_a_narrow_product_of_more_axes_has_the_same_values(swap):
    random = np.random.default_rng(0)
    x = random.normal(size=(16, 4, 128)).astype("float32")
    y = random.normal(size=(16, 4, 2, 3)).astype("float32")

    def product(x, y):
        operands = (x, y) if swap else (y, x)
        return jax.lax.dot_general(*operands, (((0, 1), (0, 1)), ((), ())))

    np.testing.assert_allclose(
        rewritten(product)(x, y), product(x, y), rtol=1e-5, atol=1e-5
    )


def test_a_cpu_takes_arrays_as_they_are_but_for_those_to_be_converted():
    given = {"x": np.ones((4, 2), "float32"), "y": np.ones(4, "int64")}
    put = device.put(given, stacked=False)
    assert put["x"] is given["x"]
    assert isinstance(put["y"], jax.Array)
    assert put["y"].dtype == "int32"


@pytest.mark.parametrize(
    ("layout", "is_left"),
    [(("NHWC", "HWIO"), True), (("NCHW", "OIHW"), False)],
)
def test_a_convolution_with_channels_last_is_not_traced_again(layout, is_left):
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=(*layout, layout[0]),
        )

    ones = jnp.ones((3, 3, 3, 3))
    (equation,) = jax.make_jaxpr(convolve)(ones, ones).eqns
    assert (channels_last(equation) is None) == is_left
