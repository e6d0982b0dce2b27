"""Operations on arrays that Keras 3 has under no name."""

import builtins
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_jax_ext._xla.known import known

import jax
import jax.numpy as jnp
import keras
import numpy as np


class TopK(NamedTuple):
    """What `top_k` returns.

    Attributes:
        values: The largest entries.
        indices: Their places.
    """

    values: Any
    indices: Any


def top_k(x: Any, k: int = 1) -> TopK:
    """The largest entries of the last axis, and their places.

    Args:
        x: Array.
        k: Integer. Defaults to `1`.

    Returns:
        Named tuple of `values` and `indices`.
    """
    return TopK(*keras.ops.top_k(x, k))


def split(x: Any, sizes: Any, axis: int = 0) -> list[Any]:
    """Split an array into parts of some sizes, or into so many equal ones.

    Args:
        x: Array.
        sizes: Integer, or integers, of which one may be -1: the rest.
        axis: Integer. Defaults to `0`.

    Returns:
        List of arrays.
    """
    if isinstance(sizes, int):
        return list(keras.ops.split(x, sizes, axis=axis))
    sizes = [int(n) for n in sizes]
    rest = x.shape[axis] - sum(n for n in sizes if n >= 0)
    sizes = [rest if n < 0 else n for n in sizes]
    return list(keras.ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis))


def slice(x: Any, begin: Any, size: Any) -> Any:
    """A part of an array.

    Args:
        x: Array.
        begin: Integers, where it begins.
        size: Integers, its shape; -1 for all that is behind.

    Returns:
        Array.
    """
    places = tuple(
        builtins.slice(int(b), None if int(n) < 0 else int(b) + int(n))
        for b, n in zip(begin, size, strict=True)
    )
    return jnp.asarray(x)[places]


def sequence_mask(lengths: Any, maxlen: int | None = None) -> jax.Array:
    """True for the first places of each row.

    Args:
        lengths: Integers of shape `(...)`.
        maxlen: Integer. Defaults to `None`, the largest length.

    Returns:
        Booleans of shape `(..., maxlen)`.
    """
    lengths = jnp.asarray(lengths)
    size = int(lengths.max()) if maxlen is None else int(maxlen)
    return jnp.arange(size) < lengths[..., None]


def scatter_nd(indices: Any, values: Any, shape: Any) -> Any:
    """Zeros, with values added at some places.

    Args:
        indices: Integers of shape `(..., depth)`.
        values: Array.
        shape: Integers.

    Returns:
        Array of that shape.
    """
    shape = tuple(int(n) for n in shape)
    return keras.ops.scatter(jnp.asarray(indices), jnp.asarray(values), shape)


def gather_nd(params: Any, indices: Any) -> jax.Array:
    """Take parts of an array by rows of indices.

    Args:
        params: Array.
        indices: Integers of shape `(..., depth)`, for the first `depth` axes.

    Returns:
        Array of shape `(..., *params.shape[depth:])`.
    """
    indices = jnp.asarray(indices)
    return jnp.asarray(params)[tuple(jnp.moveaxis(indices, -1, 0))]


def boolean_mask(tensor: Any, mask: Any) -> jax.Array:
    """Take the entries for which a mask is true, by its leading axes.

    Args:
        tensor: Array.
        mask: Booleans, of the leading axes of `tensor`.

    Returns:
        Array with one leading axis for those of the mask.
    """
    return jnp.asarray(tensor)[np.asarray(mask)]


def pad(
    x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0
) -> Any:
    """Pad an array; `mode` is written as in TensorFlow or as in NumPy.

    Args:
        x: Array.
        pad_width: Pairs of integers, one for each axis.
        mode: String, `"constant"`, `"reflect"` or `"symmetric"`.
        constant_values: Number. Defaults to `0`.

    Returns:
        The padded array.
    """
    pad_width = [[int(n) for n in pair] for pair in pad_width]
    mode = mode.lower()
    if mode == "constant":
        return keras.ops.pad(x, pad_width, mode, constant_values)
    return keras.ops.pad(x, pad_width, mode)


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    """Divide by the norm along axes; `epsilon` bounds its square from below.

    Args:
        x: Array.
        axis: Integer or integers. Defaults to `None`, all.
        epsilon: Float. Defaults to `1e-12`.

    Returns:
        Array of the same shape.
    """
    square = keras.ops.sum(keras.ops.square(x), axis=axis, keepdims=True)
    return x * keras.ops.rsqrt(keras.ops.maximum(square, epsilon))


