"""`kje.functional`: any model as a pure function that JAX transforms."""

import re
import subprocess
import sys

import keras_jax_ext as kje

import jax
import jax.export
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

layers = keras.layers
KEY = jax.random.key(3)


class Inline(kje.Model):
    def call(self, x):
        h = kje.layers.Dense(4, activation="tanh")(x)
        return kje.layers.Dense(2, name="head")(h)


class Drawing(kje.Model):
    """Draws in both modes, by a key of its own."""

    def call(self, x):
        h = kje.layers.Dense(3)(x)
        return h + jax.random.normal(self.next_rng_key(), h.shape)


class Subclassed(keras.Model):
    """A stock model that names no mode and hands none on."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(4, activation="relu", name="d")
        self.drop = layers.Dropout(0.5)
        self.last = layers.Dense(2, name="d")

    def call(self, x):
        return self.last(self.drop(self.first(x)))


def composed():
    inputs = keras.Input((6,))
    hidden = layers.Dense(4, activation="gelu")(inputs)
    return keras.Model(inputs, [layers.Dense(2)(hidden), hidden])


def sequence(*inner):
    """A model of `(rows, 6)` that sees three steps of two features."""
    return keras.Sequential(
        [keras.Input((6,)), layers.Reshape((3, 2)), *inner, layers.Flatten()]
    )


class Attention(kje.Model):
    def call(self, x):
        x = kje.layers.Reshape((3, 2))(x)
        x = kje.layers.MultiHeadAttention(2, 2, dropout=0.5)(x, x)
        return kje.layers.Flatten()(x)


def mixed():
    policy = keras.DTypePolicy("mixed_bfloat16")
    inner = [layers.Dense(3, dtype=policy), layers.Dense(2, dtype="float32")]
    return keras.Sequential([keras.Input((6,)), *inner])


# Each with whether it draws in training.
KINDS = {
    "sequential": (
        lambda: keras.Sequential([keras.Input((6,)), layers.Dense(2)]),
        False,
    ),
    "composed": (composed, False),
    "subclassed": (Subclassed, True),
    "inline": (Inline, False),
    "drawing": (Drawing, True),
    "dropout": (lambda: sequence(layers.Dense(2), layers.Dropout(0.5)), True),
    "noise": (
        lambda: sequence(layers.GaussianNoise(1.0), layers.Dense(2)),
        True,
    ),
    "normalized": (
        lambda: sequence(layers.BatchNormalization(momentum=0.5)),
        False,
    ),
    "recurrent": (lambda: sequence(layers.LSTM(2, dropout=0.5)), True),
    "attention": (Attention, True),
    "mixed": (mixed, False),
    "convolutional": (
        lambda: sequence(layers.SpectralNormalization(layers.Conv1D(2, 2))),
        False,
    ),
}
DRAWS_ALWAYS = {"drawing"}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


@pytest.fixture
def case(kind, x):
    keras.utils.set_random_seed(0)
    model = KINDS[kind][0]()
    apply, variables = kje.functional(model, x[:1])
    return model, apply, variables


def infer(kind, apply):
    """`apply` with a key where the model draws in inference too."""
    if kind not in DRAWS_ALWAYS:
        return apply
    return lambda variables, x: apply(variables, x, rng=KEY)


def total(outputs):
    return sum(jnp.sum(o**2) for o in jax.tree.leaves(outputs))


def assert_close(one, other, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, "float32"),
            np.asarray(b, "float32"),
            rtol=tolerance,
            atol=tolerance,
        ),
        one,
        other,
    )


def loose(kind):
    return 2e-2 if kind == "mixed" else 1e-5


def test_it_is_the_call_and_changes_nothing(kind, case, x):
    model, apply, variables = case
    before = [np.array(v.value) for v in model.variables]
    outputs = jax.jit(infer(kind, apply))(variables, x)
    draws = KINDS[kind][1]
    _, state = apply.train(variables, x, rng=KEY if draws else None)
    assert jax.tree.structure(state) == jax.tree.structure(variables["state"])
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.value)
    if kind not in DRAWS_ALWAYS:
        assert_close(outputs, model(x), loose(kind))


def test_it_trains_as_the_call_does(kind, case, x):
    model, apply, variables = case
    draws = KINDS[kind][1]
    outputs, state = apply.train(variables, x, rng=KEY if draws else None)
    if draws:
        again, _ = apply.train(variables, x, rng=KEY)
        other, _ = apply.train(variables, x, rng=jax.random.key(4))
        assert_close(outputs, again, 0)
        assert float(total(outputs)) != float(total(other))
        with pytest.raises(
            ValueError, match=r"needs a key\. Received: rng=None"
        ):
            apply.train(variables, x)
        return
    expected = model(x, training=True)
    assert_close(outputs, expected, loose(kind))
    now = kje.functional(model)[1]["state"]
    assert_close(state, now)


def test_grad_and_hessian(kind, case, x):
    _, apply, variables = case
    call = infer(kind, apply)

    def loss(params, x):
        return total(call({**variables, "params": params}, x))

    gradient = jax.jit(jax.grad(loss))(variables["params"], x)
    assert jax.tree.structure(gradient) == jax.tree.structure(
        variables["params"]
    )
    assert float(total(gradient)) > 0
    hessian = jax.hessian(lambda x: loss(variables["params"], x))(x[:1])
    assert hessian.shape == (1, 6, 1, 6)
    if kind != "mixed":
        assert_close(hessian, jnp.transpose(hessian, (2, 3, 0, 1)), 1e-3)


def test_the_hessian_of_the_parameters(kind, case, x):
    _, apply, variables = case
    call = infer(kind, apply)
    flat, structured = ravel_pytree(variables["params"])

    def loss(flat):
        params = {**variables, "params": structured(flat)}
        return total(call(params, x)).astype("float32")

    hessian = jax.jit(jax.hessian(loss))(flat)
    assert hessian.shape == (flat.size, flat.size)
    along = jax.jvp(jax.grad(loss), (flat,), (jnp.ones_like(flat),))[1]
    tolerance = 0.1 if kind == "mixed" else 1e-3
    assert float(jnp.abs(along).max()) > tolerance
    assert_close(hessian.sum(1), along, tolerance)


@pytest.mark.parametrize("impl", ["rbg", "threefry2x32"])
def test_a_key_of_any_kind_draws(x, impl):
    model = sequence(layers.Dropout(0.5))
    apply, variables = kje.functional(model)

    def drawn(seed):
        key = jax.random.key(seed, impl=impl)
        return np.asarray(apply.train(variables, x, rng=key)[0])

    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert (drawn(0) != drawn(1)).any()


def test_vmap_over_rows_and_over_variables(kind, case, x):
    _, apply, variables = case
    call = infer(kind, apply)
    if kind not in DRAWS_ALWAYS:
        rows = jax.vmap(lambda row: call(variables, row[None]))(x)
        rows = jax.tree.map(lambda a: a[:, 0], rows)
        assert_close(rows, call(variables, x), loose(kind))
    jacobian = jax.vmap(jax.jacfwd(lambda row: call(variables, row[None])))(x)
    assert all(a.shape[-1] == 6 for a in jax.tree.leaves(jacobian))
    other = jax.tree.map(lambda a: 2 * a, variables)
    stacked = jax.tree.map(lambda *a: jnp.stack(a), variables, other)
    many = jax.vmap(call, (0, None))(stacked, x)
    for i, each in enumerate((variables, other)):
        one = jax.tree.map(lambda a, i=i: a[i], many)
        assert_close(one, call(each, x), loose(kind))


def test_scan_and_checkpoint_carry_the_state(kind, case, x):
    _, apply, variables = case
    draws = KINDS[kind][1]
    keys = jax.random.split(KEY, 3)

    def step(state, key):
        outputs, state = jax.checkpoint(apply.train)(
            {**variables, "state": state}, x, rng=key if draws else None
        )
        return state, total(outputs)

    state, totals = jax.lax.scan(step, variables["state"], keys)
    by_hand = variables["state"]
    for key, found in zip(keys, totals, strict=True):
        by_hand, expected = step(by_hand, key)
        np.testing.assert_allclose(found, expected, rtol=max(1e-5, loose(kind)))
    assert_close(state, by_hand)


def test_values_come_back_exactly(kind, case):
    model, _, variables = case
    kje.assign(model, jax.tree.map(jnp.zeros_like, variables))
    assert float(total(kje.functional(model)[1])) == 0
    kje.assign(model, variables)
    assert_close(kje.functional(model)[1], variables, 0)


def test_the_program_is_that_of_a_function_by_hand(x):
    model = kje.Sequential([keras.Input((6,)), layers.Dense(4, "tanh")])
    model.add(layers.Dense(1))
    apply, variables = kje.functional(model)

    def by_hand(variables, x):
        first, last = variables["params"].values()
        h = jnp.tanh(x @ first["kernel"] + first["bias"])
        return h @ last["kernel"] + last["bias"]

    def operations(function):
        gradient = jax.grad(lambda v, x: total(function(v, x)))
        text = jax.jit(gradient).lower(variables, x).compile().as_text()
        names = re.findall(r"= \S+ ([\w-]+)\(", text)
        assert len(names) > 5
        return sorted(names)

    assert operations(apply) == operations(by_hand)


def test_an_exported_model_runs_without_keras(kind, case, x, tmp_path):
    pytest.importorskip("flatbuffers")
    _, apply, variables = case
    call = infer(kind, apply)
    batch = jax.export.symbolic_shape("batch, 6")
    shape = jax.ShapeDtypeStruct(batch, "float32")
    exported = jax.export.export(jax.jit(lambda x: call(variables, x)))(shape)
    (tmp_path / "model").write_bytes(exported.serialize())
    np.save(tmp_path / "x.npy", x)
    outputs = jax.tree.leaves(call(variables, x))
    subprocess.run(
        [sys.executable, "-c", RUN, str(len(outputs))], cwd=tmp_path, check=True
    )
    for i, expected in enumerate(outputs):
        found = np.load(tmp_path / f"{i}.npy")
        assert_close(found, expected, loose(kind))


# The batch is another one, and Keras is never imported.
RUN = """
import sys
import jax, numpy as np
import jax.export
call = jax.export.deserialize(bytearray(open("model", "rb").read())).call
x = np.load("x.npy")
outputs = jax.tree.leaves(call(x))
assert jax.tree.leaves(call(x[:3]))[0].shape[0] == 3
assert len(outputs) == int(sys.argv[1])
for i, array in enumerate(outputs):
    np.save(f"{i}.npy", np.asarray(array, "float32"))
