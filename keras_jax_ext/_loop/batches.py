"""Batches on the device, and how a loop cuts the next one. JAX only."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jax import lax


class Piece(NamedTuple):
    """Batches that one call of a compiled program can run through."""

    data: Any
    start: int
    steps: int
    # Whether the last of the steps is the smaller batch of the data.
    rest: bool = False

    def parts(self, most):
        """Yield pieces of `most` steps at most, `None` for any number."""
        most = most or self.steps
        for first in range(0, self.steps, most):
            steps = min(most, self.steps - first)
            rest = self.rest and first + steps == self.steps
            yield Piece(self.data, self.start + first, steps, rest)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """Rows of arrays, in the order of a permutation.

    Attributes:
        arrays: Structure of arrays.
        order: Integer array of row numbers, and `width * size` more.
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
    def most(self):
        return self.order.shape[0]

    def batch(self, i):
        return self._rows(i * self.size, self.size)

    def block(self, i):
        rows = self._rows(i * self.size, self.width * self.size)
        shape = (self.width, self.size)
        return Stacked(
            jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), rows)
        )

    def rest(self, i):
        return self._rows(i * self.size, self.left) if self.left else None

    def _rows(self, start, size):
        rows = lax.dynamic_slice_in_dim(self.order, start, size)
        return jax.tree.map(
            lambda a: a.at[rows].get(mode="promise_in_bounds"), self.arrays
        )


class Stacked(NamedTuple):
    """Batches of one shape, stacked on a first axis.

    Attributes:
        arrays: Structure of arrays.
    """

    arrays: Any

    @property
    def most(self):
        return jax.tree.leaves(self.arrays)[0].shape[0]

    def batch(self, i):
        return jax.tree.map(
            lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False),
            self.arrays,
        )

    def rest(self, i):
        del i


class Single(NamedTuple):
    """One batch, of any kind of arrays."""

    arrays: Any

    @property
    def most(self):
        return 1

    def batch(self, i):
        del i
        return self.arrays

    def rest(self, i):
        del i
