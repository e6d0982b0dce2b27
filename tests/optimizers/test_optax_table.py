"""Every public optimizer of optax, against optax in a loop by hand."""

import functools
import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from keras_jax_ext import optimizers
from keras_jax_ext._optax import recording

c = optax.contrib
SGD = optax.sgd(0.1)
# What cannot be called with a learning rate alone, or with nothing.
MADE = {
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(0.1),
    "add_noise": lambda: optax.add_noise(0.1, 0.5, 0),
    "apply_if_finite": lambda: optax.apply_if_finite(SGD, 3),
    "chain": lambda: optax.chain(optax.clip(0.1), optax.adam(0.1)),
    "clip": lambda: optax.clip(0.1),
    "clip_by_block_rms": lambda: optax.clip_by_block_rms(0.1),
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(0.1),
    "conditionally_mask": lambda: optax.conditionally_mask(
        SGD, lambda step: step % 2 == 0
    ),
    "conditionally_transform": lambda: optax.conditionally_transform(
        SGD, lambda step: step % 2 == 0
    ),
    "ema": lambda: optax.ema(0.9),
    "flatten": lambda: optax.flatten(optax.adam(0.1)),
    "freeze": lambda: optax.transforms.freeze(True),
    "masked": lambda: optax.masked(SGD, optimizers.mask_by_path("*/kernel")),
    "measure_with_ema": lambda: optax.monitor(
        {"norm": optax.measure_with_ema(optax.tree.norm, 0.9)}
    ),
    "monitor": lambda: optax.monitor({"norm": optax.tree.norm}),
    "multi_transform": lambda: optax.multi_transform(
        {"a": optax.adam(0.1), "b": SGD},
        optimizers.label_by_path({"*/kernel": "a"}, default="b"),
    ),
    "named_chain": lambda: optax.named_chain(("a", optax.adam(0.1))),
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=jax.random.key(0)),
    "partition": lambda: optax.partition(
        {"a": optax.adam(0.1), "b": SGD},
        optimizers.label_by_path({"*/kernel": "a"}, default="b"),
    ),
    "scale": lambda: optax.scale(-0.1),
    "selective_transform": lambda: optax.transforms.selective_transform(
        SGD, freeze_mask=True
    ),
    "snapshot": lambda: optax.transforms.snapshot("norm", optax.tree.norm),
    "stateless": lambda: optax.stateless(lambda g, p: g),
    "stateless_with_tree_map": lambda: optax.stateless_with_tree_map(
        lambda g, p: g + p
    ),
    "trace": lambda: optax.trace(0.9),
    "contrib.mechanize": lambda: c.mechanize(SGD),
    "contrib.sam": lambda: c.sam(SGD, c.normalize()),
    "contrib.schedule_free": lambda: c.schedule_free(SGD, 0.1),
}
# Named with the reason, and met elsewhere where they can be.
SKIPPED = {
    "lbfgs": "needs the loss: test_optax_loss.py",
    "polyak_sgd": "needs the loss: test_optax_loss.py",
    "contrib.momo": "needs the loss: test_optax_loss.py",
    "contrib.momo_adam": "needs the loss: test_optax_loss.py",
    "contrib.reduce_on_plateau": "needs the loss: test_optax_loss.py",
    "contrib.sophia": "needs the loss: test_optax_loss.py",
    "contrib.hutchinson_estimator_diag_hessian": "needs the loss",
    "contrib.dpsgd": "per-example gradients: test_optax_bad_input.py",
    "contrib.differentially_private_aggregate": "per-example gradients",
    "lookahead": "two sets of weights: test_optax_evaluation.py",
    "contrib.split_real_and_imaginary": "complex weights, not in Keras",
    "optimistic_adam": "deprecated by optax for optimistic_adam_v2",
    "with_extra_args_support": "changes a signature, not an update",
}


