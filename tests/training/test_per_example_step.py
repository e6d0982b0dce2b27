"""Gradients per example in `fit`: as a loop by hand, whatever the model."""

import keras_jax_ext as kje
from keras_jax_ext.optimizers import PerExample

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

ROWS, BATCH, CLIP, RATE = 21, 8, 10.0, 0.02
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, 5)).astype("float32")
Y = 3 * X.sum(axis=1, keepdims=True)
IMAGES = RANDOM.normal(size=(ROWS, 6, 6, 2)).astype("float32")
LABELS = (X[:, 0] > 0).astype("int32")
HUGE = 1e6  # nothing is clipped


def dense():
    return [
        keras.layers.Dense(7, activation="tanh"),
        keras.layers.Dense(1),
    ]


def conv():
    return [
        keras.layers.Conv2D(4, 3, activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(1),
    ]


def sequential(make, shape=(5,)):
    """A model of the layers that a function makes, always the same ones."""
    keras.utils.set_random_seed(1)
    return kje.Sequential([keras.Input(shape), *make()])


def trained(model, optimizer, x=X, y=Y, loss="mse", epochs=2, **options):
    compiling = {k: options.pop(k) for k in ("metrics",) if k in options}
    loop = options.pop("loop", {})
    model.compile(optimizer, loss, **compiling, **loop)
    given = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, y, epochs=epochs, **given).history


def by_hand(model, x, y, weights=None, epochs=2, clip=CLIP):
    """Clipped gradient descent: `vmap(grad)`, clip, mean."""
    norms = []
    apply, variables = kje.functional(model)
    weights = np.ones(len(x), "float32") if weights is None else weights

    def loss(params, x, y, weight):
        outputs = apply({**variables, "params": params}, x[None])[0]
        return weight * jnp.mean((outputs - y) ** 2)

    def norm(tree):
        return jnp.sqrt(sum(jnp.sum(a**2) for a in jax.tree.leaves(tree)))

    @jax.jit
    def step(params, *rows):
        each = jax.vmap(jax.grad(loss), (None, 0, 0, 0))(params, *rows)
        clipped = jax.vmap(
            lambda g: jax.tree.map(
                lambda a: a * jnp.minimum(1, clip / norm(g)), g
            )
        )(each)
        after = jax.tree.map(
            lambda p, g: p - RATE * jnp.mean(g, axis=0), params, clipped
        )
        return after, jax.vmap(norm)(each)

    params = variables["params"]
    for _ in range(epochs):
        for first in range(0, len(x), BATCH):
            rows = slice(first, first + BATCH)
            params, each = step(params, x[rows], y[rows], weights[rows])
            norms.extend(each)
    assert min(norms) < clip < max(norms)  # some are clipped, others are not
    return jax.tree.leaves(params)


def assert_close(model, expected, tolerance=1e-6):
    _, variables = kje.functional(model)
    leaves = jax.tree.leaves(variables["params"])
    for a, b in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def weights_of(model):
    return [v.numpy() for v in model.trainable_variables]


@pytest.mark.parametrize("size", [None, 8, 3, 1, 100])
@pytest.mark.parametrize(
    ("layers", "x"), [(dense, X), (conv, IMAGES)], ids=["dense", "conv"]
)
def test_clipping_is_that_of_a_loop_by_hand(layers, x, size):
    model = sequential(layers, x.shape[1:])
    expected = by_hand(model, x, Y)
    optimizer = PerExample(optax.sgd(RATE), CLIP, microbatch_size=size)
    trained(model, optimizer, x)
    assert_close(model, expected)


LOOPS = {"step by step": {"jit_compile": False}, "eager": {"run_eagerly": True}}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_other_loops_do_the_same(loop):
    model = sequential(dense)
    expected = by_hand(model, X, Y)
    optimizer = PerExample(optax.sgd(RATE), CLIP, microbatch_size=3)
    trained(model, optimizer, loop=loop)
    assert_close(model, expected)


