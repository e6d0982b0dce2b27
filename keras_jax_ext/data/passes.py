"""One pass over a dataset, and the functions that it applies."""

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

from keras_jax_ext.data.nests import leaves, mapped, to_device
from keras_jax_ext.transforms.programs import Compiled

import grain
import numpy as np


def called(function: Any, element: Any) -> Any:
    if isinstance(element, tuple):
        return function(*element)
    return function(element)


def is_traceable(leaf: Any) -> bool:
    """Whether a leaf is an array of numbers."""
    return not isinstance(leaf, grain.IterDataset) and (
        np.asarray(leaf).dtype.kind not in "USO"
    )


class Function:
    """The function of a `map`, compiled once if that is possible.

    Seeds and other variables of layers in it change from element to element.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._compiled: Any = Compiled(lambda e: called(function, e))

    def __call__(self, element: Any) -> Any:
        known = self._compiled is not None
        if not (known and all(map(is_traceable, leaves(element)))):
            return self._plain(element)
        try:
            return self._compiled(element)
        except Exception:  # whatever cannot be traced is run
            self._compiled = None
            return self._plain(element)

    def _plain(self, element: Any) -> Any:
        return called(self._function, mapped(to_device, element))


def in_turns(
    opened: Iterator[Iterator[Any]], cycle: int, block: int
) -> Iterator[Any]:
    """Elements of several iterators, of so many at a time."""
    slots: deque[Any] = deque([None] * cycle)
    ended = False
    while not ended or any(each is not None for each in slots):
        if slots[0] is None:
            slots[0] = None if ended else next(opened, None)
            ended = ended or slots[0] is None
        if slots[0] is not None:
            rows = list(itertools.islice(slots[0], block))
            yield from rows
            if len(rows) < block:
                slots[0] = None
        slots.rotate(-1)


class Pass(grain.DatasetIterator):
    """One pass, whose elements are on the device."""

    def __init__(self, dataset: Any) -> None:
        super().__init__()
        self._dataset = dataset
        self._rows = dataset._rows()
        self._count = 0

    def __next__(self) -> Any:
        element = next(self._rows)
        self._count += 1
        return mapped(to_device, element)

    def get_state(self) -> dict[str, Any]:
        """The number of elements seen."""
        return {"count": self._count}

    def set_state(self, state: dict[str, Any]) -> None:
        """Begin again, and pass over what was seen.

        Args:
            state: Dict of `get_state`.
        """
        self._count = state["count"]
        self._rows = itertools.islice(self._dataset._rows(), self._count, None)
