"""Values that layers report while a step runs: `add_metric`, named losses."""

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    _Base: Any = None  # a keras.Layer
else:
    _Base = object


class _Threads(threading.local):
    """Each thread runs its own step."""

    def __init__(self):
        self.reports = None


_thread = _Threads()


@contextlib.contextmanager
def collecting():
    """Collect what layers report until the end of the block."""
    before, _thread.reports = _thread.reports, []
    try:
        yield _thread.reports
    finally:
        _thread.reports = before


class _Names:
    """The names a layer has reported, where Keras tracks and saves nothing."""

    def __init__(self):
        self.seen = {}


class Reports(_Base):
    """Mixin for layers and models: `add_metric`, and `add_loss` with a name."""

    def add_metric(self, value, name):
        """Log a value that `call` computes, averaged over the epoch.

        It appears in the logs, the History and, with `val_`, in validation.
        Outside `fit` and `evaluate` it costs nothing.

        Example:

        ```python
        class Gate(kje.Layer):
            def call(self, x):
                gate = keras.ops.sigmoid(x)
                self.add_metric(keras.ops.mean(gate), name="openness")
                return x * gate
        ```

        Args:
            value: Tensor of any shape; its mean counts.
            name: String, the name in the logs.
        """
        self._report(
            name,
            lambda: keras.ops.mean(keras.ops.cast(value, "float32")),
        )

    def add_loss(self, loss, name=None):
        """As `keras.Layer.add_loss`; with a name, it is logged as well.

        Args:
            loss: Scalar tensor, or a list of them.
            name: String, the name in the logs. Defaults to `None`.
        """
        super().add_loss(loss)
        if name is not None:
            losses = loss if isinstance(loss, (list, tuple)) else [loss]
            self._report(
                name, lambda: sum(keras.ops.sum(part) for part in losses)
            )

    def _report(self, name, compute):
        if not isinstance(name, str) or not name:
            raise TypeError(
                "A reported value needs a name for the logs. Received: "
                f"name={name!r} (of type {type(name).__name__})."
            )
        names(self)[name] = None
        if _thread.reports is not None:
            _thread.reports.append((self, name, compute()))


def names(layer):
    """The names that `layer` has reported so far, in order."""
    if "_reported" not in vars(layer):
        object.__setattr__(layer, "_reported", _Names())
    return layer._reported.seen
