"""A transformation made ready for a model: its state, and one update."""

from collections.abc import Sequence

from keras_jax_ext._optax import asking, evaluation
from keras_jax_ext._optax.evaluation import nodes_of
from keras_jax_ext._optax.extra import GivenLoss, extra_arguments
from keras_jax_ext._optax.failures import (
    check_kept,
    init_failed,
    update_failed,
)
from keras_jax_ext._optax.lazy import optax
from keras_jax_ext._optax.parameters import Parameters
from keras_jax_ext._optax.slots import Slots
from keras_jax_ext._optax.transformation import Transformation

import jax
import jax.numpy as jnp
import keras


class Bridge:
    """A transformation bound to the variables of one model.

    Args:
        transformation: An optax transformation.
        variables: The model's variables that it updates.

    Attributes:
        slots: The state, as variables.
        has_evaluation_weights: Whether it evaluates other weights than it
            trains.
        needs: Names of the extra arguments without which `update` fails.
        uses: Names of those that it is given: `needs`, and those for which
            it has a default.
        aggregates: Whether it takes a gradient for each example, on a first
            axis, as differentially private ones do.
    """

    def __init__(
        self,
        transformation: Transformation,
        variables: Sequence[keras.Variable],
    ) -> None:
        self.transformation = transformation
        self.variables = list(variables)
        self.parameters, params, state = self._begin()
        self.aggregates = asking.aggregates(transformation) or bool(
            nodes_of(optax.contrib.DifferentiallyPrivateAggregateState, state)
        )
        if nodes_of(optax.MonitorState, state):
            state = self._measured(params, state)
        self.slots = Slots(state, self.parameters)
        self.has_evaluation_weights = evaluation.has_weights(state)
        self.needs, self.uses = self._probe(params, state)

    def _begin(self):
        """Lay the variables out as a tree, and make the state."""
        by_number = Parameters(self.variables)
        try:
            return by_number, *self._init(by_number)
        except ValueError as error:
            # JAX raises it if the user wrote masks or labels as a dict, whose
            # keys JAX visits in the order of text. If both orders are the
            # same, `init` failed for another reason, and would fail again.
            by_text = Parameters(self.variables, str)
            from_jax = isinstance(error.__cause__, ValueError)
            if not from_jax or by_text.order == by_number.order:
                raise
        return by_text, *self._init(by_text)

    def _init(self, parameters):
        """The parameters and the first state, as trees."""
        params = parameters.tree([v.value for v in self.variables])
        try:
            state = evaluation.init(self.transformation, params)
        except Exception as e:  # whatever optax or a user's code raises
            raise init_failed(e, params) from e
        return params, state

    def _gradients_like(self, params):
        """Trees such as an update is given, of one example if of any."""
        if not self.aggregates:
            return params
        return jax.tree.map(lambda p: p[None], params)

    def _measured(self, params, state):
        """The state, with entries that `optax.monitor` adds in an update."""
        _, after = jax.eval_shape(
            lambda g, s, p: self._update(g, s, p, {}),
            self._gradients_like(params),
            state,
            params,
        )
        known = dict(jax.tree_util.tree_flatten_with_path(state)[0])

        def fill(path, leaf):
            if path in known:
                return known[path]
            is_float = jnp.issubdtype(leaf.dtype, jnp.inexact)
            return jnp.full(leaf.shape, jnp.nan if is_float else 0, leaf.dtype)

        return jax.tree_util.tree_map_with_path(fill, after)

    def _update(self, gradients, state, params, extra):
        """The parameters and the state after an update, from trees alone."""
        return evaluation.update(
            self.transformation, gradients, state, params, extra
        )

    def _probe(self, params, state):
        """Find the extra arguments that `update` needs, and that it uses."""
        if not asking.may_ask(self.transformation.update):
            if self.aggregates:  # what is chained before it may not take them
                self._check_update(params, state)
            return (), ()
        every = extra_arguments(
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
            raise update_failed(causes[0], params) from causes[0]
        optional = asking.may_use(self.transformation.update)
        uses = tuple(n for n in accepted if n in (*needs, *optional))
        extra = {n: every[n] for n in uses}
        if uses == needs or self._failure(params, state, extra):
            return needs, needs
        return needs, uses

    def _check_update(self, params, state):
        cause = self._failure(params, state, {})
        if cause is not None:
            raise update_failed(cause, params) from cause

    def _failure(self, params, state, extra):
        """What `update` raises when it is given `extra`, or `None`."""
        try:
            after = jax.eval_shape(
                lambda g, s, p: self._update(g, s, p, extra),
                self._gradients_like(params),
                state,
                params,
            )
        except Exception as e:  # whatever optax or a user's code raises
            return e
        check_kept((params, state), after)
        return None

    def step(
        self,
        gradients: Sequence[jax.Array | None],
        given: GivenLoss | None = None,
    ) -> None:
        """Update the model's variables and the state.

        Args:
            gradients: One for each variable, stacked if it `aggregates`. A
                variable whose gradient is `None` stays as it is, and so do
                its slots.
            given: The loss of this step, where `needs` is not empty. Defaults
                to `None`.
        """
        variables = self.variables
        missing = {i for i, g in enumerate(gradients) if g is None}
        whole = [
            jnp.zeros(v.shape, v.dtype)
            if g is None
            else jnp.asarray(g, v.dtype)
            for g, v in zip(gradients, variables, strict=True)
        ]
        params = self.parameters.tree([v.value for v in variables])
        before, extra = self.slots.read(), self._extra(given)
        try:
            after = self._update(
                self.parameters.tree(whole), before, params, extra
            )
        except FloatingPointError:  # found by JAX's debug mode
            raise
        except Exception as e:  # whatever optax or a user's code raises
            raise update_failed(e, params) from e
        check_kept((params, before), after)
        params, state = after
        for i, value in enumerate(self.parameters.values(params)):
            if i not in missing:
                variables[i].assign(value)
        self.slots.write(state, untouched=missing)

    @property
    def needs_functions(self) -> bool:
        """Whether an update evaluates the loss again."""
        return "value_fn" in self.needs

    def evaluation_weights(self) -> list[tuple[keras.Variable, jax.Array]]:
        """Return the weights to evaluate with, where they are not the trained.

        Returns:
            List of pairs of a variable and its value, empty for most
            transformations.
        """
        trained = self.parameters.tree([v.value for v in self.variables])
        values = evaluation.weights(self.slots.read(), trained, self.parameters)
        pairs = zip(self.variables, values, strict=True)
        return [(v, value) for v, value in pairs if value is not None]

    def _extra(self, given):
        if given is None or not self.uses:
            # If `needs` names any, the optimizer has raised before.
            return {}
        parameters, ids = self.parameters, [id(v) for v in self.variables]

        def value_fn(params):
            values = parameters.values(params)
            return given.value_fn(dict(zip(ids, values, strict=True)))

        gradients = parameters.tree([given.gradients[i] for i in ids])
        every = extra_arguments(given.value, gradients, value_fn)
        return {name: every[name] for name in self.uses}
