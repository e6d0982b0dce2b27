"""Operations on arrays that Keras 3 has under no name."""

import builtins
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_jax_ext._xla.known import known
from keras_jax_ext.keras2.symbolic import of_tensors

import jax
import jax.numpy as jnp
import keras
import numpy as np


class TopK(NamedTuple):
    """What `top_k` returns.

    Example:

    ```python
    values, places = kje.keras2.top_k(np.array([3, 9, 4]), k=2)
    assert (values.tolist(), places.tolist()) == ([9, 4], [1, 2])
    ```

    Attributes:
        values: The largest entries.
        indices: Their places.
    """

    values: Any
    indices: Any


def top_k(x: Any, k: int = 1) -> TopK:
    """The largest entries of the last axis, and their places.

    Example:

    ```python
    found = kje.keras2.top_k(np.array([[1, 3], [4, 2]]))  # one of each row
    assert found.indices.tolist() == [[1], [0]]
    ```

    Args:
        x: Array.
        k: Integer. Defaults to `1`.

    Returns:
        Named tuple of `values` and `indices`.
    """
    return TopK(*keras.ops.top_k(x, k))


def split(x: Any, sizes: Any, axis: int = 0) -> list[Any]:
    """Split an array into parts of some sizes, or into so many equal ones.

    Example:

    ```python
    parts = kje.keras2.split(np.ones((2, 6)), [1, -1, 2], axis=1)
    assert [part.shape[1] for part in parts] == [1, 3, 2]
    assert len(kje.keras2.split(np.ones(6), 3)) == 3  # of two each
    ```

    Args:
        x: Array.
        sizes: Integer, or integers, of which one may be -1: the rest.
        axis: Integer. Defaults to `0`.

    Returns:
        List of arrays.

    Raises:
        ValueError: If the parts are not the whole.
    """
    x = _array(x)
    if np.ndim(sizes) == 0:
        return list(keras.ops.split(x, int(sizes), axis=axis))
    given, whole = [int(n) for n in sizes], x.shape[axis]
    rest = whole - sum(n for n in given if n >= 0)
    sizes = [rest if n < 0 else n for n in given]
    if rest < 0 or sum(sizes) != whole:
        raise ValueError(
            f"The parts of an array make the whole, {whole} along axis {axis}. "
            f"Received: sizes={given}. Give -1 for one of them: the rest."
        )
    return list(keras.ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis))


@of_tensors
def slice(x: Any, begin: Any, size: Any) -> Any:
    """A part of an array.

    Example:

    ```python
    table = np.arange(6).reshape(2, 3)  # 0 1 2, and 3 4 5
    part = kje.keras2.slice(table, [0, 1], [1, -1])
    assert part.tolist() == [[1, 2]]
    ```

    Args:
        x: Array.
        begin: Integers, where it begins.
        size: Integers, its shape; -1 for all that is behind.

    Returns:
        Array.

    Raises:
        ValueError: If the array has no such part.
    """
    x = jnp.asarray(x)
    begins = [int(n) for n in begin]
    ends = [
        whole if int(n) < 0 else b + int(n)
        for b, n, whole in zip(begins, size, x.shape, strict=True)
    ]
    pairs = list(zip(begins, ends, strict=True))
    if any(
        not 0 <= b <= e <= n for (b, e), n in zip(pairs, x.shape, strict=True)
    ):
        raise ValueError(
            "A part lies within the array. Received: an array of shape "
            f"{x.shape}, begin={begins} and an end of {ends}. Make it smaller."
        )
    return x[tuple(builtins.slice(b, e) for b, e in pairs)]


@of_tensors
def sequence_mask(lengths: Any, maxlen: int | None = None) -> jax.Array:
    """True for the first places of each row.

    Example:

    ```python
    mask = kje.keras2.sequence_mask([1, 3])
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert kje.keras2.sequence_mask([1, 3], maxlen=5).shape == (2, 5)
    ```

    Args:
        lengths: Integers of shape `(...)`.
        maxlen: Integer. Defaults to `None`, the largest length.

    Returns:
        Booleans of shape `(..., maxlen)`.
    """
    lengths = jnp.asarray(lengths)
    size = int(lengths.max()) if maxlen is None else int(maxlen)
    return jnp.arange(size) < lengths[..., None]


