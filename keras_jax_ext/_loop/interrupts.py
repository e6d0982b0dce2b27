"""Ctrl-C waits while the state of a model changes hands."""

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Seconds after which an interrupt is sent again that would be swallowed.
RETRY_SECONDS = 0.01


def _send():
    """Interrupt the main thread; on POSIX also while it sleeps."""
    if hasattr(signal, "pthread_kill"):
        main: Any = threading.main_thread().ident
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _send_later():
    threading.Timer(RETRY_SECONDS, _send).start()


class Interrupts:
    """Defers SIGINT within `held()` blocks.

    A compiled step takes the old weights' buffers and returns new ones. An
    interrupt between the return and the assignment would lose both.

    A context manager: it replaces Python's handler once for a whole `fit`, not
    for each step, and only in the main thread, where Python allows it.

    Args:
        deaf: Functions with a bare `except:`, which swallow an interrupt. It
            is sent again until they have returned.
        waits: Boolean, whether a first interrupt waits until `release`: other
            processes must not begin a step that this one leaves out.
    """

    def __init__(self, *deaf: Callable[..., Any], waits: bool = False) -> None:
        self._deaf = {function.__code__ for function in deaf}
        self._waits = waits
        self._before: Any = None
        self._held = False
        self._pending: Any = None
        # Type and identity of what was raised. The exception itself would keep
        # the frames of `fit`, and with them the model.
        self._raised: tuple[type, int] | None = None
        self._hook: Any = None  # what Python called for what it drops

    def __enter__(self) -> "Interrupts":
        before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if main and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._receive)
            self._hook = sys.unraisablehook
            sys.unraisablehook = self._dropped
        return self

    def __exit__(self, *_: Any) -> None:
        # A callback may have set a handler of its own, which stays.
        if self._before and signal.getsignal(signal.SIGINT) == self._receive:
            signal.signal(signal.SIGINT, self._before)
        if self._hook and sys.unraisablehook == self._dropped:
            sys.unraisablehook = self._hook
        self.release()
        self._raised = None

    def release(self) -> None:
        """Let an interrupt through that has waited."""
        pending, self._pending = self._pending, None
        if pending:
            self._tell(*pending)

    def _receive(self, number, frame):
        first = self._waits and not self._pending
        if self._held or first:
            self._pending = number, frame
        elif self._is_deaf(frame):
            _send_later()
        else:
            self._tell(number, frame)

    def _tell(self, number, frame):
        try:
            self._before(number, frame)
        except BaseException as error:
            self._raised = type(error), id(error)
            raise

    def _dropped(self, dropped):
        """Take what Python could not raise where it was."""
        error = dropped.exc_value
        if self._raised != (type(error), id(error)):
            self._hook(dropped)
            return
        self._raised = None
        _send_later()

    def _is_deaf(self, frame):
        while frame is not None:
            if frame.f_code in self._deaf:
                return True
            frame = frame.f_back
        return False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Defer an interrupt until the block has ended."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if not self._waits:
                self.release()
