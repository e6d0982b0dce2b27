"""A file is written beside the old one and takes its place when it is whole."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# The endings of what Keras writes as one file.
_ENDINGS = (".keras", ".h5", ".hdf5")


@contextlib.contextmanager
def replacing(filepath: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of a new file, which becomes the file at the end.

    A failure, or the end of the process at any instant, leaves the old file
    as it was.

    Args:
        filepath: Path of the file, there or not.

    Yields:
        A path in the same folder, with the same endings.
    """
    # The file that a link points to, not the link.
    path = Path(os.path.realpath(filepath))
    new = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield new
        if path.exists():
            shutil.copymode(path, new)
        _flush(new)
        os.replace(new, path)
        _flush(path.parent)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def _flush(path):
    """Have the system write a file, or the names in a folder, to the disk."""
    # Windows opens no folders.
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def can_replace(filepath: object, overwrite: bool) -> bool:
    """Whether a path names one file on this machine that may be written.

    Args:
        filepath: What a user gave as a path.
        overwrite: Boolean, whether to write over a file without asking.
    """
    if not isinstance(filepath, str | os.PathLike):
        return False
    path = os.fspath(filepath)
    is_file = path.endswith(_ENDINGS) and not os.path.isdir(path)
    return (
        is_file
        and "://" not in path
        and (overwrite or not os.path.lexists(path))
    )
