"""Operations on images that Keras 3 has under no name."""

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

_FLOAT = "float32"


def adjust_contrast(images: Any, contrast_factor: Any) -> Any:
    """Move each value away from the mean of its image and channel.

    Example:

    ```python
    image = np.array([[[100], [200]]], "uint8")  # their mean is 150
    assert kje.keras2.adjust_contrast(image, 2.0).ravel().tolist() == [50, 250]
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.
        contrast_factor: Number.

    Returns:
        Array of the same shape and type.
    """

    def change(x):
        mean = keras.ops.mean(x, axis=(-3, -2), keepdims=True)
        return (x - mean) * contrast_factor + mean

    return _in_floats(images, change)


def flip_left_right(images: Any) -> Any:
    """Mirror images of shape `(..., height, width, channels)`.

    Example:

    ```python
    image = np.array([[[1], [2], [3]]])  # a row of three pixels
    assert kje.keras2.flip_left_right(image).ravel().tolist() == [3, 2, 1]
    ```

    Args:
        images: Array.

    Returns:
        Array.
    """
    return keras.ops.flip(images, axis=-2)


def flip_up_down(images: Any) -> Any:
    """Turn images of shape `(..., height, width, channels)` upside down.

    Example:

    ```python
    images = np.arange(2).reshape(1, 2, 1, 1)  # one image of two rows
    assert kje.keras2.flip_up_down(images).ravel().tolist() == [1, 0]
    ```

    Args:
        images: Array.

    Returns:
        Array.
    """
    return keras.ops.flip(images, axis=-3)


def _sizes(values):
    """Two sizes, of one number or of TensorFlow's four."""
    if isinstance(values, int):
        return values
    values = tuple(int(n) for n in values)
    return values[1:3] if len(values) == 4 else values


def conv2d(inputs: Any, kernel: Any, strides: Any, padding: str) -> Any:
    """Convolve images with a kernel, as `tf.nn.conv2d`.

    Example:

    ```python
    images, kernel = np.ones((1, 5, 5, 3)), np.ones((3, 3, 3, 8))
    found = kje.keras2.conv2d(images, kernel, [1, 2, 2, 1], "VALID")
    assert found.shape == (1, 2, 2, 8)
    ```

    Args:
        inputs: Array of shape `(batch, height, width, channels)`.
        kernel: Array of shape `(height, width, channels, filters)`.
        strides: Integer, two, or four of them.
        padding: String, `"SAME"` or `"VALID"`.

    Returns:
        Array of images.
    """
    return keras.ops.conv(
        inputs, kernel, _sizes(strides), padding.lower(), "channels_last"
    )


def max_pool2d(inputs: Any, pool_size: Any, strides: Any, padding: str) -> Any:
    """The largest value of each window, as `tf.nn.max_pool2d`.

    Example:

    ```python
    image = np.arange(4.0).reshape(1, 2, 2, 1)
    assert kje.keras2.max_pool2d(image, 2, 2, "VALID").tolist() == [[[[3.0]]]]
    ```

    Args:
        inputs: Array of shape `(batch, height, width, channels)`.
        pool_size: Integer, two, or four of them.
        strides: Integer, two, or four of them.
        padding: String, `"SAME"` or `"VALID"`.

    Returns:
        Array of images.
    """
    return _pooled(keras.ops.max_pool, inputs, pool_size, strides, padding)


def avg_pool2d(inputs: Any, pool_size: Any, strides: Any, padding: str) -> Any:
    """The mean of each window, as `tf.nn.avg_pool2d`.

    Example:

    ```python
    image = np.arange(3.0).reshape(1, 1, 3, 1)
    found = kje.keras2.avg_pool2d(image, [1, 2], [1, 2], "SAME")
    assert found.ravel().tolist() == [0.5, 2.0]  # what is outside counts not
    ```

    Args:
        inputs: Array of shape `(batch, height, width, channels)`.
        pool_size: Integer, two, or four of them.
        strides: Integer, two, or four of them.
        padding: String, `"SAME"` or `"VALID"`.

    Returns:
        Array of images.
    """
    return _pooled(keras.ops.average_pool, inputs, pool_size, strides, padding)


