"""Values that layers report while a step runs, for logs or TensorBoard."""

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from keras_jax_ext import _keras

import jax
import keras


class _Threads(threading.local):
    """Each thread runs its own step."""

    def __init__(self) -> None:
        # `(layer, name, value)` of what the step has reported so far; `None`
        # if no step collects.
        self.reports: list[tuple[Any, str, Any]] | None = None


_thread = _Threads()


@contextlib.contextmanager
def collecting() -> Iterator[list[tuple[Any, str, Any]]]:
    """Collect what layers report within the block.

    Yields:
        List of `(layer, name, value)`, which grows as layers report.
    """
    collected: list[tuple[Any, str, Any]] = []
    before, _thread.reports = _thread.reports, collected
    try:
        yield collected
    finally:
        _thread.reports = before


class _Names:
    """The names that a layer has reported, in dicts that keep their order.

    Keras tracks and saves the attributes of a layer, but not of this object.
    """

    def __init__(self) -> None:
        self.logged: dict[str, None] = {}
        self.summaries: dict[str, None] = {}


class Reports(_keras.Mixin):
    """Mixin for layers and models: metrics, losses and summaries by name."""

    def add_metric(self, value: Any, name: str) -> None:
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
            value: Tensor of any shape. Its mean is logged.
            name: String, the name in the logs.
        """
        self._report(
            name,
            lambda: keras.ops.mean(keras.ops.cast(value, "float32")),
        )

    def add_loss(
        self, loss: Any | Sequence[Any], name: str | None = None
    ) -> None:
        """Add a loss, as `keras.Layer.add_loss`; with a name, log it as well.

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

    def add_summary(
        self, name: str, value: Any, kind: str | None = None
    ) -> None:
        """Show a value that `call` computes in TensorBoard.

        The callback `kje.callbacks.TensorBoard` writes the last value of each
        epoch, or of each `update_freq` batches, for training and validation.
        With that callback, each step sends the value to the host. Without it,
        this adds nothing to the compiled step.

        Example:

        ```python
        class Gate(kje.Layer):
            def call(self, x):
                gate = keras.ops.sigmoid(x)
                self.add_summary("gate", gate)  # a histogram
                return x * gate
        ```

        Args:
            name: String. The tag is the layer's path, a slash and this name.
            value: Tensor. Images have a shape of `(batch, height, width,
                channels)`, and are floats in `[0, 1]` or 8-bit integers.
            kind: `"scalar"`, `"histogram"` or `"image"`. Defaults to a scalar
                for rank 0, an image for rank 4 with 1, 3 or 4 channels, and
                else a histogram.

        Raises:
            TypeError: If `name` is not a string.
            ValueError: If `kind` is none of these, or does not fit the shape
                of `value`.
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
        _names(self).logged[name] = None
        if _thread.reports is not None:
            _thread.reports.append((self, name, compute()))


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(
            "A reported value needs a name for the logs. Received: "
            f"name={name!r} (of type {type(name).__name__})."
        )


def names(layer: Reports) -> Iterable[str]:
    """Return the names that `layer` has logged so far, in order."""
    return _names(layer).logged


def has_summaries(layer: Any) -> bool:
    """Whether `layer` has called `add_summary` so far."""
    return isinstance(layer, Reports) and bool(_names(layer).summaries)


def _names(layer):
    if "_reported" not in vars(layer):
        object.__setattr__(layer, "_reported", _Names())
    return layer._reported


def _kind(name, shape, kind):
    """The kind of a summary of this shape. Raises if another was asked for."""
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


# The subscribed methods of each layer. Both are held weakly: a training that
# fails never unsubscribes.
_subscribed: weakref.WeakKeyDictionary[Any, list[weakref.WeakMethod]] = (
    weakref.WeakKeyDictionary()
)


def subscribe(
    layers: Iterable[Any], receive: Callable[[Any, str, str, Any], None]
) -> None:
    """Send the summaries of `layers` to a method, as long as its object lives.

    Args:
        layers: Layers.
        receive: Bound method `receive(layer, name, kind, value)`. It is called
            while steps run, so it may not use JAX, and should be quick.
    """
    unsubscribe(layers, receive)
    for layer in layers:
        _subscribed.setdefault(layer, []).append(weakref.WeakMethod(receive))


def unsubscribe(
    layers: Iterable[Any], receive: Callable[[Any, str, str, Any], None]
) -> None:
    """Undo `subscribe` for the same method."""
    for layer in layers:
        kept = [
            r for r in _subscribed.get(layer, ()) if r() not in (None, receive)
        ]
        if kept:
            _subscribed[layer] = kept
        else:
            _subscribed.pop(layer, None)


def _receivers(layer):
    alive = [each() for each in _subscribed.get(layer, ())]
    return [receive for receive in alive if receive is not None]


def _deliver(layer, name, kind, value):
    """Runs on the host, perhaps after the layer or a receiver is gone."""
    layer = layer()
    for receive in _receivers(layer) if layer is not None else ():
        receive(layer, name, kind, value)
