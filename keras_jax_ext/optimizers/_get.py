"""`get`: what `compile` accepts as an optimizer, as a Keras optimizer."""

import inspect
from typing import Any

from keras_jax_ext._optax.transformation import is_transformation
from keras_jax_ext.optimizers._optax_optimizer import OptaxOptimizer

import keras


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
