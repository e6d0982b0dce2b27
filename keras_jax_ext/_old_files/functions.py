"""The functions of TensorFlow that models of Keras 2 call, by `keras.ops`.

A file holds their names in TensorFlow: `tf.reduce_mean(x, 1)` in a functional
model is a layer of the class `TFOpLambda` with `math.reduce_mean` and `axis=1`.
A name that is not here is refused; no other function is called.
"""

import itertools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def _matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False
) -> Any:
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    b = ops.swapaxes(b, -1, -2) if transpose_b else b
    return ops.matmul(a, b)


def _getitem(tensor: Any, slice_spec: Any) -> Any:
    if not isinstance(slice_spec, list):
        return tensor[_index(slice_spec)]
    index = tuple(map(_index, slice_spec))
    if isinstance(tensor, tuple):  # a shape
        (index,) = index
    return tensor[index]


def _index(spec):
    if not isinstance(spec, dict):
        return spec
    if spec.get("class_name") == "__ellipsis__":
        return ...
    return slice(spec["start"], spec["stop"], spec["step"])


def _reshape(tensor: Any, shape: Any) -> Any:
    # An unknown size, as that of the batch, is `None` in a shape.
    return ops.reshape(tensor, [-1 if n is None else n for n in shape])


def _transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    return ops.transpose(ops.conj(a) if conjugate else a, perm)


def _squeeze(input: Any, axis: Any = None) -> Any:
    return ops.squeeze(input, tuple(axis) if isinstance(axis, list) else axis)


def _expand_dims(input: Any, axis: Any) -> Any:
    return ops.expand_dims(input, axis)


def _split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    if isinstance(num_or_size_splits, list):
        sizes = list(num_or_size_splits)
        if -1 in sizes:  # the rest
            sizes[sizes.index(-1)] = value.shape[axis] - sum(sizes) - 1
        ends = list(itertools.accumulate(sizes[:-1]))
        return ops.split(value, ends, axis)
    return ops.split(value, num_or_size_splits, axis)


def _unstack(value: Any, num: Any = None, axis: int = 0) -> Any:
    return ops.unstack(value, num, axis)


def _pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0
) -> Any:
    values = constant_values if mode == "CONSTANT" else None
    return ops.pad(tensor, paddings, mode.lower(), values)


def _gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Any:
    if batch_dims:
        raise _cannot("gather", "batch_dims", batch_dims)
    return ops.take(params, ops.convert_to_tensor(indices), axis or 0)


def _norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: Any = None,
) -> Any:
    if ord not in ("euclidean", 2):
        raise _cannot("norm", "ord", ord)
    # `keras.ops.norm` fails in a functional model that names an axis.
    square = _reduction(ops.sum)(ops.square(tensor), axis, keepdims)
    return ops.sqrt(square)


def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    # `keras.ops.normalize` limits the norm, and not its square.
    square = ops.sum(ops.square(x), axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, epsilon))


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None:
        raise _cannot("where", "x", x)
    return ops.where(condition, x, y)


def _clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return ops.clip(t, clip_value_min, clip_value_max)


def _argument(function):
    """`argmax` and `argmin` go along the first axis unless told."""

    def find(input: Any, axis: Any = None, output_type: Any = None) -> Any:
        return function(input, 0 if axis is None else axis)

    return find


def _cumulative(function):
    def accumulate(
        x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False
    ) -> Any:
        if exclusive:
            raise _cannot(function.__name__, "exclusive", exclusive)
        x = ops.flip(x, axis) if reverse else x
        x = function(x, axis)
        return ops.flip(x, axis) if reverse else x

    return accumulate


def _reduction(function):
    def reduce(
        input_tensor: Any, axis: Any = None, keepdims: Any = False
    ) -> Any:
        axis = tuple(axis) if isinstance(axis, list) else axis
        return function(input_tensor, axis=axis, keepdims=bool(keepdims))

    return reduce


def _unary(function):
    def apply(x: Any) -> Any:
        return function(x)

    return apply


def _binary(function):
    def apply(x: Any, y: Any) -> Any:
        return function(x, y)

    return apply


def _softmax(function):
    def apply(logits: Any, axis: Any = None) -> Any:
        return function(logits, -1 if axis is None else axis)

    return apply


def _join(function):
    def apply(values: Any, axis: int = 0) -> Any:
        return function(values, axis)

    return apply


def _cannot(function, argument, value):
    return ValueError(
        f"`tf.{function}` with this argument cannot be read from a file. "
        f"Received: {argument}={value!r}."
    )


def _in(prefixes, make, functions):
    return {
        f"{prefix}{name}": make(function)
        for prefix in prefixes
        for name, function in functions.items()
    }


