"""`kje.keras2`'s operations where they meet an edge, as TensorFlow does.

The values are TensorFlow's; those of the usual calls are in `tests/port`.
"""

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

keras2 = kje.keras2
ROWS = np.arange(6.0, dtype="float32").reshape(3, 2)
BYTES = np.array([[[0], [100], [255]]], "uint8")
SIGNED = np.array([-60, 50, 120], "int8")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lambda: keras2.split([1, 2], [1, -1]), [[1], [2]]),
        (lambda: keras2.split([1, 2, 3, 4], np.int64(2)), [[1, 2], [3, 4]]),
        # Ones and zeros are a mask, and no places.
        (lambda: keras2.boolean_mask(ROWS, [1, 0, 1]), [[0, 1], [4, 5]]),
        # A segment without rows.
        (lambda: keras2.segment_sum(ROWS, [0, 0, 2]), [[2, 4], [0, 0], [4, 5]]),
        (lambda: keras2.segment_mean(ROWS, [0, 0, 2]),
         [[1, 2], [0, 0], [4, 5]]),
        (lambda: keras2.segment_mean([-1, -2, -4], [0, 0, 0]), [-2]),
        # One vector, and no norm of the matrix.
        (lambda: keras2.normalize_and_norm(ROWS, 1)[1], [[15]]),
        (lambda: keras2.normalize_and_norm(ROWS, np.inf)[1], [[5]]),
        (lambda: keras2.normalize_and_norm([[3, 4]], "euclidean", [0, 1])[1],
         [[5]]),
        # Weights of rows, and those that have an axis too many.
        (lambda: keras2.compute_average_loss(ROWS[:2], [1.0, 0.0]), 0.5),
        (lambda: keras2.compute_average_loss([1.0, 3.0], [[1.0], [2.0]]), 3.5),
        (lambda: keras2.compute_average_loss([1.0, 3.0], 2.0), 4),
        (lambda: keras2.clip_by_norm([[3.0, 4.0]], 1.0), [[0.6, 0.8]]),
        (lambda: keras2.clip_by_global_norm([[3.0], [4.0]], 1.0)[0],
         [[0.6], [0.8]]),
        (lambda: keras2.crelu([1.0, -2.0]), [1, 0, 0, 2]),
        (lambda: keras2.reciprocal_no_nan([2.0, 0.0]), [0.5, 0]),
        (lambda: keras2.band_part([[1, 2], [3, 4]], 0, 0), [[1, 0], [0, 4]]),
        (lambda: keras2.scatter_sub([1, 2], [[0]], [3]), [-2, 2]),
        (lambda: keras2.multiply_no_nan([np.nan, 2.0], [0.0, 2.0]), [0, 4]),
        (lambda: keras2.weighted_cross_entropy_with_logits([1.0], [0.0], 2.0),
         [2 * np.log(2)]),
        # Integers are rounded back, and stay within their type.
        (lambda: keras2.adjust_contrast(BYTES, 2.0), [[[0], [81], [255]]]),
        (lambda: keras2.adjust_brightness(SIGNED, 0.3), [-21, 88, 127]),
        # Whole factors from one type of integers to another.
        (lambda: keras2.convert_image_dtype(BYTES, "uint16"),
         [[[0], [25600], [65280]]]),
        (lambda: keras2.convert_image_dtype(BYTES, "int8"),
         [[[0], [50], [127]]]),
    ],
)  # fmt: skip
def test_an_edge_is_as_in_tensorflow(found, expected):
    np.testing.assert_allclose(found(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keras2.split(ROWS, [1, 1]), r"3 along axis 0.*sizes=\[1, 1\]"),
        (lambda: keras2.split(ROWS, [2, 2, -1]), r"Received: sizes=\[2, 2, -1"),
        (lambda: keras2.slice(ROWS, [2, 0], [2, 1]), r"an end of \[4, 1\]"),
        (lambda: keras2.slice(ROWS, [-1, 0], [1, 1]), r"begin=\[-1, 0\]"),
        (lambda: keras2.unique(ROWS), r"of shape \(3, 2\)\. Flatten"),
        (lambda: keras2.confusion_matrix([-1, 1], [0, 1]), "labels from -1"),
        (lambda: keras2.central_crop(ROWS[..., None], 0.0), "fraction=0.0"),
        (lambda: keras2.central_crop(ROWS[..., None], 50), "fraction=50"),
        (lambda: keras2.grayscale_to_rgb(ROWS[None]), r"shape \(1, 3, 2\)"),
    ],
)  # fmt: skip
def test_what_tensorflow_refuses_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # The gradients of a root and of `abs` at 0 are none and 1.
        (lambda x: keras2.clip_by_norm(x, 1.0), 1.0),
        (keras2.total_variation, 0.0),
    ],
)
def test_a_gradient_at_0_is_as_in_tensorflow(function, expected):
    found = jax.grad(lambda x: jnp.sum(function(x)))(jnp.zeros((2, 1, 1)))
    assert np.ravel(found).tolist() == [expected] * 2


