"""Sets of points of different lengths: a full batch each step, fused."""

import functools

import keras_jax_ext as kje
from keras_jax_ext import layers
from keras_jax_ext._loop.turns import BusyError

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

RANDOM = np.random.default_rng(0)
INSIDE = RANDOM.normal(size=(30, 2)).astype("float32")
EDGE = RANDOM.normal(size=(5, 2)).astype("float32")


class Net(kje.Model):
    def call(self, x):
        return layers.Dense(1)(layers.Dense(4, activation="tanh")(x))


def residual(x, apply):
    u_x = kje.derivative(apply, x["inside"], 0)
    return {"pde": (u_x - 1) ** 2, "edge": apply(x["edge"]) ** 2}


def compiled(loss=residual, optimizer=None, net=Net, build=True, **options):
    keras.utils.set_random_seed(0)
    model = net()
    if build:
        model(INSIDE[:1])
    model.compile(optimizer or optax.sgd(0.1), loss, **options)
    return model


def points(**options):
    return kje.Points(**{"inside": INSIDE, "edge": EDGE, **options})


def by_hand(model, sets_of_steps):
    """The weights after gradient descent, a full batch each step."""
    apply, variables = kje.functional(model, INSIDE[:1])

    @jax.jit
    def step(params, x):
        def loss(params):
            def net(rows):
                return apply({**variables, "params": params}, rows)

            parts = residual(x, net)
            return sum(jnp.mean(part) for part in parts.values())

        gradients = jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)

    params = variables["params"]
    for x in sets_of_steps:
        params = step(params, x)
    return jax.tree.leaves(params)


