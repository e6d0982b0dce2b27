"""Listen to the calls of layers, stock ones too, without changing a class."""

import threading

# Keras calls the second instead where a layer is quantized.
_METHODS = ("call", "quantized_call")


def listen(layers, around):
    """Let `around` make the calls of `layers` in this thread.

    Args:
        layers: List of layers.
        around: Function `around(layer, call, args, kwargs)` that returns
            `call(*args, **kwargs)`.

    Returns:
        A function of no arguments that ends it.
    """
    before = [
        (layer, {n: vars(layer)[n] for n in _METHODS if n in vars(layer)})
        for layer in layers
    ]
    thread = threading.get_ident()
    for layer in layers:
        for name in _METHODS:
            if hasattr(layer, name):
                # Past Keras's `__setattr__`, which tracks and locks.
                vars(layer)[name] = _heard(
                    layer, getattr(layer, name), around, thread
                )

    def end():
        for layer, methods in before:
            for name in _METHODS:
                vars(layer).pop(name, None)
            vars(layer).update(methods)

    return end


def _heard(layer, call, around, thread):
    def heard(*args, **kwargs):
        if threading.get_ident() != thread:
            return call(*args, **kwargs)
        return around(layer, call, args, kwargs)

    return heard