@pytest.mark.filterwarnings("ignore:.seed. is deprecated")
@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.contrib.dpsgd(RATE, CLIP, 0.0, seed=0),
        lambda: optax.chain(
            optax.contrib.differentially_private_aggregate(CLIP, 0.0, key=0),
            optax.sgd(RATE),
        ),
        lambda: kje.optimizers.OptaxOptimizer(
            optax.contrib.dpsgd,
            learning_rate=RATE,
            l2_norm_clip=CLIP,
            noise_multiplier=0.0,
            seed=0,
        ),
    ],
    ids=["dpsgd", "chain", "injected"],
)
def test_the_aggregator_of_optax_is_given_stacked_gradients(make):
    model = sequential(dense)
    expected = by_hand(model, X, Y)
    trained(model, make())
    assert_close(model, expected)


def test_the_class_of_aggregators_is_known():
    aggregating = pytest.importorskip("optax.experimental").aggregating
    clip = jax.vmap(lambda g: optax.projections.projection_l2_ball(g, CLIP))
    process = aggregating.process(
        optax.stateless(lambda g, _: clip(g)),
        aggregating.average_per_element_updates(),
        optax.sgd(RATE),
    )
    model = sequential(dense)
    expected = by_hand(model, X, Y)
    trained(model, process)
    assert_close(model, expected)


def test_sample_weights_weigh_an_example_before_it_is_clipped():
    weights = np.linspace(0, 3, ROWS, dtype="float32")
    model = sequential(dense)
    expected = by_hand(model, X, Y, weights)
    optimizer = PerExample(optax.sgd(RATE), CLIP, microbatch_size=3)
    trained(model, optimizer, sample_weight=weights)
    assert_close(model, expected)


def softmax():
    return [keras.layers.Dense(2, activation="softmax")]


