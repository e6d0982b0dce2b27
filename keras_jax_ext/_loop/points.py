"""Sets of points of different lengths, all of which are in every step."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import device
from keras_jax_ext._loop.batches import DrawnOnce, Single, Span

import jax
import keras
import numpy as np


class Sets(dict):
    """The sets of one batch, by name, in the order in which they were given.

    A class of its own, because a model is not applied to the whole of it.
    """


_keras.register_node(
    Sets,
    lambda sets: (list(sets.values()), tuple(sets)),
    lambda names, children: Sets(zip(names, children, strict=True)),
)


class Points(keras.utils.PyDataset):
    """Sets of points for `fit`: every step is over all points of all sets.

    For losses that evaluate a model where they need it, such as the residual
    of a differential equation inside of a domain and its conditions at the
    edge. The loss asks for `x`, a dict of the sets, and for `apply`, the model
    as a function of inputs. The model itself is not applied to the sets: there
    is no `y_pred`.

    Example:

    ```python
    def heat(x, apply):
        u_t = kje.derivative(apply, x["inside"], 2)
        u_xx = kje.derivative(apply, x["inside"], 0, 0)
        return {"pde": (u_t - u_xx) ** 2, "edge": apply(x["edge"]) ** 2}

    random = np.random.default_rng(0)
    inside, edge = random.random((100, 3)), random.random((20, 3))
    model.compile("adam", heat)
    model.fit(kje.Points(inside=inside, edge=edge, steps=50), epochs=2)
    ```

    Args:
        steps: Integer, the steps of an epoch. Many of them run in one
            execution. Defaults to 1.
        resample: Function of the number of epochs so far, which returns a
            dict of new arrays for some or all sets, of the same shapes. It is
            called before every epoch but the first. Defaults to `None`, the
            same points in all epochs.
        **sets: Arrays, or structures of arrays, of any lengths. The first
            is an input of the model: it builds a model that is not built.

    Raises:
        ValueError: If there is no set, or `steps` is below 1.
    """

    def __init__(
        self,
        *,
        steps: int = 1,
        resample: Callable[[int], Mapping[str, Any]] | None = None,
        **sets: Any,
    ) -> None:
        super().__init__()
        if not sets or not isinstance(steps, int) or steps < 1:
            raise ValueError(
                "Points are one set or more, for one step or more. Received: "
                f"sets {sorted(sets)} and steps={steps!r}. Give each set by "
                "its name: `kje.Points(inside=inside, edge=edge)`."
            )
        self.steps = steps
        self.resample = resample
        self._sets = Sets(
            (name, jax.tree.map(_array, value)) for name, value in sets.items()
        )
        self._epoch = -1
        self._is_due = self._is_looked_at = False

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[Sets]:
        return (self.read(),)

    def on_epoch_begin(self) -> None:
        """Note that new points are due, if a function makes them."""
        if not self._is_looked_at:
            self._epoch += 1
            self._is_due = self.resample is not None and self._epoch > 0

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Within the block, what is read belongs to no epoch."""
        self._is_looked_at = True
        try:
            yield
        finally:
            self._is_looked_at = False

    def get_state(self) -> dict[str, Any]:
        """What is known between two epochs, for a process that goes on."""
        return {
            "epoch": self._epoch,
            "is_due": self._is_due,
            "sets": dict(self._sets),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Be as another process's points were.

        Args:
            state: Dict, from `get_state`.
        """
        self._epoch, self._is_due = state["epoch"], state["is_due"]
        self._sets = Sets(state["sets"])

    def read(self) -> Sets:
        """The sets of this epoch; the same object while they are the same."""
        if self._is_due and self.resample is not None:
            new = self.resample(self._epoch)
            self._sets = _replaced(self._sets, new)
            self._is_due = False
        return self._sets


def _array(value):
    """An array of its own, floats in Keras's type as in its other data."""
    if isinstance(value, jax.Array):
        return value
    array = np.array(value)
    is_float = array.dtype.kind == "f"
    return array.astype(keras.config.floatx()) if is_float else array


def _replaced(sets, new):
    if not isinstance(new, Mapping) or not new.keys() <= sets.keys():
        received = sorted(new) if isinstance(new, Mapping) else type(new)
        raise ValueError(
            "`resample` returns a dict with new arrays for some of the sets. "
            f"Received: {received}, and the sets {list(sets)}. Return "
            f"`{{{next(iter(sets))!r}: array}}`."
        )
    new = {name: jax.tree.map(_array, value) for name, value in new.items()}
    for name, value in new.items():
        before, after = _kinds(sets[name]), _kinds(value)
        if before != after:
            raise ValueError(
                "`resample` keeps the shapes and types of a set, so that no "
                f"program is compiled again. Received: {after} for {name!r}, "
                f"which was {before}."
            )
    return Sets({**sets, **new})


def _kinds(value):
    return jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", value)


class Repeated:
    """Begins passes over points, and keeps them on the device.

    Args:
        points: `Points`.
    """

    def __init__(self, points: Points) -> None:
        self.points = points
        self._read: Sets | None = None
        self._batch: Any = None

    def open(self) -> "_Cursor":
        """Begin a pass."""
        return _Cursor(self)

    def batch(self) -> Single:
        """The points of this epoch, on the device."""
        read = self.points.read()
        if read is not self._read:
            self._batch = None  # frees the device's memory before the copy
            self._batch = Single(device.put((read,), stacked=False))
            self._read = read
        return self._batch


class _Cursor(DrawnOnce):
    """A position in one pass: each step takes the same batch."""

    def __init__(self, source) -> None:
        self._source = source
        self._step = 0
        self.runs_code = self.replays = source.points.resample is not None

    def allow(self, steps: int | None) -> None:
        """Any number of steps may be read: points lose nothing."""

    def take(self, limit: int) -> Span:
        steps = min(limit, self._source.points.steps - self._step)
        if steps <= 0:
            raise StopIteration
        self.before_draw()
        self._step += steps
        return Span(self._source.batch(), 0, steps)

    def skip(self, steps: int, place: Any = None) -> None:
        del place
        self._step = steps
        if steps:
            self._source.points.read()
