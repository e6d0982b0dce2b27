"""One optimizer for several models, which Keras 2 had before 2.11."""

import functools
import weakref
from typing import Any

from keras_jax_ext import _keras

import keras

# The optimizers that were made beside each one.
_BESIDE: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def shared(optimizer: Any) -> Any:
    """Give one optimizer to several models, as Keras 2 did.

    An optimizer of Keras 3 has the variables that it first saw, and no others.
    In Keras 2 one of them trained a discriminator, and the model behind a
    generator. The first call returns the optimizer itself, which takes further
    variables in `apply_gradients`; each later one returns another, for another
    model, with the same learning rate and count of steps, and what is known
    already of the model's variables.

    Example:

    ```python
    adam = keras.optimizers.Adam(1e-3)
    for size in (2, 3):
        net = kje.Sequential([keras.Input((size,)), keras.layers.Dense(1)])
        net.compile(kje.keras2.shared(adam), "mse")
        net.train_on_batch(np.ones((4, size)), np.ones((4, 1)))
    int(adam.iterations)  # 2
    ```

    Args:
        optimizer: An optimizer. Anything else, as its name, is returned as it
            is.

    Returns:
        The optimizer, or one beside it.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        return optimizer
    beside = _BESIDE.get(optimizer)
    if beside is None:
        _BESIDE[optimizer] = []
        apply = functools.partial(_apply, optimizer, optimizer.apply)
        vars(optimizer)["apply"] = apply
        return optimizer
    found = _keras.sibling(optimizer)
    build = functools.partial(_build, found, found.build, optimizer)
    vars(found)["build"] = build
    beside.append(found)
    return found


def _apply(optimizer, apply, grads, trainable_variables=None):
    """The `apply` of an optimizer, which may see variables for the first time.

    Its slots of them begin anew, and its count of steps goes on.
    """
    if trainable_variables is not None:
        trainable_variables = list(trainable_variables)
        new = [v for v in trainable_variables if not _keras.knows(optimizer, v)]
        if optimizer.built and new:
            _keras.take_on(optimizer, new)
    return apply(grads, trainable_variables)


def _build(found, build, optimizer, variables):
    if found.built:
        return
    build(variables)
    _keras.share_scalars(found, optimizer)
    others = (optimizer, *_BESIDE[optimizer])
    _keras.copy_slots(found, [o for o in others if o is not found and o.built])
