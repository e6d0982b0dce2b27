"""Functions of a script's own, which Keras 2 gave labels of two axes."""

import functools
from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras

import jax.numpy as jnp
import keras


def metrics(given: Any, model: keras.Model | None = None) -> Any:
    """Metrics of `compile` that get their labels as in Keras 2.

    Labels of shape `(n,)` beside outputs of shape `(n, 1)` came as `(n, 1)`.
    Keras 3 hands both over as they are, and `y_true - y_pred` is `(n, n)`,
    without a word. One alone is taken, too, and `"AUC"` is called "auc".

    Example:

    ```python
    def error(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

    (found,) = kje.keras2.metrics([error])
    found(np.zeros(4), np.ones((4, 1))).shape  # (4,)
    ```

    Args:
        given: What `compile` takes: names, functions and metrics, or any
            structure of them.
        model: The model that is compiled. Of several outputs each gets all
            of a flat list then, as in Keras 2. Defaults to `None`.

    Returns:
        The same structure; a metric of a class of the script is itself.
    """
    if given is not None and not isinstance(given, (list, tuple, dict)):
        given = [given]
    given = keras.tree.map_structure(_by_its_name, given)
    given = _each(given, keras.metrics.Metric, "update_state")
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) < 2 or not isinstance(given, (list, tuple)):
        return given
    if any(isinstance(each, (list, tuple, dict)) for each in given):
        return given
    return [[_again(each) for each in given] for _ in outputs]


def _by_its_name(metric):
    """`"AUC"` is "auc" in the logs of Keras 2, and "AUC" in Keras 3's."""
    found = isinstance(metric, str) and getattr(keras.metrics, metric, None)
    if not isinstance(found, type) or metric == "Accuracy":
        return metric
    return found(name=_keras.to_snake_case(metric))


def _again(metric):
    """A metric counts for one output: another has one of its own."""
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric


def losses(given: Any) -> Any:
    """Losses of `compile` that get their labels as in Keras 2.

    Labels of shape `(n,)` beside outputs of shape `(n, k)` came as `(n, 1)`.

    Example:

    ```python
    def loss(y_true, y_pred):
        chosen = keras.ops.cast(y_true[:, 0], "int32")
        return keras.ops.sparse_categorical_crossentropy(chosen, y_pred)

    kje.keras2.losses(loss)(np.zeros(4), np.ones((4, 3)) / 3).shape  # (4,)
    ```

    Args:
        given: What `compile` takes: a name, a function, a loss, or any
            structure of them.

    Returns:
        The same structure; a loss of a class of the script is itself.
    """
    return _each(given, keras.losses.Loss, "call")


def broadcast(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels and outputs of one shape, where one has an axis less.

    `keras.losses.mean_squared_error` of Keras 2 was of all pairs then: of
    shape `(n,)` for labels of `(n,)` and outputs of `(n, 1)`. That of Keras 3
    takes the axis away, and is a scalar.

    Example:

    ```python
    labels, outputs = kje.keras2.broadcast(np.zeros(4), np.ones((4, 1)))
    keras.losses.mean_squared_error(labels, outputs).shape  # (4,)
    ```

    Args:
        y_true: Labels: an array, or a symbolic tensor.
        y_pred: Outputs, alike.

    Returns:
        The two; arrays of one rank and symbolic tensors are themselves.
    """
    both = (y_true, y_pred)
    if any(keras.backend.is_keras_tensor(each) for each in both):
        return both
    labels, outputs = map(keras.ops.convert_to_tensor, both)
    if labels.ndim == outputs.ndim:
        return both
    labels, outputs = jnp.broadcast_arrays(labels, outputs)
    return labels, outputs


def _each(given, kind, method):
    if isinstance(given, dict):
        return {n: _each(each, kind, method) for n, each in given.items()}
    if isinstance(given, (list, tuple)):
        return [_each(each, kind, method) for each in given]
    if isinstance(given, kind):
        if not _is_keras(type(given)):
            vars(given)[method] = _expanding(getattr(given, method))
        return given
    if callable(given) and not isinstance(given, type) and not _is_keras(given):
        return _expanding(given)
    return given


def _is_keras(thing):
    """Whether Keras made it: its own functions compare the ranks."""
    module = getattr(thing, "__module__", None) or ""
    return module.split(".")[0] == "keras"


def _expanding(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(y_true, y_pred, *args, **kwargs):
        if getattr(y_true, "ndim", 0) == 1 and getattr(y_pred, "ndim", 0) == 2:
            y_true = keras.ops.expand_dims(y_true, -1)
        return function(y_true, y_pred, *args, **kwargs)

    return run