@of_tensors
def scatter_nd(indices: Any, values: Any, shape: Any) -> Any:
    """Zeros, with values added at some places; beyond the end, none.

    Example:

    ```python
    counts = kje.keras2.scatter_nd([[0], [2], [0]], [1, 1, 1], [4])
    assert counts.tolist() == [2, 0, 1, 0]
    ```

    Args:
        indices: Integers of shape `(..., depth)`.
        values: Array.
        shape: Integers.

    Returns:
        Array of that shape.
    """
    shape = tuple(int(n) for n in shape)
    return keras.ops.scatter(jnp.asarray(indices), jnp.asarray(values), shape)


@of_tensors
def gather_nd(params: Any, indices: Any) -> jax.Array:
    """Take parts of an array by rows of indices; beyond its end, the last.

    Example:

    ```python
    table = np.array([[1, 2], [3, 4]])
    assert kje.keras2.gather_nd(table, [[0, 1], [1, 0]]).tolist() == [2, 3]
    assert kje.keras2.gather_nd(table, [[1]]).tolist() == [[3, 4]]  # a row
    ```

    Args:
        params: Array.
        indices: Integers of shape `(..., depth)`, for the first `depth` axes.

    Returns:
        Array of shape `(..., *params.shape[depth:])`.
    """
    indices = jnp.asarray(indices)
    return jnp.asarray(params)[tuple(jnp.moveaxis(indices, -1, 0))]


@of_tensors
def boolean_mask(tensor: Any, mask: Any, axis: int | None = None) -> jax.Array:
    """Take the entries for which a mask is true, by its axes.

    Example:

    ```python
    table = np.array([[1, 2], [3, 4]])
    assert kje.keras2.boolean_mask(table, table > 1).tolist() == [2, 3, 4]
    assert kje.keras2.boolean_mask(table, [False, True]).tolist() == [[3, 4]]
    ```

    Args:
        tensor: Array.
        mask: Booleans, of axes of `tensor` that follow one another.
        axis: Integer, the first of them. Defaults to `None`, the first of all.

    Returns:
        Array with one axis for those of the mask.
    """
    tensor = jnp.asarray(tensor)
    first = (axis or 0) % tensor.ndim
    # Integers would be places.
    return tensor[(np.s_[:],) * first + (np.asarray(mask, bool),)]


@of_tensors
def svd(
    x: Any, full_matrices: bool = False, compute_uv: bool = True
) -> tuple[jax.Array, jax.Array, jax.Array] | jax.Array:
    """Decompose matrices by singular values, in the order of `tf.linalg.svd`.

    Example:

    ```python
    x = np.arange(6.0).reshape(3, 2)
    s, u, v = kje.keras2.svd(x)
    np.testing.assert_allclose(u * s @ v.T, x, atol=1e-5)
    ```

    Args:
        x: Array of shape `(..., rows, columns)`.
        full_matrices: Boolean, whether `u` and `v` are square. Defaults to
            `False`.
        compute_uv: Boolean. Defaults to `True`.

    Returns:
        Tuple `(s, u, v)`: the singular values, the largest first, and the
        vectors, in columns. Or `s` alone.
    """
    if not compute_uv:
        return jnp.linalg.svd(x, compute_uv=False)
    u, s, v = jnp.linalg.svd(x, full_matrices=full_matrices)
    return s, u, jnp.conj(jnp.swapaxes(v, -1, -2))


