"""The steps of an ensemble: those of its member, over stacked variables."""

from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import device
from keras_jax_ext._xla import cpu
from keras_jax_ext.ensembles.logs import Heard, MemberLogs
from keras_jax_ext.ensembles.members import Members

import jax
import jax.numpy as jnp


class VmappedSteps(_keras.BuiltFromBatches):
    """Mixin: the variables and steps of an ensemble."""

    built: bool
    _members: Members
    _heard: Heard
    # The mask of the members that train, once a callback has set it.
    _mask: Any = None
    # Whether each member has its own rows in a batch.
    _own_rows = False

    @property
    def trainable(self) -> bool:
        """Boolean, whether the members are trained, as of a layer."""
        return self._members.model.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._members.model.trainable = value

    # Variables: those of the member, stacked, in the order that it has.

    @property
    def variables(self) -> list[Any]:
        """Every variable, the seeds of random numbers included."""
        return self._stacked(self._members.model.variables)

    @property
    def weights(self) -> list[Any]:
        """The variables of the layers."""
        return self._stacked(self._members.model.weights)

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that an optimizer updates."""
        return self._stacked(self._members.model.trainable_variables)

    @property
    def non_trainable_variables(self) -> list[Any]:
        """The others, and the mask of the members that train, if any."""
        others = self._stacked(self._members.model.non_trainable_variables)
        return others if self._mask is None else [*others, self._mask]

    @property
    def metrics(self) -> list[Any]:
        """The metrics of the member; the values are in their stacked twins."""
        return self._members.model.metrics

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of the metrics."""
        return self._members.stack.of(self._members.model.metrics_variables)

    def _stacked(self, variables):
        members = self._members
        return members.stack.of(variables) if members.are_built else []

    # Metrics.

    def reset_metrics(self) -> None:
        """As `keras.Model.reset_metrics`, for all members."""
        model = self._members.model
        model.reset_metrics()
        twins = self.metrics_variables
        for variable, twin in zip(model.metrics_variables, twins, strict=True):
            twin.assign(jnp.broadcast_to(variable.value, twin.shape))

    def get_metrics_result(self) -> MemberLogs:
        """The means of the metrics over the members."""
        members = self._members
        logs = MemberLogs.of(
            members.stack.run(members.model.get_metrics_result)
        )
        self._heard.hear(logs)
        return logs

    # Steps, which are traced.

    def call(self, x: Any, training: bool | None = None) -> Any:
        """The outputs of every member, with an axis of members first.

        Args:
            x: Inputs, the same for every member.
            training: Boolean, the mode.
        """
        model, stack = self._members.model, self._members.stack
        trained, others = (
            stack.of(group)
            for group in (
                model.trainable_variables,
                model.non_trainable_variables,
            )
        )

        def one(trained, others, x):
            return model.stateless_call(trained, others, x, training=training)

        outputs, after = jax.vmap(one, (0, 0, None))(
            [v.value for v in trained], [v.value for v in others], x
        )
        for variable, value in zip(others, after, strict=True):
            variable.assign(value)
        return outputs

    def train_step(self, state: Any, data: Any) -> tuple[Any, Any]:
        """One update of every member, as `keras.Model.train_step`.

        Args:
            state: Tuple of lists of stacked arrays.
            data: One batch; with an order for each member, the second axis
                counts the members.

        Returns:
            Tuple of the logs and the next state.
        """
        trained, others, slots, metrics = state
        own, rest = self._split(others)
        before = trained, own, slots
        step = self._each("train_step", rows=1 if self._own_rows else None)
        logs, (*after, metrics) = step((*before, metrics), data)
        if rest:
            after = _where(rest[0], after, before)
        trained, own, slots = after
        state = trained, [*own, *rest], slots, metrics
        return MemberLogs.of(logs), state

    def test_step(self, state: Any, data: Any) -> tuple[Any, Any]:
        """One batch of evaluation, as `keras.Model.test_step`.

        Args:
            state: Tuple of lists of stacked arrays.
            data: One batch.

        Returns:
            Tuple of the logs and the next state.
        """
        trained, others, metrics = state
        own, rest = self._split(others)
        logs, (trained, own, metrics) = self._each("test_step")(
            (trained, own, metrics), data
        )
        return MemberLogs.of(logs), (trained, [*own, *rest], metrics)

    def predict_step(self, state: Any, data: Any) -> tuple[Any, Any]:
        """The outputs for a batch, as `keras.Model.predict_step`.

        Args:
            state: Tuple of lists of stacked arrays.
            data: One batch.

        Returns:
            Tuple of the outputs, the second axis of which counts the members,
            and the non-trainable variables.
        """
        trained, others = state
        own, rest = self._split(others)
        step = self._each("predict_step", outputs=1)
        outputs, own = step((trained, own), data)
        return outputs, [*own, *rest]

    def _split(self, others):
        """The arrays of the members, and the mask that is none of theirs."""
        if self._mask is None:
            return others, []
        return others[:-1], others[-1:]

    def _each(self, name, rows=None, outputs=0):
        """A step of the member, for every member."""
        model = self._members.model
        step = getattr(model, name)
        if device.is_cpu() and not self.run_eagerly:
            # Within the vmap: the rules are for products without a batch.
            step = cpu.rewritten(step)
        every = jax.vmap(step, (0, rows), (outputs, 0))

        def run(state, data):
            try:
                return every(state, data)
            except BaseException:
                _keras.forget_losses(model)
                raise

        return run


def _where(mask, new, old):
    """The new arrays of the members that train, the old ones of the others."""

    def chosen(new, old):
        return jnp.where(mask.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    groups = zip(new, old, strict=True)
    return [list(map(chosen, *pair)) for pair in groups]
