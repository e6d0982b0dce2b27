"""Batches on the device, and the two protocols by which data are read.

A source of data is a function that returns a `Cursor`; a cursor hands out
`Span`s; a span says which steps of some `Batches` one program runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from keras_jax_ext._loop import parts

import jax
from jax import lax


class Batches(Protocol):
    """Data on the device, from which a compiled program cuts batches.

    A pytree of JAX: a program is compiled for its structure and shapes, and
    calls the methods while it is traced.
    """

    @property
    def capacity(self) -> int:
        """Integer, an upper bound of the batches."""

    @property
    def width(self) -> int:
        """Integer, how many batches `block` cuts at once; 1 for none."""

    def batch(self, i: Any) -> Any:
        """Cut batch `i`, an integer tracer."""

    def block(self, i: Any) -> "Batches":
        """Cut `width` batches from the `i`-th on."""

    def tail(self, i: Any) -> Any:
        """Cut the smaller batch behind `i` whole ones; `None` if none is."""


class Span(NamedTuple):
    """Steps of some batches, for one call of a compiled program.

    Attributes:
        data: The batches.
        start: Integer, the first step.
        steps: Integer, how many.
        has_tail: Boolean, whether the last step is the smaller batch.
    """

    data: Batches
    start: int
    steps: int
    has_tail: bool = False

    def split(self, most: int | None) -> Iterator["Span"]:
        """Yield spans of at most `most` steps; of any number if `None`."""
        most = most or self.steps
        for first in range(0, self.steps, most):
            steps = min(most, self.steps - first)
            tail = self.has_tail and first + steps == self.steps
            yield Span(self.data, self.start + first, steps, tail)


class Cursor(Protocol):
    """A position in one pass over the data.

    Attributes:
        runs_code: Boolean, whether `take` calls code of the user.
    """

    runs_code: bool

    def allow(self, steps: int | None) -> None:
        """Begin an epoch, which takes at most `steps` steps; all if `None`.

        A cursor reads nothing beyond them: the next batches may depend on a
        callback, or belong to the next epoch.
        """

    def take(self, limit: int) -> Span:
        """Return the next span, of at most `limit` steps.

        Raises:
            StopIteration: If no batch is left.
        """


class Orders(Protocol):
    """Orders of rows for several models that train at once.

    Attributes:
        columns: Integer, how many.
    """

    columns: int

    def __call__(self, rows: int) -> Any:
        """Draw row numbers for a pass, of shape `(rows, columns)`."""


class DrawnOnce:
    """A cursor that draws random numbers when its first batch is taken.

    Attributes:
        note: Function of the random streams as they are; `None` where no
            process will go on with the pass.
        drawn_from: What `note` returned before the first batch.
        replays: Boolean, whether what it yields depends on earlier passes.
    """

    note: Callable[[], Any] | None = None
    drawn_from: Any = None
    replays = False

    def before_draw(self) -> None:
        """Note the streams, at the first call."""
        if self.note and self.drawn_from is None:
            self.drawn_from = self.note()

    def place(self) -> Any:
        """Where its source is, beyond the steps that were taken."""

    def skip(self, steps: int, place: Any = None) -> None:
        """Leave out the first steps of a pass, of which none was taken.

        Args:
            steps: Integer.
            place: What `place` returned behind them. Defaults to `None`.
        """
        raise NotImplementedError


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """Rows of arrays, in the order of a permutation.

    Attributes:
        arrays: Structure of arrays.
        order: Integer array of row numbers, and `width * size` more. It may
            have columns: the arrays of a batch then have them too, behind
            their rows.
        size: Integer, rows of a batch.
        left: Integer, rows of the smaller batch at the end, if any.
        width: Integer, batches that are gathered at once.
    """

    arrays: Any
    order: jax.Array
    size: int = field(metadata={"static": True})
    left: int = field(metadata={"static": True})
    width: int = field(metadata={"static": True})

    @property
    def capacity(self) -> int:
        return self.order.shape[0]

    def batch(self, i: Any) -> Any:
        return self._rows(i * self.size, self.size)

    def block(self, i: Any) -> "Stacked":
        rows = self._rows(i * self.size, self.width * self.size)
        shape = (self.width, self.size)
        return Stacked(
            jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), rows)
        )

    def tail(self, i: Any) -> Any:
        return self._rows(i * self.size, self.left) if self.left else None

    def _rows(self, start, size):
        rows = lax.dynamic_slice_in_dim(self.order, start, size)
        return jax.tree.map(
            lambda a: a.at[rows].get(mode="promise_in_bounds"), self.arrays
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Parts:
    """Rows of several processes, of which each device gathers its own.

    Attributes:
        rows: `Rows`; the first axis of each of its arrays counts parts.
    """

    rows: Rows

    @property
    def order(self) -> jax.Array:
        return self.rows.order

    @property
    def capacity(self) -> int:
        return self.order.shape[1]

    @property
    def width(self) -> int:
        return self.rows.width

    def batch(self, i: Any) -> Any:
        return parts.each(Rows.batch, self.rows, i)

    def block(self, i: Any) -> "Stacked":
        return Stacked(parts.each(_block, self.rows, i, lead=1))

    def tail(self, i: Any) -> Any:
        return parts.each(Rows.tail, self.rows, i) if self.rows.left else None


def _block(rows, i):
    return rows.block(i).arrays


class Stacked(NamedTuple):
    """Batches of one shape, stacked on a first axis.

    Attributes:
        arrays: Structure of arrays.
    """

    arrays: Any

    @property
    def capacity(self) -> int:
        return jax.tree.leaves(self.arrays)[0].shape[0]

    @property
    def width(self) -> int:
        return 1

    def batch(self, i: Any) -> Any:
        return jax.tree.map(
            lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False),
            self.arrays,
        )

    def block(self, i: Any) -> "Stacked":
        del i
        return self

    def tail(self, i: Any) -> None:
        del i


class Single(NamedTuple):
    """One batch, of arrays of any kind: sparse ones cannot be stacked."""

    arrays: Any

    @property
    def capacity(self) -> int:
        return 1

    @property
    def width(self) -> int:
        return 1

    def batch(self, i: Any) -> Any:
        del i
        return self.arrays

    def block(self, i: Any) -> "Single":
        del i
        return self

    def tail(self, i: Any) -> None:
        del i