def l2_loss(x: Any) -> Any:
    """Half the sum of squares.

    Args:
        x: Array.

    Returns:
        Scalar.
    """
    return keras.ops.sum(keras.ops.square(x)) / 2


def squared_difference(x: Any, y: Any) -> Any:
    """The square of `x - y`.

    Args:
        x: Array.
        y: Array.

    Returns:
        Array.
    """
    return keras.ops.square(keras.ops.subtract(x, y))


def reciprocal_no_nan(x: Any) -> Any:
    """`1 / x`, and 0 where `x` is 0.

    Args:
        x: Array.

    Returns:
        Array.
    """
    return keras.ops.divide_no_nan(keras.ops.ones_like(x), x)


def segment_sum(data: Any, segment_ids: Any) -> jax.Array:
    """Add up the rows of each segment.

    Args:
        data: Array of shape `(rows, ...)`.
        segment_ids: Integers of shape `(rows,)`, whose values are known.

    Returns:
        Array of shape `(segments, ...)`.
    """
    segments = int(np.max(np.asarray(segment_ids))) + 1
    return keras.ops.segment_sum(data, segment_ids, num_segments=segments)


def matrix_transpose(x: Any) -> Any:
    """Exchange the last two axes.

    Args:
        x: Array of at least two axes.

    Returns:
        Array.
    """
    return keras.ops.swapaxes(x, -1, -2)


def fill(shape: Any, fill_value: Any) -> Any:
    """An array of one value, whose type is that of the value.

    Args:
        shape: Integers.
        fill_value: Number.

    Returns:
        Array.
    """
    value = keras.ops.convert_to_tensor(fill_value)
    return keras.ops.full([int(n) for n in shape], value, dtype=value.dtype)


def cast_to_floatx(x: Any) -> np.ndarray:
    """A NumPy array of Keras's float type.

    Args:
        x: Array or number.

    Returns:
        NumPy array.
    """
    return np.asarray(x, dtype=keras.config.floatx())


def batch_flatten(x: Any) -> Any:
    """Flatten all axes but the first.

    Args:
        x: Array of shape `(batch, ...)`.

    Returns:
        Array of shape `(batch, size)`.
    """
    return keras.ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))


def ensure_shape(x: Any, shape: Sequence[int | None]) -> Any:
    """Check a shape.

    Args:
        x: Array.
        shape: Integers, or `None` for any size.

    Returns:
        The same array.

    Raises:
        ValueError: If the shape is another one.
    """
    same = len(x.shape) == len(shape) and all(
        b is None or a == b for a, b in zip(x.shape, shape, strict=True)
    )
    if not same:
        raise ValueError(
            f"An array has another shape than asked. Received: {x.shape}, and "
            f"shape={tuple(shape)}. Reshape it."
        )
    return x


