"""The loss and metrics of one step: Keras's, ours, and reported values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name import structures
from keras_jax_ext._by_name.binding import Binding
from keras_jax_ext._by_name.naming import take_name
from keras_jax_ext._seeing import reports
from keras_jax_ext._training import step as steps
from keras_jax_ext._training.step import Step
from keras_jax_ext.losses import Loss
from keras_jax_ext.metrics import Metric
from keras_jax_ext.transforms.functional import bound

import jax
import keras


class Objective:
    """Stands where Keras keeps its compiled loss.

    Keras asks for `built`, `metrics`, `variables` and a call.

    Args:
        model: The model.
        spec: Dict of the arguments of `compile`, as they were given.
        stock: Keras's compiled loss, or `None`.
        losses: Tuples `(name in the logs, loss, binding)` of our losses.
        metrics: Our metrics.
        updates: The `Updates` that the losses belong to. Defaults to `None`.

    Attributes:
        class_weight: As in `fit`, for losses that ask for it.
        shares_sample_weight: Dict by `training`: whether one array of weights
            is for all of several outputs.
    """

    name = "compile_loss"

    def __init__(
        self,
        model: Any,
        spec: dict[str, Any],
        stock: Any,
        losses: Sequence[tuple[str, Loss, Binding]],
        metrics: Sequence[Metric],
        updates: Any = None,
    ) -> None:
        self.model = model
        self.updates = updates
        self.spec = spec
        self.stock = stock
        self.losses = list(losses)
        self.own_metrics = [(m, m.binding()) for m in metrics]
        self.class_weight: Any = None
        self.shares_sample_weight = {True: False, False: False}
        self._stock_weight: Any = None
        self._trackers: dict[str, keras.metrics.Mean] = {}
        self._reported: dict[tuple[int, str], keras.metrics.Mean] = {}
        self._built = False

    @property
    def built(self) -> bool:
        """Whether Keras need not draw a batch to build this.

        Without losses and metrics a batch would tell nothing.
        """
        empty = not (self.stock or self.losses or self.own_metrics)
        if not self._built and empty and _reports_are_known(self.model):
            self._build({}, {})
        return self._built

    @property
    def bindings(self) -> list[Binding]:
        """Of our losses and metrics: what each asks for."""
        bindings = [binding for *_, binding in self.losses]
        return bindings + [binding for _, binding in self.own_metrics]

    @property
    def names(self) -> set[str]:
        """Every name that a loss or metric asks for."""
        return {name for binding in self.bindings for name in binding.names}

    @property
    def metrics(self) -> list[keras.Metric]:
        """In the order of the logs."""
        return [
            *(metric for metric, _ in self.own_metrics if self.built),
            *(self.stock.metrics if self.stock else ()),
            *self._trackers.values(),
            *self._reported.values(),
        ]

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of all metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    @property
    def sees_whole(self) -> bool:
        """Whether a loss or metric of ours is among them."""
        return bool(self.losses or self.own_metrics)

    def given(
        self,
        step: Step,
        x: Any,
        y: Any,
        y_pred: Any,
        sample_weight: Any,
        *,
        in_scope: bool,
    ) -> dict[str, Any]:
        """The values that may be asked for, by name.

        Args:
            step: `Step`.
            x: Inputs.
            y: Labels.
            y_pred: Structure of outputs.
            sample_weight: Weights, as Keras gives them.
            in_scope: Boolean, whether the variables have the values that the
                gradient is taken by. If not, the step holds their values.
        """
        values = _values(self.model, None if in_scope else step)
        names = self.names
        shares = self.shares_sample_weight
        if shares[step.training] or (shares[True] and step.is_building):
            sample_weight = next(iter(keras.tree.flatten(sample_weight)), None)
        weighed = step.training or step.is_building
        return {
            "x": x,
            "y_true": y,
            "y_pred": y_pred,
            "sample_weight": sample_weight,
            "class_weight": self.class_weight if weighed else None,
            "training": step.training,
            "apply": self._apply(step, values) if "apply" in names else None,
            "model": self.model,
            "rng": jax.random.key(0) if step.rng is None else step.rng,
            **_by_path(self.model, names, values),
        }

    def _apply(self, step, values):
        """The model as a function of inputs, with the values of this step."""
        call = bound(self.model, step.training, [v for g in values for v in g])

        def apply(*args, **kwargs):
            # Values that layers report there belong to no step, and may be
            # tracers of a derivative.
            with reports.collecting():
                return call(*args, **kwargs)

        return apply

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        step = steps.current(self) or Step()
        given = self.given(
            step, step.x, y, y_pred, sample_weight, in_scope=True
        )
        total, parts = None, {}
        if self.stock is not None:
            total, parts = self._stock_part(y, y_pred, sample_weight)
        for entry in self.losses:
            value, own = self.value(entry, given)
            parts |= own
            total = value if total is None else total + value
        if not self.built:
            self._build(parts, given)
        self.track(parts, step.reports or (), structures.count_rows(given))
        return total

    def value(
        self, entry: tuple[str, Loss, Binding], given: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """One of our losses, and its parts by their names in the logs.

        Args:
            entry: Entry of `losses`.
            given: Values by name; see `given`.
        """
        name, loss, binding = entry
        parts = loss.parts(given, binding)
        total: Any = sum(
            keras.ops.cast(loss.weighted(value), "float32")
            for value in parts.values()
        )
        logged = {f"{name}/{p}" if p else name: v for p, v in parts.items()}
        return total, logged

    def update_metrics(self, given: Mapping[str, Any]) -> None:
        """Add one batch to the metrics of ours.

        Args:
            given: Values by name; see `given`.
        """
        for metric, binding in self.own_metrics:
            metric.update(given, binding)

    def unreported(self, step: Step) -> set[str]:
        """Names in the logs that no layer reported in a step.

        Args:
            step: `Step`.
        """
        seen = {(id(layer), name) for layer, name, _ in step.reports or ()}
        return {
            mean.name for key, mean in self._reported.items() if key not in seen
        }

    def explain(self, argument: str, y_pred: Any, error: Exception) -> None:
        """Raise how a function sees the whole, where Keras gives it parts.

        Args:
            argument: String, `"loss"` or `"metrics"`.
            y_pred: Structure of outputs.
            error: What the function raised.
        """
        spec = self.spec.get(argument)
        specs = spec if isinstance(spec, (list, tuple)) else [spec]
        if not structures.is_structure(y_pred) or not any(map(callable, specs)):
            return
        whole = {"loss": "losses.Loss", "metrics": "metrics.Function"}
        raise ValueError(
            "A function of (y_true, y_pred) is called once for each output. "
            f"Received: {argument}={spec!r}, which raised "
            f"{type(error).__name__}: {error}\nFor one over the whole output "
            f"write keras_jax_ext.{whole[argument]}(fn)."
        ) from error

    def _stock_part(self, y, y_pred, sample_weight):
        """Keras's loss, and beside ours its part of the logs."""
        value = self._stock_loss(y, y_pred, sample_weight)
        if not self.losses or self.stock.metrics:
            return value, {}
        if not self.built:
            self._stock_weight = _keras.take_loss_weight(self.stock)
            value = self._stock_loss(y, y_pred, sample_weight)
        parts = {f"{_keras.stock_loss_name(self.stock)}_loss": value}
        if self._stock_weight is not None:
            value = value * self._stock_weight
        return value, parts

    def _stock_loss(self, y, y_pred, sample_weight):
        names = getattr(self.model, "output_names", None)
        y = structures.alone(y, y_pred, names)
        # Keras follows the outputs into weights, and a dict has no first.
        weights = structures.alone(sample_weight, y_pred, names)
        weights = structures.listed(weights, y_pred, names)
        try:
            return self.stock(y, y_pred, weights)
        except (ValueError, KeyError, TypeError) as error:
            self.explain("loss", y_pred, error)
            raise

    def _build(self, parts, given):
        """Make the means that the logs show; called in an abstract trace."""
        taken = {m.name for m in self.model.metrics}
        taken.update(_keras.stock_metric_names(self.model))
        for metric, _ in self.own_metrics:
            metric.name = take_name(metric.name, taken)
        alone = len(parts) == 1 and not any("/" in name for name in parts)
        if (
            not alone
            or self.updates is not None
            or (self.stock and self.stock.metrics and self.losses)
        ):
            self._trackers = {
                name: keras.metrics.Mean(name=take_name(name, taken))
                for name in parts
            }
        for layer in _layers(self.model):
            for name in reports.names(layer) if _reports(layer) else ():
                mean = keras.metrics.Mean(name=take_name(name, taken))
                self._reported[id(layer), name] = mean
        if self.own_metrics and _keras.in_symbolic_scope():
            self.update_metrics(given)
        self._built = True

    def track(
        self,
        parts: Mapping[str, Any],
        reported: Iterable[tuple[Any, str, Any]],
        rows: Any,
    ) -> None:
        """Add one batch to the means that the logs show.

        Args:
            parts: Dict of all parts of all losses.
            reported: Tuples `(layer, name, value)` of what layers reported.
            rows: Integer, the weight of the batch.
        """
        for name, mean in self._trackers.items():
            if name not in parts:
                raise ValueError(
                    "A loss returns the same parts at every step. Received: "
                    f"parts {sorted(parts)}, and {name!r} is missing."
                )
            mean.update_state(parts[name], sample_weight=rows)
        if self._trackers and len(parts) > len(self._trackers):
            raise ValueError(
                "A loss returns the same parts at every step. Received: "
                f"parts {sorted(parts)}, and at first {list(self._trackers)}."
            )
        for layer, name, value in reported:
            if (id(layer), name) not in self._reported:
                raise ValueError(
                    "A reported value must be known when training begins. "
                    f"Received: name={name!r} from {layer.name!r}, first seen "
                    "inside a step. Report it whatever `training` is."
                )
            mean = self._reported[id(layer), name]
            mean.update_state(value, sample_weight=rows)


def _layers(model):
    return [model, *_keras.sublayers(model)]


def _reports_are_known(model):
    """Whether each layer that may report a value was called before."""
    return all(
        _keras.was_called(layer) or not _keras.has_call(layer)
        for layer in _layers(model)
        if _reports(layer)
    )


def _reports(layer):
    return isinstance(layer, reports.Reports)


def _groups(model):
    return model.trainable_variables, model.non_trainable_variables


def _values(model, step):
    """The values of both groups: those of a step, or the variables' own."""
    if step is None or step.is_building:
        return [[v.value for v in group] for group in _groups(model)]
    return [step.parameters, step.states]


def _by_path(model, names, values):
    """`parameters` and `states` as dicts by path, where they are asked for."""
    given = {}
    groups = zip(("parameters", "states"), _groups(model), values, strict=True)
    for name, variables, group in groups:
        if name in names:
            taken: set[str] = set()
            given[name] = {
                take_name(v.path, taken): value
                for v, value in zip(variables, group, strict=True)
            }
    return given
