"""Every public optimizer of optax in a fused `fit`, against a loop by hand."""

import functools
import inspect

import keras_jax_ext as kje
from keras_jax_ext import optax as recorded
from keras_jax_ext import optimizers
from keras_jax_ext._optax import recording

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

c = optax.contrib
SGD = optax.sgd(0.1)
KERNELS = optimizers.mask_by_path("*/kernel")
LABELS = optimizers.label_by_path({"*/kernel": "a"}, default="b")


def even(step):
    return step % 2 == 0


def muon_block():
    """For matrices only, whose axes it must be told."""
    axes = c.MuonDimensionNumbers()
    return c.scale_by_muon(
        weight_dimension_numbers=functools.partial(jax.tree.map, lambda _: axes)
    )


# What cannot be called with a learning rate alone, or with nothing.
MADE = {
    "MultiSteps": lambda: optax.MultiSteps(optax.adam(0.1), 2),
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(0.1),
    "add_noise": lambda: optax.add_noise(0.1, 0.5, 0),
    "apply_if_finite": lambda: optax.apply_if_finite(SGD, 3),
    "chain": lambda: optax.chain(optax.clip(0.1), optax.adam(0.1)),
    "clip": lambda: optax.clip(0.1),
    "clip_by_block_rms": lambda: optax.clip_by_block_rms(0.1),
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(0.1),
    "conditionally_mask": lambda: optax.conditionally_mask(SGD, even),
    "conditionally_transform": lambda: optax.conditionally_transform(SGD, even),
    "ema": lambda: optax.ema(0.9),
    "flatten": lambda: optax.flatten(optax.adam(0.1)),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(0.1),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(
        optax.adam
    )(optax.linear_schedule(0.1, 0.0, 3)),
    "masked": lambda: optax.masked(SGD, KERNELS),
    "measure_with_ema": lambda: optax.monitor(
        {"norm": optax.measure_with_ema(optax.tree.norm, 0.9)}
    ),
    "monitor": lambda: optax.monitor({"norm": optax.tree.norm}),
    "named_chain": lambda: optax.named_chain(("a", optax.adam(0.1))),
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=jax.random.key(0)),
    "partition": lambda: optax.partition(
        {"a": optax.adam(0.1), "b": SGD}, LABELS
    ),
    "scale": lambda: optax.scale(-0.1),
    "scale_by_rprop": lambda: optax.scale_by_rprop(0.1),
    "scale_by_schedule": lambda: optax.scale_by_schedule(
        optax.linear_schedule(0.1, 0.0, 3)
    ),
    "snapshot": lambda: optax.snapshot("norm", optax.tree.norm),
    "stateless": lambda: optax.stateless(lambda g, p: g),
    "stateless_with_tree_map": lambda: optax.stateless_with_tree_map(
        lambda g, p: g + p
    ),
    "trace": lambda: optax.trace(0.9),
    "freeze": lambda: optax.freeze(True),
    "selective_transform": lambda: optax.selective_transform(
        SGD,
        freeze_mask={"first": {"kernel": True}, "second": {"bias": False}},
    ),
    "with_extra_args_support": lambda: optax.with_extra_args_support(SGD),
    "contrib.mechanize": lambda: c.mechanize(SGD),
    "contrib.sam": lambda: c.sam(SGD, c.normalize()),
    "contrib.scale_by_muon": lambda: optax.masked(muon_block(), KERNELS),
    "contrib.schedule_free": lambda: c.schedule_free(SGD, 0.1),
    "contrib.split_real_and_imaginary": (
        lambda: c.split_real_and_imaginary(optax.adam(0.1))
    ),
}
# Named with the reason, and met elsewhere where they can be.
SKIPPED = {
    "lbfgs": "searches a loss with a minimum: test_optax_loss.py",
    "scale_by_backtracking_linesearch": "a part of lbfgs",
    "scale_by_zoom_linesearch": "a part of lbfgs",
    "contrib.dpsgd": "per-example gradients: test_per_example.py",
    "contrib.differentially_private_aggregate": "per-example gradients",
    "lookahead": "two sets of weights: test_optax_evaluation.py",
}
# What these are given of the loss; all others must do without.
GIVEN = {
    "polyak_sgd": ("value",),
    "scale_by_polyak": ("value",),
    "contrib.hutchinson_estimator_diag_hessian": ("obj_fn",),
    "contrib.momo": ("value",),
    "contrib.momo_adam": ("value",),
    "contrib.reduce_on_plateau": ("value",),
    "contrib.sam": ("grad_fn",),  # for the opaque mode, optional
    "contrib.sophia": ("obj_fn",),
}
# JAX 0.12 rounds once where these multiply and add.
ROUNDED = {
    "contrib.madgrad",
    "contrib.sam",
    "contrib.scale_by_madgrad",
    "inject_stateful_hyperparams",
}