def pad(
    x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0
) -> Any:
    """Pad an array; `mode` is written as in TensorFlow or as in NumPy.

    Example:

    ```python
    row = np.array([1, 2, 3])
    assert kje.keras2.pad(row, [[1, 0]], "REFLECT").tolist() == [2, 1, 2, 3]
    assert kje.keras2.pad(row, [[0, 2]]).tolist() == [1, 2, 3, 0, 0]
    ```

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

    Example:

    ```python
    rows = kje.keras2.l2_normalize([[3.0, 4.0], [0.0, 0.0]], axis=1)
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    ```

    Args:
        x: Array.
        axis: Integer or integers. Defaults to `None`, all.
        epsilon: Float. Defaults to `1e-12`.

    Returns:
        Array of the same shape.
    """
    x = _array(x)
    square = keras.ops.sum(keras.ops.square(x), axis=axis, keepdims=True)
    return x * keras.ops.rsqrt(keras.ops.maximum(square, epsilon))


def l2_loss(x: Any) -> Any:
    """Half the sum of squares.

    Example:

    ```python
    assert kje.keras2.l2_loss([1.0, 2.0, 3.0]) == 7.0
    ```

    Args:
        x: Array.

    Returns:
        Scalar.
    """
    return keras.ops.sum(keras.ops.square(x)) / 2


def squared_difference(x: Any, y: Any) -> Any:
    """The square of `x - y`.

    Example:

    ```python
    assert kje.keras2.squared_difference(5, [3, 5, 9]).tolist() == [4, 0, 16]
    ```

    Args:
        x: Array.
        y: Array.

    Returns:
        Array.
    """
    return keras.ops.square(keras.ops.subtract(x, y))


def reciprocal_no_nan(x: Any) -> Any:
    """`1 / x`, and 0 where `x` is 0.

    Example:

    ```python
    assert kje.keras2.reciprocal_no_nan([4.0, 0.0]).tolist() == [0.25, 0.0]
    ```

    Args:
        x: Array.

    Returns:
        Array.
    """
    x = _array(x)
    return keras.ops.divide_no_nan(keras.ops.ones_like(x), x)


def segment_sum(data: Any, segment_ids: Any) -> jax.Array:
    """Add up the rows of each segment.

    Example:

    ```python
    sums = kje.keras2.segment_sum([1, 2, 3], segment_ids=[0, 0, 2])
    assert sums.tolist() == [3, 0, 3]  # there is no row of segment 1
    ```

    Args:
        data: Array of shape `(rows, ...)`.
        segment_ids: Integers of shape `(rows,)`, whose values are known.

    Returns:
        Array of shape `(segments, ...)`.
    """
    ids = np.asarray(segment_ids)
    segments = int(np.max(ids)) + 1
    return keras.ops.segment_sum(_array(data), ids, num_segments=segments)


def matrix_transpose(x: Any) -> Any:
    """Exchange the last two axes.

    Example:

    ```python
    assert kje.keras2.matrix_transpose(np.ones((5, 2, 3))).shape == (5, 3, 2)
    ```

    Args:
        x: Array of at least two axes.

    Returns:
        Array.
    """
    return keras.ops.swapaxes(x, -1, -2)


def fill(shape: Any, fill_value: Any) -> Any:
    """An array of one value, whose type is that of the value.

    Example:

    ```python
    assert kje.keras2.fill([2], 7).dtype == "int32"
    assert kje.keras2.fill([2], 7.0).tolist() == [7.0, 7.0]
    ```

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

    Example:

    ```python
    assert kje.keras2.cast_to_floatx([1, 2]).dtype == "float32"
    ```

    Args:
        x: Array or number.

    Returns:
        NumPy array.
    """
    return np.asarray(x, dtype=keras.config.floatx())


def batch_flatten(x: Any) -> Any:
    """Flatten all axes but the first.

    Example:

    ```python
    assert kje.keras2.batch_flatten(np.ones((5, 2, 3))).shape == (5, 6)
    ```

    Args:
        x: Array of shape `(batch, ...)`.

    Returns:
        Array of shape `(batch, size)`.
    """
    x = _array(x)
    return keras.ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))


