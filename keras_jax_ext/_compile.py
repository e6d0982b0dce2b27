"""What `compile` accepts, and how a step computes it."""

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

from keras_jax_ext import _keras, _parts, _report
from keras_jax_ext._specs import (
    renamed,
    split_losses,
    split_metrics,
    unique,
)

import jax
import keras

if TYPE_CHECKING:
    _Base: Any = None  # a keras.Model
else:
    _Base = object

# As Keras's; only what differs is passed on, because a subclass of another
# package may have other defaults.
_DEFAULTS = {
    "optimizer": "rmsprop",
    "loss": None,
    "loss_weights": None,
    "metrics": None,
    "weighted_metrics": None,
    "run_eagerly": False,
    "steps_per_execution": "auto",
    "jit_compile": "auto",
    "auto_scale_loss": True,
}


class _Compiled:
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
        self.trackers = {}
        self.reported = {}
        self.class_weight = None
        self.built = False
        self.step = {}

    @property
    def names(self):
        """Every name that a loss or metric asks for."""
        bindings = [binding for *_, binding in self.losses + self.own_metrics]
        return {name for binding in bindings for name in binding.names}

    @property
    def metrics(self):
        """In the order of the logs."""
        return [
            *(metric for metric, _ in self.own_metrics),
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
        return {
            "x": x,
            "y_true": y,
            "y_pred": y_pred,
            "sample_weight": sample_weight,
            "class_weight": self.class_weight if training else None,
            "training": training,
        }

    def __call__(self, y, y_pred, sample_weight=None):
        given = self.given(self.step.get("x"), y, y_pred, sample_weight)
        given.update(_by_path(self.model, self.names))
        total, parts = self._stock_part(y, y_pred, sample_weight)
        for name, loss, binding in self.losses:
            values = loss.parts(given, binding)
            for part, value in values.items():
                parts[f"{name}/{part}" if part else name] = value
                value = keras.ops.cast(loss.weighted(value), "float32")
                total = value if total is None else total + value
        if not self.built:
            self._build(parts, given)
        self._track(parts, _rows(given))
        return total

    def _stock_part(self, y, y_pred, sample_weight):
        """Keras's loss, and its name in the logs beside ours."""
        if self.stock is None:
            return None, {}
        try:
            value = self.stock(y, y_pred, sample_weight)
        except (ValueError, KeyError, TypeError) as error:
            if not _parts.is_structure(y_pred) or not callable(
                self.spec.get("loss")
            ):
                raise
            raise ValueError(
                "A function of (y_true, y_pred) is called once for each "
                "output, and the labels have another structure. Received: "
                f"loss={self.spec['loss']!r}. For one loss over the whole "
                "output write keras_jax_ext.losses.Loss(fn)."
            ) from error
        if not self.losses or self.stock.metrics:
            return value, {}
        return value, {f"{_keras.stock_loss_name(self.stock)}_loss": value}

    def _build(self, parts, given):
        """Make the means that the logs show; called in an abstract trace."""
        taken = {"loss"} | {m.name for m in self.model.metrics}
        alone = len(parts) == 1 and not any("/" in name for name in parts)
        if not alone or (self.stock and self.stock.metrics and self.losses):
            self.trackers = {
                name: keras.metrics.Mean(name=unique(name, taken))
                for name in parts
            }
        for layer in _layers(self.model):
            for name in _report.names(layer) if _reports(layer) else ():
                mean = keras.metrics.Mean(name=unique(name, taken))
                self.reported[id(layer), name] = mean
        if self.own_metrics and _keras.in_symbolic_scope():
            self.update_metrics(given)
        self.built = True

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

    def update_metrics(self, given):
        """Add one batch to the metrics of ours."""
        for metric, binding in self.own_metrics:
            metric.update(given, binding)


def _layers(model):
    return [model, *_keras.sublayers(model)]


def _reports(layer):
    return isinstance(layer, _report.Reports)


def _rows(given):
    """The number of samples, which weighs a batch in the epoch's mean."""
    for name in ("x", "y_pred"):
        for leaf in keras.tree.flatten(given[name]):
            if leaf is not None and getattr(leaf, "shape", None):
                return leaf.shape[0]
    return 1


def _by_path(model, names, step=None):
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


class Compile(_Base):
    """Mixin: `compile` takes losses and metrics of the whole output."""

    train_function: Any
    test_function: Any

    @_keras.untracked
    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution="auto",
        jit_compile="auto",
        auto_scale_loss=True,
        **kwargs,
    ):
        """Configure the model for training, as `keras.Model.compile`.

        Example:

        ```python
        model.compile("adam", loss=[MixtureNLL(), kje.losses.GlobalL2(1e-4)])
        ```

        Args:
            optimizer: As Keras.
            loss: As Keras, or a `kje.losses.Loss`, a function of the names
                these may ask for, or a list or dict of them. A list may hold
                one spec of Keras beside ours.
            loss_weights: As Keras, for the losses of Keras.
            metrics: As Keras, or a list that also holds `kje.metrics.Metric`
                and functions of named arguments.
            weighted_metrics: As `metrics`, with the sample weights applied.
            run_eagerly: As Keras.
            steps_per_execution: As Keras, or `"auto"`: as many steps as keep
                the progress bar moving, one if a callback acts on batches.
                Defaults to `"auto"`.
            jit_compile: As Keras.
            auto_scale_loss: As Keras.
            **kwargs: Arguments of a subclass's own `compile`.

        Raises:
            ValueError: If a loss or metric requires an argument that cannot
                be given, or the specs cannot be combined.
        """
        _keras.check_fresh(f"{type(self).__name__} {self.name!r}")
        given = {
            name: value
            for name, value in locals().items()
            if name in _DEFAULTS and value is not _DEFAULTS[name]
        }
        spec = {k: given[k] for k in _SPECS if k in given}
        stock, losses = split_losses(loss, loss_weights)
        plain, own = split_metrics(metrics, weighted=False)
        plain_weighted, own_weighted = split_metrics(weighted_metrics, True)
        split = (stock, plain, plain_weighted)
        given.update(
            (name, value)
            for name, value in zip(_SPECS, split, strict=True)
            if name in given
        )
        own = renamed([*own, *own_weighted])
        restore = _keras.clear_compiled(self)
        try:
            super().compile(**given, **kwargs)
        except BaseException:
            restore()
            raise
        if losses:
            self.loss = loss
        stock = _keras.compiled_loss(self)
        _keras.set_compiled_loss(
            self, _Compiled(self, spec, stock, losses, own)
        )

    def get_compile_config(self):
        """What `compile_from_config` needs, losses and metrics of ours too.

        Returns:
            Dict.
        """
        config = super().get_compile_config()
        compiled = self._whole()
        if config and compiled:
            for name, value in compiled.spec.items():
                config[name] = keras.saving.serialize_keras_object(value)
        return config

    def compile_from_config(self, config):
        """Compile as `get_compile_config` says.

        Args:
            config: Dict.
        """
        writer = next(c for c in type(self).__mro__ if "compile" in vars(c))
        if not writer.__module__.startswith("keras_jax_ext."):
            # Keras warns that only the user knows how.
            super().compile_from_config(config)
            return
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _whole(self):
        compiled = _keras.compiled_loss(self)
        return compiled if isinstance(compiled, _Compiled) else None

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The total loss, as `keras.Model.compute_loss`.

        Args:
            x: Inputs.
            y: Labels.
            y_pred: Structure of outputs.
            sample_weight: Weights.
            training: Boolean.

        Returns:
            Scalar tensor.
        """
        args = (x, y, y_pred, sample_weight)
        inner = super().compute_loss
        if "training" in inspect.signature(inner).parameters:
            inner = functools.partial(inner, training=training)
        compiled = self._whole()
        if compiled is None:
            return inner(*args)
        before = compiled.step
        # The step knows `training`; an override of this method may drop it.
        compiled.step = {"training": training, **before, "x": x}
        try:
            return inner(*args)
        finally:
            compiled.step = before

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Update the metrics and return the logs, as Keras's.

        Args:
            x: Inputs.
            y: Labels.
            y_pred: Structure of outputs.
            sample_weight: Weights.

        Returns:
            Dict of the logs.
        """
        compiled = self._whole()
        if compiled and compiled.built and compiled.own_metrics:
            given = compiled.given(x, y, y_pred, sample_weight)
            given.update(_by_path(self, compiled.names, compiled.step))
            compiled.update_metrics(given)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, state, data):
        """One update, as `keras.Model.train_step`.

        Args:
            state: Tuple of lists of arrays.
            data: One batch.

        Returns:
            Tuple of the logs and the next state.
        """
        with self._stepping(state, training=True):
            return super().train_step(state, data)

    def test_step(self, state, data):
        """One batch of evaluation, as `keras.Model.test_step`.

        Args:
            state: Tuple of lists of arrays.
            data: One batch.

        Returns:
            Tuple of the logs and the next state.
        """
        with self._stepping(state, training=False):
            return super().test_step(state, data)

    @contextlib.contextmanager
    def _stepping(self, state, training):
        """Know, until the end of the block, what the whole step is given."""
        compiled = self._whole()
        if compiled is None:
            yield
            return
        with _report.collecting() as reports:
            compiled.step = {
                "training": training,
                "parameters": state[0],
                "states": state[1],
                "reports": reports,
            }
            try:
                yield
            finally:
                compiled.step = {}

    def make_train_function(self, force=False):
        """As Keras's; a failing step leaves the weights as they were.

        Args:
            force: Boolean, whether to make it anew.
        """
        made = self.train_function
        super().make_train_function(force=force)
        if self.train_function is not made:
            self.train_function = guarded(
                self, self.train_function, optimizer=True
            )

    def make_test_function(self, force=False):
        """As Keras's; a failing step leaves the weights as they were.

        Args:
            force: Boolean, whether to make it anew.
        """
        made = self.test_function
        super().make_test_function(force=force)
        if self.test_function is not made:
            self.test_function = guarded(
                self, self.test_function, optimizer=False
            )

    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        """As `keras.Model.fit`.

        Args:
            x: Inputs, or what yields batches.
            y: Labels. Defaults to `None`, where nothing asks for them.
            *args: As Keras.
            class_weight: As Keras. A loss that asks for it by name is given
                the dict instead. Defaults to `None`.
            **kwargs: As Keras.

        Returns:
            The `History`.
        """
        class_weight = self._keep_class_weight(class_weight)
        return super().fit(x, y, *args, class_weight=class_weight, **kwargs)

    def train_on_batch(
        self, x, y=None, sample_weight=None, class_weight=None, **kwargs
    ):
        """As `keras.Model.train_on_batch`.

        Args:
            x: Inputs.
            y: Labels. Defaults to `None`.
            sample_weight: As Keras. Defaults to `None`.
            class_weight: As `fit`. Defaults to `None`.
            **kwargs: As Keras.

        Returns:
            As Keras.
        """
        class_weight = self._keep_class_weight(class_weight)
        return super().train_on_batch(
            x, y, sample_weight, class_weight, **kwargs
        )

    def _keep_class_weight(self, class_weight):
        """Keep it for a loss that asks for it; else hand it on to Keras."""
        compiled = self._whole()
        if compiled is None or "class_weight" not in compiled.names:
            return class_weight
        weighed = compiled.stock is not None or any(
            "class_weight" not in b.names and {"y_true", "y_pred"} & {*b.names}
            for _, _, b in compiled.losses
        )
        if weighed and class_weight is not None:
            raise ValueError(
                "`class_weight` goes either to the loss that asks for it by "
                "name or into the sample weights of all. Received: "
                f"class_weight={class_weight!r}, one loss that asks and "
                "others that do not. Ask for it in each, or in none."
            )
        if compiled.class_weight != class_weight:
            compiled.class_weight = class_weight
            self.train_function = None  # the compiled step holds the old one
        return None


_SPECS = ("loss", "metrics", "weighted_metrics")


def guarded(model, function, *, optimizer):
    """Wrap a step function so that a failing step keeps the weights.

    Keras takes the values out of the variables before a step; an exception
    while it is traced would leave every variable `None`.

    Args:
        model: The model that `function` steps.
        function: `f(state, iterator) -> (logs, state)`.
        optimizer: Boolean, whether the state holds the optimizer's.

    Returns:
        A function of the same arguments.
    """

    @functools.wraps(function)
    def step(state, iterator):
        kept = state
        config: Any = jax.config
        if config.jax_debug_nans or config.jax_debug_infs:
            # These raise after the buffers were given away.
            kept = jax.tree.map(jax.numpy.copy, state)
        try:
            return function(state, iterator)
        except StopIteration:
            raise
        except BaseException:
            _keras.restore_state(model, kept, optimizer=optimizer)
            raise

    return step