def assert_close(model, expected):
    _, variables = kje.functional(model)
    for a, b in zip(jax.tree.leaves(variables), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


LOOPS = {
    "fused": {},
    "step by step": {"jit_compile": False},
    "eager": {"run_eagerly": True},
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_each_step_is_over_all_points(loop):
    model = compiled(**loop)
    history = model.fit(points(steps=3), epochs=2, verbose=0).history
    assert sorted(history) == [
        "loss",
        "residual_loss/edge",
        "residual_loss/pde",
    ]
    sets = [{"inside": INSIDE, "edge": EDGE}] * 6
    assert_close(model, by_hand(compiled(), sets))


def test_an_epoch_of_many_steps_is_one_execution_of_one_program(executions):
    traces = []

    def counting(x, apply):
        traces.append(x["inside"].shape)
        return residual(x, apply)

    model = compiled(counting, steps_per_execution=50)
    model.fit(points(steps=50), epochs=4, verbose=0)
    assert executions == [50] * 4
    built = len(traces)
    model.fit(points(steps=50), epochs=4, verbose=0)
    model.fit(points(steps=100), epochs=1, verbose=0)
    assert executions == [50] * 10
    assert len(traces) == built


def test_auto_runs_many_steps_in_an_execution(executions):
    model = compiled()
    model.fit(points(steps=1000), epochs=3, verbose=0)
    assert sum(executions) == 3000
    assert len(executions) < 60


def moved(epoch):
    return {"inside": INSIDE + np.float32(epoch)}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_points_are_resampled_before_each_epoch_but_the_first(loop):
    epochs = []

    def resample(epoch):
        epochs.append(epoch)
        return moved(epoch)

    model = compiled(**loop)
    given = points(steps=2, resample=resample)
    model.fit(given, epochs=2, verbose=0)
    model.fit(given, epochs=1, verbose=0)
    assert epochs == [1, 2]
    sets = [
        {"edge": EDGE, **moved(epoch)} for epoch in (0, 1, 2) for _ in range(2)
    ]
    assert_close(model, by_hand(compiled(), sets))


def test_new_points_compile_nothing_and_go_to_the_device_once(executions):
    traces = []

    def counting(x, apply):
        traces.append(1)
        return residual(x, apply)

    model = compiled(counting, steps_per_execution=5)
    given = points(steps=10, resample=moved)
    model.fit(given, epochs=1, verbose=0)
    built = len(traces)
    model.fit(given, epochs=3, verbose=0)
    assert executions == [5] * 8
    assert len(traces) == built


def test_resampling_may_look_at_the_model_as_it_is():
    seen = []

    def resample(epoch):
        seen.append(np.asarray(model(INSIDE)))
        return {}

    model = compiled()
    model.fit(points(resample=resample), epochs=3, verbose=0)
    for steps, outputs in enumerate(seen, 1):
        other = compiled()
        other.fit(points(), epochs=steps, verbose=0)
        np.testing.assert_allclose(outputs, other(INSIDE), 1e-5, 1e-6)
    assert len(seen) == 2


def test_resampling_may_not_run_the_model():
    model = compiled()
    given = points(resample=lambda epoch: model.predict(INSIDE))
    with pytest.raises(BusyError, match=r"predict\(\) while fit\(\)"):
        model.fit(given, epochs=2, verbose=0)


@pytest.mark.parametrize(
    ("new", "match"),
    [
        ({"inner": INSIDE}, r"\['inner'\], and the sets \['inside', 'edge'\]"),
        (INSIDE, "Received: <class 'numpy.ndarray'>"),
        (
            {"edge": INSIDE},
            r"float32\[30, 2\] for 'edge', which was .*\[5, 2\]",
        ),
        ({"edge": EDGE.astype(int)}, r"int.* for 'edge', which was float32"),
    ],
)
def test_bad_new_points_leave_the_weights_of_the_last_epoch(new, match):
    model, other = compiled(), compiled()
    with pytest.raises(ValueError, match=match):
        model.fit(points(resample=lambda epoch: new), epochs=2, verbose=0)
    other.fit(points(), epochs=1, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_optimizers_train_one_after_another():
    model = compiled(optimizer="adam")
    first = model.fit(points(steps=20), verbose=0).history["loss"]
    model.compile(optax.lbfgs(), residual)
    second = model.fit(points(steps=20), verbose=0).history["loss"]
    assert second[-1] < first[-1]


class TwoInputs(kje.Model):
    def call(self, x, t):
        return layers.Dense(1)(jnp.concatenate([x, t], axis=-1))


def test_a_set_may_be_a_structure_that_the_model_takes_apart():
    def loss(x, apply):
        return jnp.mean(apply(x["inside"]) ** 2) + jnp.mean(x["weights"])

    model = compiled(loss, net=TwoInputs, build=False)
    inside = {"x": INSIDE, "t": INSIDE[:, :1]}
    model.fit(kje.Points(inside=inside, weights=np.ones(7)), verbose=0)
    assert model.dense.kernel.shape == (3, 1)


@pytest.mark.parametrize(
    "net",
    [
        Net,
        lambda: kje.Sequential([layers.Dense(1)]),
        lambda: kje.extend(keras.Sequential([keras.layers.Dense(1)])),
    ],
)
def test_the_first_set_builds_a_model(net):
    model = compiled(net=net, build=False)
    model.fit(points(values=np.zeros((7, 3))), verbose=0)
    assert model.built
    assert model.predict(INSIDE, verbose=0).shape == (30, 1)


def test_floats_have_the_type_of_keras_and_other_numbers_their_own():
    given = kje.Points(a=np.zeros(3), b=np.zeros(2, int), c=jnp.zeros(1))
    kinds = {name: str(a.dtype) for name, a in given.read().items()}
    assert kinds == {"a": "float32", "b": "int64", "c": "float32"}
    assert list(given.read()) == ["a", "b", "c"]


def test_validation_and_evaluation_take_points():
    model = compiled()
    other = points(inside=INSIDE[:4])
    history = model.fit(points(), epochs=2, validation_data=other, verbose=0)
    logs = model.evaluate(other, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(history.history["val_loss"][-1], 1e-6)


def test_points_and_arrays_may_alternate():
    def loss(x, apply):
        rows = x["inside"] if isinstance(x, dict) else x
        return jnp.mean(apply(rows) ** 2)

    model, other = compiled(loss), compiled(loss)
    model.fit(points(), verbose=0)
    model.fit(INSIDE, batch_size=30, verbose=0)
    for _ in range(2):
        other.fit(points(), verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_each_step_draws_anew_and_regularizers_count():
    class Drops(kje.Model):
        def call(self, x):
            x = layers.Dropout(0.5)(x)
            return layers.Dense(1, kernel_regularizer=keras.regularizers.L2(2))(
                x
            )

    def mean(x, apply):
        return jnp.mean(apply(x["inside"]) ** 2)

    model = compiled(mean, optax.sgd(0.0), Drops)
    losses = model.fit(points(), epochs=4, verbose=0).history["loss"]
    assert len({*losses}) == 4
    kernel = np.asarray(model.dense.kernel)
    weighed = model.evaluate(points(), verbose=0)
    plain = np.mean(np.asarray(model(INSIDE)) ** 2)
    assert weighed == pytest.approx(plain + 2 * np.sum(kernel**2), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"loss": "mse"}, "y_pred"),
        ({"loss": lambda x, y_pred: 0.0}, "y_pred"),
        ({"loss": lambda x, y_true: 0.0}, "y_true"),
        ({"metrics": ["mae"]}, "y_pred"),
        ({"metrics": [kje.metrics.Function(lambda y_pred: 0.0)]}, "y_pred"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "evaluate", "validate"])
def test_what_asks_for_outputs_or_labels_is_refused(options, names, method):
    model = compiled(**options, build=False)
    given = {"x": points()}
    if method == "validate":
        method = "fit"
        given = {"x": INSIDE, "y": EDGE, "validation_data": points()}
    run = functools.partial(getattr(model, method), **given)
    with pytest.raises(ValueError, match=f"ask for .*{names}.*def loss"):
        run(verbose=0)
    assert not model.built


def test_predict_is_refused():
    with pytest.raises(ValueError, match=r"sets \['inside', 'edge'\]"):
        compiled().predict(points())


@pytest.mark.parametrize("options", [{}, {"inside": INSIDE, "steps": 0}])
def test_points_need_a_set_and_a_step(options):
    with pytest.raises(ValueError, match="one set or more, for one step"):
        kje.Points(**options)


def test_labels_beside_points_are_an_error():
    with pytest.raises(ValueError, match="`y` should not be passed"):
        compiled().fit(points(), INSIDE[:, :1], verbose=0)