def _pooled(function, inputs, pool_size, strides, padding):
    sizes = _sizes(pool_size), _sizes(strides)
    return function(_tensor(inputs), *sizes, padding.lower(), "channels_last")


def conv1d(inputs: Any, kernel: Any, strides: Any, padding: str) -> Any:
    """Convolve sequences with a kernel, as `tf.nn.conv1d`.

    Example:

    ```python
    steps, kernel = np.arange(4.0).reshape(1, 4, 1), np.ones((2, 1, 1))
    found = kje.keras2.conv1d(steps, kernel, 1, "VALID")
    assert found.ravel().tolist() == [1.0, 3.0, 5.0]
    ```

    Args:
        inputs: Array of shape `(batch, steps, channels)`.
        kernel: Array of shape `(size, channels, filters)`.
        strides: Integer, one or three of them.
        padding: String, `"SAME"` or `"VALID"`.

    Returns:
        Array of shape `(batch, steps, filters)`.
    """
    if not isinstance(strides, int):
        strides = int(strides[len(strides) // 2])
    return keras.ops.conv(
        inputs, kernel, strides, padding.lower(), "channels_last"
    )


def conv2d_transpose(
    inputs: Any,
    kernel: Any,
    output_shape: Any,
    strides: Any,
    padding: str = "SAME",
) -> Any:
    """The transpose of a convolution, as `tf.nn.conv2d_transpose`.

    Example:

    ```python
    images, kernel = np.ones((1, 3, 3, 8)), np.ones((3, 3, 2, 8))
    found = kje.keras2.conv2d_transpose(images, kernel, (1, 6, 6, 2), 2)
    assert found.shape == (1, 6, 6, 2)
    ```

    Args:
        inputs: Array of shape `(batch, height, width, channels)`.
        kernel: Array of shape `(height, width, filters, channels)`.
        output_shape: Integers, the shape of the result.
        strides: Integer, two, or four of them.
        padding: String, `"SAME"` or `"VALID"`.

    Returns:
        Array of shape `output_shape`.
    """
    inputs = jnp.asarray(inputs)
    shape = tuple(int(n) for n in output_shape)
    sizes = _sizes(strides)

    def forward(images):
        return keras.ops.conv(
            images, kernel, sizes, padding.lower(), "channels_last"
        )

    _, pull_back = jax.vjp(forward, jnp.zeros(shape, inputs.dtype))
    return pull_back(inputs)[0]


def depthwise_conv2d(
    inputs: Any, kernel: Any, strides: Any, padding: str
) -> Any:
    """Convolve each channel apart, as `tf.nn.depthwise_conv2d`.

    Example:

    ```python
    images, kernel = np.ones((1, 5, 5, 3)), np.ones((3, 3, 3, 2))
    found = kje.keras2.depthwise_conv2d(images, kernel, 1, "SAME")
    assert found.shape == (1, 5, 5, 6)
    ```

    Args:
        inputs: Array of shape `(batch, height, width, channels)`.
        kernel: Array of shape `(height, width, channels, multiplier)`.
        strides: Integer, two, or four of them.
        padding: String, `"SAME"` or `"VALID"`.

    Returns:
        Array of images with `channels * multiplier` channels.
    """
    return keras.ops.depthwise_conv(
        inputs, kernel, _sizes(strides), padding.lower(), "channels_last"
    )


def space_to_depth(x: Any, block_size: int) -> Any:
    """Put blocks of pixels into channels.

    Example:

    ```python
    image = np.arange(4).reshape(1, 2, 2, 1)
    found = kje.keras2.space_to_depth(image, 2)
    assert found.tolist() == [[[[0, 1, 2, 3]]]]
    ```

    Args:
        x: Array of shape `(batch, height, width, channels)`.
        block_size: Integer.

    Returns:
        Array of shape `(batch, height / n, width / n, n * n * channels)`.
    """
    height, width, channels = x.shape[1:]
    n = block_size
    parts = keras.ops.reshape(x, (-1, height // n, n, width // n, n, channels))
    parts = keras.ops.transpose(parts, (0, 1, 3, 2, 4, 5))
    size = n * n * channels
    return keras.ops.reshape(parts, (-1, height // n, width // n, size))


def depth_to_space(x: Any, block_size: int) -> Any:
    """Put channels into blocks of pixels.

    Example:

    ```python
    found = kje.keras2.depth_to_space(np.ones((1, 2, 3, 8)), 2)
    assert found.shape == (1, 4, 6, 2)
    ```

    Args:
        x: Array of shape `(batch, height, width, n * n * channels)`.
        block_size: Integer, `n`.

    Returns:
        Array of shape `(batch, n * height, n * width, channels)`.
    """
    height, width, channels = x.shape[1:]
    n = block_size
    parts = keras.ops.reshape(x, (-1, height, width, n, n, channels // n // n))
    parts = keras.ops.transpose(parts, (0, 1, 3, 2, 4, 5))
    return keras.ops.reshape(
        parts, (-1, height * n, width * n, channels // n // n)
    )


def adjust_brightness(images: Any, delta: Any) -> Any:
    """Add a number to images.

    Example:

    ```python
    dark, bright = np.uint8([[[0]]]), np.uint8([[[250]]])
    assert kje.keras2.adjust_brightness(dark, 0.2).tolist() == [[[51]]]
    assert kje.keras2.adjust_brightness(bright, 0.2).tolist() == [[[255]]]
    ```

    Args:
        images: Array of images: floats, or integers up to 255.
        delta: Number, a share of the whole range.

    Returns:
        Array of the same shape and type.
    """
    return _in_floats(images, lambda x: x + delta)


def adjust_saturation(images: Any, saturation_factor: Any) -> Any:
    """Scale the saturation of RGB images.

    Example:

    ```python
    red = np.array([[[1.0, 0.5, 0.5]]])
    grey = kje.keras2.adjust_saturation(red, 0.0)
    assert grey.tolist() == [[[1.0, 1.0, 1.0]]]
    ```

    Args:
        images: Array of shape `(..., height, width, 3)`.
        saturation_factor: Number.

    Returns:
        Array of the same shape and type.
    """

    def change(x):
        hsv = keras.ops.image.rgb_to_hsv(x)
        s = keras.ops.clip(hsv[..., 1:2] * saturation_factor, 0.0, 1.0)
        return keras.ops.image.hsv_to_rgb(
            keras.ops.concatenate([hsv[..., :1], s, hsv[..., 2:]], axis=-1)
        )

    return _in_floats(images, change)


def adjust_hue(images: Any, delta: Any) -> Any:
    """Turn the hue of RGB images.

    Example:

    ```python
    red = np.array([[[1.0, 0.0, 0.0]]])
    green = kje.keras2.adjust_hue(red, 1 / 3)
    np.testing.assert_allclose(green, [[[0.0, 1.0, 0.0]]], atol=1e-5)
    ```

    Args:
        images: Array of shape `(..., height, width, 3)`.
        delta: Number, a share of the circle, in `[-1, 1]`.

    Returns:
        Array of the same shape and type.
    """

    def change(x):
        hsv = keras.ops.image.rgb_to_hsv(x)
        hue = keras.ops.mod(hsv[..., :1] + delta, 1.0)
        return keras.ops.image.hsv_to_rgb(
            keras.ops.concatenate([hue, hsv[..., 1:]], axis=-1)
        )

    return _in_floats(images, change)


def random_brightness(images: Any, max_delta: float, seed: Any = None) -> Any:
    """Add a random number to images.

    Example:

    ```python
    image = kje.keras2.random_brightness(np.zeros((1, 2, 1)), 0.1, seed=1)
    first, second = image.ravel().tolist()
    assert first == second
    assert abs(first) <= 0.1
    ```

    Args:
        images: Array of images.
        max_delta: Number, the most that is added or subtracted.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array of the same shape and type.
    """
    return adjust_brightness(images, _drawn(-max_delta, max_delta, seed))


def random_contrast(
    images: Any, lower: float, upper: float, seed: Any = None
) -> Any:
    """Change the contrast of images by a random factor.

    Example:

    ```python
    image = np.array([[[100], [200]]], "uint8")
    first, second = kje.keras2.random_contrast(image, 0.5, 1.0).ravel().tolist()
    assert 100 <= first <= 125
    assert 175 <= second <= 200
    ```

    Args:
        images: Array of images.
        lower: Number, the least factor.
        upper: Number, the greatest one.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array of the same shape and type.
    """
    return adjust_contrast(images, _drawn(lower, upper, seed))


def random_saturation(
    images: Any, lower: float, upper: float, seed: Any = None
) -> Any:
    """Scale the saturation of RGB images by a random factor.

    Example:

    ```python
    grey = np.array([[[0.5, 0.5, 0.5]]])  # there is none to scale
    found = kje.keras2.random_saturation(grey, 0.5, 2.0)
    assert found.tolist() == grey.tolist()
    ```

    Args:
        images: Array of images.
        lower: Number, the least factor.
        upper: Number, the greatest one.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array of the same shape and type.
    """
    return adjust_saturation(images, _drawn(lower, upper, seed))


def random_hue(images: Any, max_delta: float, seed: Any = None) -> Any:
    """Turn the hue of RGB images by a random number.

    Example:

    ```python
    red = np.array([[[255, 0, 0]]], "uint8")
    found = kje.keras2.random_hue(red, 0.1, seed=1)
    assert max(found.ravel().tolist()) == 255  # as bright as before
    ```

    Args:
        images: Array of images.
        max_delta: Number, the most that it is turned, in `[0, 0.5]`.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array of the same shape and type.
    """
    return adjust_hue(images, _drawn(-max_delta, max_delta, seed))


def random_flip_left_right(images: Any, seed: Any = None) -> Any:
    """Mirror each image, or not.

    Example:

    ```python
    image = np.array([[[1], [2]]])
    found = kje.keras2.random_flip_left_right(image, seed=1)
    assert found.ravel().tolist() in ([1, 2], [2, 1])
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array of the same shape.
    """
    return _at_random(images, flip_left_right(images), seed)


def random_flip_up_down(images: Any, seed: Any = None) -> Any:
    """Turn each image upside down, or not.

    Example:

    ```python
    images = np.arange(4).reshape(2, 2, 1, 1)  # each flips or not by itself
    first, second = kje.keras2.random_flip_up_down(images)[..., 0, 0].tolist()
    assert first in ([0, 1], [1, 0])
    assert second in ([2, 3], [3, 2])
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array of the same shape.
    """
    return _at_random(images, flip_up_down(images), seed)


def random_crop(x: Any, size: Any, seed: Any = None) -> Any:
    """A part of an array, at a random place.

    Example:

    ```python
    part = kje.keras2.random_crop(np.ones((32, 32, 3)), (24, 24, 3))
    assert part.shape == (24, 24, 3)
    ```

    Args:
        x: Array.
        size: Integers, the shape of the part.
        seed: Seed of Keras's. Defaults to `None`.

    Returns:
        Array of that shape.
    """
    size = [int(n) for n in size]
    room = [n - m + 1 for n, m in zip(x.shape, size, strict=True)]
    if min(room) < 1:
        raise ValueError(
            "A part is no larger than the whole. Received: an array of shape "
            f"{tuple(x.shape)}, and size={size}. Pad it first."
        )
    drawn = keras.random.uniform((len(room),), seed=seed)
    starts = keras.ops.cast(drawn * np.asarray(room, "float32"), "int32")
    starts = keras.ops.minimum(starts, np.asarray(room) - 1)
    return keras.ops.slice(jnp.asarray(x), starts, size)


def central_crop(images: Any, central_fraction: float) -> Any:
    """The middle of images.

    Example:

    ```python
    assert kje.keras2.central_crop(np.ones((8, 6, 3)), 0.5).shape == (4, 4, 3)
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.
        central_fraction: Number, the share of each side, in `(0, 1]`.

    Returns:
        Array of images.

    Raises:
        ValueError: If the share is another one.
    """
    if not 0 < central_fraction <= 1:
        raise ValueError(
            "The middle is a share of each side, in (0, 1]. Received: "
            f"central_fraction={central_fraction}. Give such a number."
        )
    cut = [int((n - n * central_fraction) / 2) for n in images.shape[-3:-1]]
    height, width = images.shape[-3:-1]
    return images[..., cut[0] : height - cut[0], cut[1] : width - cut[1], :]


def resize_with_crop_or_pad(
    images: Any, target_height: int, target_width: int
) -> Any:
    """Cut images, or put zeros around them, to a size.

    Example:

    ```python
    found = kje.keras2.resize_with_crop_or_pad(np.ones((4, 4, 1)), 2, 6)
    assert found[0, :, 0].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.
        target_height: Integer.
        target_width: Integer.

    Returns:
        Array of shape `(..., target_height, target_width, channels)`.
    """
    images = jnp.asarray(images)
    for axis, target in ((-3, int(target_height)), (-2, int(target_width))):
        size = images.shape[axis]
        cut = max(size - target, 0) // 2
        images = jax.lax.slice_in_dim(
            images, cut, cut + min(size, target), axis=images.ndim + axis
        )
        room = max(target - size, 0)
        widths = [(0, 0)] * images.ndim
        widths[axis] = (room // 2, room - room // 2)
        images = jnp.pad(images, widths)
    return images


def resize(
    images: Any,
    size: Any,
    interpolation: str = "bilinear",
    antialias: bool = False,
) -> Any:
    """Resize images; those of integers become floats, as in TensorFlow.

    Example:

    ```python
    image = np.array([[[0], [1]]], "uint8")
    found = kje.keras2.resize(image, (1, 1))
    assert found.tolist() == [[[0.5]]]  # Keras keeps the type: 0
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.
        size: Two integers, height and width.
        interpolation: String, `"bilinear"`, `"nearest"`, which keeps the type,
            `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        antialias: Boolean, whether to smooth what is made smaller. Defaults to
            `False`.

    Returns:
        Array of shape `(..., *size, channels)`.
    """
    images = _tensor(images)
    nearest = interpolation == "nearest"
    if not nearest and keras.backend.standardize_dtype(images.dtype) != _FLOAT:
        images = keras.ops.cast(images, _FLOAT)
    size = tuple(int(n) for n in size)
    return keras.ops.image.resize(
        images, size, interpolation=interpolation, antialias=antialias
    )


def grayscale_to_rgb(images: Any) -> Any:
    """Images of one channel as images of three equal ones.

    Example:

    ```python
    image = np.array([[[7]]])  # one pixel
    assert kje.keras2.grayscale_to_rgb(image).tolist() == [[[7, 7, 7]]]
    ```

    Args:
        images: Array of shape `(..., 1)`.

    Returns:
        Array of shape `(..., 3)`.

    Raises:
        ValueError: If the images have more channels.
    """
    if images.shape[-1] != 1:
        raise ValueError(
            "Images in shades of grey have one channel, the last axis. "
            f"Received: images of shape {tuple(images.shape)}. Add an axis, or "
            "leave them as they are."
        )
    return keras.ops.repeat(images, 3, axis=-1)


def convert_image_dtype(images: Any, dtype: Any) -> Any:
    """Images of another type: floats up to 1, integers up to their largest.

    Example:

    ```python
    image = np.array([0, 51, 255], "uint8")
    found = kje.keras2.convert_image_dtype(image, "float32")
    np.testing.assert_allclose(found, [0.0, 0.2, 1.0], rtol=1e-6)
    ```

    Args:
        images: Array of images.
        dtype: String.

    Returns:
        Array of that type.
    """
    images = jnp.asarray(images)
    old, new = images.dtype, np.dtype(keras.backend.standardize_dtype(dtype))
    if old == new:
        return images
    if jnp.issubdtype(old, jnp.integer):
        if jnp.issubdtype(new, jnp.integer):
            return _between_integers(images, new)
        return images.astype(new) * (1.0 / np.iinfo(old).max)
    if jnp.issubdtype(new, jnp.integer):
        # Half of a step more than the largest, as TensorFlow rounds.
        return (images * (np.iinfo(new).max + 0.5)).astype(new)
    return images.astype(new)


def _between_integers(images, new):
    """Images of another type of integers, by whole factors."""
    old_count = int(np.iinfo(images.dtype).max) + 1
    count = int(np.iinfo(new).max) + 1
    if old_count > count:
        return (images // (old_count // count)).astype(new)
    return images.astype(new) * (count // old_count)


def per_image_standardization(images: Any) -> Any:
    """Each image with a mean of 0 and a deviation of 1.

    Example:

    ```python
    image = kje.keras2.per_image_standardization(np.array([[[1], [3]]]))
    assert image.ravel().tolist() == [-1.0, 1.0]
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.

    Returns:
        Floats of the same shape.
    """
    images = keras.ops.cast(images, keras.config.floatx())
    axes = (-3, -2, -1)
    mean = keras.ops.mean(images, axis=axes, keepdims=True)
    least = 1.0 / np.sqrt(np.prod(images.shape[-3:]))
    std = keras.ops.std(images, axis=axes, keepdims=True)
    return (images - mean) / keras.ops.maximum(std, least)


def rot90(images: Any, k: int = 1) -> Any:
    """Turn images counter-clockwise.

    Example:

    ```python
    image = np.array([[[1], [2]]])  # one row
    assert kje.keras2.rot90(image).ravel().tolist() == [2, 1]  # one column
    assert kje.keras2.rot90(image, k=2).shape == (1, 2, 1)
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.
        k: Integer, how many quarters. Defaults to `1`.

    Returns:
        Array of images.
    """
    return keras.ops.rot90(images, k=k, axes=(-3, -2))


def transpose_images(images: Any) -> Any:
    """Exchange height and width.

    Example:

    ```python
    images = np.ones((8, 4, 6, 3))
    assert kje.keras2.transpose_images(images).shape == (8, 6, 4, 3)
    ```

    Args:
        images: Array of shape `(..., height, width, channels)`.

    Returns:
        Array of images.
    """
    return keras.ops.swapaxes(images, -3, -2)


def psnr(a: Any, b: Any, max_val: Any) -> Any:
    """The ratio of the peak to the noise between images, in decibels.

    Args:
        a: Array of shape `(..., height, width, channels)`.
        b: Array of that shape.
        max_val: Number, the largest value that a pixel can have.

    Returns:
        Array of shape `(...)`, one for each image.
    """
    a, b = (keras.ops.cast(x, "float32") for x in (a, b))
    noise = keras.ops.mean(keras.ops.square(a - b), axis=(-3, -2, -1))
    peak = keras.ops.cast(max_val, "float32")
    return 20 * keras.ops.log10(peak) - 10 * keras.ops.log10(noise)


def total_variation(images: Any) -> Any:
    """The sum of the differences of neighbouring pixels.

    Example:

    ```python
    image = np.array([[[0.0], [3.0]], [[1.0], [3.0]]])
    assert kje.keras2.total_variation(image) == 3 + 2 + 1 + 0
    ```

    Args:
        images: Array of shape `(batch, height, width, channels)`, or of one
            image.

    Returns:
        Array of shape `(batch,)`, or a scalar.
    """
    down = images[..., 1:, :, :] - images[..., :-1, :, :]
    right = images[..., 1:, :] - images[..., :-1, :]
    # The gradient of `abs` at 0 is 1 in JAX, and 0 here as in TensorFlow.
    return sum(
        keras.ops.sum(x * keras.ops.sign(x), axis=(-3, -2, -1))
        for x in (down, right)
    )


def _drawn(lower, upper, seed):
    return keras.random.uniform((), lower, upper, seed=seed)


def _at_random(images, changed, seed):
    shape = (*images.shape[:-3], 1, 1, 1)
    return keras.ops.where(
        keras.random.uniform(shape, seed=seed) < 0.5, changed, images
    )


def _in_floats(images, function):
    """Change integer images as floats, and round them back."""
    images = _tensor(images)
    if keras.backend.is_float_dtype(images.dtype):
        return function(images)
    bounds = np.iinfo(images.dtype)
    changed = function(keras.ops.cast(images, "float32") / bounds.max)
    changed = changed * (bounds.max + 0.5)
    changed = keras.ops.clip(changed, bounds.min, bounds.max)
    return keras.ops.cast(changed, images.dtype)


def _tensor(x):
    """An array of JAX, whose floats have 32 bits, or Keras's symbol of one."""
    return x if isinstance(x, keras.KerasTensor) else jnp.asarray(x)
