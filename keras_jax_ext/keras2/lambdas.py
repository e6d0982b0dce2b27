"""Layers whose functions draw random numbers."""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import keras

F = TypeVar("F", bound=Callable[..., Any])


class _Seeds(threading.local):
    """The generators of the Lambda layers that run in a thread."""

    def __init__(self) -> None:
        self.held: list[Any] = []


_seeds = _Seeds()


def layer_seed() -> Any:
    """The seed generator of the `Lambda` layer, or of `draws`, that runs.

    Example:

    ```python
    assert kje.keras2.layer_seed() is None  # outside of a layer
    layer = kje.keras2.Lambda(lambda x: x + (kje.keras2.layer_seed() is None))
    assert layer(np.zeros(1)) == 0
    ```

    Returns:
        A `keras.random.SeedGenerator`, or `None` outside of such a layer:
        Keras's global one is used then.
    """
    return _seeds.held[-1] if _seeds.held else None


def draws(method: F) -> F:
    """A method of a layer or model that calls functions which draw.

    Example:

    ```python
    def noise(x):
        return keras.random.normal(x.shape, seed=kje.keras2.layer_seed())

    class Noisy(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator()

        @kje.keras2.draws
        def call(self, x):
            return x + noise(x)
    ```

    Args:
        method: Method of a class with a `seed_generator`, which `layer_seed()`
            returns while it runs.

    Returns:
        The method, wrapped.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _drawing_from(self.seed_generator):
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


@contextlib.contextmanager
def _drawing_from(generator):
    _seeds.held.append(generator)
    try:
        yield
    finally:
        _seeds.held.pop()


_known: dict[int, keras.random.SeedGenerator] = {}


def seeded(seed: int | None) -> keras.random.SeedGenerator | None:
    """The random numbers of a seed: others in each call, as in TensorFlow.

    With an integer a function of `keras.random` gives the same ones each time.

    Example:

    ```python
    first, second = (
        keras.random.normal((3,), seed=kje.keras2.seeded(7)) for _ in range(2)
    )
    assert not np.allclose(first, second)
    ```

    Args:
        seed: Integer, or `None` for Keras's global one.

    Returns:
        A `keras.random.SeedGenerator`, one for each seed, or `None`.
    """
    if seed is None:
        return None
    if seed not in _known:
        _known[seed] = keras.random.SeedGenerator(seed)
    return _known[seed]


@keras.saving.register_keras_serializable("keras_jax_ext")
class Lambda(keras.layers.Lambda):
    """A `Lambda` layer whose function draws random numbers.

    The function takes its seed from `layer_seed()`.

    Example:

    ```python
    def noisy(x):
        return x + keras.random.normal(x.shape, seed=kje.keras2.layer_seed())

    layer = kje.keras2.Lambda(noisy)
    ```
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    # Keras infers shapes by the names of the arguments.
    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        """Call the function.

        Args:
            inputs: Tensor, or a structure of them.
            mask: As Keras.
            training: As Keras.
        """
        with _drawing_from(self.seed_generator):
            return super().call(inputs, mask=mask, training=training)