def test_class_weights_are_sample_weights():
    def run(**weights):
        model = sequential(softmax)
        loss = "sparse_categorical_crossentropy"
        optimizer = PerExample(optax.sgd(RATE), CLIP)
        trained(model, optimizer, X, LABELS, loss, **weights)
        return weights_of(model)

    weights = np.where(LABELS, 3, 1).astype("float32")
    given = run(class_weight={0: 1, 1: 3})
    for a, b in zip(given, run(sample_weight=weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


class Inline(kje.Model):
    """Two outputs, one without rows; a report, a penalty, a regularizer."""

    def call(self, x):
        x = kje.layers.Dense(4, kernel_regularizer="l2", activation="tanh")(x)
        self.add_metric(jnp.mean(x), name="mean")
        self.add_loss(0.1 * jnp.mean(x**2), name="penalty")
        scale = self.add_weight((3,), "ones", name="scale")
        return {"y": kje.layers.Dense(1)(x), "scale": scale * 1.0}


class Whole(kje.losses.Loss):
    def call(self, y_true, y_pred):
        parts = {"error": (y_pred["y"] - y_true) ** 2}
        parts["scale"] = jnp.mean(y_pred["scale"] ** 2)
        return parts


@pytest.mark.parametrize("size", [None, 3])
def test_without_clipping_the_weights_and_history_are_those_of_fit(size):
    def run(optimizer):
        keras.utils.set_random_seed(1)
        model = Inline()
        model(X)
        metrics = [kje.metrics.Function(lambda y_pred: jnp.mean(y_pred["y"]))]
        history = trained(model, optimizer, loss=Whole(), metrics=metrics)
        return history, weights_of(model)

    plain = run(keras.optimizers.Adam(0.01))
    clipped = run(
        PerExample(keras.optimizers.Adam(0.01), HUGE, microbatch_size=size)
    )
    assert clipped[0].keys() == plain[0].keys()
    assert {"mean", "penalty", "whole_loss/error"} <= plain[0].keys()
    for name, values in plain[0].items():
        np.testing.assert_allclose(clipped[0][name], values, 1e-5)
    for a, b in zip(clipped[1], plain[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def dropout():
    return [keras.layers.Dropout(0.5)]


@pytest.mark.parametrize("size", [None, 3])
def test_each_example_has_its_own_draws_and_each_step_too(size):
    def spread(y_pred):
        return jnp.std(y_pred)

    model = sequential(dropout)
    optimizer = PerExample(optax.sgd(0.0), CLIP, microbatch_size=size)
    ones = np.ones((BATCH, 5), "float32")
    history = trained(
        model, optimizer, ones, 0 * ones, metrics=[spread], epochs=5
    )
    assert min(history["spread"]) > 0.5
    assert len({*history["loss"]}) > 2
    # As many draws as in a step over the batch.
    other = sequential(dropout)
    trained(other, "sgd", ones, ones, epochs=5)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_micro_batches_change_no_draw():
    def run(size):
        model = sequential(lambda: [*dropout(), *dense()])
        optimizer = PerExample(optax.sgd(RATE), CLIP, microbatch_size=size)
        trained(model, optimizer)
        return weights_of(model)

    for a, b in zip(run(None), run(3), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def normalized(**options):
    return sequential(
        lambda: [keras.layers.BatchNormalization(**options), *dense()]
    )


@pytest.mark.filterwarnings("ignore:.seed. is deprecated")
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: PerExample("adam", CLIP, microbatch_size=3),
        lambda: optax.contrib.dpsgd(RATE, CLIP, 1.0, seed=0),
    ],
    ids=["PerExample", "dpsgd"],
)
def test_statistics_of_the_batch_are_refused_and_nothing_changes(optimizer):
    model = normalized()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"moving_mean.*`GroupNormalization`"):
        trained(model, optimizer())
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    trained(model, "sgd")


def test_frozen_statistics_are_allowed():
    model = normalized(trainable=False)
    expected = by_hand(model, X, Y)
    trained(model, PerExample(optax.sgd(RATE), CLIP))
    assert_close(model, expected)


def test_a_counter_of_steps_is_refused_too():
    class Counts(kje.Model):
        def call(self, x):
            count = self.add_weight((), "zeros", trainable=False, name="count")
            count.assign(count + 1)
            return kje.layers.Dense(1)(x)

    model = Counts()
    with pytest.raises(ValueError, match=r"states \['counts/count'\]"):
        trained(model, PerExample("sgd", CLIP))


def test_points_have_no_examples():
    model = sequential(dense)
    model.compile(PerExample("sgd", CLIP), lambda x, apply: apply(x["a"]))
    with pytest.raises(ValueError, match="rows of all arrays of a batch"):
        model.fit(kje.Points(a=X, b=X[:3]), verbose=0)


def test_each_shape_of_a_batch_is_traced_for_its_chunks_alone():
    shapes = []

    class Counting(kje.Model):
        def call(self, x):
            shapes.append(x.shape)
            return kje.layers.Dense(1)(x)

    def run(optimizer):
        model = Counting()
        model(X)
        shapes.clear()
        trained(model, optimizer, X[:16], Y[:16], epochs=3)
        count = len(shapes)
        trained(model, model.optimizer, X[:16], Y[:16], epochs=3)
        return count

    plain = run(optax.sgd(RATE))
    # Two passes, each traced once for a chunk, and no more at the second fit.
    assert run(PerExample(optax.sgd(RATE), CLIP)) <= 2 * plain
    assert len(shapes) <= 4 * plain


def temporaries(optimizer):
    """Bytes of temporaries of the compiled step."""

    def wide():
        return [keras.layers.Dense(256, activation="relu") for _ in range(3)]

    model = sequential(wide, (64,))
    model.compile(optimizer, "mse")
    x = np.zeros((32, 64), "float32")
    y = np.zeros((32, 256), "float32")
    model.train_on_batch(x, y)
    state = tuple(
        [v.value for v in group]
        for group in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    compiled = jax.jit(model.train_step).lower(state, (x, y)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.filterwarnings("ignore:.seed. is deprecated")
def test_memory_is_bounded_by_the_micro_batch():
    parameters = 4 * (64 * 256 + 2 * 256 * 256 + 3 * 256)
    plain = temporaries(optax.sgd(RATE))
    small = temporaries(PerExample(optax.sgd(RATE), CLIP, microbatch_size=2))
    stacked = temporaries(optax.contrib.dpsgd(RATE, CLIP, 0.0, seed=0))
    # XLA of JAX 0.10.0 keeps 16 gradients of the 32 at once, later ones all.
    assert stacked > 8 * small
    assert small < plain + 4 * parameters