def is_row(name, value):
    if name in MADE or name in SKIPPED:
        return True
    schedule = getattr(value, "__module__", "").startswith("optax.schedules")
    is_function = recording.makes(name) and not inspect.isclass(value)
    return is_function and not schedule


def rows():
    """Names of all that makes a transformation, each thing once."""
    first = {id(v): n for n, v in reversed(recording.public_names().items())}
    public = recording.public_names()
    return [n for n in first.values() if is_row(n, public[n])][::-1]


NAMES = rows()


def make(name):
    """A transformation from a row of the table, or by its signature."""
    if name in MADE:
        return MADE[name]()
    function = recording.public_names()[name]
    signature = inspect.signature(function).parameters.values()
    required = {p.name for p in signature if p.default is p.empty}
    return function(**dict.fromkeys(required & {"learning_rate"}, 0.1))


VALUES = {
    "first/kernel": np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3),
    "second/bias": np.full(3, 0.1, "float32"),
}
# One a step; the model's gradients, exactly.
GRADIENTS = {
    path: np.stack([np.cos(v * 3 + step) for step in range(4)])
    for path, v in VALUES.items()
}


class Weights(keras.layers.Layer):
    """One variable, whose path is given."""

    def __init__(self, path):
        name, own = path.split("/")
        super().__init__(name=name)
        self.add_weight(name=own, shape=VALUES[path].shape)
        self.built = True


class Linear(kje.Model):
    """Its output is the sum of its weights times its input."""

    def __init__(self):
        super().__init__()
        self.parts = [Weights(path) for path in VALUES]
        self.built = True
        self.traces = 0

    def call(self, x):
        products = [w * x[w.path][0] for w in self.trainable_weights]
        return sum(map(keras.ops.sum, products))[None]

    def train_step(self, state, data):
        self.traces += 1
        return super().train_step(state, data)


