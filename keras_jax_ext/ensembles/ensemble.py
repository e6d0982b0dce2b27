"""`Ensemble`: many copies of a model, trained as one."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from keras_jax_ext import _keras
from keras_jax_ext._loop.fallback import fuses
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import TRAIN
from keras_jax_ext._training import specs
from keras_jax_ext.ensembles import optimizers
from keras_jax_ext.ensembles.logs import Heard, MemberHistory
from keras_jax_ext.ensembles.members import Members, checked_seeds
from keras_jax_ext.ensembles.orders import MemberOrders
from keras_jax_ext.ensembles.steps import VmappedSteps
from keras_jax_ext.models import Model

import keras
import numpy as np


@keras.saving.register_keras_serializable("keras_jax_ext")
class Ensemble(VmappedSteps, Model):
    """Copies of a model, each with its own weights, that train in one program.

    Each member is the model that `build` returns after
    `keras.utils.set_random_seed(seed)`, and trains as it would alone: it has
    its own first weights, random numbers, and optimizer. The ensemble is a
    model whose variables have one more axis, so that `fit`, callbacks and
    files work on all members at once. The random streams of the process are
    as before once the members are made.

    Example:

    ```python
    def build():
        return kje.Sequential([Block(8), kje.layers.Dense(1)])

    ensemble = kje.Ensemble(build, 4)
    ensemble.compile("adam", "mse")
    history = ensemble.fit(x, y, epochs=3, verbose=0)
    history.members["loss"].shape  # (3, 4)
    predictions = ensemble.predict(x, verbose=0)  # members first
    mean, spread = predictions.mean(0), predictions.std(0)
    best = ensemble.member(ensemble.best("loss"))
    ```

    Args:
        build: Function that returns a new Keras model at each call. If it has
            an argument `seed`, or one that is required, it is given the seed.
        n: Integer, how many members.
        seeds: List of `n` integers. Defaults to `None`, `range(n)`.
        name: String. Defaults to `None`, an automatic name.

    Raises:
        TypeError: If `build` is not a function, or returns no model.
        ValueError: If there is no member, or if members share layers or
            differ in more than the values of their variables.
    """

    def __init__(
        self,
        build: Callable[..., keras.Model],
        n: int,
        *,
        seeds: Sequence[int] | None = None,
        name: str | None = None,
    ) -> None:
        if keras.config.is_nnx_enabled():
            raise ValueError(
                "An ensemble stacks variables of Keras, and in NNX mode they "
                "are Flax's. Received: keras.config.is_nnx_enabled() is True. "
                "Start without KERAS_NNX_ENABLED."
            )
        members = Members(build, checked_seeds(n, seeds))
        super().__init__(name=name)
        self._members, self._heard = members, Heard()
        self._given: optimizers.Given | None = None
        self._compiled_with: Any = None
        self._orders: MemberOrders | None = None
        memo(self).stepped = members.model
        memo(self).hear = self._heard.hear
        self._keep()

    def _keep(self):
        """Track the stacked variables, once they are made."""
        if self._members.are_built and not self.built:
            self._twins = self.variables  # what a file holds
            self.built = True

    # Build.

    def build(self, input_shape: Any) -> None:
        """Make the variables of all members.

        Args:
            input_shape: As `keras.Model.build`.
        """
        x = keras.tree.map_shape_structure(keras.KerasTensor, input_shape)
        self._build_members(x)

    def _build_members(self, x):
        self._members.build(x)
        self._keep()
        if self.compiled and self.optimizer is self._members.model.optimizer:
            self._build_optimizer()

    def _build_optimizer(self):
        members = self._members
        if self._given is not None:
            self.optimizer = optimizers.build(
                self._given, members.model, members.stack
            )

    def needs_batch(self) -> bool:
        """Whether anything is left to build."""
        model = self._members.model
        return not (self.built and _keras.is_compiled_built(model))

    def build_from_batch(self, batch: Any) -> None:
        """Build what is left.

        Args:
            batch: Tuple `(x, y, sample_weight)`.
        """
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        self._build_members(x)
        _keras.build_compiled(self._members.model, batch)
        if self._orders is not None:
            self._orders.note_build()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.built and args:
            self._build_members(args[0])
        return super().__call__(*args, **kwargs)

    # Compile, fit, evaluate, predict.

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
    ) -> None:
        """Configure all members for training, as `kje.Model.compile`.

        Example:

        ```python
        ensemble = kje.Ensemble(lambda: kje.Sequential([Block(1)]), 3)
        rates = [1e-2, 1e-3, 1e-4]
        ensemble.compile(lambda i: keras.optimizers.Adam(rates[i]), "mse")
        ```

        Args:
            optimizer: As `kje.Model.compile`, for each member the same; or a
                function of a member's number that returns its optimizer. They
                may differ in what their variables hold, such as the learning
                rate.
            loss: As `kje.Model.compile`.
            loss_weights: As `kje.Model.compile`.
            metrics: As `kje.Model.compile`.
            weighted_metrics: As `kje.Model.compile`.
            run_eagerly: As Keras.
            steps_per_execution: As `kje.Model.compile`.
            jit_compile: As Keras.
            auto_scale_loss: As Keras.

        Raises:
            ValueError: As `kje.Model.compile`, or if the optimizers differ in
                more than their variables.
        """
        model, stack = self._members.model, self._members.stack
        given = optimizers.Given(optimizer)
        compiled = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        options = {
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }
        if model.compiled:
            stack.drop(model.metrics_variables)
            if model.optimizer is not None:
                stack.drop(model.optimizer.variables)
        model.compile(given.make(0), **compiled, **options)
        # The losses are the member's: only its step calls them.
        super().compile(
            model.optimizer, **{**options, "jit_compile": model.jit_compile}
        )
        _keras.set_compiled_loss(self, _keras.compiled_loss(model))
        self._given, self._compiled_with = given, {**compiled, **options}
        if self.built:
            self._build_optimizer()

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
        """Train all members, as `keras.Model.fit`.

        Callbacks see the means over the members. A member whose loss is not
        finite is left out of them, and named in a warning once.

        Args:
            x: As Keras.
            y: As Keras.
            batch_size: As Keras.
            epochs: As Keras.
            verbose: As Keras.
            callbacks: As Keras, and `kje.callbacks.MemberEarlyStopping`.
            validation_split: As Keras.
            validation_data: As Keras.
            shuffle: As Keras: all members see the same batches. With
                `"member"` each has an order of its own, for arrays.
            class_weight: As Keras.
            sample_weight: As Keras.
            initial_epoch: As Keras.
            steps_per_epoch: As Keras.
            validation_steps: As Keras.
            validation_batch_size: As Keras.
            validation_freq: As Keras.

        Returns:
            The `History` of the means. Its `members` is a dict of arrays of
            shape `(epochs, n)`, the logs of each member.
        """
        given = {k: v for k, v in locals().items() if k not in _NOT_GIVEN}
        own = isinstance(shuffle, str) and shuffle == "member"
        if own:
            given["shuffle"] = True
            _check_arrays(x, shuffle)
            if not fuses(self, TRAIN, verbose):
                raise ValueError(
                    "Members have an order of their own in the compiled loop "
                    "alone, which cannot run here. Received: "
                    f"shuffle={shuffle!r}. Leave it out."
                )
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            history = MemberHistory(self._heard, self._members.seeds)
            given["callbacks"] = [history, *keras.tree.flatten(callbacks or [])]
        if self._mask is not None:
            self.active = np.ones(len(self._members), bool)
        self._use_own_rows(own)
        memo(self).orders = self._orders if own else None
        try:
            return super().fit(**given)
        finally:
            memo(self).orders = None

    def _use_own_rows(self, own):
        if own and self._orders is None:
            self._orders = MemberOrders(self._members.alone)
        if own != self._own_rows:
            self._own_rows = own
            self.train_function = None  # the step has the old answer in it

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
        members: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Losses and metrics, as `keras.Model.evaluate`.

        Args:
            x: As Keras.
            y: As Keras.
            batch_size: As Keras.
            verbose: As Keras.
            sample_weight: As Keras.
            steps: As Keras.
            callbacks: As Keras.
            return_dict: As Keras.
            members: Boolean, whether to return those of each member. Defaults
                to `False`, the means.
            **kwargs: Of Keras's own `fit`.

        Returns:
            As Keras; with `members` a dict of arrays of shape `(n,)`.
        """
        before, self._heard.evaluates = self._heard.evaluates, True
        try:
            logs = super().evaluate(
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
        finally:
            self._heard.evaluates = before
        if not members:
            return logs
        heard = self._heard.evaluated
        return {name: np.asarray(values) for name, values in heard.items()}

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs of every member, as `keras.Model.predict`.

        Args:
            x: As Keras.
            batch_size: As Keras.
            verbose: As Keras.
            steps: As Keras.
            callbacks: As Keras.

        Returns:
            NumPy arrays of shape `(n, rows, ...)`, in the structure of the
            outputs. Their mean over the members is `.mean(0)`, their spread
            `.std(0)`.
        """
        if not self.built:
            self._build_members(_first_rows(x))
        outputs = super().predict(x, batch_size, verbose, steps, callbacks)
        return keras.tree.map_structure(_members_first, outputs)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs of every member for a batch, as `predict`.

        Args:
            x: Inputs.
        """
        if not self.built:
            self._build_members(x)
        outputs = super().predict_on_batch(x)
        return keras.tree.map_structure(_members_first, outputs)

    # Members.

    @property
    def active(self) -> np.ndarray:
        """Boolean array of shape `(n,)`: which members are trained.

        A callback may set it: the others then keep their weights, until the
        next `fit`.
        """
        if self._mask is None:
            return np.ones(len(self._members), bool)
        return np.asarray(self._mask.value)

    @active.setter
    def active(self, active: Any) -> None:
        if self._mask is None:
            mask = keras.Variable(
                np.ones(len(self._members), bool), dtype="bool", trainable=False
            )
            # Not by `setattr`: it is no part of a file.
            object.__setattr__(self, "_mask", mask)
            self.train_function = self.test_function = None
            self.predict_function = None
        self._mask.assign(np.asarray(active, bool))

    def member(self, i: int) -> keras.Model:
        """Take out a member, as an ordinary model.

        Args:
            i: Integer, from 0.

        Returns:
            The model that `build` returned, with the weights that the member
            has now, compiled as the ensemble is, with the state of the
            member's optimizer. It shares nothing with the ensemble.
        """
        members = self._members
        if not -len(members) <= i < len(members):
            raise IndexError(
                f"An ensemble of {len(members)} has members 0 to "
                f"{len(members) - 1}. Received: i={i!r}."
            )
        self._check_declared("member")
        self.jax_state_sync()
        i = range(len(members))[i]
        model = members.copy(i)
        if self._given is None:
            return model
        model.compile(self._given.make(i), **self._compiled_with)
        if model.optimizer is not None:
            model.optimizer.build(model.trainable_variables)
            pairs = zip(
                model.optimizer.variables, self.optimizer.variables, strict=True
            )
            for variable, twin in pairs:
                variable.assign(twin.value[i])
        return model

    def best(self, monitor: str = "val_loss", mode: str = "auto") -> int:
        """The number of the member with the best log at the end of `fit`.

        Args:
            monitor: String, the name of a log. Defaults to `"val_loss"`.
            mode: `"min"`, `"max"`, or `"auto"`, as Keras's `EarlyStopping`.

        Returns:
            Integer, for `member`.
        """
        history = getattr(self, "history", None)
        last = getattr(history, "last", lambda name: None)(monitor)
        if last is None:
            known = sorted(getattr(history, "members", ()))
            raise ValueError(
                "The best member is known by a log of the last `fit`. "
                f"Received: monitor={monitor!r}, and the logs are {known}. "
                "Give `validation_data` to `fit` for those of validation."
            )
        judge = keras.callbacks.EarlyStopping(monitor, mode=mode)
        judge.set_model(self)
        found = 0
        for i, value in enumerate(last):
            if np.isfinite(value) and (
                not np.isfinite(last[found])
                or _keras.monitored(judge, value, last[found])
            ):
                found = i
        return found

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Print the layers of a member, as `kje.Model.summary`.

        Args:
            *args: As `kje.Model.summary`.
            **kwargs: As `kje.Model.summary`.
        """
        show = kwargs.get("print_fn") or _keras.print_msg
        show(f"Ensemble of {len(self._members)} members {self.name!r}, each:")
        self._members.model.summary(*args, **kwargs)

    # Files.

    def get_config(self) -> dict[str, Any]:
        """The config of a member, and the seeds of all."""
        member = dict(keras.saving.serialize_keras_object(self._members.model))
        member.pop("compile_config", None)
        seeds = self._members.seeds
        return {
            "member": member,
            "n": len(seeds),
            "seeds": seeds,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Self:
        """Make an ensemble from `get_config()`.

        Args:
            config: Dict, from `get_config()`.
            *args: As Keras.
            **kwargs: As Keras.
        """
        config = dict(config)
        member = config.pop("member")
        known = _keras.custom_objects()

        def build():
            # Keras takes entries out of what it reads.
            again = copy.deepcopy(member)
            with keras.saving.custom_object_scope(known):
                return keras.saving.deserialize_keras_object(again)

        made = cls(build, **config)
        made._members.trust()
        return made

    def get_build_config(self) -> None:
        """Nothing: the config of the member holds it."""

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile`, for `compile_from_config`."""
        return self._members.model.get_compile_config()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config` says.

        Args:
            config: Dict.
        """
        self.compile(**specs.from_file(config))

    def save(
        self,
        filepath: str | os.PathLike[str],
        overwrite: bool = True,
        zipped: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.save`; without weights it is refused.

        Args:
            filepath: Path of the file.
            overwrite: As Keras.
            zipped: As Keras.
            **kwargs: As Keras.
        """
        self._check_declared("save")
        super().save(filepath, overwrite, zipped, **kwargs)

    def _check_declared(self, method):
        if not self.built:
            raise ValueError(
                "The members of an ensemble have variables once they are "
                f"built. Received: `{method}` of {self.name!r}, never used. "
                "Call it on a batch first, `ensemble(x[:1])`."
            )


_NOT_GIVEN = {"self", "__class__"}


def _members_first(array):
    return np.moveaxis(array, 1, 0)


def _are_arrays(x):
    leaves = keras.tree.flatten(x)
    return all(hasattr(leaf, "shape") and len(leaf.shape) for leaf in leaves)


def _check_arrays(x, shuffle):
    if not _are_arrays(x):
        raise ValueError(
            "Members have orders of their own over arrays. Received: "
            f"shuffle={shuffle!r} with x of type {type(x).__name__}. Leave "
            "`shuffle` out: all members see the same batches."
        )


def _first_rows(x):
    """A row of arrays, to build from."""
    if not _are_arrays(x):
        raise ValueError(
            "An ensemble that is not built predicts for arrays, whose shapes "
            f"are known. Received: x={x!r}. Call it on a batch first, "
            "`ensemble(batch)`."
        )
    return keras.tree.map_structure(lambda leaf: leaf[:1], x)