def ensure_shape(x: Any, shape: Sequence[int | None] | None) -> Any:
    """Check a shape.

    Example:

    ```python
    images = np.ones((8, 4, 4, 3))
    assert kje.keras2.ensure_shape(images, (None, 4, 4, 3)) is images
    ```

    Args:
        x: Array.
        shape: Integers, or `None` for any size; or `None`, any shape.

    Returns:
        The same array.

    Raises:
        ValueError: If the shape is another one.
    """
    if shape is None:
        return x
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

    Example:

    ```python
    counts = kje.keras2.confusion_matrix([0, 1, 1], [0, 0, 1])
    assert counts.tolist() == [[1, 0], [1, 1]]  # a 1 was taken for a 0
    ```

    Args:
        labels: Integers of shape `(rows,)`.
        predictions: Integers of shape `(rows,)`.
        num_classes: Integer. Defaults to `None`, one more than the largest.

    Returns:
        Integers of shape `(num_classes, num_classes)`: a row for each label.

    Raises:
        ValueError: If one of them is negative.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if min(labels.min(), predictions.min()) < 0:
        raise ValueError(
            "Classes are numbers from 0. Received: labels from "
            f"{labels.min()}, predictions from {predictions.min()}. Leave "
            "those out that are none."
        )
    if num_classes is None:
        num_classes = int(max(labels.max(), predictions.max())) + 1
    counts = np.zeros((num_classes, num_classes), "int32")
    np.add.at(counts, (labels.ravel(), predictions.ravel()), 1)
    return jnp.asarray(counts)


def to_numpy(x: Any) -> Any:
    """The value of an array: a scalar's is a number of NumPy's.

    `keras.ops.convert_to_numpy` reads no array within `value_and_grad`; this
    does, unless the function is compiled.

    Example:

    ```python
    assert kje.keras2.to_numpy(jnp.float32(1.5)) == 1.5
    assert type(kje.keras2.to_numpy(jnp.ones(2))) is np.ndarray
    ```

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

    Example:

    ```python
    assert kje.keras2.add_n([[1, 2], [3, 4], [5, 6]]).tolist() == [9, 12]
    ```

    Args:
        inputs: List of arrays.

    Returns:
        Array.
    """
    return functools.reduce(keras.ops.add, inputs)


def global_norm(arrays: Sequence[Any]) -> Any:
    """The norm of all entries of some arrays together.

    Example:

    ```python
    assert kje.keras2.global_norm([[3.0], None, [0.0, 4.0]]) == 5.0
    ```

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

    Example:

    ```python
    (a, b), norm = kje.keras2.clip_by_global_norm([[6.0], [8.0]], 5.0)
    assert (float(a[0]), float(b[0]), float(norm)) == (3.0, 4.0, 10.0)
    ```

    Args:
        arrays: List of arrays; `None` among them stays.
        clip_norm: Number.
        norm: Number, the norm if it is known. Defaults to `None`.

    Returns:
        List of arrays, and the norm before.
    """
    norm = global_norm(arrays) if norm is None else norm
    scale = clip_norm / keras.ops.maximum(norm, clip_norm)
    scaled = [None if a is None else _array(a) * scale for a in arrays]
    return scaled, norm


def clip_by_norm(x: Any, clip_norm: Any, axis: Any = None) -> Any:
    """Scale an array, so that its norm is at most a number.

    Example:

    ```python
    rows = [[6.0, 8.0], [0.3, 0.4]]  # of norms 10 and 0.5
    clipped = kje.keras2.clip_by_norm(rows, 5.0, axis=1)
    np.testing.assert_allclose(clipped, [[3.0, 4.0], [0.3, 0.4]], rtol=1e-6)
    ```

    Args:
        x: Array.
        clip_norm: Number.
        axis: Integer or integers, for a norm along them. Defaults to `None`.

    Returns:
        Array of the same shape.
    """
    x = _array(x)
    square = keras.ops.sum(keras.ops.square(x), axis=axis, keepdims=True)
    # The root of 0 has no gradient.
    norm = keras.ops.sqrt(keras.ops.where(square > 0, square, 1.0))
    norm = keras.ops.where(square > 0, norm, 0.0)
    return x * clip_norm / keras.ops.maximum(norm, clip_norm)


