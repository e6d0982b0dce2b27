"""A step of several updates, each with its loss and optimizer."""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._by_name import structures
from keras_jax_ext._optax import extra
from keras_jax_ext._seeing import reports
from keras_jax_ext._training import step as steps
from keras_jax_ext._training.objective import Objective
from keras_jax_ext._training.step import Step
from keras_jax_ext._training.updates import Update

import jax
import jax.numpy as jnp
import keras


class Values(NamedTuple):
    """Arrays of all variables of a step, in the order of Keras's lists."""

    trainable: list[Any]
    fixed: list[Any]
    metrics: list[Any]


class Batch:
    """One batch of a model with updates, and the losses on it.

    Args:
        model: The model.
        data: The batch.
        training: Boolean, the mode.
    """

    def __init__(self, model: Any, data: Any, training: bool) -> None:
        self.model, self.training = model, training
        self.x, self.y, self.sample_weight = (
            keras.utils.unpack_x_y_sample_weight(data)
        )
        objective: Any = _keras.compiled_loss(model)
        self.objective: Objective = objective
        self.parts: dict[str, Any] = {}
        self.reported: list[tuple[Any, str, Any]] = []
        # By the name of a loss, the layer and the name of each value that
        # layers report in it. The values are results of the trace, these not.
        self._keys: dict[str, list[tuple[Any, str]]] = {}

    def scope(self, values: Values) -> keras.StatelessScope:
        """A scope in which the variables have these values."""
        pairs = [
            pair
            for variables, arrays in zip(self.groups(), values, strict=True)
            for pair in zip(variables, arrays, strict=True)
        ]
        return keras.StatelessScope(pairs, collect_losses=True)

    def groups(self) -> Sequence[list[keras.Variable]]:
        """The variables, in the order of `Values`."""
        model = self.model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.metrics_variables,
        )

    def left(self, scope: keras.StatelessScope, before: Values) -> Values:
        """The values at the end of a scope.

        What `call` assigns to a trained variable is dropped, as in `fit`.
        """
        _, fixed, metrics = self.groups()
        read = scope.get_current_value
        return before._replace(
            fixed=[read(v) for v in fixed],
            metrics=[read(v) for v in metrics],
        )

    def loss(
        self,
        entry: Any,
        values: Values,
        rng: Any,
        trained: Sequence[keras.Variable],
    ) -> tuple[Any, tuple[Values, dict[str, Any], list[Any]]]:
        """One of the losses, as a pure function.

        Args:
            entry: Entry of the objective's `losses`.
            values: `Values`.
            rng: Key, given to the loss.
            trained: Variables whose regularizers count.

        Returns:
            The loss, and a tuple of the values that it left, its parts, and
            what layers reported.
        """
        name, _, binding = entry
        with (
            reports.collecting() as received,
            self.scope(values) as scope,
            _keras.in_mode(self.training),
        ):
            y_pred = None
            if "y_pred" in binding.names:
                y_pred = self.model(self.x, training=self.training)
            step = Step(
                training=self.training,
                x=self.x,
                parameters=values.trainable,
                states=values.fixed,
                reports=received,
                rng=rng,
            )
            given = self.objective.given(
                step, self.x, self.y, y_pred, self.sample_weight, in_scope=True
            )
            total, parts = self.objective.value(entry, given)
            added = [
                *scope.losses,
                *(v.regularizer(v) for v in trained if v.regularizer),
            ]
            for value in added:
                total = total + jnp.sum(value).astype(total.dtype)
            left = self.left(scope, values)
        self._keys[name] = [(layer, own) for layer, own, _ in received]
        return total, (left, parts, [value for *_, value in received])

    def outputs(self, values: Values) -> Any:
        """The outputs of the model, if a metric asks for them.

        What this call assigns is dropped: a metric only looks on.
        """
        known = self.objective
        asked = any("y_pred" in b.names for _, b in known.own_metrics)
        if not asked and not _keras.has_stock_metrics(self.model):
            return None
        with (
            reports.collecting(),
            self.scope(values),
            _keras.in_mode(self.training),
        ):
            return self.model(self.x, training=self.training)

    def note(
        self, entry: Any, parts: dict[str, Any], reported: list[Any]
    ) -> None:
        """Keep what a loss returned, for the logs."""
        self.parts |= parts
        pairs = zip(self._keys[entry[0]], reported, strict=True)
        self.reported += [(*key, value) for key, value in pairs]

    def logs(
        self, values: Values, total: Any, y_pred: Any
    ) -> tuple[dict[str, Any], list[Any]]:
        """Update the metrics; the logs, and the values of the metrics."""
        running = steps.current(self.objective)
        if running is not None and running.reports is not None:
            running.reports.extend(self.reported)
        with self.scope(values) as scope:
            given = {"x": self.x, "y_pred": y_pred}
            rows = structures.count_rows(given)
            self.objective.track(self.parts, self.reported, rows)
            metrics = self.left(scope, values).metrics
        return _keras.update_metrics(
            self.model,
            metrics,
            total,
            self.x,
            self.y,
            y_pred,
            self.sample_weight,
        )


