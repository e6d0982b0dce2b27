"""Arguments of a call as shapes: to trace it, or to build it from a file."""

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_jax_ext import _keras

import jax
import keras
import numpy as np

# Stands for an unknown dimension: even, and wide enough for most kernels.
_PLACEHOLDER = 64
# Weights of as many numbers are not made in a trace.
_LARGE = 2**16


class _Placeholders(keras.StatelessScope):
    """Gives zeros as the values of new variables in a trace.

    Tracing their initializers would be slow.

    Args:
        zero: A traced scalar. What is made of numbers alone would be computed,
            and be as large as the weights.
    """

    def __init__(self, zero: Any) -> None:
        super().__init__()
        self._zero = zero

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and not _keras.has_value(variable):
            zero = jax.numpy.zeros((), _keras.stored_dtype(variable))
            # Layers keep what they make of small ones, as of the state of a
            # seed: that cannot be traced.
            if math.prod(variable.shape) >= _LARGE:
                zero = self._zero.astype(zero.dtype)
            value = jax.numpy.broadcast_to(zero, variable.shape)
        return value


def shape_tracer(
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    unknown: str | None,
) -> Callable[[], None]:
    """Make a function that traces `call` on shapes, computing nothing.

    Args:
        call: The function.
        args: Its positional arguments; of tensors, only shapes are used.
        kwargs: Its keyword arguments.
        unknown: `"symbolic"` for a symbol in place of unknown dimensions, or
            `None` for a number.
    """
    leaves, structure = jax.tree.flatten(
        (args, kwargs), is_leaf=lambda x: not _is_container(x)
    )
    tensors = [i for i, leaf in enumerate(leaves) if _is_tensor(leaf)]
    dimension: Any = _PLACEHOLDER
    if unknown == "symbolic":
        dimension = jax.export.symbolic_shape("b", constraints=["b >= 2"])[0]
    structs = [_struct(leaves[i], dimension) for i in tensors]
    masks = [_keras.get_keras_mask(leaves[i]) for i in tensors]
    mask_structs = [m if m is None else _struct(m, dimension) for m in masks]

    def traced(zero, tensor_values, mask_values):
        filled = list(leaves)
        for i, value, mask in zip(
            tensors, tensor_values, mask_values, strict=True
        ):
            if mask is not None:
                _keras.set_keras_mask(value, mask)
            filled[i] = value
        new_args, new_kwargs = jax.tree.unflatten(structure, filled)
        with _Placeholders(zero), keras.SymbolicScope():
            call(*new_args, **new_kwargs)

    def trace():
        with contextlib.ExitStack() as stack:
            stack.enter_context(_keras.no_call_context())
            stack.enter_context(_keras.fresh_names())
            # A new function each time, since JAX caches traces by function.
            zero = jax.ShapeDtypeStruct((), "float32")
            jax.eval_shape(lambda *a: traced(*a), zero, structs, mask_structs)

    return trace


def zeros(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments with arrays of zeros in place of `KerasTensor`s."""

    def fill(leaf):
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        struct = _struct(leaf, _PLACEHOLDER)
        return jax.numpy.zeros(struct.shape, struct.dtype)

    return jax.tree.map(
        fill, (args, kwargs), is_leaf=lambda x: not _is_container(x)
    )


def _is_container(value):
    return isinstance(value, (list, tuple, dict)) or value is None


def _is_tensor(value):
    if isinstance(value, (jax.Array, keras.KerasTensor, keras.Variable)):
        return True
    if not hasattr(value, "__array__") or not hasattr(value, "dtype"):
        return False
    return np.asarray(value).dtype.kind in "biufc"


def _struct(tensor, unknown):
    """Shape and dtype, with `unknown` for every unknown dimension."""
    shape = [d if isinstance(d, int) else unknown for d in tensor.shape]
    return jax.ShapeDtypeStruct(shape, _dtype(tensor))


def _dtype(tensor):
    """The dtype that JAX uses; without x64, int64 becomes int32."""
    return jax.dtypes.canonicalize_dtype(
        keras.backend.standardize_dtype(tensor.dtype)
    )


def signature(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, Any]:
    """The arguments with `KerasTensor`s in place of tensors, for a file."""
    kwargs = {k: v for k, v in kwargs.items() if k != "training"}

    def symbol(leaf):
        if not _is_tensor(leaf):
            return leaf
        shape = [d if isinstance(d, int) else None for d in leaf.shape]
        return keras.KerasTensor(shape, str(_dtype(leaf)))

    return jax.tree.map(
        symbol, (args, kwargs), is_leaf=lambda x: not _is_container(x)
    )


def check_savable(layer: keras.Layer, arguments: tuple[Any, Any]) -> None:
    """Warn of arguments that `from_file` will refuse."""
    if any(map(callable, jax.tree.leaves(arguments))):
        warnings.warn(
            f"{type(layer).__name__} {layer.name!r} was first called with a "
            "function, which a file cannot give to `call`. Received: "
            f"{arguments}. Loading the file will raise. Give the function to "
            "the constructor.",
            stacklevel=3,
        )


def from_file(config: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read `(args, kwargs)` of a first call: shapes and plain values.

    Args:
        config: The entry `call` of a build config, which may be damaged.

    Raises:
        ValueError: If it holds anything else.
    """
    args: Any = None
    kwargs: Any = None
    cause = None
    try:
        call = keras.saving.deserialize_keras_object(config)
        args, kwargs = call["args"], call["kwargs"]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        cause = error
    fits = (
        isinstance(args, list)
        and isinstance(kwargs, dict)
        # `call` would call it, with arguments that the file chooses.
        and not any(map(callable, jax.tree.leaves((args, kwargs))))
    )
    if not fits:
        raise ValueError(
            "A layer is built from the arguments of its first call: a file "
            "has a list `args` and a dict `kwargs`, of shapes and plain "
            f"values. Received: call={config} in `build_config`"
            f"{f' ({type(cause).__name__}: {cause})' if cause else ''}."
        ) from cause
    return tuple(args), kwargs
