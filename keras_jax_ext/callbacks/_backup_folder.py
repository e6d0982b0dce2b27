"""The files of backups: of one process, or of one of several."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_jax_ext._disk import archive
from keras_jax_ext._loop import parts
from keras_jax_ext._loop.agreement import Agreement, all_the_same
from keras_jax_ext._loop.backup import Snapshot

import jax
import numpy as np


class Folder:
    """Backups of a training, by their numbers.

    Args:
        path: `Path` of a folder.
        agreed: `Agreement` of the processes that share the model; `None` in
            one alone.
    """

    def __init__(self, path: Path, agreed: Agreement | None) -> None:
        self._root, self._agreed = path, agreed
        self._own = path if agreed is None else path / f"process-{agreed.me}"

    def newest(self) -> tuple[int, Snapshot | None]:
        """The newest good backup, which all processes have; later ones go.

        Returns:
            Pair of its number and the snapshot; of 0 and `None` if none is.

        Raises:
            ValueError: If all are damaged, or of other processes.
        """
        # A process that was killed leaves what it was writing.
        for path in self._own.glob(".*-backup-*.zip"):
            path.unlink()
        self._check_processes()
        damaged: list[ValueError] = []
        good = self._good(damaged)
        if self._agreed is not None:
            return self._shared(self._agreed, dict(good))
        for number, snapshot in good:
            return number, snapshot
        if damaged:
            raise damaged[0]
        return 0, None

    def write(self, number: int, snapshot: Snapshot) -> None:
        """Write a backup.

        Args:
            number: Integer.
            snapshot: `Snapshot`.
        """
        self._own.mkdir(parents=True, exist_ok=True)
        arrays = {k: _in_numpy(v) for k, v in snapshot.arrays.items()}
        document = {**snapshot.document, "processes": self._count}
        path = self._own / f"backup-{number:08}.zip"
        archive.write(path, arrays, document)

    def forget(self, common: int) -> None:
        """Delete backups that nobody needs, now that there is a newer one.

        Args:
            common: Integer, the newest that all processes have.
        """
        files = self._files()
        if self._agreed is None:
            files = files[:-2]
        for path in files:
            if self._agreed is None or _number(path) < common:
                path.unlink()

    def delete(self) -> None:
        """Delete all backups, and the folder if nothing else is in it."""
        for path in self._files():
            path.unlink()
        for folder in dict.fromkeys((self._own, self._root)):
            with contextlib.suppress(OSError):
                folder.rmdir()

    @property
    def _count(self):
        return len(self._agreed.members) if self._agreed else 1

    def _files(self):
        return sorted(self._own.glob("backup-*.zip"))

    def _good(self, damaged: list[Any]) -> Iterator[tuple[int, Snapshot]]:
        """Backups that can be read, the newest first."""
        for path in reversed(self._files()):
            try:
                arrays, document = archive.read(path)
            except ValueError as error:
                damaged.append(error)
                continue
            yield _number(path), Snapshot(arrays, document)

    def _check_processes(self):
        others = (
            "process-*/backup-*.zip" if self._agreed is None else "backup-*.zip"
        )
        found = sorted(map(str, self._root.glob(others)))
        if found:
            raise _of_others(f"{found[0]} in {self._count} of them")

    def _shared(self, agreed, good):
        every = agreed.gather("backups", sorted(good))
        common = set(every[0]).intersection(*every)
        # A process that was killed may not have ended its first.
        if not common and max(map(max, filter(None, every)), default=0) > 1:
            raise _of_others(
                f"{len(every)} processes, which have the backups {every}"
            )
        number = max(common, default=0)
        for path in self._files():
            if _number(path) > number:
                path.unlink()
        snapshot = good.get(number)
        document = snapshot.document if snapshot else {}
        all_the_same(
            "step in their backups",
            [document.get("epoch"), document.get("step")],
            "Delete the backups, or give another `backup_dir`.",
        )
        written = document.get("processes", len(every))
        if written != len(every):
            raise _of_others(f"{len(every)} processes, and {written} before")
        return number, snapshot


def _of_others(received):
    return ValueError(
        "Training goes on in as many processes as before, each with its own "
        f"backups. Received: {received}. Start as many, or give another "
        "`backup_dir`."
    )


def _number(path):
    return int(path.stem.removeprefix("backup-"))


def _in_numpy(array):
    if isinstance(array, jax.Array):
        return parts.fetch(array)
    return np.asarray(array)
