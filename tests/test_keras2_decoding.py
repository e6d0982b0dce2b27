"""`kje.keras2` reads and decodes images as `tf.io` does."""

import io

import keras_jax_ext as kje

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
COLOURS = np.random.RandomState(0).randint(0, 255, (4, 5, 3)).astype("uint8")


def encoded(image, **kwargs):
    held = io.BytesIO()
    image.save(held, **kwargs)
    return held.getvalue()


@pytest.mark.parametrize(
    ("mode", "channels", "shape", "same"),
    [
        ("RGB", 0, (4, 5, 3), True),
        ("RGB", 4, (4, 5, 4), False),
        ("RGBA", 3, (4, 5, 3), True),
        ("L", 0, (4, 5, 1), False),
        ("L", 3, (4, 5, 3), False),
        ("LA", 0, (4, 5, 2), False),
        ("P", 0, (4, 5, 3), False),
        ("1", 0, (4, 5, 1), False),
    ],
)
def test_an_image_has_the_channels_that_are_asked(mode, channels, shape, same):
    data = encoded(Image.fromarray(COLOURS).convert(mode), format="PNG")
    found = kje.keras2.decode_image(data, channels)
    assert (found.shape, found.dtype) == (shape, "uint8")
    assert not same or np.array_equal(found, COLOURS)


def test_a_file_of_a_dataset_is_read(tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(encoded(Image.fromarray(COLOURS), format="PNG"))
    data = kje.data.Dataset.from_tensor_slices([str(path)])
    for each in (
        data.map(lambda p: kje.keras2.decode_image(kje.keras2.read_file(p))),
        data.map(kje.keras2.read_file).map(kje.keras2.decode_image),
    ):
        np.testing.assert_array_equal(next(iter(each)), COLOURS)


@pytest.mark.parametrize(
    ("image", "kind", "channels", "message"),
    [
        (Image.fromarray(COLOURS), "GIF", 0, "contents of a GIF"),
        (Image.new("I;16", (2, 2)), "PNG", 0, "mode 'I;16'"),
        (Image.fromarray(COLOURS), "PNG", 2, "channels=2"),
    ],
)
def test_what_is_not_decoded_is_refused(image, kind, channels, message):
    with pytest.raises(ValueError, match=message):
        kje.keras2.decode_image(encoded(image, format=kind), channels)
