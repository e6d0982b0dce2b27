"""`Trainer`: what a model does between `compile` and its `History`."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from keras_jax_ext import _keras, optimizers
from keras_jax_ext._by_name import entries
from keras_jax_ext._loop import fit as loop
from keras_jax_ext._loop.agreement import together
from keras_jax_ext._loop.fallback import fuses
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import PREDICT, TEST, TRAIN
from keras_jax_ext._loop.points import Sets
from keras_jax_ext._loop.source import Source
from keras_jax_ext._loop.turns import in_turn
from keras_jax_ext._loop.validation import Validation, split
from keras_jax_ext._training import (
    compiling,
    optax_step,
    per_example_step,
    points_step,
    specs,
    stepping,
    update_step,
)
from keras_jax_ext._training.guard import last_good_state
from keras_jax_ext._training.several import Updates, optimizer_of
from keras_jax_ext.optimizers._optax_optimizer import (
    custom_objects,
    optax_optimizers,
)

import keras


class Trainer(_keras.TrainingMode, _keras.BuiltWithoutCall):
    """Mixin: the `compile`, `fit`, `evaluate` and `predict` of our models.

    It stands right above `keras.Model`, and below the methods that a model's
    own class overrides: `super().fit(...)` there arrives here.
    """

    train_function: Any
    test_function: Any
    predict_function: Any

    # Share of the device's memory that the arrays given to `fit` may take.
    # Larger ones are read in super-batches.
    resident_fraction = 0.5

    # Whether stock Keras loads the files of this model, as after `extend`.
    _loads_as_stock = False

    @property
    def steps_per_execution(self) -> int:
        """Integer, steps between two calls of a callback's batch hooks."""
        return memo(self).steps_per_execution

    @steps_per_execution.setter
    def steps_per_execution(self, value: Any) -> None:
        memo(self).set_steps(value)

    def _is_built_by_losses(self) -> bool:
        """Whether the losses of updates are all that is left to build."""
        known = compiling.objective(self)
        if known is None or known.updates is None or known.built:
            return False
        return not known.updates.calls(self)

    # Compile.

    @_keras.untracked
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int | str = "auto",
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        *,
        updates: Any = None,
    ) -> None:
        """Configure the model for training, as `keras.Model.compile`.

        Example:

        ```python
        model.compile("adam", loss=[MixtureNLL(), kje.losses.GlobalL2(1e-4)])
        ```

        Args:
            optimizer: As Keras, or any optax transformation.
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
            updates: List of `kje.Update` and `kje.MovingAverage`, in place of
                the optimizer and the loss: a step runs them in order. Defaults
                to `None`.

        Raises:
            ValueError: If a loss or metric requires an argument that cannot
                be given, or the specs cannot be combined.
        """
        _keras.check_fresh(f"{type(self).__name__} {self.name!r}")
        optimizer = optimizer_of(
            self,
            optimizer,
            updates,
            auto_scale_loss=auto_scale_loss,
            loss=loss,
            loss_weights=loss_weights,
        )
        for each in optax_optimizers(optimizer):
            each.expect_loss()
        with compiling.specs(
            self, optimizer, loss, loss_weights, metrics, weighted_metrics
        ) as stock:
            super().compile(
                optimizer=optimizer,
                loss_weights=loss_weights,
                run_eagerly=run_eagerly,
                steps_per_execution=steps_per_execution,
                jit_compile=jit_compile,
                auto_scale_loss=auto_scale_loss,
                **stock,
            )

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile`, for `compile_from_config`.

        Returns:
            Dict; `None` before `compile`.
        """
        written = super().get_compile_config()
        return compiling.config(self, written, self._loads_as_stock)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config` says.

        Args:
            config: Dict.
        """
        writer = next(c for c in type(self).__mro__ if "compile" in vars(c))
        if writer is not Trainer:
            # Keras warns that only the user knows how.
            super().compile_from_config(config)
            return
        with entries.telling_damage("The `compile_config` of a model", config):
            self.compile(**specs.from_file(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    # Many steps.

    @in_turn
    @together
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> keras.callbacks.History:
        """Train the model, as `keras.Model.fit`.

        Args:
            x: Inputs, or what yields batches.
            y: Labels. Defaults to `None`, where nothing asks for them.
            batch_size: As Keras.
            epochs: As Keras.
            verbose: As Keras.
            callbacks: As Keras.
            validation_split: As Keras.
            validation_data: As Keras.
            shuffle: As Keras.
            class_weight: As Keras. A loss that asks for `class_weight` by
                name is given the dict; other losses have it in the sample
                weights.
            sample_weight: As Keras.
            initial_epoch: As Keras.
            steps_per_epoch: As Keras.
            validation_steps: As Keras.
            validation_batch_size: As Keras.
            validation_freq: As Keras.

        Returns:
            The `History`.
        """
        arguments = {k: v for k, v in locals().items() if k in _FIT}
        _keras.check_compiled(self, "fit")
        _keras.forget_first_epoch(self)
        points_step.prepare(self, x, validation_data)
        compiling.note_shared_sample_weight(
            self, y, sample_weight, training=True
        )
        class_weight = compiling.keep_class_weight(self, class_weight)
        if not fuses(self, TRAIN, verbose):
            arguments["class_weight"] = class_weight
            # A tool that replaces Keras's `fit` may look for what was given.
            given = {k: v for k, v in arguments.items() if v is not _FIT[k]}
            return super().fit(x, y, **given)
        with last_good_state(self):
            epochs = loop.capped(epochs)
            data, validation_data = split(
                (x, y, sample_weight), validation_split, validation_data
            )
            source = Source(
                self,
                *data,
                steps=steps_per_epoch,
                batch_size=batch_size,
                shuffle=shuffle,
                class_weight=class_weight,
            )
            validation = Validation(
                validation_data,
                validation_batch_size or batch_size,
                validation_steps,
                validation_freq,
            )
            return loop.fit(
                self,
                source,
                validation,
                epochs=epochs,
                initial_epoch=initial_epoch,
                callbacks=callbacks,
                verbose=verbose,
            )

    @in_turn
    @together
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Losses and metrics over some data, as `keras.Model.evaluate`.

        Args:
            x: Inputs, or what yields batches.
            y: Labels. Defaults to `None`, where nothing asks for them.
            batch_size: As Keras.
            verbose: As Keras.
            sample_weight: As Keras.
            steps: As Keras.
            callbacks: As Keras.
            return_dict: As Keras.
            **kwargs: Of Keras's own `fit`.

        Returns:
            As Keras.
        """
        _keras.check_compiled(self, "evaluate")
        points_step.prepare(self, x)
        compiling.note_shared_sample_weight(
            self, y, sample_weight, training=False
        )
        with optimizers.evaluation_weights(self), last_good_state(self):
            source = None
            if kwargs.get(_keras.CACHED):
                source = memo(self).validation
            elif not kwargs and fuses(self, TEST, verbose):
                data = x, y, sample_weight
                source = Source(self, *data, steps=steps, batch_size=batch_size)
            if source is None:
                return super().evaluate(
                    x,
                    y,
                    batch_size,
                    verbose,
                    sample_weight,
                    steps,
                    callbacks,
                    return_dict,
                    **kwargs,
                )
            logs = loop.evaluate(self, source, verbose, callbacks)
        return logs if return_dict else _keras.in_order(self, logs)

    @in_turn
    @together
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Outputs for all of some data, as `keras.Model.predict`.

        Args:
            x: Inputs, or what yields batches.
            batch_size: As Keras.
            verbose: As Keras.
            steps: As Keras.
            callbacks: As Keras.

        Returns:
            NumPy arrays, in the structure of the outputs.
        """
        points_step.refuse(x)
        with optimizers.evaluation_weights(self), last_good_state(self):
            if not self.built or not fuses(self, PREDICT, verbose):
                return super().predict(x, batch_size, verbose, steps, callbacks)
            source = Source(self, x, steps=steps, batch_size=batch_size)
            return loop.predict(self, source, verbose, callbacks)

    # One batch.

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One update, as `keras.Model.train_on_batch`.

        Args:
            x: Inputs.
            y: Labels. Defaults to `None`.
            sample_weight: As Keras. Defaults to `None`.
            class_weight: As `fit`. Defaults to `None`.
            return_dict: As Keras.

        Returns:
            As Keras.
        """
        class_weight = compiling.keep_class_weight(self, class_weight)
        return super().train_on_batch(
            x, y, sample_weight, class_weight, return_dict
        )

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Losses and metrics of a batch, as `keras.Model.test_on_batch`.

        Args:
            x: Inputs.
            y: Labels. Defaults to `None`.
            sample_weight: As Keras. Defaults to `None`.
            return_dict: As Keras.

        Returns:
            As Keras.
        """
        with optimizers.evaluation_weights(self):
            return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Outputs for a batch, as `keras.Model.predict_on_batch`.

        Args:
            x: Inputs.

        Returns:
            NumPy arrays, in the structure of the outputs.
        """
        with optimizers.evaluation_weights(self):
            return super().predict_on_batch(x)

    # A step, which is traced.

    def train_step(self, state: Any, data: Any) -> tuple[Any, Any]:
        """One update, as `keras.Model.train_step`.

        Args:
            state: Tuple of lists of arrays.
            data: One batch.

        Returns:
            Tuple of the logs and the next state.
        """
        with compiling.stepping(self, state, training=True):
            if isinstance(self.optimizer, Updates):
                return update_step.train_step(self, state, data)
            if per_example_step.is_asked_for(self.optimizer):
                return per_example_step.train_step(self, state, data)
            if optax_step.is_asked_for(self.optimizer):
                return optax_step.train_step(self, state, data)
            return super().train_step(state, data)

    def test_step(self, state: Any, data: Any) -> tuple[Any, Any]:
        """One batch of evaluation, as `keras.Model.test_step`.

        Args:
            state: Tuple of lists of arrays.
            data: One batch.

        Returns:
            Tuple of the logs and the next state.
        """
        with compiling.stepping(self, state, training=False):
            if isinstance(self.optimizer, Updates):
                return update_step.test_step(self, state, data)
            return super().test_step(state, data)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
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
        inner = super().compute_loss
        if "training" in inspect.signature(inner).parameters:
            inner = functools.partial(inner, training=training)
        with compiling.computing_loss(self, x, y_pred, training):
            return inner(x, y, y_pred, sample_weight)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Update the metrics and return the logs, as Keras's.

        Args:
            x: Inputs.
            y: Labels.
            y_pred: Structure of outputs.
            sample_weight: Weights.

        Returns:
            Dict of the logs.
        """
        with compiling.computing_metrics(self, x, y, y_pred, sample_weight):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return compiling.reported_logs(self, logs)

    # Steps made into functions.

    def make_train_function(self, force: bool = False) -> None:
        """As Keras's; a step that fails leaves the variables as they were.

        Args:
            force: Boolean, whether to make it anew.
        """
        # Before the first step: an error within it would come too late.
        optax_step.check(self)
        per_example_step.check(self)
        stepping.make(self, TRAIN, super().make_train_function, force)

    def make_test_function(self, force: bool = False) -> None:
        """As Keras's; a step that fails leaves the variables as they were.

        Args:
            force: Boolean, whether to make it anew.
        """
        stepping.make(self, TEST, super().make_test_function, force)

    def make_predict_function(self, force: bool = False) -> None:
        """As Keras's; a step that fails leaves the variables as they were.

        Args:
            force: Boolean, whether to make it anew.
        """
        stepping.make(self, PREDICT, super().make_predict_function, force)

    # Calls and copies.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Sets):
            return points_step.build(self, args[0])
        outputs = super().__call__(*args, **kwargs)
        _keras.register_dataclasses(outputs)
        return outputs

    def stateless_call(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """As `keras.Model.stateless_call`.

        Args:
            trainable_variables: List of arrays.
            non_trainable_variables: List of arrays.
            *args: Arguments of `call`.
            return_losses: Boolean, whether to return the losses of `call`.
            **kwargs: Further arguments of `call`.

        Returns:
            Tuple of the outputs, the non-trainable variables and, if asked
            for, the losses.
        """
        state = trainable_variables, non_trainable_variables
        if args and isinstance(args[0], Sets):
            training = bool(kwargs.get("training"))
            return points_step.stateless_call(
                self, *state, training=training, losses=return_losses
            )
        return super().stateless_call(
            *state, *args, return_losses=return_losses, **kwargs
        )

    def __deepcopy__(self, memo: Any) -> Any:
        # Keras copies a model through a file, which raw optax is not in: not
        # by `__reduce__` of ours, which refuses to pickle it.
        written: Any = keras.Model.__reduce__(self)
        rebuild, arguments = written
        known = custom_objects(getattr(self, "optimizer", None))
        with keras.saving.custom_object_scope(known):
            return rebuild(*arguments)


_FIT = {
    name: parameter.default
    for name, parameter in inspect.signature(Trainer.fit).parameters.items()
    if name not in ("self", "x", "y")
}
