"""What `compile` accepts, and how a step computes it."""

import contextlib
import functools
import inspect
from typing import Any

from keras_jax_ext import _keras, _parts, _report, _specs
from keras_jax_ext._compiled import Compiled, by_path
from keras_jax_ext._specs import Kept, renamed, split_losses, split_metrics

import keras

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
_SPECS = ("loss", "metrics", "weighted_metrics")


class Compile(_keras.Mixin):
    """Mixin: `compile` takes losses and metrics of the whole output."""

    train_function: Any
    test_function: Any
    _loads_as_stock = False

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
        _keras.set_compiled_loss(self, Compiled(self, spec, stock, losses, own))

    def __call__(self, *args, **kwargs):
        outputs = super().__call__(*args, **kwargs)
        _keras.register_dataclasses(outputs)
        return outputs

    def get_compile_config(self):
        """What `compile_from_config` needs, losses and metrics of ours too.

        Returns:
            Dict.
        """
        config = super().get_compile_config()
        compiled = self._whole()
        if not config or compiled is None:
            return config
        specs = compiled.spec
        if self._loads_as_stock and (compiled.losses or compiled.own_metrics):
            specs = {**dict.fromkeys(_SPECS), "loss": Kept(specs)}
        for name, value in specs.items():
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
        self.compile(**_specs.from_file(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _whole(self):
        compiled = _keras.compiled_loss(self)
        return compiled if isinstance(compiled, Compiled) else None

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
            given.update(by_path(self, compiled.names, compiled.step))
            compiled.update_metrics(given)
        try:
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
        except (ValueError, KeyError, TypeError) as error:
            if compiled:
                compiled.explain("metrics", y_pred, error)
            raise
        if compiled and compiled.reported:
            # Zero would be wrong for what is reported in training only.
            silent = compiled.silent()
            logs = {name: v for name, v in logs.items() if name not in silent}
        return logs

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

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`.

        Args:
            x: Inputs, or what yields batches.
            y: Labels. Defaults to `None`, where nothing asks for them.
            *args: As Keras.
            **kwargs: As Keras. A loss that asks for `class_weight` by name is
                given the dict; other losses have it in the sample weights.

        Returns:
            The `History`.
        """
        given = {**_named("fit", x, y, *args), **kwargs}
        self._know_weights(y, given.get("sample_weight"), training=True)
        class_weight = self._keep_class_weight(given.pop("class_weight", None))
        return super().fit(**given, class_weight=class_weight)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.evaluate`.

        Args:
            x: Inputs, or what yields batches.
            y: Labels. Defaults to `None`, where nothing asks for them.
            *args: As Keras.
            **kwargs: As Keras.

        Returns:
            As Keras.
        """
        given = {**_named("evaluate", x, y, *args), **kwargs}
        self._know_weights(y, given.get("sample_weight"), training=False)
        return super().evaluate(**given)

    def _know_weights(self, y, sample_weight, training):
        """Whether one array weighs all outputs; Keras repeats it for each."""
        compiled = self._whole()
        if compiled is None or not (compiled.losses or compiled.own_metrics):
            return
        one = _parts.is_structure(y) and not _parts.is_structure(sample_weight)
        if compiled.one_weight[training] != one:
            compiled.one_weight[training] = one
            # The compiled step holds the old one.
            if training:
                self.train_function = None
            else:
                self.test_function = None

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
        asking = [
            "class_weight" in b.names
            for _, _, b in compiled.losses
            if {"class_weight", "y_true", "y_pred"} & {*b.names}
        ]
        if compiled.stock is not None:
            asking.append(False)
        if len({*asking}) > 1 and class_weight is not None:
            raise ValueError(
                "`class_weight` goes either to the loss that asks for it by "
                "name or into the sample weights of all. Received: "
                f"class_weight={class_weight!r}, one loss that asks and "
                "others that do not. Ask for it in each, or in none."
            )
        if compiled.class_weight != class_weight:
            compiled.class_weight = class_weight
            self.train_function = None  # the compiled step holds the old one
        return None if any(asking) else class_weight


@functools.cache
def _signature(method):
    return inspect.signature(getattr(keras.Model, method))


def _named(method, *args):
    """Positional arguments of one of Keras's methods, by name."""
    arguments = _signature(method).bind(None, *args).arguments
    return {name: v for name, v in arguments.items() if name != "self"}