def confusion_matrix(
    labels: Any, predictions: Any, num_classes: int | None = None
) -> jax.Array:
    """Count each pair of a label and a prediction.

    Args:
        labels: Integers of shape `(rows,)`.
        predictions: Integers of shape `(rows,)`.
        num_classes: Integer. Defaults to `None`, the largest and one.

    Returns:
        Integers of shape `(num_classes, num_classes)`.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if num_classes is None:
        num_classes = int(max(labels.max(), predictions.max())) + 1
    counts = np.zeros((num_classes, num_classes), "int32")
    np.add.at(counts, (labels.ravel(), predictions.ravel()), 1)
    return jnp.asarray(counts)


def to_numpy(x: Any) -> Any:
    """The value of an array: a scalar's is a number of NumPy's.

    `keras.ops.convert_to_numpy` reads no array within `value_and_grad`; this
    does, unless the function is compiled.

    Args:
        x: Array, variable or number, or a structure of them.

    Returns:
        NumPy array or number, or a structure of them.
    """
    return keras.tree.map_structure(_read, x)


def _read(leaf):
    leaf = leaf.value if isinstance(leaf, keras.Variable) else leaf
    # A copy, which scripts write to.
    return np.array(known(leaf))[()] if isinstance(leaf, jax.Array) else leaf


def add_n(inputs: Sequence[Any]) -> Any:
    """The sum of some arrays of one shape.

    Args:
        inputs: List of arrays.

    Returns:
        Array.
    """
    return functools.reduce(keras.ops.add, inputs)


def global_norm(arrays: Sequence[Any]) -> Any:
    """The norm of all entries of some arrays together.

    Args:
        arrays: List of arrays; `None` among them counts nothing.

    Returns:
        Scalar.
    """
    squares = [
        keras.ops.sum(keras.ops.square(a)) for a in arrays if a is not None
    ]
    return keras.ops.sqrt(sum(squares))


def clip_by_global_norm(
    arrays: Sequence[Any], clip_norm: Any, norm: Any = None
) -> tuple[list[Any], Any]:
    """Scale arrays together, so that their norm is at most a number.

    Args:
        arrays: List of arrays; `None` among them stays.
        clip_norm: Number.
        norm: Number, the norm if it is known. Defaults to `None`.

    Returns:
        List of arrays, and the norm before.
    """
    norm = global_norm(arrays) if norm is None else norm
    scale = clip_norm / keras.ops.maximum(norm, clip_norm)
    return [None if a is None else a * scale for a in arrays], norm


def clip_by_norm(x: Any, clip_norm: Any, axis: Any = None) -> Any:
    """Scale an array, so that its norm is at most a number.

    Args:
        x: Array.
        clip_norm: Number.
        axis: Integer or integers, for a norm along them. Defaults to `None`.

    Returns:
        Array of the same shape.
    """
    square = keras.ops.sum(keras.ops.square(x), axis=axis, keepdims=True)
    # The root of 0 has no gradient.
    norm = keras.ops.sqrt(keras.ops.where(square > 0, square, 1.0))
    norm = keras.ops.where(square > 0, norm, 0.0)
    return x * clip_norm / keras.ops.maximum(norm, clip_norm)


def band_part(x: Any, num_lower: int, num_upper: int) -> Any:
    """Matrices with zeros outside of a band around the diagonal.

    Args:
        x: Array of shape `(..., rows, columns)`.
        num_lower: Integer, the diagonals below that stay; -1 for all.
        num_upper: Integer, those above.

    Returns:
        Array of the same shape.
    """
    rows, columns = x.shape[-2:]
    below = np.arange(rows)[:, None] - np.arange(columns)
    kept = (num_lower < 0) | (below <= num_lower)
    kept &= (num_upper < 0) | (-below <= num_upper)
    return keras.ops.where(kept, x, keras.ops.zeros_like(x))


def normalize_and_norm(
    x: Any, order: Any = None, axis: Any = None
) -> tuple[Any, Any]:
    """Divide an array by its norm.

    Args:
        x: Array.
        order: The order of the norm. Defaults to `None`, Euclid's.
        axis: Integer or integers. Defaults to `None`, all.

    Returns:
        Array of the same shape, and the norm with its axes kept.
    """
    norm = keras.ops.norm(x, ord=order, axis=axis, keepdims=True)
    return x / norm, norm


def multiply_no_nan(x: Any, y: Any) -> Any:
    """`x * y`, and 0 where `y` is 0.

    Args:
        x: Array.
        y: Array.

    Returns:
        Array.
    """
    zero = keras.ops.equal(y, 0)
    return keras.ops.where(zero, keras.ops.zeros_like(x), x * y)


def zero_fraction(x: Any) -> Any:
    """The share of the entries that are 0.

    Args:
        x: Array.

    Returns:
        Scalar, in `[0, 1]`.
    """
    return keras.ops.mean(keras.ops.cast(keras.ops.equal(x, 0), "float32"))


def segment_mean(data: Any, segment_ids: Any) -> Any:
    """The mean of the rows of each segment.

    Args:
        data: Array of shape `(rows, ...)`.
        segment_ids: Integers of shape `(rows,)`, whose values are known.

    Returns:
        Array of shape `(segments, ...)`.
    """
    ones = keras.ops.ones_like(data)
    return segment_sum(data, segment_ids) / segment_sum(ones, segment_ids)


def scatter_add(inputs: Any, indices: Any, updates: Any) -> Any:
    """An array with values added at some places.

    Args:
        inputs: Array.
        indices: Integers of shape `(..., depth)`.
        updates: Array.

    Returns:
        Array of the same shape.
    """
    return inputs + scatter_nd(indices, updates, inputs.shape)


def scatter_sub(inputs: Any, indices: Any, updates: Any) -> Any:
    """An array with values subtracted at some places.

    Args:
        inputs: Array.
        indices: Integers of shape `(..., depth)`.
        updates: Array.

    Returns:
        Array of the same shape.
    """
    return inputs - scatter_nd(indices, updates, inputs.shape)


class Unique(NamedTuple):
    """What `unique` returns.

    Attributes:
        y: The different entries, in the order of the first of each.
        idx: The place in `y` of each entry.
    """

    y: Any
    idx: Any


def unique(x: Any) -> Unique:
    """The different entries of a vector, in their order.

    Args:
        x: Array of shape `(size,)`, whose values are known.

    Returns:
        Named tuple of `y` and `idx`.
    """
    values, first, places = np.unique(
        np.asarray(x), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    back = np.argsort(order)
    return Unique(jnp.asarray(values[order]), jnp.asarray(back[places]))


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """The product of two batches, matrix by matrix.

    Args:
        x: Array of shape `(batch, ...)`.
        y: Array of shape `(batch, ...)`.
        axes: Integer or two integers, the axes that are summed over. Defaults
            to `None`: the last of `x`, and the last but one of `y`.

    Returns:
        Array of shape `(batch, ...)`, of at least two axes.
    """
    if axes is None:
        axes = [x.ndim - 1, max(y.ndim - 2, 1)]
    axes = [axes, axes] if isinstance(axes, int) else list(axes)
    return keras.layers.Dot(axes)([x, y])


def repeat_vector(x: Any, n: int) -> Any:
    """Each row several times: `(batch, size)` to `(batch, n, size)`.

    Args:
        x: Array of shape `(batch, size)`.
        n: Integer.

    Returns:
        Array of shape `(batch, n, size)`.
    """
    return keras.ops.repeat(x[:, None], n, axis=1)


@keras.saving.register_keras_serializable("keras_jax_ext")
def hard_sigmoid(x: Any) -> Any:
    """Keras 2's: `0.2 * x + 0.5`, between 0 and 1.

    Args:
        x: Array.

    Returns:
        Array of the same shape.
    """
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def compute_average_loss(
    losses: Any, sample_weight: Any = None, global_batch_size: Any = None
) -> Any:
    """The sum of the losses of the rows, by the size of the batch.

    Args:
        losses: Array of shape `(batch, ...)`.
        sample_weight: Array. Defaults to `None`.
        global_batch_size: Integer. Defaults to `None`, the rows given.

    Returns:
        Scalar.
    """
    losses = losses if sample_weight is None else losses * sample_weight
    size = losses.shape[0] if global_batch_size is None else global_batch_size
    return keras.ops.sum(losses) / size


def weighted_cross_entropy_with_logits(
    labels: Any, logits: Any, pos_weight: Any
) -> Any:
    """Cross-entropy of single classes, with a weight for those that are there.

    Args:
        labels: Array, in `[0, 1]`.
        logits: Array of the same shape.
        pos_weight: Number or array.

    Returns:
        Array of the same shape.
    """
    weight = 1 + (pos_weight - 1) * labels
    softplus = keras.ops.softplus(-logits)
    return (1 - labels) * logits + weight * softplus


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, epsilon: float
) -> Any:
    """Shift and scale by a mean and a variance.

    Args:
        x: Array.
        mean: Array.
        variance: Array.
        offset: Array, or `None`.
        scale: Array, or `None`.
        epsilon: Float.

    Returns:
        Array of the same shape.
    """
    factor = keras.ops.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    shifted = (x - mean) * factor
    return shifted if offset is None else shifted + offset


def crelu(x: Any, axis: int = -1) -> Any:
    """The positive part beside that of the negative.

    Args:
        x: Array.
        axis: Integer. Defaults to `-1`.

    Returns:
        Array, twice as long along the axis.
    """
    return keras.ops.relu(keras.ops.concatenate([x, -x], axis=axis))


def print_tensor(x: Any, message: str = "") -> Any:
    """Print an array, also in a compiled function.

    Args:
        x: Array.
        message: String, put before it.

    Returns:
        The same array.
    """
    text = message.replace("{", "{{").replace("}", "}}")
    jax.debug.print(text + " {}", x)
    return x


def random_bernoulli(
    shape: Any, p: float = 0.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Ones with a probability, and zeros.

    Args:
        shape: Integers.
        p: Float, the probability of a one.
        dtype: String. Defaults to `None`, Keras's float type.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array.
    """
    drawn = keras.random.uniform(tuple(shape), seed=seed) < p
    return keras.ops.cast(drawn, dtype or keras.config.floatx())


def update(x: Any, new_x: Any) -> Any:
    """Give a variable a value.

    Args:
        x: Variable.
        new_x: Array.

    Returns:
        The value.
    """
    return x.assign(new_x)


def update_add(x: Any, increment: Any) -> Any:
    """Add to a variable.

    Args:
        x: Variable.
        increment: Array.

    Returns:
        The new value.
    """
    return x.assign_add(increment)


def update_sub(x: Any, decrement: Any) -> Any:
    """Subtract from a variable.

    Args:
        x: Variable.
        decrement: Array.

    Returns:
        The new value.
    """
    return x.assign_sub(decrement)
