"""One `fit`, `evaluate` or `predict` of a model at a time."""

import collections
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class BusyError(RuntimeError):
    """A model was asked to run while it could not; nothing was changed."""


class _Turns:
    """Who runs a model: the names of nested methods, and their thread."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: collections.deque[threading.Thread] = collections.deque()
        self.running: list[str] = []
        self.thread: threading.Thread | None = None
        self.reading = False


# Kept outside of the model, which is copied and pickled: locks are not.
_turns: Any = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _turns_of(model):
    with _making:
        return _turns.setdefault(model, _Turns())


def in_turn(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method of a model run when no other thread runs one.

    Args:
        method: Method of a model.

    Returns:
        The method, wrapped.
    """

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with _turn(args[0], method.__name__):
            return method(*args, **kwargs)

    return run


@contextlib.contextmanager
def _turn(model, name):
    turns, me = _turns_of(model), threading.current_thread()
    with turns.changed:
        if not (turns.running and turns.thread is me):
            _wait(turns, me, name)
        if turns.reading:
            raise BusyError(
                "A generator, or another source of batches, cannot run the "
                f"model that reads it. Received: {name}() while "
                f"{turns.running[-1]}() waits for the next batch. Call "
                "`model.predict_on_batch(x)` there, or another model: "
                "`keras.models.clone_model(model)`."
            )
        turns.running.append(name)
        turns.thread = me
    try:
        yield
    finally:
        with turns.changed:
            turns.running.pop()
            turns.changed.notify_all()


def _wait(turns, me, name):
    """Wait for one's turn, in the order in which threads came.

    Without an order, one that predicts in a loop would keep out all others.
    """
    turns.waiting.append(me)
    try:
        while turns.running or turns.waiting[0] is not me:
            if turns.running:
                _check_other(turns, name)
            turns.changed.wait()
    finally:
        turns.waiting.remove(me)
        # The next one may be the first now.
        turns.changed.notify_all()


def _check_other(turns, name):
    """Raise rather than wait for hours, or for a thread that waits for this."""
    if "fit" in turns.running or turns.reading:
        raise BusyError(
            "A model that trains belongs to the thread that trains it, and "
            "one that reads a generator to the thread that reads. Received: "
            f"{name}() while {turns.running[0]}() runs in thread "
            f"{turns.thread.name!r}. Wait for its end, or run a copy: "
            "`keras.models.clone_model(model)`."
        )


@contextlib.contextmanager
def reading(model: Any) -> Iterator[None]:
    """Note that the code of a source runs within the block.

    Args:
        model: The model that reads the source.
    """
    turns = _turns_of(model)
    before, turns.reading = turns.reading, True
    try:
        yield
    finally:
        turns.reading = before