def band_part(x: Any, num_lower: int, num_upper: int) -> Any:
    """Matrices with zeros outside of a band around the diagonal.

    Example:

    ```python
    ones = np.ones((2, 2))
    assert kje.keras2.band_part(ones, -1, 0).tolist() == [[1, 0], [1, 1]]
    ```

    Args:
        x: Array of shape `(..., rows, columns)`.
        num_lower: Integer, the diagonals below that stay; -1 for all.
        num_upper: Integer, those above.

    Returns:
        Array of the same shape.
    """
    x = _array(x)
    rows, columns = x.shape[-2:]
    below = np.arange(rows)[:, None] - np.arange(columns)
    kept = (num_lower < 0) | (below <= num_lower)
    kept &= (num_upper < 0) | (-below <= num_upper)
    return keras.ops.where(kept, x, keras.ops.zeros_like(x))


def normalize_and_norm(
    x: Any, order: Any = None, axis: Any = None
) -> tuple[Any, Any]:
    """Divide an array by its norm.

    Example:

    ```python
    share, total = kje.keras2.normalize_and_norm([[1.0, 3.0]], order=1)
    assert (share.tolist(), total.tolist()) == ([[0.25, 0.75]], [[4.0]])
    ```

    Args:
        x: Array.
        order: Number, or `"euclidean"`. Defaults to `None`, Euclid's.
        axis: Integer, or two for a norm of matrices. Defaults to `None`, all
            entries as one vector.

    Returns:
        Array of the same shape, and the norm with its axes kept.
    """
    x = _array(x)
    order = None if isinstance(order, str) and order == "euclidean" else order
    if axis is None:
        # Of a matrix as it is, `keras.ops.norm` takes a norm of matrices.
        norm = keras.ops.norm(keras.ops.reshape(x, (-1,)), ord=order)
        norm = keras.ops.reshape(norm, (1,) * len(x.shape))
    else:
        axis = tuple(axis) if isinstance(axis, list) else axis
        norm = keras.ops.norm(x, ord=order, axis=axis, keepdims=True)
    return x / norm, norm


def multiply_no_nan(x: Any, y: Any) -> Any:
    """`x * y`, and 0 where `y` is 0.

    Example:

    ```python
    found = kje.keras2.multiply_no_nan([np.inf, 2.0], [0.0, 3.0])
    assert found.tolist() == [0.0, 6.0]
    ```

    Args:
        x: Array.
        y: Array.

    Returns:
        Array.
    """
    x, y = _array(x), _array(y)
    zero = keras.ops.equal(y, 0)
    return keras.ops.where(zero, keras.ops.zeros_like(x), x * y)


def zero_fraction(x: Any) -> Any:
    """The share of the entries that are 0.

    Example:

    ```python
    assert kje.keras2.zero_fraction([0, 5, 0, 0]) == 0.75
    ```

    Args:
        x: Array.

    Returns:
        Scalar, in `[0, 1]`.
    """
    return keras.ops.mean(keras.ops.cast(keras.ops.equal(x, 0), "float32"))


def segment_mean(data: Any, segment_ids: Any) -> Any:
    """The mean of the rows of each segment; 0 of one without rows.

    Example:

    ```python
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    means = kje.keras2.segment_mean(rows, segment_ids=[0, 0, 1])
    assert means.tolist() == [[2.0, 3.0], [5.0, 6.0]]
    ```

    Args:
        data: Array of shape `(rows, ...)`.
        segment_ids: Integers of shape `(rows,)`, whose values are known.

    Returns:
        Array of shape `(segments, ...)` and of the same type: of integers,
        it is cut off.
    """
    data = _array(data)
    counts = segment_sum(keras.ops.ones_like(data), segment_ids)
    means = segment_sum(data, segment_ids) / keras.ops.maximum(counts, 1)
    return keras.ops.cast(means, data.dtype)


