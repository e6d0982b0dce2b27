"""TensorBoard's event files, written without TensorFlow."""

import struct
import time
import zlib
from typing import Any

import numpy as np

_BUCKETS = 30  # as in `tf.summary.histogram`
_IMAGES = 3  # of a batch, at most, as in `tf.summary.image`


def check_installed() -> None:
    """Raise if the `tensorboard` package cannot be imported."""
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The TensorBoard callback writes its files with the package "
            f"`tensorboard`, which cannot be imported. Received: {error}. "
            "Run: pip install tensorboard"
        ) from error


class Events:
    """One event file.

    Args:
        folder: The run's folder, which is made if it does not exist.
    """

    def __init__(self, folder: str) -> None:
        from tensorboard.summary.writer.event_file_writer import (
            EventFileWriter,
        )

        self._writer = EventFileWriter(folder, flush_secs=30)

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Write a number."""
        from tensorboard.plugins.scalar import metadata

        value = np.float32(value)
        self._write(tag, step, metadata, value)

    def histogram(self, tag: str, values: Any, step: int) -> None:
        """Write the distribution of the finite numbers in `values`."""
        from tensorboard.plugins.histogram import metadata

        values = np.asarray(values, "float64").ravel()
        values = values[np.isfinite(values)]
        buckets = np.zeros((_BUCKETS, 3))
        if values.size:
            low, high = values.min(), values.max()
            if low == high:  # TensorBoard expects them in the last bucket
                buckets[:] = low, low, 0
                buckets[-1, 2] = values.size
            else:
                counts, edges = np.histogram(values, _BUCKETS)
                buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
        self._write(tag, step, metadata, buckets)

    def image(self, tag: str, images: Any, step: int) -> None:
        """Write the first images of a batch.

        Args:
            tag: String.
            images: Array of shape `(batch, height, width, channels)`, floats
                in `[0, 1]` or 8-bit integers.
            step: Integer.
        """
        from tensorboard.plugins.image import metadata

        images = np.asarray(images)
        if images.dtype != np.uint8:
            images = np.nan_to_num(images.astype("float32"))
            images = (np.clip(images, 0, 1) * 255).round().astype("uint8")
        _, height, width, _ = images.shape
        encoded = [png(image) for image in images[:_IMAGES]]
        size = [str(width).encode(), str(height).encode()]
        self._write(tag, step, metadata, np.array(size + encoded, object))

    def keras_model(self, tag: str, json: str) -> None:
        """Write a model's JSON, which the Graphs tab draws."""
        from tensorboard.plugins.graph import metadata

        self._write(tag, 0, metadata, np.array(json.encode(), object))

    def _write(self, tag, step, plugin, value):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.util import tensor_util

        if hasattr(plugin, "create_summary_metadata"):
            about = plugin.create_summary_metadata(None, "")
        else:
            about = summary_pb2.SummaryMetadata()
            about.plugin_data.plugin_name = plugin.PLUGIN_NAME_KERAS_MODEL
            about.plugin_data.content = b"1"
        summary = summary_pb2.Summary()
        tensor = tensor_util.make_tensor_proto(value)
        summary.value.add(tag=tag, metadata=about, tensor=tensor)
        self._writer.add_event(
            event_pb2.Event(
                wall_time=time.time(), step=int(step), summary=summary
            )
        )

    def flush(self) -> None:
        """Write buffered events, so that readers see them."""
        self._writer.flush()

    def close(self) -> None:
        """Write buffered events, and close the file."""
        self._writer.close()


def png(image: np.ndarray) -> bytes:
    """Return a PNG file of an 8-bit image of shape `(height, width, channels)`.

    Channels are 1 for grey, 3 for colours, 4 for colours with opacity.
    """
    height, width, channels = image.shape
    colours = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    chunks = [
        (b"IHDR", header),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
