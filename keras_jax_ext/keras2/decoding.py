"""Files and the images in them, as `tf.io` reads and decodes them."""

import io
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# How Pillow calls an image of so many channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_file(path: Any) -> bytes:
    """What a file holds.

    Args:
        path: String, path, or an entry of a dataset of strings.

    Returns:
        Bytes.

    Raises:
        OSError: If it cannot be read.
    """
    if isinstance(path, np.ndarray):
        path = path.item()
    return Path(os.fsdecode(path)).read_bytes()


def decode_image(contents: bytes, channels: int = 0) -> jax.Array:
    """Decode an image, by Pillow.

    Values of a JPEG may differ from TensorFlow's by a few, and so does the grey
    of colours; those of a PNG are equal.

    Example:

    ```python
    keras.utils.save_img("photo.png", np.zeros((4, 6, 3)))
    data = kje.keras2.read_file("photo.png")
    image = kje.keras2.decode_image(data, channels=3)
    assert image.shape == (4, 6, 3)
    ```

    Args:
        contents: Bytes of a JPEG, a PNG or a BMP.
        channels: Integer, `1`, `3` or `4`; with `0`, as many as the file has.
            Defaults to `0`.

    Returns:
        Array of `uint8`, of shape `(height, width, channels)`.

    Raises:
        ValueError: If it has frames, or more than 8 bits a channel, or if
            there is no such number of channels.
    """
    from PIL import Image

    image: Any = Image.open(io.BytesIO(contents))
    if image.format == "GIF" or image.mode.startswith(("I", "F")):
        raise ValueError(
            "An image of one frame and of 8 bits a channel is decoded. "
            f"Received: contents of a {image.format}, of mode {image.mode!r}. "
            "Read it with Pillow."
        )
    if channels and channels not in _MODES:
        raise ValueError(
            f"An image has 1, 3 or 4 channels. Received: channels={channels}. "
            "Give one of those, or 0."
        )
    if channels:
        image = image.convert(_MODES[channels])
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    array = np.asarray(image, "uint8")
    return jnp.asarray(array.reshape(*array.shape[:2], -1))
