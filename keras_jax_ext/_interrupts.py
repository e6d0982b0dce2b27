"""Ctrl-C waits while the state of a model changes hands."""

import contextlib
import signal
import threading
from typing import Any


class Interrupts:
    """Defers SIGINT within `held()` blocks.

    A compiled step takes the old weights' buffers and returns new ones. An
    interrupt between the return and the assignment would lose both.

    A context manager: Python's handler is replaced once for a whole `fit`, not
    for each step, and only where a thread may do so.
    """

    def __init__(self):
        self._before: Any = None
        self._held = False
        self._pending = None

    def __enter__(self):
        before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if main and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, *_):
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _receive(self, *args):
        if self._held:
            self._pending = args
        else:
            self._before(*args)

    @contextlib.contextmanager
    def held(self):
        """Defer an interrupt to the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            pending, self._pending = self._pending, None
            if pending:
                self._before(*pending)
