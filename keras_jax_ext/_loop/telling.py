"""What callbacks are told of steps that have run: at once, or a little later.

A callback that only logs need not hold up the device: it is told of an
execution while the next one runs.
"""

import collections
from collections.abc import Callable, Iterator
from typing import Any

from keras_jax_ext._loop.modes import Mode
from keras_jax_ext._loop.state import State

import jax
import numpy as np

# Pairs of a number of steps and what was kept of them, and room.
Kept = list[tuple[int, Any]]


class Telling:
    """Calls hooks in order: those of steps, and of the epochs around them.

    Args:
        callbacks: `CallbackList`.
        mode: `Mode`.
        state: `State`.
    """

    def __init__(self, callbacks: Any, mode: Mode, state: State) -> None:
        self._callbacks, self._mode, self._state = callbacks, mode, state
        self._later: collections.deque[Callable[[], None]] = collections.deque()
        # Whether a hook has failed.
        self.failed = False

    def later(self, tell: Callable[[], None]) -> None:
        """Call a function when the next execution has begun.

        Args:
            tell: Function.
        """
        self._later.append(tell)

    def settle(self) -> None:
        """Call what waits. If a hook fails, those after it are not called."""
        try:
            while self._later:
                self._later.popleft()()
        except BaseException:
            self.failed = True
            self._later.clear()
            raise

    def steps(self, begin: int, kept: Kept, before: Any = None) -> None:
        """Call the hooks for each step of an execution.

        Args:
            begin: Integer, the number of the first step.
            kept: What `LOGS` keeps of the execution.
            before: The optimizer's numbers before it. Defaults to `None`: no
                callback has a hook for a batch's begin.
        """
        hooks = (f"on_{self._mode.name}_batch_{w}" for w in ("begin", "end"))
        on_begin, on_end = (getattr(self._callbacks, name) for name in hooks)
        with self._state.at_steps() as show:
            if before is not None:
                show(before)
            for step, (logs, numbers) in enumerate(steps_of(kept), begin):
                if before is not None:
                    on_begin(step)
                show(numbers)
                on_end(step, logs)


def steps_of(kept: Kept) -> Iterator[Any]:
    """What was kept of each step, in NumPy.

    Args:
        kept: List of `(count, outputs)`, as for `joined`.

    Yields:
        Structures of a number or an array of each step.
    """
    for count, outputs in kept:
        leaves, structure = jax.tree.flatten(outputs)
        arrays = [np.asarray(a)[:count] for a in leaves]
        for each in zip(*arrays, strict=True) if arrays else [()] * count:
            yield jax.tree.unflatten(structure, each)


def last_logs(kept: Kept) -> Any:
    """The logs of the last step of an execution.

    Args:
        kept: What `LOGS` keeps of it.
    """
    count, (logs, _) = kept[-1]
    return jax.tree.map(lambda a: np.asarray(a)[count - 1], logs)
