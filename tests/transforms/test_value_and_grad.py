"""`kje.value_and_grad`: steps by hand, against Keras's `fit` and JAX."""

from collections import deque

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype("float32")
Y = RNG.normal(size=(16, 2)).astype("float32")


class Net(kje.Model):
    """Built by its first call; draws and keeps moving averages."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(4, activation="tanh")
        self.norm = keras.layers.BatchNormalization()
        self.drop = keras.layers.Dropout(0.5, seed=1)
        self.out = keras.layers.Dense(2)

    def call(self, x, training=None):
        h = self.norm(self.hidden(x), training=training)
        return self.out(self.drop(h, training=training))


def loss_of(model):
    def loss(x, y):
        return jnp.mean((model(x, training=True) - y) ** 2)

    return loss


def train(model, step, count=3):
    optimizer = keras.optimizers.SGD(0.1)
    for _ in range(count):
        _, gradients = step(X, Y)
        optimizer.apply(gradients, model.trainable_variables)


def same_weights(a, b):
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return all(np.allclose(x, y, rtol=1e-5, atol=1e-6) for x, y in pairs)


@pytest.mark.parametrize("jit", [False, True])
def test_a_loop_by_hand_trains_as_fit_does(jit):
    ours, stock = Net(), Net()
    ours(X)
    stock(X)
    stock.set_weights(ours.get_weights())
    step = kje.value_and_grad(loss_of(ours), ours.trainable_variables, jit=jit)
    train(ours, step)
    stock.compile(keras.optimizers.SGD(0.1), "mse")
    stock.fit(X, Y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    # Dropout's seeds and the moving averages too: what was written came back.
    assert same_weights(ours, stock)


def test_a_compiled_step_is_traced_once_for_a_shape():
    model = Net()
    model(X)
    traces = []

    def loss(x):
        traces.append(1)
        return jnp.sum(model(x, training=True))

    step = kje.value_and_grad(loss, model.trainable_variables, jit=True)
    step(X)
    before = len(traces)
    for _ in range(3):
        step(X)
    assert len(traces) == before


@pytest.mark.parametrize("jit", [False, True])
def test_the_first_call_may_build_the_model(jit):
    model = Net()
    step = kje.value_and_grad(
        loss_of(model), lambda: model.trainable_variables, jit=jit
    )
    _, gradients = step(X, Y)
    assert [g.shape for g in gradients] == [
        tuple(v.shape) for v in model.trainable_variables
    ]
    assert len(gradients) == 6
    assert not np.allclose(model.norm.moving_mean, 0)


def test_the_value_may_be_no_scalar_and_have_anything_beside_it():
    v = keras.Variable([1.0, 2.0])

    def f(x):
        return v * x, {"x": x + 1, "name": "a", "none": None}

    (value, aux), gradient = kje.value_and_grad(f, v, has_aux=True)(3.0)
    assert np.allclose(value, [3, 6])
    assert aux == {"x": 4.0, "name": "a", "none": None}
    assert np.allclose(gradient, [3, 3])


def test_gradients_have_the_structure_of_the_variables():
    a, b = keras.Variable(2.0), keras.Variable(3.0)
    _, found = kje.value_and_grad(lambda: a * b, {"a": a, "b": [b]})()
    assert float(found["a"]) == 3
    assert float(found["b"][0]) == 2


def test_an_argument_may_be_what_is_differentiated_by():
    a, x = keras.Variable(2.0), jnp.asarray(5.0)
    _, (by_a, by_x) = kje.value_and_grad(lambda x: a * x**2, [a, x])(x)
    assert (float(by_a), float(by_x)) == (25, 20)


def test_several_values_have_variables_of_their_own():
    a, b = keras.Variable(2.0), keras.Variable(3.0)
    step = kje.value_and_grad(lambda: (a * b, a * b**2), ([a], lambda: [b]))
    values, ((by_a,), (by_b,)) = step()
    assert list(map(float, values)) == [6, 18]
    assert (float(by_a), float(by_b)) == (3, 12)


def test_a_gradient_of_a_gradient():
    t = keras.Variable(3.0)

    def position():
        return 4.9 * t**2

    def speed():
        return kje.value_and_grad(position, t)()[1]

    value, slope = kje.value_and_grad(speed, t)()
    assert np.allclose([value, slope], [29.4, 9.8])


def test_an_inner_gradient_depends_on_the_variables_of_the_outer_one():
    a, b = keras.Variable(2.0), keras.Variable(3.0)

    def slope():
        return kje.value_and_grad(lambda: a * b**2, a)()[1]

    value, by_b = kje.value_and_grad(slope, b)()
    assert (float(value), float(by_b)) == (9, 6)


def test_what_is_written_has_gradients():
    a, b = keras.Variable(3.0), keras.Variable(1.0)

    def f():
        b.assign_add(a)
        return b**2

    _, by_a = kje.value_and_grad(f, a)()
    assert float(by_a) == 8
    assert float(b) == 4


def test_within_a_function_of_jax_variables_keep_their_scope():
    a = keras.Variable(2.0)

    @jax.jit
    def f(value):
        with keras.StatelessScope([(a, value)]):
            return kje.value_and_grad(lambda: a**3, a)()[1]

    assert float(f(jnp.asarray(4.0))) == 48
    assert float(a) == 2


def test_added_losses_are_seen():
    layer = keras.layers.Dense(1, kernel_regularizer="l2")
    layer(X)

    def loss():
        return jnp.mean(layer(X)) * 0 + sum(layer.losses)

    value, gradient = kje.value_and_grad(loss, layer.kernel)()
    assert np.allclose(value, 0.01 * np.sum(np.square(layer.kernel)))
    assert np.allclose(gradient, 0.02 * np.asarray(layer.kernel))


def test_no_variables_are_an_error():
    with pytest.raises(ValueError, match="give a function: `lambda"):
        kje.value_and_grad(lambda: jnp.ones(()), [])()


def test_what_is_no_variable_and_no_argument_is_an_error():
    with pytest.raises(ValueError, match=r"an argument\.$"):
        kje.value_and_grad(lambda: jnp.ones(()), [jnp.ones(2)])()


def test_a_call_that_builds_the_model_fills_outer_lists_once():
    model = kje.Sequential([keras.layers.Dense(1)])
    seen, counts = [0], {"calls": 0}

    def loss(x):
        value = jnp.sum(model(x) ** 2)
        seen.append(float(kje.keras2.to_numpy(value)))
        counts["calls"] += 1
        return value

    value, _ = kje.value_and_grad(loss, lambda: model.trainable_variables)(X)
    assert seen == [0, float(value)]
    assert counts == {"calls": 1}


LOG = []


def test_what_a_first_run_puts_into_the_script_is_taken_out():
    model = kje.Sequential([keras.layers.Dense(1)])
    last, kinds = deque([0], maxlen=3), {"none"}

    def loss(x):
        LOG.append(1)
        last.append(2)
        kinds.add("one")
        return jnp.sum(model(x)) if len(x) else found

    # `found` has no value yet when the function is looked into.
    found = kje.value_and_grad(loss, lambda: model.trainable_variables)(X)
    assert (LOG, [*last], kinds) == ([1], [0, 2], {"none", "one"})


def test_a_variable_that_is_given_twice_has_its_whole_gradient():
    v = keras.Variable(3.0)
    _, found = kje.value_and_grad(lambda: v**2, [v, [v]])()
    assert (float(found[0]), float(found[1][0])) == (6, 6)


def test_a_function_of_its_argument_alone_reads_no_variable():
    v, x = keras.Variable(3.0), jnp.asarray(2.0)
    _, (by_v, by_x) = kje.value_and_grad(lambda x: x**2, [v, x])(x)
    assert (float(by_v), float(by_x)) == (0, 4)


def test_an_object_that_is_called_is_a_function_too():
    class Loss:
        def __init__(self):
            self.layer = keras.layers.Dense(1)

        def __call__(self, x):
            return jnp.sum(self.layer(x))

    loss = Loss()
    step = kje.value_and_grad(loss, lambda: loss.layer.trainable_variables)
    assert [g.shape for g in step(X)[1]] == [(3, 1), (1,)]


def test_a_compiled_step_reads_the_same_variables_in_each_call():
    v, other = keras.Variable(2.0), keras.Variable(3.0)

    def loss(x):
        return jnp.sum(v * x) + (other * 1.0 if x.ndim else 0)

    step = kje.value_and_grad(loss, v, jit=True)
    step(jnp.ones(()))
    with pytest.raises(ValueError, match=r"not read in the first one.*jit=Fal"):
        step(jnp.ones(2))


def test_a_compiled_step_may_write_in_some_calls_alone():
    v, count = keras.Variable(2.0), keras.Variable(0.0)

    def loss(x):
        if x.ndim == 0:
            count.assign(5.0)
        return jnp.sum(v * x)

    step = kje.value_and_grad(loss, v, jit=True)
    step(jnp.ones(()))
    count.assign(1.0)
    step(jnp.ones(2))
    assert float(count) == 1
    step(jnp.ones(()))
    assert float(count) == 5


def test_variables_of_another_model_are_an_error():
    model, other = (keras.layers.Dense(1) for _ in range(2))
    model(X)
    other(X)
    for jit in (False, True):
        step = kje.value_and_grad(
            lambda x: jnp.sum(model(x)), other.trainable_variables, jit=jit
        )
        with pytest.raises(ValueError, match="it reads none of these"):
            step(X)


@pytest.mark.parametrize(
    ("result", "by", "aux", "error", "message"),
    [
        (lambda v: None, list, False, TypeError, r"Received: None \(of type N"),
        (lambda v: "a", list, False, TypeError, r"Received: 'a' \(of type str"),
        (lambda v: {"a": v * 1}, list, False, TypeError, r"of type dict\)"),
        (lambda v: jnp.int32(v), list, False, TypeError, r"of type int32\)"),
        (lambda v: v * 1, list, True, ValueError, "a pair: the value, and"),
        (lambda v: (v, 1, 2), list, True, ValueError, "Return `value, other`"),
        (lambda v: v * 1, tuple, False, ValueError, "for 1 structures of"),
        (lambda v: (v, v), tuple, False, ValueError, "Return a value for each"),
    ],
)
def test_what_cannot_be_differentiated_is_an_error(
    result, by, aux, error, message
):
    v = keras.Variable(2.0)
    step = kje.value_and_grad(lambda: result(v + 0.0), by([v]), has_aux=aux)
    with pytest.raises(error, match=message):
        step()
    assert float(v) == 2


def test_a_body_that_raises_changes_nothing():
    v, count = keras.Variable(2.0), keras.Variable(0.0)

    def body():
        count.assign_add(v)
        raise RuntimeError("here")

    for jit in (False, True):
        with pytest.raises(RuntimeError, match="here"):
            kje.value_and_grad(body, v, jit=jit)()
    assert float(count) == 0


@pytest.mark.parametrize("jit", [False, True])
def test_a_value_that_is_no_number_is_handed_on(jit):
    v, count = keras.Variable(-1.0), keras.Variable(0.0)

    def body(x):
        count.assign_add(x)
        return jnp.log(v * 1.0)

    value, gradient = kje.value_and_grad(body, v, jit=jit)(jnp.ones(()))
    assert np.isnan(value)
    assert float(gradient) == -1
    assert float(count) == 1


@pytest.mark.parametrize("jit", [False, True])
def test_arguments_go_by_name_too(jit):
    v = keras.Variable(3.0)
    step = kje.value_and_grad(lambda x, scale: scale * x * v, v, jit=jit)
    for scale in (2.0, 4.0):
        value, gradient = step(1.0, scale=scale)
        assert (float(value), float(gradient)) == (3 * scale, scale)


def test_a_compiled_step_follows_what_is_frozen():
    a, b = keras.layers.Dense(2), keras.layers.Dense(1)
    b(a(X))
    step = kje.value_and_grad(
        lambda x: jnp.sum(b(a(x))),
        lambda: a.trainable_variables + b.trainable_variables,
        jit=True,
    )
    shapes = [[g.shape for g in step(X)[1]]]
    a.trainable = False
    shapes.append([g.shape for g in step(X)[1]])
    assert shapes == [[(3, 2), (2,), (2, 1), (1,)], [(2, 1), (1,)]]


@pytest.mark.parametrize("jit", [False, True])
def test_none_stands_for_a_gradient_by_an_unread_variable(jit):
    read, unread = keras.Variable(2.0), keras.Variable([3.0])

    def square():
        return read * read

    step = kje.value_and_grad(
        square,
        {"a": [read], "b": unread},
        jit=jit,
        unconnected_gradients="none",
    )
    _, gradients = step()
    assert float(gradients["a"][0]) == 4.0
    assert gradients["b"] is None
    _, zeros = kje.value_and_grad(square, [read, unread], jit=jit)()
    assert zeros[1].tolist() == [0.0]
    none = kje.value_and_grad(square, unread, unconnected_gradients="none")
    assert none()[1] is None


def test_a_word_for_unread_variables_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="unconnected_gradients='no'"):
        kje.value_and_grad(abs, [], unconnected_gradients="no")


def test_a_model_that_the_call_builds_may_hold_an_unread_layer():
    model = kje.Sequential([keras.layers.Dense(2)])
    model.aside = keras.layers.Dense(3)
    model.aside.build((None, 2))

    def loss():
        return keras.ops.sum(model(np.ones((1, 4))))

    _, gradients = kje.value_and_grad(
        loss, lambda: [*model.aside.weights, *model.weights]
    )()
    assert sorted(g.shape for g in gradients)[-1] == (4, 2)