def is_maker(name):
    value = recording.public_names()[name]
    return (
        recording.makes(name)
        and not inspect.isclass(value)
        and name not in recording.FACTORIES
        and not getattr(value, "__module__", "").startswith("optax.schedules")
        and "scale_by_" not in name  # blocks, each within an optimizer's row
        and name.partition(".")[0] not in ("schedules", "transforms")
    )


NAMES = [name for name in recording.public_names() if is_maker(name)]


def make(name):
    """A transformation from a row of the table, or by its signature."""
    if name in MADE:
        return MADE[name]()
    function = recording.public_names()[name]
    signature = inspect.signature(function).parameters.values()
    required = {p.name for p in signature if p.default is p.empty}
    return function(**dict.fromkeys(required & {"learning_rate"}, 0.1))


VALUES = {
    "net/dense_9/kernel": np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3),
    "net/dense_9/bias": np.full(3, 0.1, "float32"),
    "net/dense_10/kernel": np.linspace(1, 2, 6, dtype="float32").reshape(3, 2),
}


def variables():
    made = []
    for path, value in VALUES.items():
        variable = keras.Variable(value, name=path.rpartition("/")[2])
        variable._path = path
        made.append(variable)
    return made


def gradients(step):
    return [jnp.asarray(np.cos(v * 3 + step)) for v in VALUES.values()]


def nest(leaves):
    k9, b9, k10 = leaves
    return {
        "net": {
            "dense_9": {"kernel": k9, "bias": b9},
            "dense_10": {"kernel": k10},
        }
    }


@functools.partial(jax.jit, static_argnums=0)
def by_hand_step(transformation, gradients, state, params):
    updates, state = transformation.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def by_hand(transformation, steps):
    params = nest([jnp.asarray(v) for v in VALUES.values()])
    state = transformation.init(params)
    for step in range(steps):
        params, state = by_hand_step(
            transformation, nest(gradients(step)), state, params
        )
    net = params["net"]
    return [
        net["dense_9"]["kernel"],
        net["dense_9"]["bias"],
        net["dense_10"]["kernel"],
    ]


def compiled(optimizer):
    """One step, its buffers donated, with the count of its traces."""
    traces = []

    def step(state, gradients, trainable):
        traces.append(1)
        return optimizer.stateless_apply(state, gradients, trainable)

    return jax.jit(step, donate_argnums=(0, 2)), traces


def run(optimizer, trainable, steps):
    step, traces = compiled(optimizer)
    state = [v.value for v in optimizer.variables]
    for i in steps:
        trainable, state = step(state, gradients(i), trainable)
    for variable, value in zip(optimizer.variables, state, strict=True):
        variable.assign(value)
    assert len(traces) == 1
    return trainable


def build(name):
    optimizer = optimizers.OptaxOptimizer(make(name))
    model_variables = variables()
    optimizer.build(model_variables)
    return optimizer, [v.value for v in model_variables]


# Random numbers and sums in another order of the leaves: see `PathPart`.
LOOSE = {"flatten": 1e-6, "add_noise": None, "noisy_sgd": None}


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in SKIPPED or n in MADE]
)
def test_an_update_is_that_of_optax_and_survives_a_file(name):
    optimizer, trainable = build(name)
    trainable = run(optimizer, trainable, range(2))
    store: dict = {}
    optimizer.save_own_variables(store)

    again, _ = build(name)
    again.load_own_variables(store)
    ours = run(again, [jnp.array(v) for v in trainable], range(2, 4))

    straight = run(optimizer, trainable, range(2, 4))
    for a, b in zip(ours, straight, strict=True):
        np.testing.assert_array_equal(a, b)
    if LOOSE.get(name, 0) is not None:
        for a, b in zip(ours, by_hand(make(name), 4), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7)


def test_every_name_that_is_skipped_exists():
    # `freeze` and its like are rows for what is public in a submodule only.
    missing = {n for n in SKIPPED if n not in recording.public_names()}
    assert missing == set()


def test_the_table_covers_what_optax_has_today():
    assert len(NAMES) > 70
    assert {"adam", "nadamw", "contrib.muon", "contrib.dog"} <= set(NAMES)
