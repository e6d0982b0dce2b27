"""What models and layers of Keras 2 said of themselves."""

from collections.abc import Mapping
from typing import Any

import keras


def metrics_names(model: keras.Model) -> list[str]:
    """The names of what `evaluate` returns, as `metrics_names` of Keras 2.

    Args:
        model: A model that has trained or was evaluated.

    Returns:
        List of strings: the loss, those of the outputs, and the metrics of
        one output after the other. It is empty before that.
    """
    if not all(getattr(each, "built", True) for each in model.metrics):
        return []
    return _ordered(model, model.get_metrics_result())


def as_list(model: keras.Model, logs: Any) -> Any:
    """Logs as Keras 2 returned them: a list by the order of the outputs.

    Keras 3 sorts the metrics of several outputs by their names.

    Example:

    ```python
    x = keras.Input((3,))
    outputs = [keras.layers.Dense(1, name=name)(x) for name in "ba"]
    model = kje.Model(x, outputs)
    model.compile("sgd", "mse", metrics=["mae", "mae"])
    data = np.ones((4, 3)), [np.ones((4, 1)), np.ones((4, 1))]
    logs = model.evaluate(*data, return_dict=True)
    loss, b_loss, a_loss, b_mae, a_mae = kje.keras2.as_list(model, logs)
    ```

    Args:
        model: A model.
        logs: What a method of it returned with `return_dict=True`.

    Returns:
        List of numbers; a number, if there is but one.
    """
    names = _ordered(model, {**model.get_metrics_result(), **logs})
    values = [logs[name] for name in names if name in logs]
    return values[0] if len(values) == 1 else values


def layer_input(layer: keras.layers.Layer) -> Any:
    """The tensor that a layer takes; of an input, itself.

    Args:
        layer: A layer of a functional or sequential model.

    Returns:
        Symbolic tensor, or a list of them for several inputs.
    """
    tensors = layer.input
    nothing = isinstance(tensors, list) and not tensors
    return layer.output if nothing else tensors


def input_shape(layer: keras.layers.Layer) -> Any:
    """The shape of what a layer takes, as `layer.input_shape` of Keras 2.

    Args:
        layer: A layer of a functional or sequential model.

    Returns:
        Tuple of integers and `None`, or a list of them for several inputs. Of
        an input, a list of its own.
    """
    return _shapes(layer, layer_input(layer))


def output_shape(layer: keras.layers.Layer) -> Any:
    """The shape of what a layer gives, as `layer.output_shape` of Keras 2.

    Example:

    ```python
    inputs = keras.Input((3,))
    model = kje.Model(inputs, keras.layers.Dense(2)(inputs))
    shapes = [kje.keras2.output_shape(layer) for layer in model.layers]
    assert shapes == [[(None, 3)], (None, 2)]
    ```

    Args:
        layer: A layer of a functional or sequential model.

    Returns:
        Tuple of integers and `None`, or a list of them for several outputs.
        Of an input, a list of its own.
    """
    return _shapes(layer, layer.output)


def _shapes(layer: keras.layers.Layer, tensors: Any) -> Any:
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), tensors)
    if isinstance(layer, keras.layers.InputLayer):
        return [shapes]
    return [*shapes] if isinstance(tensors, (list, tuple)) else shapes


def _ordered(model: keras.Model, logs: Mapping[str, Any]) -> list[str]:
    # Outputs of one layer have one name.
    outputs = list(dict.fromkeys(getattr(model, "output_names", None) or []))
    if len(outputs) < 2:
        return list(logs)
    losses = ["loss", *(f"{name}_loss" for name in outputs)]
    first = [name for name in losses if name in logs]
    rest = [name for name in logs if name not in first]
    return first + sorted(rest, key=lambda name: _place(name, outputs))


def _place(name, outputs):
    """The place of the output that a metric is of: one of the longest name."""
    of = [each for each in outputs if name.startswith(f"{each}_")]
    return outputs.index(max(of, key=len)) if of else len(outputs)
