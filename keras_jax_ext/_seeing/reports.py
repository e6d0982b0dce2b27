"""Values that layers report while a step runs: for the logs, or to be seen."""

import contextlib
import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any

import jax
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
        self.summaries = {}


class Reports(_Base):
    """Mixin for layers and models: metrics, losses and summaries by name."""

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

    def add_summary(self, name, value, kind=None):
        """Show a value that `call` computes in TensorBoard.

        The callback `kje.callbacks.TensorBoard` writes the last value of each
        epoch, or of each `update_freq` batches, of training and of validation.
        Unless it listens, this adds nothing to the compiled step; while it
        does, each step sends the value to the host.

        Example:

        ```python
        class Gate(kje.Layer):
            def call(self, x):
                gate = keras.ops.sigmoid(x)
                self.add_summary("gate", gate)  # a histogram
                return x * gate
        ```

        Args:
            name: String. The tag is the layer's path, and this.
            value: Tensor. Images have a shape of `(batch, height, width,
                channels)`, and are floats in `[0, 1]` or 8-bit integers.
            kind: `"scalar"`, `"histogram"` or `"image"`. Defaults to a scalar
                for rank 0, an image for rank 4 with 1, 3 or 4 channels, and
                else a histogram.

        Raises:
            TypeError: If `name` is not a string.
            ValueError: If `kind` is none of these, or `value` has no such
                shape.
        """
        _check_name(name)
        kind = _kind(name, keras.ops.shape(value), kind)
        _names(self).summaries[name] = None
        if _receivers(self):
            jax.debug.callback(
                functools.partial(_deliver, weakref.ref(self), name, kind),
                value,
            )

    def _report(self, name, compute):
        _check_name(name)
        names(self)[name] = None
        if _thread.reports is not None:
            _thread.reports.append((self, name, compute()))


def _check_name(name):
    if not isinstance(name, str) or not name:
        raise TypeError(
            "A reported value needs a name for the logs. Received: "
            f"name={name!r} (of type {type(name).__name__})."
        )


def names(layer):
    """The names that `layer` has reported so far, in order."""
    return _names(layer).seen


def has_summaries(layer):
    """Whether `layer` is known to call `add_summary`."""
    return isinstance(layer, Reports) and bool(_names(layer).summaries)


def _names(layer):
    if "_reported" not in vars(layer):
        object.__setattr__(layer, "_reported", _Names())
    return layer._reported


def _kind(name, shape, kind):
    """What a summary of this shape is, checked against what was asked."""
    image = len(shape) == 4 and shape[-1] in (1, 3, 4)
    if kind is None:
        return "scalar" if not shape else "image" if image else "histogram"
    fits = {"scalar": not shape, "histogram": True, "image": image}
    if not fits.get(kind, False):
        raise ValueError(
            'A summary is a "scalar" of shape (), a "histogram" of any shape '
            'or an "image" of shape (batch, height, width, channels) with 1, '
            f"3 or 4 channels. Received: kind={kind!r} and a value of shape "
            f"{tuple(shape)} named {name!r}."
        )
    return kind


# Layers whose summaries somebody wants: layer -> list of weak methods.
_listeners: Any = weakref.WeakKeyDictionary()


def listen(layers, receive):
    """Send the summaries of `layers` to a method, as long as its object lives.

    Args:
        layers: List of layers.
        receive: Bound method `receive(layer, name, kind, value)`, called
            while steps run: it may not use JAX, and should be quick.
    """
    ignore(layers, receive)
    for layer in layers:
        _listeners.setdefault(layer, []).append(weakref.WeakMethod(receive))


def ignore(layers, receive):
    """End what `listen` began for the same method."""
    for layer in layers:
        kept = [
            r for r in _listeners.get(layer, ()) if r() not in (None, receive)
        ]
        if kept:
            _listeners[layer] = kept
        else:
            _listeners.pop(layer, None)


def _receivers(layer):
    return [r() for r in _listeners.get(layer, ()) if r() is not None]


def _deliver(layer, name, kind, value):
    """Runs on the host; a compiled step may outlive who listened."""
    layer = layer()
    for receive in _receivers(layer) if layer is not None else ():
        receive(layer, name, kind, value)
