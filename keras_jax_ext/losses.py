"""Losses that see the whole output, called with the names they ask for."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from keras_jax_ext import _keras
from keras_jax_ext._by_name import entries, structures
from keras_jax_ext._by_name.binding import NAMES, Binding, bind
from keras_jax_ext._by_name.mirror import mirror

import jax
import keras

__all__ = ["GlobalL1", "GlobalL1L2", "GlobalL2", "Loss", "on"]

_REDUCTIONS = (
    "sum_over_batch_size",
    "mean",
    "mean_with_sample_weight",
    "sum",
    "none",
    None,
)


def _call_function(self, **given):
    """Compute the loss; a subclass names the arguments that it wants."""
    return self.fn(**given)


@keras.saving.register_keras_serializable("keras_jax_ext.losses")
class Loss(keras.losses.Loss):
    """A loss that is given the model's whole output, and more by name.

    Write `call` with any of the arguments `x, y_true, y_pred, sample_weight,
    class_weight, training, parameters, states, apply`, or pass a function of
    them. It returns a scalar, a tensor of values for each sample, or a dict of
    these, whose entries are logged as parts and summed.

    Example:

    ```python
    class Mixture(kje.losses.Loss):
        def call(self, y_true, y_pred):
            means, weights = y_pred
            return keras.ops.sum(weights * (means - y_true) ** 2, axis=-1)

    model.compile("adam", loss=Mixture())
    ```

    Args:
        fn: Function of the names above, instead of a subclass with `call`.
            Defaults to `None`.
        on: Key, index or list of them: the part of `y_pred` to see, and the
            part of `y_true` and `sample_weight` if they are structures.
            Defaults to `None`, the whole.
        weight: Float, multiplies the loss after the reduction. The logged
            value is not multiplied. Defaults to `None`, which means 1.
        reduction: As in `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: String, the name in the logs, where `_loss` is appended.
            Defaults to the name of the function or class in snake case.
        dtype: As in `keras.losses.Loss`. Floating tensors are cast to it,
            others are not. Defaults to `None`.

    Raises:
        ValueError: In `compile`, if an argument cannot be given by name.
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        on: str | int | Sequence[str | int] | None = None,
        weight: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if fn is not None and not callable(fn):
            raise TypeError(
                "A loss takes a function, and its options by keyword. "
                f"Received: fn={fn!r} (of type {type(fn).__name__})."
            )
        if fn is None and type(self).call is Loss.call:
            raise TypeError(
                "A loss needs a function or a subclass with `call`. Received: "
                f"{type(self).__name__}() with neither. Write `Loss(fn)`."
            )
        if isinstance(weight, bool) or not isinstance(
            weight, (int, float, type(None))
        ):
            raise TypeError(
                "`weight` is a number. Received: "
                f"weight={weight!r} (of type {type(weight).__name__})."
            )
        name = name or getattr(fn, "__name__", None)
        name = name or _keras.to_snake_case(type(self).__name__)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn = fn
        self.on = on
        self.weight = weight
        self.path = structures.path_of(on)

    # Untyped, so that a subclass may name any of the arguments.
    call: Any = _call_function

    def binding(self, names: Sequence[str] = NAMES) -> Binding:
        """Read the names that this loss asks for.

        Args:
            names: Those that can be given. Defaults to all that `compile`
                gives to `loss`.
        """
        own = type(self).call is not Loss.call
        function: Any = self.call if own else self.fn
        return bind(function, f"The loss {self.name!r}", names)

    def parts(
        self, given: Mapping[str, Any], binding: Binding | None = None
    ) -> dict[str, jax.Array]:
        """Compute the reduced values by part, not multiplied by `weight`.

        Args:
            given: The values that may be asked for, by name.
            binding: The result of `binding()`, if it was called before.
                Defaults to `None`.

        Returns:
            Dict of scalars; a loss without parts has the one name `""`.
        """
        binding = binding or self.binding()
        given = select(given, self.path, binding.names)
        masks = _masks(given["y_pred"]) if "y_pred" in binding.names else []
        values = self._named(binding(cast(given, self.dtype)))
        weights = given.get("sample_weight")
        if "sample_weight" in binding.names:
            weights = None
        return {
            name: self._reduce(name, value, weights, masks, binding.names)
            for name, value in values.items()
        }

    def _named(self, returned):
        return structures.named(returned, f"The loss {self.name!r}")

    def _reduce(self, part, values, weights, masks, names):
        masks = [*masks, *_masks(values)]
        values = keras.ops.convert_to_tensor(values, dtype=self.dtype)
        seen = {"x", "y_true", "y_pred"} & set(names)
        if not seen or not values.shape:
            if seen and weights is not None:
                raise ValueError(self._scalar_message(part))
            weights, masks = None, []
        weights = (
            None
            if weights is None
            else structures.spread(weights, values, f"the loss {self.name!r}")
        )
        mask = None
        for one in masks:
            one = _spread_mask(one, values)
            mask = one if mask is None else keras.ops.logical_and(mask, one)
        value = _keras.reduce_weighted_values(
            values,
            sample_weight=weights,
            mask=mask,
            reduction=self.reduction,
            dtype=self.dtype,
        )
        if value.shape:
            raise ValueError(
                f"Training needs one number, and the loss {self.name!r} is "
                f"not reduced. Received: reduction={self.reduction!r} and "
                f"values of shape {tuple(value.shape)}. Choose one of "
                f"{_REDUCTIONS[:4]}, or reduce in `call`."
            )
        return value

    def _scalar_message(self, part):
        return (
            f"Sample weights cannot be applied to a loss that is already a "
            f"scalar. Received: sample_weight, and a scalar from the loss "
            f"{self.name!r}{f', part {part!r}' if part else ''}. Return one "
            "value for each sample, or ask for `sample_weight` by name."
        )

    def __call__(
        self,
        y_true: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **given: Any,
    ) -> jax.Array:
        """Compute the sum of the parts times `weight`, one scalar.

        Args:
            y_true: Labels. Defaults to `None`.
            y_pred: Structure of outputs. Defaults to `None`.
            sample_weight: Tensor of weights. Defaults to `None`.
            **given: Other values that `call` asks for, by name.

        Returns:
            Scalar tensor.
        """
        _keras.check_one_output(self)
        given.update(y_true=y_true, y_pred=y_pred, sample_weight=sample_weight)
        total: Any = sum(self.parts(given).values())
        return self.weighted(total)

    def weighted(self, value: jax.Array) -> jax.Array:
        """Multiply `value` by `weight`."""
        return value if self.weight is None else value * self.weight

    def get_config(self) -> dict[str, Any]:
        """Return the name, and the arguments that differ from the defaults."""
        config = super().get_config()
        for key in ("on", "weight", "fn"):
            if getattr(self, key) is not None:
                config[key] = getattr(self, key)
        if "fn" in config:
            config["fn"] = keras.saving.serialize_keras_object(self.fn)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a loss from `get_config()`."""
        config = dict(config)
        for key in ("fn", "loss"):
            if isinstance(config.get(key), dict):
                config[key] = entries.read("a loss", config, key, callable)
        return cls(**config)


def select(
    given: Mapping[str, Any], path: structures.Path, names: Sequence[str]
) -> dict[str, Any]:
    """Take the part of the outputs, labels and weights that `path` leads to.

    Args:
        given: The values of a step, by name.
        path: Keys and indices; without any, the values stay whole.
        names: The names that are asked for; other values stay whole.
    """
    selected = dict(given)
    for name in ("y_pred", "y_true", "sample_weight"):
        wanted = name in names or name == "sample_weight"
        if path and wanted and given.get(name) is not None:
            selected[name] = structures.pick(
                given[name], path, f"`{name}`", shallow=name != "y_pred"
            )
    return selected


def cast(given: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Cast floating tensors to `dtype`, but no integers (labels...)."""

    def one(value):
        if value is None or not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(value.dtype)
        ):
            return value
        return keras.ops.cast(value, dtype)

    cast = dict(given)
    for name in ("x", "y_true", "y_pred", "sample_weight"):
        if cast.get(name) is not None:
            cast[name] = keras.tree.map_structure(one, _tensors(cast[name]))
    return cast


def _tensors(structure):
    """Make tensors of the leaves, so that numbers in lists have a dtype."""
    return keras.tree.map_structure(
        lambda v: v if hasattr(v, "dtype") else keras.ops.convert_to_tensor(v),
        structure,
    )


def _masks(structure):
    found = (_keras.get_keras_mask(t) for t in keras.tree.flatten(structure))
    return [mask for mask in found if mask is not None]


def _spread_mask(mask, values):
    """Bring a mask to the shape of `values`.

    A value of a whole sample counts if any of its steps does.
    """
    extra = tuple(range(len(values.shape), len(mask.shape)))
    if extra:
        mask = keras.ops.any(mask, axis=extra)
    shape = tuple(mask.shape) + (1,) * (len(values.shape) - len(mask.shape))
    return keras.ops.broadcast_to(keras.ops.reshape(mask, shape), values.shape)


@keras.saving.register_keras_serializable("keras_jax_ext.losses")
class On(Loss):
    """A Keras loss on one part of the output; made by `on`."""

    def __init__(
        self,
        loss: Any,
        on: str | int | Sequence[str | int],
        weight: float | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        name = name or "_".join(map(str, structures.path_of(on)))
        super().__init__(on=on, weight=weight, name=name, **kwargs)
        self.loss = loss

    def call(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> jax.Array:
        """Call the Keras loss, which applies weights and masks, and reduces."""
        loss = _keras.get_loss(self.loss, y_true, y_pred)
        return loss(y_true, y_pred, sample_weight)

    def parts(
        self, given: Mapping[str, Any], binding: Binding | None = None
    ) -> dict[str, jax.Array]:
        """As `Loss.parts`; Keras's loss casts, and finds the masks."""
        binding = binding or self.binding()
        return self._named(binding(select(given, self.path, binding.names)))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {
            "loss": loss,
            "on": self.on,
            "weight": self.weight,
            "name": self.name,
        }


def on(
    loss: Any,
    path: str | int | Sequence[str | int],
    *,
    weight: float | None = None,
    name: str | None = None,
) -> Loss:
    """Put any Keras loss on one part of the output.

    Example:

    ```python
    loss = [
        kje.losses.on("mse", "value", weight=0.5),
        kje.losses.on("sparse_categorical_crossentropy", "class"),
    ]
    ```

    Args:
        loss: String, function `f(y_true, y_pred)` or `keras.losses.Loss`.
        path: Key, index or list of them into `y_pred`, and into `y_true` and
            `sample_weight` if they are structures.
        weight: Float. Defaults to `None`, which means 1.
        name: String. Defaults to the path, so that the log is `<path>_loss`.

    Returns:
        A `Loss`.
    """
    if isinstance(loss, Loss):
        raise TypeError(
            "`on` is for the losses of Keras; ours have an argument `on`. "
            f"Received: loss={loss!r}. Give it on={path!r}."
        )
    keras.losses.get(loss)
    return On(loss, path, weight=weight, name=name)


class _Global(Loss):
    """A penalty on every trainable variable."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.l1 = l1
        self.l2 = l2

    def call(self, parameters: Mapping[str, Any]) -> jax.Array:
        """Sum the penalties of all variables."""
        ops = keras.ops
        values = [ops.cast(v, self.dtype) for v in parameters.values()]
        total = ops.zeros((), self.dtype)
        if self.l1:
            total += self.l1 * sum(ops.sum(ops.abs(v)) for v in values)
        if self.l2:
            total += self.l2 * sum(ops.sum(ops.square(v)) for v in values)
        return total


@keras.saving.register_keras_serializable("keras_jax_ext.losses")
class GlobalL1(_Global):
    """The sum of absolute values of all trainable variables, times `l1`.

    Example:

    ```python
    model.compile("adam", loss=["mse", kje.losses.GlobalL1(1e-4)])
    ```

    Args:
        l1: Float. Defaults to `0.01`.
        **kwargs: As `Loss`.
    """

    def __init__(self, l1: float = 0.01, **kwargs: Any) -> None:
        super().__init__(l1=l1, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "l1": self.l1}


@keras.saving.register_keras_serializable("keras_jax_ext.losses")
class GlobalL2(_Global):
    """The sum of squares of all trainable variables, times `l2`.

    Example:

    ```python
    model.compile("adam", loss=["mse", kje.losses.GlobalL2(1e-4)])
    ```

    Args:
        l2: Float. Defaults to `0.01`.
        **kwargs: As `Loss`.
    """

    def __init__(self, l2: float = 0.01, **kwargs: Any) -> None:
        super().__init__(l2=l2, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable("keras_jax_ext.losses")
class GlobalL1L2(_Global):
    """The penalties of `GlobalL1` and `GlobalL2` together.

    Example:

    ```python
    model.compile("adam", loss=["mse", kje.losses.GlobalL1L2(1e-5, 1e-4)])
    ```

    Args:
        l1: Float. Defaults to `0.01`.
        l2: Float. Defaults to `0.01`.
        **kwargs: As `Loss`.
    """

    def __init__(
        self, l1: float = 0.01, l2: float = 0.01, **kwargs: Any
    ) -> None:
        super().__init__(l1=l1, l2=l2, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "l1": self.l1, "l2": self.l2}


__getattr__, __dir__ = mirror(globals(), keras.losses)


if TYPE_CHECKING:
    # For editors and type checkers. It stands last, so that they keep our
    # classes where Keras has the same name.
    from keras.losses import *  # noqa: F403
