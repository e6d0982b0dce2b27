"""`tf.data` chains as Grain datasets, row by row as TensorFlow gives them."""

import itertools
import operator
import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_jax_ext.data.nests import (
    is_dataset,
    is_nest,
    leaves,
    mapped,
    padded,
    rectangular,
    stacked,
    to_device,
    whole,
)
from keras_jax_ext.data.passes import Function, Pass, called, in_turns

import grain
import numpy as np


class Dataset(grain.IterDataset):
    """A Grain dataset with the methods and the meaning of `tf.data`.

    `fit`, `evaluate` and `predict` take it, and so do Grain's own tools. In a
    loop its elements are arrays of JAX. Tuples are handed to the function of
    `map` as several arguments; `shuffle` holds a buffer, and another order in
    each pass; a function is traced once, if JAX can trace it.

    Example:

    ```python
    data = kje.data.Dataset.from_tensor_slices((x, y))
    data = data.map(lambda x, y: (x / 2, y)).shuffle(100).batch(8)
    for half, target in data:
        half.shape  # (8, 3), of the first batches
    ```
    """

    # Of images of a folder: the names of the classes.
    class_names: Any = None

    def __init__(
        self,
        elements: Callable[[], Iterable[Any]],
        size: float | None = None,
        arrays: Any = None,
    ) -> None:
        super().__init__()
        # With arrays, the elements are numbers of their rows.
        self._elements = elements
        self._size = size
        self._arrays = arrays

    # What begins a chain.

    @staticmethod
    def from_tensor_slices(tensors: Any, name: Any = None) -> "Dataset":
        """Rows of arrays, or of tuples and dicts of arrays.

        Args:
            tensors: Arrays with the same number of rows.
            name: Ignored.

        Returns:
            A dataset.

        Raises:
            ValueError: If the numbers of rows differ.
        """
        arrays = mapped(rectangular, tensors)
        sizes = {len(leaf) if leaf.ndim else 0 for leaf in leaves(arrays)}
        if len(sizes) != 1 or any(not a.ndim for a in leaves(arrays)):
            raise ValueError(
                "Slices are of arrays with the same number of rows. Received: "
                f"{sorted(sizes)} rows. Cut them, or use `from_tensors`."
            )
        size = sizes.pop()
        return Dataset(lambda: range(size), size, arrays)

    @staticmethod
    def from_tensors(tensors: Any, name: Any = None) -> "Dataset":
        """One element.

        Args:
            tensors: The element.
            name: Ignored.
        """
        return Dataset(lambda: [mapped(np.asarray, tensors)], 1)

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]],
        output_types: Any = None,
        output_shapes: Any = None,
        args: tuple[Any, ...] = (),
        output_signature: Any = None,
        name: Any = None,
    ) -> "Dataset":
        """Elements of a function that returns an iterator.

        Args:
            generator: Function of `args`.
            output_types: Strings, the types of the elements.
            output_shapes: Ignored.
            args: Arguments of the function.
            output_signature: `keras.KerasTensor`s, or strings, in place of
                `output_types`.
            name: Ignored.
        """
        if not callable(generator):
            raise TypeError(
                "A generator is asked anew in each pass: it is a function that "
                f"returns an iterator. Received: generator={generator!r} (of "
                f"type {type(generator).__name__}). Give `lambda: ...`."
            )
        types = output_types if output_signature is None else output_signature

        def elements() -> Iterator[Any]:
            for element in generator(*args):
                if types is None or not _same(element, types):
                    yield mapped(np.asarray, element)
                else:
                    yield mapped(_typed, element, types)

        return Dataset(elements)

    @staticmethod
    def range(*args: Any, **kwargs: Any) -> "Dataset":
        """Integers, as Python's `range`.

        Args:
            *args: As those of `range`.
            **kwargs: Ignored.
        """
        numbers = range(*map(int, args))
        return Dataset(lambda: map(np.int32, numbers), len(numbers))

    @staticmethod
    def zip(*datasets: Any, name: Any = None) -> "Dataset":
        """Elements of several datasets, side by side.

        Args:
            *datasets: Datasets, or one tuple or dict of them.
            name: Ignored.
        """
        nest = datasets[0] if len(datasets) == 1 else tuple(datasets)
        sizes = [is_dataset("zip", d)._size for d in leaves(nest)]
        if not sizes:
            raise ValueError(
                "A dataset is made of others side by side. Received: "
                f"datasets={datasets}. Give at least one."
            )
        size = None if None in sizes else min(sizes)

        def elements() -> Iterator[Any]:
            passes = [d._rows() for d in leaves(nest)]
            for row in zip(*passes, strict=False):
                left = iter(row)
                yield mapped(lambda _: next(left), nest)  # noqa: B023

        return Dataset(elements, size)

    # What goes on with it.

    def map(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply a function to each element.

        Args:
            function: Function of the element, or of the entries of a tuple.
            *args: Ignored, as `**kwargs`: how TensorFlow runs it.
            **kwargs: Ignored.
        """
        if not callable(function):  # a transformation of Grain's
            return Dataset(lambda: map(function.map, self._rows()), self._size)
        apply = Function(function)
        return Dataset(lambda: map(apply, self._rows()), self._size)

    def filter(self, predicate: Any, name: Any = None) -> Any:
        """Keep the elements for which a function is true.

        Args:
            predicate: Function, as that of `map`.
            name: Ignored.
        """
        if not callable(predicate):
            return super().filter(predicate)
        apply = Function(predicate)
        return Dataset(
            lambda: (e for e in self._rows() if bool(apply(e))), None
        )

    def flat_map(self, function: Any, name: Any = None) -> "Dataset":
        """Put the datasets that a function returns one after another.

        Args:
            function: Function of the element that returns a dataset.
            name: Ignored.
        """
        return Dataset(
            lambda: itertools.chain.from_iterable(
                is_dataset("flat_map", called(function, e))._rows()
                for e in self._rows()
            )
        )

    def batch(
        self, batch_size: Any, drop_remainder: bool = False, **kwargs: Any
    ) -> Any:
        """Stack elements.

        Args:
            batch_size: Integer.
            drop_remainder: Boolean. Defaults to `False`.
            **kwargs: Ignored.
        """
        count = whole("batch_size", batch_size, least=1)

        def elements() -> Iterator[Any]:
            rows = iter(self._elements())
            while chunk := list(itertools.islice(rows, count)):
                if len(chunk) < count and drop_remainder:
                    return
                if self._arrays is None:
                    yield stacked(chunk)
                else:
                    yield mapped(lambda a: a[chunk], self._arrays)

        size = self._size
        if size not in (None, float("inf")):
            size = size // count if drop_remainder else -(-size // count)
        return Dataset(elements, size)

    def padded_batch(
        self,
        batch_size: Any,
        padded_shapes: Any = None,
        padding_values: Any = None,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> "Dataset":
        """Stack elements, each filled up to the largest of its batch.

        Args:
            batch_size: Integer.
            padded_shapes: Shapes in the structure of an element, where `None`
                and -1 stand for the largest of a batch. Defaults to `None`,
                all of them.
            padding_values: Number, or numbers in that structure. Defaults to
                `None`, which is 0.
            drop_remainder: Boolean. Defaults to `False`.
            name: Ignored.
        """
        count = whole("batch_size", batch_size, least=1)

        def elements() -> Iterator[Any]:
            rows = self._rows()
            while chunk := list(itertools.islice(rows, count)):
                if len(chunk) < count and drop_remainder:
                    return
                yield padded(chunk, padded_shapes, padding_values)

        return Dataset(elements)

    def unbatch(self, name: Any = None) -> "Dataset":
        """Take batches apart.

        Args:
            name: Ignored.
        """
        return Dataset(
            lambda: itertools.chain.from_iterable(
                Dataset.from_tensor_slices(batch)._rows()
                for batch in self._rows()
            )
        )

    def shuffle(
        self,
        buffer_size: Any,
        seed: int | None = None,
        reshuffle_each_iteration: bool | None = True,
        name: Any = None,
    ) -> Any:
        """Draw from a buffer that the next elements fill up.

        Args:
            buffer_size: Integer, the size of the buffer.
            seed: Integer. Defaults to `None`, another order in each run.
            reshuffle_each_iteration: Boolean, whether each pass has another
                order. Defaults to `True`.
            name: Ignored.
        """
        most = whole("buffer_size", buffer_size, least=1)
        start = _new_seed() if seed is None else seed
        passes = itertools.count()

        def generator() -> np.random.Generator:
            again = reshuffle_each_iteration is not False
            count = next(passes) if again else 0
            return np.random.default_rng([*np.ravel(start), count])

        def through(rows: Iterator[Any]) -> Iterator[Any]:
            rng = generator()
            buffer = list(itertools.islice(rows, most))
            for row in rows:
                place = int(rng.integers(len(buffer)))
                yield buffer[place]
                buffer[place] = row
            for place in rng.permutation(len(buffer)):
                yield buffer[place]

        return self._through(through, self._size)

    def repeat(self, count: int | None = None, name: Any = None) -> Any:
        """Go on with the beginning.

        Args:
            count: Integer. Defaults to `None`, without end.
            name: Ignored.
        """
        endless = count is None or int(count) < 0
        times = itertools.count() if endless else range(int(count or 0))
        passes = list(times) if not endless else None

        def elements() -> Iterator[Any]:
            for _ in itertools.count() if passes is None else passes:
                empty = True
                for element in self._elements():
                    empty = False
                    yield element
                if empty:
                    return

        size = float("inf") if endless else None
        if not endless and self._size is not None:
            size = self._size * int(count or 0)
        return Dataset(elements, size, self._arrays)

    def take(self, count: Any, name: Any = None) -> "Dataset":
        """The first elements.

        Args:
            count: Integer; -1 for all.
            name: Ignored.
        """
        if int(count) < 0:
            return self
        size = None if self._size is None else min(self._size, int(count))
        return self._through(lambda r: itertools.islice(r, int(count)), size)

    def skip(self, count: Any, name: Any = None) -> "Dataset":
        """All but the first elements.

        Args:
            count: Integer.
            name: Ignored.
        """
        first = whole("count", count, least=0)
        size = None if self._size is None else max(self._size - first, 0)
        return self._through(lambda r: itertools.islice(r, first, None), size)

    def shard(self, num_shards: Any, index: Any, name: Any = None) -> Any:
        """Every so manieth element.

        Args:
            num_shards: Integer.
            index: Integer, the first of them.
            name: Ignored.
        """
        step = whole("num_shards", num_shards, least=1)
        first = whole("index", index, least=0)
        size = self._size
        if size not in (None, float("inf")):
            size = max(-(-(int(size or 0) - first) // step), 0)
        return self._through(
            lambda r: itertools.islice(r, first, None, step), size
        )

    def take_while(self, predicate: Any, name: Any = None) -> "Dataset":
        """The first elements, for which a function is true.

        Args:
            predicate: Function, as that of `map`.
            name: Ignored.
        """
        apply = Function(predicate)
        return Dataset(
            lambda: itertools.takewhile(lambda e: bool(apply(e)), self._rows())
        )

    def interleave(
        self,
        map_func: Any,
        cycle_length: Any = None,
        block_length: Any = None,
        **kwargs: Any,
    ) -> "Dataset":
        """Take turns among the datasets that a function returns.

        Args:
            map_func: Function of the element that returns a dataset.
            cycle_length: Integer, the datasets that are open. Defaults to
                `None`, 16.
            block_length: Integer, the elements of a turn. Defaults to `None`,
                1.
            **kwargs: Ignored.
        """
        cycle = whole("cycle_length", cycle_length or 16, least=1)
        block = whole("block_length", block_length or 1, least=1)

        def opened() -> Iterator[Iterator[Any]]:
            for element in self._rows():
                element = mapped(to_device, element)
                inner = is_dataset("interleave", called(map_func, element))
                yield iter(inner._rows())

        return Dataset(lambda: in_turns(opened(), cycle, block))

    def concatenate(self, dataset: "Dataset", name: Any = None) -> "Dataset":
        """Put another dataset behind it.

        Args:
            dataset: A dataset.
            name: Ignored.
        """
        sizes = (self._size, is_dataset("concatenate", dataset)._size)
        return Dataset(
            lambda: itertools.chain(self._rows(), dataset._rows()),
            None if None in sizes else sum(sizes),
        )

    def enumerate(self, start: int = 0, name: Any = None) -> "Dataset":
        """Number the elements.

        Args:
            start: Integer. Defaults to `0`.
            name: Ignored.
        """
        return Dataset(lambda: enumerate(self._rows(), start), self._size)

    def window(
        self,
        size: Any,
        shift: Any = None,
        stride: int = 1,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> "Dataset":
        """Datasets of neighbouring elements.

        Args:
            size: Integer, the elements of a window.
            shift: Integer, from one window to the next. Defaults to `None`,
                `size`.
            stride: Integer, between elements of a window. Defaults to `1`.
            drop_remainder: Boolean, whether to leave out the last windows
                that are not full. Defaults to `False`.
            name: Ignored.
        """
        size = whole("size", size, least=1)
        shift = size if shift is None else whole("shift", shift, least=1)
        stride = whole("stride", stride, least=1)
        span = (size - 1) * stride + 1

        def elements() -> Iterator[Any]:
            rows = self._rows()
            held: deque[Any] = deque(itertools.islice(rows, span))
            while held:
                taken = list(itertools.islice(held, 0, span, stride))
                if len(taken) < size and drop_remainder:
                    return
                yield _windows(taken)
                for _ in range(shift):
                    if held:
                        held.popleft()
                    else:
                        next(rows, None)
                held.extend(itertools.islice(rows, span - len(held)))

        return Dataset(elements)

    def cache(self, *args: Any, **kwargs: Any) -> "Dataset":
        """Keep the elements of the first whole pass, in memory.

        Args:
            *args: Ignored, as `**kwargs`: the name of a file.
            **kwargs: Ignored.
        """
        kept: list[Any] = []

        def elements() -> Iterator[Any]:
            if kept:
                yield from kept[0]
                return
            seen = []
            for element in self._elements():
                seen.append(element)
                yield element
            kept[:] = [seen]

        return Dataset(elements, self._size, self._arrays)

    def prefetch(self, *args: Any, **kwargs: Any) -> Any:
        """The same dataset: `fit` reads ahead by itself.

        Args:
            *args: Ignored.
            **kwargs: Ignored.
        """
        return self

    def with_options(self, *args: Any, **kwargs: Any) -> "Dataset":
        """The same dataset: options are TensorFlow's.

        Args:
            *args: Ignored.
            **kwargs: Ignored.
        """
        return self

    def apply(self, transformation: Any) -> Any:
        """Hand the dataset to a function.

        Args:
            transformation: Function of a dataset.
        """
        if callable(transformation):
            return transformation(self)
        return super().apply(transformation)

    # What ends it.

    def reduce(self, initial_state: Any, reduce_func: Any) -> Any:
        """Fold the elements.

        Args:
            initial_state: The first state.
            reduce_func: Function of the state and an element.
        """
        state = initial_state
        for element in self:
            state = reduce_func(state, element)
        return state

    def as_numpy_iterator(self) -> Iterator[Any]:
        """Iterate over elements of NumPy arrays."""
        return (mapped(_to_numpy, element) for element in self._rows())

    def get_single_element(self, name: Any = None) -> Any:
        """The only element.

        Args:
            name: Ignored.
        """
        found = list(itertools.islice(self, 2))
        if len(found) != 1:
            many = "more" if found else "none"
            raise ValueError(
                f"A dataset of one element is asked for. Received: {many}. "
                "Use `take(1)`, or a loop."
            )
        return found[0]

    def cardinality(self) -> Any:
        """The number of elements: -1 without end, -2 if it is not known."""
        if self._size is None:
            return np.int64(-2)
        return np.int64(-1 if self._size == float("inf") else self._size)

    def __len__(self) -> int:
        if self._size is None or self._size == float("inf"):
            raise TypeError(
                "The number of elements is not known. Received: a dataset "
                "with `from_generator`, `filter`, `flat_map` or `repeat`. "
                "Count its elements."
            )
        return int(self._size)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        raise NotImplementedError  # replaced below

    def _rows(self) -> Iterator[Any]:
        """The elements, as they are stored."""
        if self._arrays is None:
            return iter(self._elements())
        arrays = self._arrays
        return (
            mapped(operator.itemgetter(i), arrays) for i in self._elements()
        )

    def _through(self, function: Any, size: float | None) -> "Dataset":
        """Change the order or the number of elements, not the elements."""
        return Dataset(
            lambda: function(iter(self._elements())), size, self._arrays
        )


_shuffles = itertools.count()


def _new_seed() -> tuple[int, int]:
    """A seed that `keras.utils.set_random_seed` determines.

    Python's generator is read and not drawn from, so that a dataset changes no
    random number of the script.
    """
    state = zlib.crc32(repr(random.getstate()).encode())
    return state, next(_shuffles)


def _iterate(self: Dataset) -> Pass:
    """Begin a pass."""
    return Pass(self)


# Grain wraps the `__iter__` that a class defines, to shorten tracebacks of its
# own code. Here is none of it, and the wrapper asks for IPython where anything
# is called `get_ipython`.
Dataset.__iter__ = _iterate  # type: ignore[method-assign]


def _to_numpy(leaf: Any) -> Any:
    """An array of NumPy's, or a number."""
    return np.asarray(leaf)[()]


def _typed(leaf: Any, kind: Any) -> np.ndarray:
    """An array of a type, or of the type of a `keras.KerasTensor`."""
    return np.asarray(leaf, getattr(kind, "dtype", kind))


def _same(element: Any, types: Any) -> bool:
    """Whether a structure of types is that of an element."""
    if is_nest(types) != is_nest(element):
        return False
    return not is_nest(types) or len(types) == len(element)


def _windows(rows: list[Any]) -> Any:
    """A dataset of rows; of tuples, a tuple of datasets."""
    first = rows[0]
    if not is_nest(first):
        return Dataset(lambda: rows, len(rows))
    keys = first if isinstance(first, dict) else range(len(first))
    parts = {k: _windows([row[k] for row in rows]) for k in keys}
    return parts if isinstance(first, dict) else tuple(parts.values())