def scatter_add(inputs: Any, indices: Any, updates: Any) -> Any:
    """An array with values added at some places.

    Example:

    ```python
    found = kje.keras2.scatter_add([1, 2, 3], [[0], [0]], [10, 10])
    assert found.tolist() == [21, 2, 3]  # twice at one place
    ```

    Args:
        inputs: Array.
        indices: Integers of shape `(..., depth)`.
        updates: Array.

    Returns:
        Array of the same shape.
    """
    inputs = _array(inputs)
    return inputs + scatter_nd(indices, updates, inputs.shape)


def scatter_sub(inputs: Any, indices: Any, updates: Any) -> Any:
    """An array with values subtracted at some places.

    Example:

    ```python
    found = kje.keras2.scatter_sub([[1, 2], [3, 4]], [[1]], [[3, 3]])
    assert found.tolist() == [[1, 2], [0, 1]]
    ```

    Args:
        inputs: Array.
        indices: Integers of shape `(..., depth)`.
        updates: Array.

    Returns:
        Array of the same shape.
    """
    inputs = _array(inputs)
    return inputs - scatter_nd(indices, updates, inputs.shape)


class Unique(NamedTuple):
    """What `unique` returns.

    Example:

    ```python
    found = kje.keras2.unique([7, 2, 7])
    assert found.y[found.idx].tolist() == [7, 2, 7]
    ```

    Attributes:
        y: The different entries, in the order of the first of each.
        idx: The place in `y` of each entry.
    """

    y: Any
    idx: Any


def unique(x: Any) -> Unique:
    """The different entries of a vector, in their order.

    Example:

    ```python
    values, places = kje.keras2.unique([7, 2, 7])
    assert (values.tolist(), places.tolist()) == ([7, 2], [0, 1, 0])
    ```

    Args:
        x: Array of shape `(size,)`, whose values are known.

    Returns:
        Named tuple of `y` and `idx`.

    Raises:
        ValueError: If it is no vector.
    """
    x = np.asarray(x)
    if x.ndim != 1:
        raise ValueError(
            "The different entries are those of a vector. Received: an array "
            f"of shape {x.shape}. Flatten it."
        )
    values, first, places = np.unique(x, return_index=True, return_inverse=True)
    order = np.argsort(first)
    back = np.argsort(order)
    return Unique(jnp.asarray(values[order]), jnp.asarray(back[places]))


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """The product of two batches, matrix by matrix.

    Example:

    ```python
    a, b = np.ones((8, 2, 3)), np.ones((8, 3, 4))
    assert kje.keras2.batch_dot(a, b).shape == (8, 2, 4)
    assert kje.keras2.batch_dot(a, a, axes=2).shape == (8, 2, 2)
    ```

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

    Example:

    ```python
    rows = kje.keras2.repeat_vector(np.array([[1, 2]]), 3)
    assert rows.tolist() == [[[1, 2], [1, 2], [1, 2]]]
    ```

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

    Example:

    ```python
    x = np.array([-3.0, 0.0, 1.0], "float32")
    np.testing.assert_allclose(kje.keras2.hard_sigmoid(x), [0.0, 0.5, 0.7])
    ```

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

    Example:

    ```python
    assert kje.keras2.compute_average_loss([1.0, 2.0, 6.0]) == 3.0
    assert kje.keras2.compute_average_loss([4.0, 2.0], [1.0, 0.0]) == 2.0
    ```

    Args:
        losses: Array of shape `(batch, ...)`.
        sample_weight: Array of the same shape, or of one axis less: of shape
            `(batch,)` it weighs rows. Defaults to `None`.
        global_batch_size: Integer. Defaults to `None`, the rows given.

    Returns:
        Scalar.
    """
    losses = _array(losses)
    if sample_weight is not None:
        losses = losses * _beside(losses, _array(sample_weight))
    size = losses.shape[0] if global_batch_size is None else global_batch_size
    return keras.ops.sum(losses) / size