@pytest.fixture(scope="module")
def unfused():
    """A model in programs that run operation by operation.

    Fused, the same operations round in another way: here every row is equal
    to the last bit, and compiles in half the time.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield Linear()
    jax.config.update("jax_disable_most_optimizations", False)


def fit(model, start, stop):
    x = {path: values[start:stop] for path, values in GRADIENTS.items()}
    y = np.zeros(stop - start)
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)


def nest(leaves):
    kernel, bias = leaves
    return {"first": {"kernel": kernel}, "second": {"bias": bias}}


@functools.partial(jax.jit, static_argnums=(0, 1))
def by_hand_step(update, given, gradients, state, params):
    def value_fn(params):
        products = jax.tree.map(lambda p, g: (p * g).sum(), params, gradients)
        return sum(jax.tree.leaves(products))

    every = {
        "value": value_fn(params),
        "obj_fn": value_fn,
        "grad_fn": lambda params, step: jax.grad(value_fn)(params),
    }
    extra = {name: every[name] for name in given}
    updates, state = update(gradients, state, params, **extra)
    return optax.apply_updates(params, updates), state


def by_hand(transformation, given, steps=4):
    params = nest([jnp.asarray(v) for v in VALUES.values()])
    state = transformation.init(params)
    for step in range(steps):
        gradients = nest([values[step] for values in GRADIENTS.values()])
        params, state = by_hand_step(
            transformation.update, given, gradients, state, params
        )
    return [params["first"]["kernel"], params["second"]["bias"]], state


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def trained_and_restored(model, make):
    """Weights after four steps, and after two that begin from a file."""
    model.set_weights([*VALUES.values()])
    model.traces = 0
    model.compile(make(), lambda y_true, y_pred: y_pred)
    fit(model, 0, 2)
    store: dict = {}
    model.optimizer.save_own_variables(store)
    half = weights(model)

    held = [v.value for v in (*model.optimizer.variables, *model.weights)]
    fit(model, 2, 4)
    assert all(value.is_deleted() for value in held), "not donated"
    whole = weights(model)

    again = optimizers.OptaxOptimizer(make())
    again.expect_loss()
    again.build(model.trainable_variables)
    again.load_own_variables(store)
    for old, new in zip(
        model.optimizer.variables, again.variables, strict=True
    ):
        old.assign(new.value)
    model.set_weights(half)
    fit(model, 2, 4)
    assert model.traces == 1
    return whole, weights(model)


def check(model, name, tolerance):
    whole, restored = trained_and_restored(model, lambda: make(name))
    for a, b in zip(whole, restored, strict=True):
        np.testing.assert_array_equal(a, b)
    given = GIVEN.get(name, ())
    assert set(given) <= set(model.optimizer.needs_loss)
    assert bool(given) == bool(model.optimizer.needs_loss)
    hand, state = by_hand(make(name), given)
    ours = model.optimizer._bridge.slots.read()
    assert jax.tree.structure(ours) == jax.tree.structure(state)
    whole += map(plain, jax.tree.leaves(ours))
    hand += map(plain, jax.tree.leaves(state))
    for a, b in zip(whole, hand, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def plain(leaf):
    """Typed keys as their data."""
    typed = jax.dtypes.prng_key
    if jax.numpy.issubdtype(jax.numpy.asarray(leaf).dtype, typed):
        return jax.random.key_data(leaf)
    return leaf


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", [n for n in NAMES if n not in SKIPPED])
def test_fit_is_a_loop_over_optax_and_survives_a_file(name, unfused):
    # The value of the loss is a sum, in an order that the compiler chooses.
    rounded = name in ROUNDED or name in GIVEN
    check(unfused, name, tolerance=1e-6 if rounded else 0)


@pytest.mark.parametrize("name", ["adamw", "lamb", "contrib.muon"])
def test_with_all_optimizations_of_the_compiler(name):
    check(Linear(), name, tolerance=1e-6)


HESSIAN = c.hutchinson_estimator_diag_hessian
KEYS = {
    "seed": lambda: optax.noisy_sgd(0.1, key=3),
    "typed": lambda: optax.noisy_sgd(0.1, key=jax.random.key(3)),
    "rbg": lambda: optax.noisy_sgd(0.1, key=jax.random.key(3, impl="rbg")),
    "legacy_hessian": lambda: HESSIAN(jax.random.PRNGKey(3)),
    "typed_hessian": lambda: HESSIAN(jax.random.key(3)),
}


@pytest.mark.parametrize("kind", KEYS)
def test_numbers_are_drawn_from_any_kind_of_key(kind, unfused):
    whole, restored = trained_and_restored(unfused, KEYS[kind])
    given = ("obj_fn",) if "hessian" in kind else ()
    hand, _ = by_hand(KEYS[kind](), given)
    for a, b, c in zip(whole, restored, hand, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-6)


ARGUMENTS = {
    "boundaries": [2],
    "boundaries_and_scales": {2: 0.5},
    "cosine_kwargs": [
        {
            "init_value": 0.0,
            "peak_value": v,
            "decay_steps": 2,
            "warmup_steps": 1,
        }
        for v in (0.2, 0.1, 0.05)
    ],
    "decay_rate": 0.5,
    "decay_steps": 3,
    "end_value": 0.01,
    "init_value": 0.1,
    "interpolate_type": "cosine",
    "peak_value": 0.3,
    "power": 2,
    "schedules": [optax.linear_schedule(0.2, 0.1, 2), lambda step: 0.05],
    "transition_steps": 3,
    "value": 0.1,
    "warmup_steps": 1,
}
SCHEDULES = [
    name
    for name, value in recording.public_names().items()
    if name.partition(".")[2].endswith(("_schedule", "decay", "_schedules"))
    and name.startswith("schedules.")
]


def schedule_of(name):
    function = recording.public_names()[name]
    names = inspect.signature(function).parameters
    named = {n: v for n, v in ARGUMENTS.items() if n in names}
    return function(**named)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_runs_as_in_optax_and_shows_its_rate(name, unfused):
    schedule = schedule_of(name)
    whole, restored = trained_and_restored(
        unfused, lambda: recorded.sgd(schedule)
    )
    hand, _ = by_hand(optax.sgd(schedule), ())
    for a, b, c in zip(whole, restored, hand, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-6)
    assert len({float(schedule(i)) for i in range(4)}) > 1 or "const" in name
    rate = float(unfused.optimizer.learning_rate)
    assert rate == pytest.approx(float(schedule(4)), rel=1e-6)


def test_every_name_that_is_skipped_or_made_exists():
    assert set(SKIPPED) | set(MADE) | set(GIVEN) <= set(NAMES)


def test_the_table_covers_what_optax_has_today():
    assert len(NAMES) > 120
    assert len(SCHEDULES) >= 14
    assert {"adam", "nadamw", "contrib.muon", "scale_by_yogi"} <= set(NAMES)
