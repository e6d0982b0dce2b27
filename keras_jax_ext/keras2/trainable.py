"""What `compile` of Keras 2 says once and for all: which layers train."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from keras_jax_ext import _keras


def compile(model: Any, *args: Any, **kwargs: Any) -> None:
    """Compile a model, and train later what is trainable now, as Keras 2.

    In Keras 3 `trainable` counts when a model trains. A discriminator that is
    compiled, then frozen for the model behind a generator, would learn nothing
    more, without a word.

    Example:

    ```python
    critic = kje.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    kje.keras2.compile(critic, "sgd", "mse")
    critic.trainable = False  # for a model that is made of it
    loss = critic.train_on_batch(np.ones((4, 2)), np.ones((4, 1)))
    ```

    Args:
        model: A model.
        *args: Arguments of its `compile`.
        **kwargs: Further ones.
    """
    _forget(model)
    model.compile(*args, **kwargs)
    trainable = _trainable(model)
    methods = {
        name: _within(model, trainable, getattr(model, name))
        for name in ("fit", "train_on_batch")
    }
    vars(model).update(methods, compile=_plainly(model, model.compile))


def _plainly(model, method):
    """The `compile` of Keras: what it says takes the place of this."""

    @functools.wraps(method)
    def run(*args, **kwargs):
        _forget(model)
        return method(*args, **kwargs)

    return run


def _forget(model):
    for name in ("fit", "train_on_batch", "compile"):
        vars(model).pop(name, None)


def _within(model, trainable, method):
    @functools.wraps(method)
    def run(*args, **kwargs):
        with _set(model, trainable):
            return method(*args, **kwargs)

    return run


@contextlib.contextmanager
def _set(model: Any, trainable: list[tuple[Any, bool]]) -> Iterator[None]:
    """Within the block, layers train or not as they did before."""
    now = _trainable(model)
    known = {id(layer) for layer, _ in trainable}
    # A layer that came later keeps its own, whatever its model is given.
    wanted = trainable + [pair for pair in now if id(pair[0]) not in known]
    _write(wanted)
    try:
        yield
    finally:
        _write(now)


def _trainable(model):
    """Pairs of a layer and whether it trains, each before its own layers."""
    layers = [model, *_keras.sublayers(model)]
    return [(layer, layer.trainable) for layer in layers]


def _write(pairs):
    if all(layer.trainable == value for layer, value in pairs):
        return
    for layer, value in pairs:  # a layer's own are set with it, then anew
        layer.trainable = value
