"""A transformation made ready for a model: its state, and one update."""

import contextlib
import inspect
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_jax_ext._optax import asking
from keras_jax_ext._optax.lazy import optax
from keras_jax_ext._optax.parameters import Parameters, PathPart
from keras_jax_ext._optax.slots import Slots

import jax
import jax.numpy as jnp


class GivenLoss(NamedTuple):
    """What a train step knows about the loss, for the extra arguments."""

    value: jax.Array
    gradients: dict  # as differentiated, by the id of the variable
    value_fn: Callable  # from a dict of values, by id, to the loss


def is_transformation(value):
    """Whether `value` is a transformation, told without importing optax."""
    return (
        not inspect.isclass(value)
        and callable(getattr(value, "init", None))
        and callable(getattr(value, "update", None))
    )


@contextlib.contextmanager
def _quiet_lookahead():
    """Silence the warning of `optax.lookahead`, whose need is seen below."""

    def keep(record):
        return "no attribute `fast`" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def nodes_of(kind, tree):
    """The nodes of a tree that are instances of a class."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda n: isinstance(n, kind))
    return [node for node in leaves if isinstance(node, kind)]


def _extra_arguments(value, gradients, value_fn):
    """All that a transformation may ask for.

    Line searches refuse what `value_fn` does not name, so that it names, and
    ignores, what only other transformations ask for.
    """

    def tolerant_value_fn(params, *, obj_fn=None, grad_fn=None):
        del obj_fn, grad_fn
        return value_fn(params)

    return {
        "value": value,
        "grad": gradients,
        "value_fn": tolerant_value_fn,
        "obj_fn": value_fn,
        "grad_fn": lambda params, step=None: jax.grad(value_fn)(params),
    }


class WithSlowWeights(NamedTuple):
    """The state of `optax.lookahead`, which trains one set of two."""

    inner: object
    slow: object


class Bridge:
    """A transformation bound to the variables of one model.

    Args:
        transformation: An optax transformation.
        variables: List of the model's variables that it updates.
    """

    def __init__(self, transformation, variables):
        self.transformation = transformation
        self.variables = list(variables)
        try:
            params, state = self._begin(PathPart)
        except ValueError:
            # JAX visits the masks and labels of a user in plain order.
            params, state = self._begin(str)
        if nodes_of(optax.MonitorState, state):
            state = self._measured(params, state)
        self.slots = Slots(state, self.parameters)
        self.has_evaluation_weights = bool(
            nodes_of((WithSlowWeights, optax.contrib.ScheduleFreeState), state)
        )
        self.needs, self.uses = self._probe(params, state)

    def _begin(self, part):
        """Lay the variables out with keys of a class; make the state."""
        self.parameters = Parameters(self.variables, part)
        params = self.parameters.tree([v.value for v in self.variables])
        return params, self._init(params)

    def _init(self, params):
        try:
            with _quiet_lookahead():
                state = self.transformation.init(params)
            if nodes_of(optax.LookaheadState, state):
                pair = optax.LookaheadParams.init_synced(params)
                state = self.transformation.init(pair)
                state = WithSlowWeights(state, slow=params)
        except Exception as e:
            raise ValueError(
                "`init` of the optax transformation failed on the variables "
                f"of this model ({e}). Received: {_types(params)}. Masks and "
                "labels must fit this tree: make them with "
                "`kje.optimizers.mask_by_path` and `label_by_path`."
            ) from e
        if nodes_of(optax.contrib.DifferentiallyPrivateAggregateState, state):
            raise ValueError(
                "Differentially private optimizers need one gradient an "
                "example, and `fit` computes the gradient of the batch. "
                f"Received: transformation={self.transformation}. Use another "
                "optimizer, or write the training loop with optax."
            )
        return state

    def _measured(self, params, state):
        """The state with a place for what is measured by the first update."""
        _, after = jax.eval_shape(
            lambda g, s, p: self._update(g, s, p, {}), params, state, params
        )
        known = dict(jax.tree_util.tree_flatten_with_path(state)[0])

        def fill(path, leaf):
            if path in known:
                return known[path]
            is_float = jnp.issubdtype(leaf.dtype, jnp.inexact)
            return jnp.full(leaf.shape, jnp.nan if is_float else 0, leaf.dtype)

        return jax.tree_util.tree_map_with_path(fill, after)

    def _update(self, gradients, state, params, extra):
        """One update, as a pure function of trees."""
        has_slow = isinstance(state, WithSlowWeights)
        if has_slow:
            params = optax.LookaheadParams(fast=params, slow=state.slow)
        updates, inner = self.transformation.update(
            gradients, state.inner if has_slow else state, params, **extra
        )
        params = optax.apply_updates(params, updates)
        if has_slow:
            return params.fast, WithSlowWeights(inner, params.slow)
        return params, inner

    def _probe(self, params, state):
        """Names of the extra arguments that `update` needs, and is given."""
        if not asking.may_ask(self.transformation.update):
            return (), ()
        every = _extra_arguments(
            jnp.zeros(()),
            params,
            lambda p: sum(jnp.sum(x).real for x in jax.tree.leaves(p)),
        )
        accepted = asking.accepted(self.transformation.update)
        causes = []
        for names in ((), ("value",), asking.EXTRA_ARGUMENTS):
            needs = tuple(n for n in names if n in accepted)
            extra = {n: every[n] for n in needs}
            causes.append(self._failure(params, state, extra))
            if causes[-1] is None:
                break
        else:
            raise _update_failed(causes[0], params) from causes[0]
        optional = asking.may_use(self.transformation.update)
        uses = tuple(n for n in accepted if n in (*needs, *optional))
        extra = {n: every[n] for n in uses}
        if uses == needs or self._failure(params, state, extra):
            return needs, needs
        return needs, uses

    def _failure(self, params, state, extra):
        """What `update` raises when it is given `extra`, or `None`."""
        try:
            after = jax.eval_shape(
                lambda g, s, p: self._update(g, s, p, extra),
                params,
                state,
                params,
            )
        except Exception as e:  # whatever optax or a user's code raises
            return e
        _check_forms((params, state), after)
        return None

    def step(self, gradients, given=None):
        """Update the model's variables and the state.

        Args:
            gradients: List with one gradient a variable, `None` for those
                that stay as they are, slots included.
            given: `GivenLoss` of this step, where `needs` is not empty.
                Defaults to `None`.
        """
        variables = self.variables
        missing = {i for i, g in enumerate(gradients) if g is None}
        gradients = [
            jnp.zeros(v.shape, v.dtype)
            if g is None
            else jnp.asarray(g, v.dtype)
            for g, v in zip(gradients, variables, strict=True)
        ]
        params = self.parameters.tree([v.value for v in variables])
        before, extra = self.slots.read(), self._extra(given)
        try:
            after = self._update(
                self.parameters.tree(gradients), before, params, extra
            )
        except FloatingPointError:  # found by JAX's debug mode
            raise
        except Exception as e:  # whatever optax or a user's code raises
            raise _update_failed(e, params) from e
        _check_forms((params, before), after)
        params, state = after
        for i, value in enumerate(self.parameters.values(params)):
            if i not in missing:
                variables[i].assign(value)
        self.slots.write(state, untouched=missing)

    @property
    def needs_functions(self):
        """Whether an update evaluates the loss anew."""
        return "value_fn" in self.needs

    def evaluation_weights(self):
        """Weights to evaluate with where they differ from the trained ones.

        Returns:
            List of pairs of a variable and its value, empty for most
            transformations.
        """
        state = self.slots.read()
        values: list = [None] * len(self.variables)
        if isinstance(state, WithSlowWeights):
            values = self.parameters.values(state.slow)
        trained = self.parameters.tree([v.value for v in self.variables])
        for node in nodes_of(optax.contrib.ScheduleFreeState, state):
            values = self._averaged(node, trained, values)
        pairs = zip(self.variables, values, strict=True)
        return [(v, value) for v, value in pairs if value is not None]

    def _averaged(self, node, trained, values):
        """`values`, with those that a schedule-free state is about."""

        def is_masked(leaf):
            return isinstance(leaf, optax.MaskedNode)

        seen = jax.tree.map(
            lambda z, y: z if is_masked(z) else y,
            node.z,
            trained,
            is_leaf=is_masked,
        )
        averaged = optax.contrib.schedule_free_eval_params(node, seen)
        leaves = self.parameters.values(averaged)
        return [
            old if is_masked(new) else new
            for old, new in zip(values, leaves, strict=True)
        ]

    def _extra(self, given):
        if given is None:  # what is needed was found missing before
            return {}
        parameters, ids = self.parameters, [id(v) for v in self.variables]

        def value_fn(params):
            values = parameters.values(params)
            return given.value_fn(dict(zip(ids, values, strict=True)))

        gradients = parameters.tree([given.gradients[i] for i in ids])
        every = _extra_arguments(given.value, gradients, value_fn)
        return {name: every[name] for name in self.uses}


def _update_failed(cause, params):
    return ValueError(
        "`update` of the optax transformation failed on gradients of this "
        f"model ({cause}). Received: gradients={_types(params)}."
    )


def _check_forms(before, after):
    """Raise if what an update returned cannot replace what was there."""
    names = "parameters", "state"
    for what, old, new in zip(names, before, after, strict=True):
        structure: Any = jax.tree.structure(old)
        pairs = jax.tree.leaves(old), jax.tree.leaves(new)
        if structure != jax.tree.structure(new) or any(map(_differ, *pairs)):
            raise ValueError(
                "`update` of an optax transformation must keep the structure, "
                f"shapes and kinds of its {what}. Received: {_types(new)} "
                f"after {_types(old)}."
            )


def _differ(before, after):
    """Whether `after` cannot be kept where `before` was."""
    before, after = jax.typeof(before), jax.typeof(after)
    cut = jnp.issubdtype(before.dtype, jnp.integer) and jnp.issubdtype(
        after.dtype, jnp.inexact
    )
    return cut or before.shape != after.shape


def _types(tree):
    """A tree of arrays for a message: a line, shortened."""
    text = str(jax.tree.map(lambda leaf: str(jax.typeof(leaf)), tree))
    return text if len(text) < 500 else f"{text[:500]}..."
