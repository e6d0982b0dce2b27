"""The compiled losses and metrics of a model, and what a step adds to them."""

from keras_jax_ext import _keras
from keras_jax_ext._by_name import structures
from keras_jax_ext._seeing import reports
from keras_jax_ext._training.specs import unique

import keras


class Compiled:
    """Stands where Keras keeps its compiled loss.

    Holds the stock loss, ours, our metrics and what the layers report; Keras
    asks for `built`, `metrics`, `variables` and a call.
    """

    name = "compile_loss"

    def __init__(self, model, spec, stock, losses, metrics):
        self.model = model
        self.spec = spec
        self.stock = stock
        self.losses = losses
        self.own_metrics = [(m, m.binding()) for m in metrics]
        self.stock_weight = None
        self.trackers = {}
        self.reported = {}
        self.class_weight = None
        self.one_weight = {True: False, False: False}  # by `training`
        self._built = False
        self.step = {}

    @property
    def built(self):
        """Whether Keras need not draw a batch to build this.

        Without losses and metrics there is nothing that a batch would tell.
        """
        empty = not (self.stock or self.losses or self.own_metrics)
        if not self._built and empty and _reports_are_known(self.model):
            self._build({}, {})
        return self._built

    @property
    def names(self):
        """Every name that a loss or metric asks for."""
        bindings = [binding for *_, binding in self.losses + self.own_metrics]
        return {name for binding in bindings for name in binding.names}

    @property
    def metrics(self):
        """In the order of the logs."""
        return [
            *(metric for metric, _ in self.own_metrics if self.built),
            *(self.stock.metrics if self.stock else ()),
            *self.trackers.values(),
            *self.reported.values(),
        ]

    @property
    def variables(self):
        """The variables of all metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def given(self, x, y, y_pred, sample_weight):
        """The values that may be asked for, by name."""
        training = self.step.get("training", False)
        # Keras builds with `training=False`, whatever comes after.
        building = "reports" not in self.step
        one = self.one_weight[training] or (self.one_weight[True] and building)
        if one:
            sample_weight = next(iter(keras.tree.flatten(sample_weight)), None)
        weighed = training or building
        return {
            "x": x,
            "y_true": y,
            "y_pred": y_pred,
            "sample_weight": sample_weight,
            "class_weight": self.class_weight if weighed else None,
            "training": training,
        }

    def __call__(self, y, y_pred, sample_weight=None):
        given = self.given(self.step.get("x"), y, y_pred, sample_weight)
        given.update(by_path(self.model, self.names))
        total, parts = None, {}
        if self.stock is not None:
            total, parts = self._stock_part(y, y_pred, sample_weight)
        for name, loss, binding in self.losses:
            values = loss.parts(given, binding)
            for part, value in values.items():
                parts[f"{name}/{part}" if part else name] = value
                value = keras.ops.cast(loss.weighted(value), "float32")
                total = value if total is None else total + value
        if not self.built:
            self._build(parts, given)
        self._track(parts, structures.count_rows(given))
        return total

    def _stock_part(self, y, y_pred, sample_weight):
        """Keras's loss, and beside ours what of it the logs show."""
        value = self._stock_loss(y, y_pred, sample_weight)
        if not self.losses or self.stock.metrics:
            return value, {}
        if not self.built:
            self.stock_weight = _keras.take_loss_weight(self.stock)
            value = self._stock_loss(y, y_pred, sample_weight)
        parts = {f"{_keras.stock_loss_name(self.stock)}_loss": value}
        if self.stock_weight is not None:
            value = value * self.stock_weight
        return value, parts

    def _stock_loss(self, *data):
        try:
            return self.stock(*data)
        except (ValueError, KeyError, TypeError) as error:
            self.explain("loss", data[1], error)
            raise

    def explain(self, argument, y_pred, error):
        """Say how a function sees the whole, where Keras gives it parts."""
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

    def _build(self, parts, given):
        """Make the means that the logs show; called in an abstract trace."""
        taken = {m.name for m in self.model.metrics}
        taken.update(_keras.stock_metric_names(self.model))
        for metric, _ in self.own_metrics:
            metric.name = unique(metric.name, taken)
        alone = len(parts) == 1 and not any("/" in name for name in parts)
        if not alone or (self.stock and self.stock.metrics and self.losses):
            self.trackers = {
                name: keras.metrics.Mean(name=unique(name, taken))
                for name in parts
            }
        for layer in _layers(self.model):
            for name in reports.names(layer) if _reports(layer) else ():
                mean = keras.metrics.Mean(name=unique(name, taken))
                self.reported[id(layer), name] = mean
        if self.own_metrics and _keras.in_symbolic_scope():
            self.update_metrics(given)
        self._built = True

    def _track(self, parts, rows):
        for name, mean in self.trackers.items():
            if name not in parts:
                raise ValueError(
                    "A loss returns the same parts at every step. Received: "
                    f"parts {sorted(parts)}, and {name!r} is missing."
                )
            mean.update_state(parts[name], sample_weight=rows)
        if self.trackers and len(parts) > len(self.trackers):
            raise ValueError(
                "A loss returns the same parts at every step. Received: "
                f"parts {sorted(parts)}, and at first {list(self.trackers)}."
            )
        for layer, name, value in self.step.get("reports", ()):
            if (id(layer), name) not in self.reported:
                raise ValueError(
                    "A reported value must be known when training begins. "
                    f"Received: name={name!r} from {layer.name!r}, first seen "
                    "inside a step. Report it whatever `training` is."
                )
            mean = self.reported[id(layer), name]
            mean.update_state(value, sample_weight=rows)

    def silent(self):
        """Names in the logs that no layer reported in this step."""
        reports = self.step.get("reports", ())
        seen = {(id(layer), name) for layer, name, _ in reports}
        return {
            mean.name for key, mean in self.reported.items() if key not in seen
        }

    def update_metrics(self, given):
        """Add one batch to the metrics of ours."""
        for metric, binding in self.own_metrics:
            metric.update(given, binding)


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


def by_path(model, names, step=None):
    """`parameters` and `states` as dicts by path, where they are asked for."""
    groups = {
        "parameters": model.trainable_variables,
        "states": model.non_trainable_variables,
    }
    given = {}
    for group, variables in groups.items():
        if group not in names:
            continue
        values = [v.value for v in variables] if not step else step[group]
        taken: set[str] = set()
        given[group] = {
            unique(v.path, taken): value
            for v, value in zip(variables, values, strict=True)
        }
    return given
