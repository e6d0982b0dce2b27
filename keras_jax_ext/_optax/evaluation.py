"""Transformations that evaluate other weights than they train.

`optax.lookahead` trains fast weights and evaluates slow ones, which its caller
has to keep: they are kept in the state here. `schedule_free` computes the
weights to evaluate from its state.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from keras_jax_ext._optax.lazy import optax
from keras_jax_ext._optax.parameters import Parameters
from keras_jax_ext._optax.transformation import Transformation

import jax


class WithSlowWeights(NamedTuple):
    """The state of `optax.lookahead`, and its slow weights."""

    inner: Any
    slow: Any


def nodes_of(kind: Any, tree: Any) -> list[Any]:
    """Return the nodes of a tree that are instances of a class."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda n: isinstance(n, kind))
    return [node for node in leaves if isinstance(node, kind)]


def init(transformation: Transformation, params: Any) -> Any:
    """Return the first state, with slow weights if there are any."""
    with _quiet_lookahead():
        state = transformation.init(params)
    if nodes_of(optax.LookaheadState, state):
        pair = optax.LookaheadParams.init_synced(params)
        state = WithSlowWeights(transformation.init(pair), slow=params)
    return state


def update(
    transformation: Transformation,
    gradients: Any,
    state: Any,
    params: Any,
    extra: dict[str, Any],
) -> tuple[Any, Any]:
    """Return the parameters and the state after an update.

    Args:
        transformation: The transformation.
        gradients: Tree of gradients.
        state: From `init` or the last update.
        params: Tree of the weights that are trained.
        extra: The extra arguments, by name.
    """
    has_slow = isinstance(state, WithSlowWeights)
    if has_slow:
        params = optax.LookaheadParams(fast=params, slow=state.slow)
    updates, inner = transformation.update(
        gradients, state.inner if has_slow else state, params, **extra
    )
    params = optax.apply_updates(params, updates)
    if has_slow:
        return params.fast, WithSlowWeights(inner, params.slow)
    return params, inner


def has_weights(state: Any) -> bool:
    """Whether a state holds other weights to evaluate with."""
    kinds = WithSlowWeights, optax.contrib.ScheduleFreeState
    return bool(nodes_of(kinds, state))


def weights(state: Any, trained: Any, parameters: Parameters) -> list[Any]:
    """Return the weights to evaluate with.

    Args:
        state: The state.
        trained: Tree of the weights that are trained.
        parameters: The order of the variables.

    Returns:
        List of a value for each variable, `None` where it is the trained one.
    """
    values: list[Any] = [None] * len(parameters.variables)
    if isinstance(state, WithSlowWeights):
        values = parameters.values(state.slow)
    for node in nodes_of(optax.contrib.ScheduleFreeState, state):
        averaged = parameters.values(_averaged(node, trained))
        values = [
            old if _is_masked(new) else new
            for old, new in zip(values, averaged, strict=True)
        ]
    return values


def _averaged(node, trained):
    """The weights that a schedule-free state averages, masks elsewhere."""
    # The state of `optax.masked` or `partition` is about some weights only.
    seen = jax.tree.map(
        lambda z, y: z if _is_masked(z) else y,
        node.z,
        trained,
        is_leaf=_is_masked,
    )
    return optax.contrib.schedule_free_eval_params(node, seen)


def _is_masked(leaf):
    return isinstance(leaf, optax.MaskedNode)


@contextlib.contextmanager
def _quiet_lookahead() -> Iterator[None]:
    """Silence a warning of `optax.lookahead` in this thread.

    It warns when it is given parameters without slow weights. Only the state
    that it then returns shows that slow weights are needed.
    """
    thread = threading.get_ident()

    def keep(record):
        is_ours = record.thread == thread
        return not (is_ours and "no attribute `fast`" in record.getMessage())

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
