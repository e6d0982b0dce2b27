"""What the loop asks of a callback that keeps the state of training."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from keras_jax_ext._loop.agreement import all_the_same


class Snapshot(NamedTuple):
    """The state of training between two steps.

    Attributes:
        arrays: Dict of arrays by name.
        document: Dict of the rest, as JSON holds it.
    """

    arrays: dict[str, Any]
    document: dict[str, Any]


@runtime_checkable
class Backup(Protocol):
    """A callback that keeps snapshots of a `fit`.

    It reads no variable itself, and its hooks do nothing. Where several
    processes share the model, each has one, and they answer alike.

    Attributes:
        replay: Boolean, whether batches that were taken before an interruption
            are read again, where a source has no other way to go on.
    """

    replay: bool

    def begin(self) -> Snapshot | None:
        """Return the snapshot to go on from; `None` to begin anew."""

    def is_due(self, steps: int, at_end: bool) -> bool:
        """Whether to keep a snapshot now.

        Args:
            steps: Integer, the steps since it was asked last.
            at_end: Boolean, whether an epoch has just ended.
        """

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, whose arrays nobody changes."""

    def end(self) -> None:
        """The `fit` has ended, or failed."""


def backup_of(
    callbacks: Iterable[Any], source: Any, validation: Any
) -> Backup | None:
    """The callback that keeps snapshots, if one does.

    Args:
        callbacks: Callbacks of a `fit`.
        source: `Source` of the training data.
        validation: `Validation`.

    Raises:
        ValueError: If there are two, or if data cannot be read again.
    """
    found = [each for each in callbacks if isinstance(each, Backup)]
    all_the_same(
        "callbacks that keep the state of training",
        len(found),
        "Give `BackupAndRestore` to each of them.",
    )
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(
            "One callback backs a `fit` up. Received: "
            f"{[type(each).__name__ for each in found]}. Keep one of them."
        )
    replay = found[0].replay
    check_data(source.why_not_again(replay), source.why_not_again(True))
    validation.check_again()
    return found[0]


def check_data(why: str | None, why_not_replay: str | None) -> None:
    """Raise if data are not read again by a process that starts anew.

    Args:
        why: String, what they are; `None` if they are read again.
        why_not_replay: As `why`, if batches may be read once more.
    """
    if why is None:
        return
    replay = (
        ", or `BackupAndRestore(..., replay=True)`, which reads the batches "
        "that were taken before once more and drops them"
    )
    raise ValueError(
        "A process that starts anew goes on with arrays, Grain, or a "
        "`PyDataset` of one worker whose batches depend on their number, or "
        "which has `get_state` and `set_state`; other sources begin again. "
        f"Received: {why}. Give one of these"
        f"{'' if why_not_replay else replay}."
    )


@contextlib.contextmanager
def backed_up(backup: Backup | None) -> Iterator[Snapshot | None]:
    """Within the block a `fit` runs, which its backup is told to have ended.

    Args:
        backup: `Backup`; `None` if there is none.

    Yields:
        The snapshot to go on from; `None` to begin anew.
    """
    if backup is None:
        yield None
        return
    try:
        yield backup.begin()
    finally:
        backup.end()
