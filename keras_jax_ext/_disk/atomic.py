"""Files are written beside the old ones and take their place when whole."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

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


@contextlib.contextmanager
def replacing_several(
    folder: str | os.PathLike[str], last: str
) -> Iterator[Path]:
    """Give a new folder, whose files are moved into `folder` at the end.

    A failure leaves the old files as they were. The file `last` is the one
    that readers begin with: it is taken away before the first is moved and
    moved after the others, so that nobody reads some old and some new ones.

    Args:
        folder: Path of the folder, there or not.
        last: Name of that file.

    Yields:
        Path of the new folder, in the same file system.
    """
    folder = Path(os.path.realpath(folder))
    new = folder / f".{os.getpid()}-{last}"
    made = not folder.exists()
    new.mkdir(parents=True)
    try:
        yield new
        files = [path for path in new.rglob("*") if path.is_file()]
        for path in files:
            _flush(path)
        (folder / last).unlink(missing_ok=True)
        _flush(folder)
        for path in sorted(files, key=lambda path: path == new / last):
            target = folder / path.relative_to(new)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            _flush(target.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):  # it has files now
                folder.rmdir()


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


def can_replace(
    filepath: object, overwrite: bool
) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a path names one file on this machine that may be written.

    Args:
        filepath: What a user gave as a path.
        overwrite: Boolean, whether to write over a file without asking.
    """
    if not can_write(filepath, overwrite):
        return False
    path = os.fspath(filepath)
    return path.endswith(_ENDINGS) and not os.path.isdir(path)


def can_write(
    filepath: object, overwrite: bool
) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a path is one on this machine that may be written.

    Args:
        filepath: What a user gave as a path.
        overwrite: Boolean, whether to write over what is there without asking.
    """
    if not isinstance(filepath, str | os.PathLike):
        return False
    path = os.fspath(filepath)
    return "://" not in path and (overwrite or not os.path.lexists(path))
