"""How batches of a source are read where another process was."""

import contextlib
from collections.abc import Iterable
from typing import Any

from keras_jax_ext import _keras

import keras
import numpy as np


class Reader:
    """Batches of any source; those that were taken are read and dropped.

    Args:
        batches: Iterable of batches.
    """

    # Whether what a pass yields depends on the passes before it.
    replays = True

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = iter(batches)

    def __next__(self) -> Any:
        return next(self._batches)

    def state(self) -> Any:
        """Where it is, if the source can say."""

    def go_to(self, taken: int, state: Any) -> None:
        """Go to where another process was.

        Args:
            taken: Integer, the batches that it had read.
            state: Its `state`; `None` if it is not known.
        """
        del state
        for _ in range(taken):
            if next(self._batches, None) is None:
                break


class Once(Reader):
    """Batches of arrays, whose order is drawn when a pass begins."""

    replays = False

    def go_to(self, taken: int, state: Any) -> None:
        if state is not None:
            raise ValueError(
                "Arrays are read batch by batch where a callback that acts on "
                "batches may change them, or where they are too large for the "
                "device. Received: such arrays, and a backup from within an "
                "epoch that read them whole. Until that epoch has ended, leave "
                "the callback out, or give another `backup_dir`."
            )
        super().go_to(taken, state)


class Indexed(Reader):
    """Batches of a `PyDataset`, which are asked for by their number.

    Args:
        batches: Iterable of batches, by Keras's adapter.
        adapter: Keras's `PyDatasetAdapter`.
    """

    replays = False

    def __init__(self, batches: Iterable[Any], adapter: Any) -> None:
        super().__init__(batches)
        self._adapter = adapter

    def go_to(self, taken: int, state: Any) -> None:
        # Keras's own order of the numbers, without the batches.
        with _without_batches(self._adapter):
            super().go_to(taken, state)


class Stateful(Reader):
    """Batches of Grain, whose iterators say where they are."""

    replays = False
    _batches: Any

    def state(self) -> Any:
        return self._batches.get_state()

    def go_to(self, taken: int, state: Any) -> None:
        del taken
        if state is not None:
            self._batches.set_state(state)


class _NoBatches(keras.utils.PyDataset):
    """As many batches as another dataset has, with nothing in them."""

    def __init__(self, dataset):
        super().__init__()
        self._dataset = dataset

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        return (np.zeros((1,), "float32"),)


@contextlib.contextmanager
def _without_batches(adapter):
    dataset = adapter.py_dataset
    adapter.py_dataset = _NoBatches(dataset)
    try:
        yield
    finally:
        adapter.py_dataset = dataset


def reader(adapter: Any) -> Reader:
    """Begin a pass over the batches of an adapter.

    Args:
        adapter: An adapter of Keras.
    """
    batches = adapter.get_jax_iterator()
    if isinstance(adapter, _keras.GrainDatasetAdapter):
        return Stateful(batches)
    if why_not_again(adapter) is None:
        is_dataset = isinstance(adapter, _keras.PyDatasetAdapter)
        return Indexed(batches, adapter) if is_dataset else Once(batches)
    return Reader(batches)


def offers_state(source: Any) -> bool:
    """Whether an object offers what it knows between two batches.

    Args:
        source: A dataset of a user, or a callback.
    """
    return hasattr(source, "get_state") and hasattr(source, "set_state")


def why_not_again(adapter: Any) -> str | None:
    """Why a process that starts anew cannot read the same batches.

    Args:
        adapter: An adapter of Keras.

    Returns:
        String, what the data are; `None` if it can.
    """
    if isinstance(adapter, _keras.PyDatasetAdapter):
        dataset = adapter.py_dataset
        if reads_ahead(dataset):
            # Its threads shuffle the next epoch at any time.
            return f"a PyDataset of {dataset.workers} workers"
        return changes_itself(dataset)
    can = isinstance(
        adapter, _keras.ArrayDataAdapter | _keras.GrainDatasetAdapter
    )
    kind = type(adapter).__name__.removesuffix("Adapter")
    return None if can else f"a {kind}"


def changes_itself(dataset: keras.utils.PyDataset) -> str | None:
    """Why the batches of a dataset may depend on the epochs before.

    Args:
        dataset: `PyDataset`.

    Returns:
        String, what it is; `None` if they do not, or if it offers its state.
    """
    if offers_state(dataset):
        return None
    for name in ("on_epoch_begin", "on_epoch_end"):
        hook = getattr(dataset, name)
        stock = getattr(keras.utils.PyDataset, name)
        if getattr(hook, "__func__", None) is not stock:
            kind = type(dataset).__name__
            return f"the PyDataset {kind}, which has its own {name}"
    return None


def reads_ahead(dataset: keras.utils.PyDataset) -> bool:
    """Whether threads or processes read a dataset.

    Args:
        dataset: `PyDataset`.
    """
    many = dataset.workers > 1
    return many or (dataset.workers > 0 and dataset.use_multiprocessing)


def holders(adapter: Any, *others: Any) -> list[Any]:
    """The datasets that offer what they know between two passes.

    Args:
        adapter: An adapter of Keras, of the training data.
        *others: As `validation_data` in `fit`.
    """
    datasets = [getattr(adapter, "py_dataset", None)]
    for other in others:
        datasets += keras.utils.unpack_x_y_sample_weight(other)[:1]
    found = {
        id(each): each
        for each in datasets
        if isinstance(each, keras.utils.PyDataset) and offers_state(each)
    }
    return [*found.values()]