_MATHS = {
    name: getattr(ops, name)
    for name in (
        "abs", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "log",
        "log1p", "logical_not",
        "negative", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin",
        "sinh", "softplus", "sqrt", "square", "tan", "tanh", "zeros_like",
        "ones_like", "stop_gradient",
    )
} | {
    "acos": ops.arccos,
    "acosh": ops.arccosh,
    "asin": ops.arcsin,
    "asinh": ops.arcsinh,
    "atan": ops.arctan,
    "atanh": ops.arctanh,
    "identity": lambda x: x,
    "is_finite": ops.isfinite,
    "is_inf": ops.isinf,
    "is_nan": ops.isnan,
}  # fmt: skip
_PAIRS = {
    name: getattr(ops, name)
    for name in (
        "add", "subtract", "multiply", "divide", "maximum", "minimum", "equal",
        "not_equal", "greater", "greater_equal", "less", "less_equal",
        "logical_and", "logical_or", "logical_xor", "mod",
    )
} | {
    "divide_no_nan": ops.divide_no_nan,
    "floordiv": ops.floor_divide,
    "floormod": ops.mod,
    "pow": ops.power,
    "squared_difference": lambda x, y: ops.square(ops.subtract(x, y)),
    "truediv": ops.true_divide,
}  # fmt: skip
_REDUCTIONS = {
    "reduce_all": ops.all,
    "reduce_any": ops.any,
    "reduce_logsumexp": ops.logsumexp,
    "reduce_max": ops.max,
    "reduce_mean": ops.mean,
    "reduce_min": ops.min,
    "reduce_prod": ops.prod,
    "reduce_std": ops.std,
    "reduce_sum": ops.sum,
    "reduce_variance": ops.var,
}
_ACTIVATIONS = {
    name: getattr(ops, name)
    for name in ("elu", "relu", "relu6", "selu", "silu", "softsign")
} | {"swish": ops.silu}

# Names that TensorFlow has in several places, by the place.
_PLACES = ("math.", "", "nn.", "compat.v1.", "compat.v1.math.")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **_in(_PLACES, _unary, _MATHS),
    **_in((*_PLACES, "__operators__."), _binary, _PAIRS),
    **_in(_PLACES, _reduction, _REDUCTIONS),
    **_in(("nn.", "compat.v1.nn."), _unary, _ACTIVATIONS),
    **_in(
        _PLACES,
        _softmax,
        {"softmax": ops.softmax, "log_softmax": ops.log_softmax},
    ),
    **_in(_PLACES, _argument, {"argmax": ops.argmax, "argmin": ops.argmin}),
    **_in(_PLACES, _cumulative, {"cumsum": ops.cumsum, "cumprod": ops.cumprod}),
    **_in(("",), _join, {"concat": ops.concatenate, "stack": ops.stack}),
    **_in(
        ("", "compat.v1.", "linalg.", "math.", "nn."),
        lambda function: function,
        {
            "cast": lambda x, dtype: ops.cast(x, dtype),
            "clip_by_value": _clip,
            "expand_dims": _expand_dims,
            "gather": _gather,
            "gelu": lambda features, approximate=False: ops.gelu(
                features, approximate
            ),
            "l2_normalize": _l2_normalize,
            "leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(
                features, alpha
            ),
            "matmul": _matmul,
            "norm": _norm,
            "pad": _pad,
            "shape": lambda x, out_type=None: ops.shape(x),
            "repeat": lambda x, repeats, axis=None: ops.repeat(
                x, repeats, axis
            ),
            "reshape": _reshape,
            "reverse": lambda tensor, axis: ops.flip(tensor, tuple(axis)),
            "split": _split,
            "squeeze": _squeeze,
            "tile": lambda x, multiples: ops.tile(x, multiples),
            "transpose": _transpose,
            "unstack": _unstack,
            "where": _where,
            "where_v2": _where,
        },
    ),
    "__operators__.getitem": _getitem,
    "math.scalar_mul": lambda scalar, x: ops.multiply(scalar, x),
    "image.resize": lambda images, size, method="bilinear": ops.image.resize(
        images, tuple(size), method
    ),
}


def call(
    function: str, layer: str, first: Any, arguments: dict[str, Any]
) -> Any:
    """Call a function of TensorFlow by its name.

    Args:
        function: The name in TensorFlow.
        layer: The name of its layer in the file, for messages.
        first: The first argument.
        arguments: The others, by name.

    Raises:
        ValueError: If it is not one of `FUNCTIONS`.
    """
    if function not in FUNCTIONS:
        raise ValueError(
            "This function of TensorFlow cannot be read from a file. Received: "
            f"tf.{function} in the layer {layer!r}. Make the model again with "
            "`keras.ops`, and read its weights by `load_weights`."
        )
    # What names the operation, in graphs of TensorFlow.
    arguments = {k: v for k, v in arguments.items() if k != "name"}
    return FUNCTIONS[function](first, **arguments)


def is_tensor(value: Any) -> bool:
    """Whether a value stands for a tensor of a functional model."""
    return isinstance(value, keras.KerasTensor)
