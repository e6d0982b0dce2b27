"""Optimizers: any optax transformation, beside those of Keras."""

import inspect
from typing import TYPE_CHECKING, Any

from keras_jax_ext._by_name.mirror import mirror
from keras_jax_ext._optax.transformation import is_transformation
from keras_jax_ext.optimizers._by_path import label_by_path, mask_by_path
from keras_jax_ext.optimizers._evaluation import evaluation_weights
from keras_jax_ext.optimizers._optax_optimizer import OptaxOptimizer

import keras

__all__ = [
    "OptaxOptimizer",
    "evaluation_weights",
    "get",
    "label_by_path",
    "mask_by_path",
]


def get(identifier: Any) -> keras.optimizers.Optimizer:
    """Turn what `compile` accepts as an optimizer into a Keras optimizer.

    Example:

    ```python
    import optax
    from keras_jax_ext import optimizers

    optimizers.get(optax.adam(1e-3))
    optimizers.get("adam")
    ```

    Args:
        identifier: An optax transformation, or anything that
            `keras.optimizers.get` takes: a name, a config, an optimizer,
            `None`.

    Returns:
        A Keras optimizer: an `OptaxOptimizer` for a transformation, and what
        Keras makes of anything else.

    Raises:
        ValueError: If `identifier` is a function such as `optax.adam` that was
            not called, or nothing that Keras knows.
    """
    if isinstance(identifier, keras.optimizers.Optimizer):
        return identifier
    if is_transformation(identifier):
        return OptaxOptimizer(identifier)
    is_class = inspect.isclass(identifier)
    if inspect.isfunction(identifier) or (
        is_class and identifier.__module__.startswith("optax.")
    ):
        name = identifier.__name__
        raise ValueError(
            "An optimizer must be an optax transformation or a Keras "
            "optimizer, not a function that makes one. Received: "
            f"identifier={identifier}. Call it, "
            f"`{name}(learning_rate=1e-3)`, or wrap it, "
            f"`kje.optimizers.OptaxOptimizer({name}, learning_rate=1e-3)`."
        )
    return keras.optimizers.get(identifier)


__getattr__, __dir__ = mirror(globals(), keras.optimizers)


if TYPE_CHECKING:
    # For editors and type checkers. It stands last, so that they keep our
    # names where Keras has the same.
    from keras.optimizers import *  # noqa: F403