def _beside(losses, weights):
    """Weights of the rank of the losses, as TensorFlow makes them."""
    more = len(losses.shape) - len(weights.shape)
    if more == 1 and len(weights.shape):
        return keras.ops.expand_dims(weights, -1)
    return keras.ops.squeeze(weights, -1) if more == -1 else weights


def weighted_cross_entropy_with_logits(
    labels: Any, logits: Any, pos_weight: Any
) -> Any:
    """Cross-entropy of single classes, with a weight for those that are there.

    Example:

    ```python
    entropy = kje.keras2.weighted_cross_entropy_with_logits
    losses = entropy([1.0, 0.0], [0.0, 0.0], pos_weight=3.0)
    np.testing.assert_allclose(losses, np.log([8.0, 2.0]), rtol=1e-6)
    ```

    Args:
        labels: Array, in `[0, 1]`.
        logits: Array of the same shape.
        pos_weight: Number or array.

    Returns:
        Array of the same shape.
    """
    labels, logits = _array(labels), _array(logits)
    weight = 1 + (pos_weight - 1) * labels
    softplus = keras.ops.softplus(-logits)
    return (1 - labels) * logits + weight * softplus


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, epsilon: float
) -> Any:
    """Shift and scale by a mean and a variance.

    Example:

    ```python
    x = np.array([1.0, 3.0])
    found = kje.keras2.batch_normalization(x, 2.0, 0.75, None, 2.0, 0.25)
    assert found.tolist() == [-2.0, 2.0]  # scaled by 2, and not shifted
    ```

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

    Example:

    ```python
    assert kje.keras2.crelu([3.0, -4.0]).tolist() == [3.0, 0.0, 0.0, 4.0]
    ```

    Args:
        x: Array.
        axis: Integer. Defaults to `-1`.

    Returns:
        Array, twice as long along the axis.
    """
    x = _array(x)
    return keras.ops.relu(keras.ops.concatenate([x, -x], axis=axis))


def print_tensor(x: Any, message: str = "") -> Any:
    """Print an array, also in a compiled function.

    Example:

    ```python
    doubled = jax.jit(lambda x: kje.keras2.print_tensor(x, "x:") * 2)
    assert doubled(3) == 6  # and prints: x: 3
    ```

    Args:
        x: Array.
        message: String, put before it.

    Returns:
        The same array.
    """
    # JAX fills in nothing where a format begins with a doubled brace.
    jax.debug.print("{message} {x}", message=message, x=x)
    return x


def random_bernoulli(
    shape: Any, p: float = 0.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Ones with a probability, and zeros.

    Example:

    ```python
    assert kje.keras2.random_bernoulli((3,), p=1.0).tolist() == [1.0] * 3
    assert kje.keras2.random_bernoulli((3,), dtype="int32").dtype == "int32"
    ```

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

    Example:

    ```python
    v = keras.Variable(1.0)
    assert kje.keras2.update(v, 5.0) == 5.0
    assert v.numpy() == 5.0
    ```

    Args:
        x: Variable.
        new_x: Array.

    Returns:
        The value.
    """
    return x.assign(new_x)


def update_add(x: Any, increment: Any) -> Any:
    """Add to a variable.

    Example:

    ```python
    v = keras.Variable([1.0, 2.0])
    assert kje.keras2.update_add(v, [1.0, 1.0]).tolist() == [2.0, 3.0]
    ```

    Args:
        x: Variable.
        increment: Array.

    Returns:
        The new value.
    """
    return x.assign_add(increment)


def update_sub(x: Any, decrement: Any) -> Any:
    """Subtract from a variable.

    Example:

    ```python
    v = keras.Variable(5, dtype="int32")
    assert kje.keras2.update_sub(v, 3) == 2
    ```

    Args:
        x: Variable.
        decrement: Array.

    Returns:
        The new value.
    """
    return x.assign_sub(decrement)


def _array(x):
    """The same, or the array of a list, which TensorFlow took for one."""
    return x if hasattr(x, "shape") else jnp.asarray(x)