def train_step(model: Any, state: Any, data: Any) -> tuple[Any, Any]:
    """As `keras.Model.train_step`, with the updates of a model in order.

    Args:
        model: The model.
        state: Tuple of lists of arrays.
        data: One batch.

    Returns:
        Tuple of the logs and the next state.
    """
    trainable, fixed, slots, metrics = state
    batch = Batch(model, data, training=True)
    values = Values(list(trainable), list(fixed), list(metrics))
    y_pred = batch.outputs(values)
    optimizer = model.optimizer
    held = dict(zip(map(id, optimizer.variables), slots, strict=True))
    count = held[id(optimizer.iterations)] + 1
    held[id(optimizer.iterations)] = count
    entries, total = iter(batch.objective.losses), jnp.zeros(())
    for update, pairs in zip(
        optimizer.updates, optimizer.changed(), strict=True
    ):
        if isinstance(update, Update):
            trained = [variable for variable, _ in pairs]
            run = _Run(batch, update, next(entries), trained, optimizer.seed)
            values, held, loss = run(values, held)
            total = total + loss
        else:
            values = _averaged(batch, update, pairs, values, count)
    logs, metrics = batch.logs(values, total, y_pred)
    slots = [held[id(v)] for v in optimizer.variables]
    return logs, (values.trainable, values.fixed, slots, metrics)


class _Run(NamedTuple):
    """One update of a step."""

    batch: Batch
    update: Update
    entry: Any
    trained: list[keras.Variable]
    seed: keras.Variable

    def __call__(self, values, held):
        """The values and the slots after all repeats, and the mean loss."""
        at = {id(v): i for i, v in enumerate(self.batch.groups()[0])}
        places = [at[id(v)] for v in self.trained]
        own = [*self.update.optimizer.variables, self.seed]
        carry = (
            [values.trainable[i] for i in places],
            values.fixed,
            values.metrics,
            [held[id(v)] for v in own],
        )

        def once(carry, _):
            chosen, fixed, metrics, slots = carry
            before = Values(values.trainable, fixed, metrics)
            return self._once(before, places, chosen, slots)

        if self.update.repeats == 1:
            carry, (loss, parts, reported) = once(carry, None)
        else:
            # The first run would be traced for its shapes too.
            carry, outputs = jax.lax.scan(
                once, carry, length=self.update.repeats
            )
            loss, parts, reported = jax.tree.map(
                lambda a: jnp.mean(a, axis=0), outputs
            )
        self.batch.note(self.entry, parts, reported)
        chosen, fixed, metrics, slots = carry
        trainable = _with(values.trainable, places, chosen)
        held = {**held, **dict(zip(map(id, own), slots, strict=True))}
        return Values(trainable, fixed, metrics), held, loss

    def _once(self, before, places, chosen, slots):
        *slots, seed = slots
        rng = jax.random.fold_in(jax.random.key(seed[0]), seed[1])

        def compute(chosen):
            values = before._replace(
                trainable=_with(before.trainable, places, chosen)
            )
            return self.batch.loss(self.entry, values, rng, self.trained)

        (loss, aux), gradients = jax.value_and_grad(compute, has_aux=True)(
            chosen
        )
        left, parts, reported = aux
        optimizer = self.update.optimizer
        with self._giving(loss, gradients, chosen, compute):
            chosen, slots = optimizer.stateless_apply(slots, gradients, chosen)
        seed = seed + jnp.array([0, 1], seed.dtype)
        carry = chosen, left.fixed, left.metrics, [*slots, seed]
        return carry, (loss, parts, reported)

    def _giving(self, loss, gradients, chosen, compute):
        """Give the loss to an optimizer that evaluates it, as `optax_step`."""
        needs = getattr(self.update.optimizer, "needs_loss", ())
        if not needs:
            return contextlib.nullcontext()
        ids = [id(v) for v in self.trained]

        def value_fn(changed):
            pairs = zip(ids, chosen, strict=True)
            return compute([changed.get(i, v) for i, v in pairs])[0]

        gradients = dict(zip(ids, gradients, strict=True))
        return extra.giving(extra.GivenLoss(loss, gradients, value_fn))


def _with(arrays, places, new):
    """A copy of a list with other arrays at some places."""
    arrays = list(arrays)
    for place, array in zip(places, new, strict=True):
        arrays[place] = array
    return arrays


def _averaged(batch, update, pairs, values, count):
    """The values after a moving average."""
    with batch.scope(values) as scope:
        for variable, followed in pairs:
            old, new = variable.value, followed.value
            moved = old + update.rate * (new.astype(old.dtype) - old)
            if update.every > 1:
                moved = jnp.where(count % update.every == 0, moved, old)
            variable.assign(moved)
        trainable, *_ = batch.groups()
        left = batch.left(scope, values)
        return left._replace(
            trainable=[scope.get_current_value(v) for v in trainable]
        )


def test_step(model: Any, state: Any, data: Any) -> tuple[Any, Any]:
    """As `keras.Model.test_step`: each loss once, and no update.

    Args:
        model: The model.
        state: Tuple of lists of arrays.
        data: One batch.

    Returns:
        Tuple of the logs and the next state.
    """
    trainable, fixed, metrics = state
    batch = Batch(model, data, training=False)
    values, total = Values(trainable, fixed, metrics), jnp.zeros(())
    y_pred = batch.outputs(values)
    with batch.scope(values):
        # Other numbers for each batch, and the same in each evaluation.
        rows = _keras.rows_seen(model).astype("uint32")
    optimizer = model.optimizer
    trained = [[v for v, _ in pairs] for pairs in optimizer.changed()]
    kinds = zip(optimizer.updates, trained, strict=True)
    chosen = [own for update, own in kinds if isinstance(update, Update)]
    for i, entry in enumerate(batch.objective.losses):
        rng = jax.random.fold_in(jax.random.key(i), rows)
        loss, (values, parts, reported) = batch.loss(
            entry, values, rng, chosen[i]
        )
        batch.note(entry, parts, reported)
        total = total + loss
    logs, metrics = batch.logs(values, total, y_pred)
    return logs, (trainable, values.fixed, metrics)