assert "keras" not in sys.modules
"""


def test_paths_are_without_the_name_of_the_model(x):
    _, variables = kje.functional(Inline(name="other"), x)
    assert sorted(variables["params"]) == ["dense", "head"]
    _, variables = kje.functional(composed())
    assert len(variables["params"]) == 2
    # Three variables of one path are numbered, in their order.
    model = Subclassed()
    _, variables = kje.functional(model, x)
    assert sorted(variables["params"]["d"]) == [
        "bias",
        "bias_1",
        "kernel",
        "kernel_1",
    ]
    assert_close(variables["params"]["d"]["kernel_1"], model.last.kernel.value)


def test_losses_of_layers_are_returned_on_request(x):
    regularized = layers.Dense(2, kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((6,)), regularized])
    model.add(layers.ActivityRegularization(l2=0.5))
    apply, variables = kje.functional(model)
    _, _, losses = jax.jit(apply.losses)(variables, x)
    model(x, training=True)
    assert_close(sorted(map(float, losses)), sorted(map(float, model.losses)))
    assert len(losses) == 2


def test_a_frozen_layer_is_state(x):
    model = Inline()
    model(x)
    model.head.trainable = False
    _, variables = kje.functional(model)
    assert [*variables["params"]] == ["dense"]
    assert [*variables["state"]] == ["head"]


class Counting(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)
        self.count = 0

    def call(self, x):
        self.count += 1
        return self.dense(x) * self.count


class Toggling(kje.Model):
    seen = False

    def call(self, x):
        x = kje.layers.Dense(2)(x)
        object.__setattr__(self, "seen", not self.seen)
        return jnp.tanh(x) if self.seen else x


@pytest.mark.parametrize("cls", [Counting, Toggling])
def test_state_in_python_is_refused(cls, x):
    apply, variables = kje.functional(cls(), x)
    for call in (apply, apply.train, jax.jit(apply)):
        with pytest.raises(
            ValueError, match=r"keeps no state in Python.*was traced again"
        ):
            call(variables, x)


def test_wrong_variables_are_named(x):
    model = Inline()
    apply, variables = kje.functional(model, x)
    params = dict(variables["params"])
    head = params.pop("head")
    before = model.head.kernel.numpy()
    for call in (
        lambda v: apply(v, x),
        lambda v: apply.train(v, x),
        lambda v: kje.assign(model, v),
    ):
        with pytest.raises(
            ValueError, match=r"missing \['params/head/bias', 'p"
        ):
            call({**variables, "params": params})
        more = {**params, "head": head, "heads": head}
        with pytest.raises(ValueError, match=r"unknown \['params/heads/bias'"):
            call({**variables, "params": more})
        with pytest.raises(
            ValueError, match=r"missing .*unknown \['dense/bias'"
        ):
            call(variables["params"])
        stacked = jax.tree.map(lambda a: a[None], variables)
        with pytest.raises(ValueError, match=r"shape \(1, 6, 4\).*jax.vmap"):
            call(stacked)
    np.testing.assert_array_equal(before, model.head.kernel.numpy())


def test_a_model_without_variables_is_refused():
    with pytest.raises(ValueError, match=r"never called\. Give a sample input"):
        kje.functional(Inline())


def test_a_draw_in_inference_needs_a_key(x):
    apply, variables = kje.functional(Drawing(), x)
    with pytest.raises(ValueError, match=r"draws from .*apply\(variables, x, "):
        apply(variables, x)


def test_it_may_be_called_inside_a_loss_under_fit(x):
    inner = Inline()
    apply, variables = kje.functional(inner, x)
    model = kje.Sequential([keras.Input((6,)), layers.Dense(2)])

    def distilled(x, y_pred):
        return jnp.mean((y_pred - apply(variables, x)) ** 2, -1)

    model.compile("adam", distilled)
    losses = model.fit(x, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
