"""A file of named arrays and a document, with a checksum of all."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_jax_ext._disk.atomic import replacing

import ml_dtypes  # noqa: F401 (NumPy then knows bfloat16 and its like)
import numpy as np

_DOCUMENT = "document.json"


def write(
    path: Path, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]
) -> None:
    """Write a file; an older one is there until the new one is whole.

    Args:
        path: Path of the file.
        arrays: NumPy arrays by name.
        document: What JSON can hold.
    """
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(name, np.ascontiguousarray(array).tobytes())
        described = {
            name: [str(array.dtype), list(array.shape)]
            for name, array in arrays.items()
        }
        archive.writestr(
            _DOCUMENT, json.dumps({"arrays": described, **document})
        )
        archive.comment = _digest(archive)
    with replacing(path) as new:
        new.write_bytes(memory.getbuffer())


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write` wrote.

    Args:
        path: Path of the file.

    Returns:
        Tuple of the arrays by name, and the document.

    Raises:
        ValueError: If the file is damaged.
    """
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.comment != _digest(archive):
                raise ValueError("its entries are not those that were written")
            # They are stored as they are. What says that it holds more would
            # fill the memory.
            if sum(info.file_size for info in archive.infolist()) > len(data):
                raise ValueError("its entries are larger than the file")
            # Each entry has a checksum, which is compared as it is read.
            content = {name: archive.read(name) for name in archive.namelist()}
        document = json.loads(content.pop(_DOCUMENT))
        arrays = {
            name: np.frombuffer(content[name], dtype).reshape(shape)
            for name, (dtype, shape) in document.pop("arrays").items()
        }
    except (
        AttributeError,
        EOFError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            "A file must be as it was written. Received: "
            f"{path}, which is damaged ({error}). Use another copy."
        ) from error
    return arrays, document


def _digest(archive):
    """A digest of the names, checksums and sizes of all entries."""
    entries = [
        (info.filename, info.CRC, info.file_size) for info in archive.infolist()
    ]
    return hashlib.sha256(repr(entries).encode()).hexdigest().encode()
