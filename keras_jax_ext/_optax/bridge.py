"""A transformation made ready for a model: its state, and one update."""

import contextlib
import inspect
import logging
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keras_jax_ext._optax.lazy import optax
from keras_jax_ext._optax.parameters import Parameters
from keras_jax_ext._optax.slots import Slots

EXTRA_ARGUMENTS = ("value", "grad", "value_fn", "obj_fn", "grad_fn")


class GivenLoss(NamedTuple):
    """What a train step knows about the loss, for the extra arguments."""

    value: jax.Array
    gradients: list  # one a trainable variable, as differentiated
    value_fn: object  # from a list of trainable values to the loss


def is_transformation(value):
    """Whether `value` is a transformation, told without importing optax."""
    return (
        not inspect.isclass(value)
        and callable(getattr(value, "init", None))
        and callable(getattr(value, "update", None))
    )


def _accepted(update):
    """Names of the extra arguments that `update` can be called with."""
    parameters = inspect.signature(update).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return EXTRA_ARGUMENTS
    names = {p.name for p in parameters}
    return tuple(n for n in EXTRA_ARGUMENTS if n in names)


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
        self.parameters = Parameters(variables)
        params = self.parameters.tree([v.value for v in variables])
        state = self._init(params)
        self.slots = Slots(state, self.parameters)
        self.needs = self._probe(params, state)

    def _init(self, params):
        try:
            with _quiet_lookahead():
                state = self.transformation.init(params)
            if nodes_of(optax.LookaheadState, state):
                pair = optax.LookaheadParams.init_synced(params)
                state = self.transformation.init(pair)
                return WithSlowWeights(state, slow=params)
        except Exception as e:
            raise ValueError(
                "`init` of the optax transformation failed on the variables "
                f"of this model. Received: {_shapes(params)}. Masks and labels "
                "must fit this tree: make them with "
                "`kje.optimizers.mask_by_path` and `label_by_path`."
            ) from e
        return state

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
        """Names of the extra arguments without which `update` fails."""
        every = _extra_arguments(
            jnp.zeros(()),
            params,
            lambda p: sum(jnp.sum(x).real for x in jax.tree.leaves(p)),
        )
        accepted = _accepted(self.transformation.update)
        causes = []
        for names in ((), ("value",), EXTRA_ARGUMENTS):
            extra = {n: every[n] for n in names if n in accepted}
            try:
                _, after = jax.eval_shape(
                    lambda g, s, p, extra=extra: self._update(g, s, p, extra),
                    params,
                    state,
                    params,
                )
            except Exception as e:  # whatever optax or a user's code raises
                causes.append(e)
                continue
            self._check_structure(state, after)
            return tuple(extra)
        raise self._cannot_update(state, params) from causes[0]

    def _check_structure(self, before, after):
        structures: list[Any] = [jax.tree.structure(t) for t in (before, after)]
        if structures[0] != structures[1]:
            raise ValueError(
                "`update` of an optax transformation must return a state of "
                "the structure that `init` made. Received: "
                f"{structures[1]} after {structures[0]}."
            )

    def _cannot_update(self, state, params):
        if nodes_of(optax.contrib.DifferentiallyPrivateAggregateState, state):
            return ValueError(
                "Differentially private optimizers need one gradient an "
                "example, and `fit` computes the gradient of the batch. "
                f"Received: transformation={self.transformation}. Use another "
                "optimizer, or write the training loop with optax."
            )
        return ValueError(
            "`update` of the optax transformation failed on gradients of "
            f"this model. Received: gradients={_shapes(params)}."
        )

    def step(self, gradients, given=None):
        """Update the model's variables and the state.

        Args:
            gradients: List with one gradient a variable, `None` for those
                that stay as they are, slots included.
            given: `GivenLoss` of this step, of lists in the order of the
                variables. Only needed if `needs` is not empty.
        """
        variables = self.parameters.variables
        missing = {i for i, g in enumerate(gradients) if g is None}
        gradients = [
            jnp.zeros(v.shape, v.dtype)
            if g is None
            else jnp.asarray(g, v.dtype)
            for g, v in zip(gradients, variables, strict=True)
        ]
        params, state = self._update(
            self.parameters.tree(gradients),
            self.slots.read(),
            self.parameters.tree([v.value for v in variables]),
            self._extra(given),
        )
        for i, value in enumerate(self.parameters.values(params)):
            if i not in missing:
                variables[i].assign(value)
        self.slots.write(state, untouched=missing)

    def _extra(self, given):
        if not self.needs:
            return {}
        tree, values = self.parameters.tree, self.parameters.values
        every = _extra_arguments(
            given.value,
            tree(given.gradients),
            lambda params: given.value_fn(values(params)),
        )
        return {name: every[name] for name in self.needs}


def _shapes(params):
    """A tree of arrays for a message: a line, shortened."""
    text = str(jax.tree.map(lambda p: tuple(p.shape), params))
    return text if len(text) < 500 else f"{text[:500]}..."