def test_an_image_of_one_colour_is_standardized():
    found = keras2.per_image_standardization(np.full((2, 2, 3), 7))
    assert np.ravel(found).tolist() == [0.0] * 12


def test_each_image_of_a_batch_flips_by_itself():
    images = np.tile(np.arange(2.0).reshape(2, 1, 1), (32, 1, 1, 1))
    found = keras2.random_flip_up_down(images, seed=0)
    assert {*np.ravel(found[:, 0]).tolist()} == {0.0, 1.0}


def test_the_odd_row_of_zeros_is_below():
    found = keras2.resize_with_crop_or_pad(np.ones((1, 1, 1)), 4, 1)
    assert np.ravel(found).tolist() == [0, 1, 0, 0]


def test_braces_are_printed(capfd):
    keras2.print_tensor(jnp.ones(()), "{x}:")
    jax.effects_barrier()
    assert capfd.readouterr().out == "{x}: 1.0\n"


def test_any_shape_may_be_asked_for():
    assert keras2.ensure_shape(ROWS, None) is ROWS


def test_numbers_of_64_bits_are_taken_for_32():
    images = np.ones((1, 4, 4, 2))
    pooled = keras2.avg_pool2d(images, 2, 2, "VALID")
    kernel = np.ones((3, 3, 1, 2), "float32")
    wide = keras2.conv2d_transpose(images, kernel, (1, 8, 8, 1), 2)
    assert (pooled.dtype, wide.dtype) == ("float32", "float32")


def test_images_of_a_functional_model_change():
    inputs = keras.Input((2, 1, 1))
    model = keras.Model(inputs, keras2.adjust_contrast(inputs, 2.0))
    found = model(np.array([1.0, 3.0]).reshape(1, 2, 1, 1))
    assert np.ravel(found).tolist() == [0.0, 4.0]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("mask", "total", "mean"),
    [
        ([[0, 1], [1, 1], [0, 0]], 6.0, 2.0),
        ([True, False, True], 10.0, 2.5),
        (np.zeros(3, bool), 0.0, np.nan),
    ],
)
def test_what_a_mask_leaves_out_counts_for_nothing(mask, total, mean, compiled):
    wrap = jax.jit if compiled else lambda f: f
    mask = np.array(mask, bool)
    rows = np.where(mask.reshape(3, -1), ROWS, np.nan)
    found = [
        wrap(f)(rows, mask) for f in (keras2.masked_sum, keras2.masked_mean)
    ]
    np.testing.assert_array_equal(found, [total, mean])


def test_a_mask_has_the_leading_axes_of_its_array():
    with pytest.raises(ValueError, match=r"mask.shape=\(2,\) for x.shape=\(3"):
        keras2.masked_sum(ROWS, [True, False])
