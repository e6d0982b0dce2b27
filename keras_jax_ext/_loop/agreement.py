"""What must be the same in all processes that train one model.

They run the same programs in the same order, since each step waits for the
gradients of all. So whatever depends on time, or on the data, callbacks or
failures of one process, they agree on between two executions.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from keras_jax_ext._loop import parts
from keras_jax_ext._xla import processes

import jax

P = ParamSpec("P")
R = TypeVar("R")

# Seconds after which a process that waits for another looks for a Ctrl-C.
POLL_SECONDS = 1.0
# What was said is deleted in blocks of so many agreements.
BLOCK = 64


class ProcessError(RuntimeError):
    """The work that processes share has ended in another one of them."""


class Agreement:
    """What some processes say to each other, in the same order in each.

    The first of them collects what the others say, and tells it to all.

    Args:
        members: Tuple of integers, the numbers of the processes.
    """

    def __init__(self, members: tuple[int, ...]) -> None:
        self.members = members
        self.me = jax.process_index()
        self.is_first = self.me == members[0]
        self._root = f"keras_jax_ext/{'-'.join(map(str, members))}"
        # How often they have agreed; turns taken since, by their names.
        self._count = 0
        self._turns: dict[str, int] = {}
        self._inside = False

    def gather(self, about: str, value: Any) -> list[Any]:
        """What each process says at the same point.

        Args:
            about: String, the name of the point.
            value: What this process says, as JSON holds it.

        Returns:
            List of what each says, in the order of the processes.

        Raises:
            ProcessError: If a process has failed, or is somewhere else.
        """
        said = self._say({"about": about, "value": value})
        if self.is_first:
            every = [said, *map(self._hear, self.members[1:])]
            processes.post(self._key("all"), json.dumps(every))
        else:
            every = self._hear("all")
        self._check(every)
        return [each["value"] for each in every]

    def fail(self, error: BaseException) -> None:
        """Have the next agreement of the other processes fail.

        Args:
            error: What ends the work in this one.
        """
        # The device of a process that was left alone may be why.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            text = f"{type(error).__name__}: {error}"[:1000]
            said = self._say({"error": text})
            if self.is_first:
                every = [said] + [None] * (len(self.members) - 1)
                processes.post(self._key("all"), json.dumps(every))

    def turn(self, name: str) -> str:
        """A key that is the same in each process that comes here.

        Args:
            name: String. A key is counted by its name, since the processes
                agreed last.
        """
        self._turns[name] = self._turns.get(name, 0) + 1
        return self._key(f"{name}-{self._turns[name]}")

    def wait_for(self, key: str, most: float | None = None) -> Any:
        """What the first process posts under a key of a turn.

        Args:
            key: String, from `turn`.
            most: Float, seconds. Defaults to `None`, for ever.

        Returns:
            What it posts; `None` if it does not, in that time or before it
            comes to the next agreement.
        """
        end = float("inf") if most is None else time.monotonic() + most
        while time.monotonic() < end:
            text = processes.wait_for(key, POLL_SECONDS)
            if text is None and self._has_gone_on():
                # It may have posted before it went on.
                text = processes.wait_for(key, 0.001)
                return text and json.loads(text)
            if text is not None:
                return json.loads(text)
        return None

    @contextlib.contextmanager
    def first_first(self, name: str, waits: bool) -> Iterator[None]:
        """Run the block in the first process before those that wait for it.

        Args:
            name: String, the name of the block.
            waits: Boolean, whether this process waits.
        """
        key = self.turn(name)
        if waits and not self.is_first:
            self.wait_for(key)
        try:
            yield
        finally:
            if self.is_first:
                processes.post(key, "true")

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Within the block, a failure in one process is one in all.

        Args:
            name: String, what the processes do.
        """
        if self._inside:
            yield
            return
        self._inside = True
        try:
            yield
            self.gather(f"the end of {name}", None)
        except ProcessError:
            raise
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            self._inside = False

    def _say(self, said):
        self._count += 1
        self._turns.clear()
        processes.post(self._key(self.me), json.dumps(said))
        block, at = divmod(self._count, BLOCK)
        if self.is_first and at == 0 and block > 1:
            # All have heard what was said before the last block.
            processes.forget(f"{self._root}/{block - 2}/")
        return said

    def _hear(self, who):
        while True:
            text = processes.wait_for(self._key(who), POLL_SECONDS)
            if text is not None:
                return json.loads(text)

    def _key(self, name, count=None):
        count = count or self._count
        return f"{self._root}/{count // BLOCK}/{count}/{name}"

    def _has_gone_on(self):
        said = self._key(self.members[0], self._count + 1)
        return processes.wait_for(said, 0.001) is not None

    def _check(self, every):
        for process, said in zip(self.members, every, strict=True):
            if said is not None and "error" in said:
                raise ProcessError(
                    "Processes that share a model stop together. Received: "
                    f"{said['error']!r} in process {process}. Mend it there; "
                    "this model has the weights of the last good step."
                )
        places = {said["about"] for said in every}
        if len(places) > 1:
            found = [
                f"process {process} at {said['about']}"
                for process, said in zip(self.members, every, strict=True)
            ]
            raise ProcessError(
                "Processes that share a model call the same methods in the "
                f"same order. Received: {', '.join(found)}. Call `fit`, "
                "`evaluate` and `predict` in all of them."
            )


@functools.cache
def _made(members):
    return Agreement(members)


def agreement() -> Agreement | None:
    """How the processes that share the model agree; `None` in one alone."""
    members = parts.processes()
    if len(members) == 1 or not processes.can_talk():
        return None
    return _made(members)


def all_the_same(about: str, value: Any, fix: str) -> None:
    """Raise in all processes if they do not say the same.

    Args:
        about: String, what it is.
        value: What this process says, as JSON holds it.
        fix: String, what to do.

    Raises:
        ValueError: If so.
    """
    agreed = agreement()
    if agreed is None:
        return
    every = agreed.gather(about, value)
    if any(each != every[0] for each in every):
        found = [
            f"{each} in process {process}"
            for process, each in zip(agreed.members, every, strict=True)
        ]
        raise ValueError(
            f"Processes that share a model have the same {about}. Received: "
            f"{', '.join(found)}. {fix}"
        )


def together(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method of a model fail in all processes, if it does in one.

    Args:
        method: Method of a model.

    Returns:
        The method, wrapped.
    """

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        agreed = agreement()
        if agreed is None:
            return method(*args, **kwargs)
        with agreed.inside(method.__name__):
            return method(*args, **kwargs)

    return run
