"""Models as they were in Keras 2: steps, states and losses of their own."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from keras_jax_ext import _keras, models

import jax
import jax.numpy as jnp
import keras
import numpy as np

# In place of the data: a script calls the step with the data alone.
_BY_HAND = object()


def stateful_step(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a `train_step(self, data)` one of JAX's, which are pure.

    A step of Keras 2 changes variables, and returns logs. This runs it with
    the values of the state, and returns those that it leaves. A step that
    writes to more than the state (optimizers of its own) needs
    `compile(run_eagerly=True)`.

    Example:

    ```python
    class Net(kje.Model):
        @kje.keras2.stateful_step
        def test_step(self, data):
            x, y = data
            return {"loss": jnp.mean((self(x) - y) ** 2)}
    ```

    Args:
        method: A `train_step` or `test_step` of `self` and `data`.

    Returns:
        The method with the arguments `self`, `state` and `data`; with `self`
        and `data` alone it runs as it is.
    """

    @functools.wraps(method)
    def step(self: Any, state: Any, data: Any = _BY_HAND) -> Any:
        if data is _BY_HAND:
            return method(self, state)
        groups = [self.trainable_variables, self.non_trainable_variables]
        if len(state) == 4:
            groups.append(self.optimizer.variables)
        groups.append(self.metrics_variables)
        pairs = [
            pair
            for group, values in zip(groups, state, strict=True)
            for pair in zip(group, values, strict=True)
        ]
        if not any(isinstance(x, jax.core.Tracer) for _, x in pairs):
            # `run_eagerly=True`: whatever the step writes is written.
            for variable, value in pairs:
                variable.assign(value)
            logs = _counted(self, method, data)
            return logs, tuple([v.value for v in group] for group in groups)
        with keras.StatelessScope(pairs) as scope:
            logs = _counted(self, method, data)
        new = tuple(
            [scope.get_current_value(v) for v in group] for group in groups
        )
        return logs, new

    return step


def _counted(model: Any, method: Callable[..., Any], data: Any) -> Any:
    """The logs of a step; a loss that it returns, and counts not, is shown."""
    trackers = [m for m in model.metrics if m.name == "loss"]
    before = [[v.value for v in m.variables] for m in trackers]
    logs = method(model, data)
    for metric, old in zip(trackers, before, strict=True):
        now = [v.value for v in metric.variables]
        same = all(a is b for a, b in zip(now, old, strict=True))
        if same and isinstance(logs, dict) and "loss" in logs:
            metric.reset_state()
            metric.update_state(logs["loss"])
    return logs


def model_from_json(
    json_string: str, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """As `kje.models.model_from_json`, and not compiled, as in Keras 2.

    A loss of the script need not be known then.

    Example:

    ```python
    model.compile("sgd", "mse")
    found = kje.keras2.model_from_json(model.to_json())
    assert not found.compiled
    ```

    Args:
        json_string: What `to_json` of a model gave.
        custom_objects: Dict of classes by their names. Defaults to `None`.

    Returns:
        A model of new weights.
    """
    config = json.loads(json_string)
    if isinstance(config, dict):
        config.pop("compile_config", None)
    return models.model_from_json(json.dumps(config), custom_objects)


def compiled_loss(
    model: keras.Model,
    y: Any,
    y_pred: Any,
    sample_weight: Any = None,
    regularization_losses: Any = None,
) -> Any:
    """The loss of `compile`, which is counted in the logs, as in Keras 2.

    Example:

    ```python
    model.compile("sgd", "mse")
    loss = kje.keras2.compiled_loss(model, y, y_pred=y + 2)
    assert loss == 4.0
    ```

    Args:
        model: The model.
        y: Labels.
        y_pred: Outputs.
        sample_weight: Weights. Defaults to `None`.
        regularization_losses: List of the model's losses. Defaults to `None`,
            which leaves them out.

    Returns:
        Scalar.
    """
    loss = model.compute_loss(y=y, y_pred=y_pred, sample_weight=sample_weight)
    if regularization_losses is None and model.losses:
        loss = loss - sum(model.losses)
    for metric in model.metrics:
        if metric.name == "loss":
            rows = keras.tree.flatten(y_pred)[0].shape[0]
            metric.update_state(loss, sample_weight=rows)
    return loss


def update_compiled_metrics(
    model: keras.Model, y: Any, y_pred: Any, sample_weight: Any = None
) -> None:
    """Update the metrics of `compile`.

    Example:

    ```python
    model.compile("sgd", "mse", metrics=["mae"])
    kje.keras2.update_compiled_metrics(model, y, y + 2)
    assert model.get_metrics_result()["mae"] == 2.0
    ```

    Args:
        model: The model.
        y: Labels.
        y_pred: Outputs.
        sample_weight: Weights. Defaults to `None`.
    """
    model.compute_metrics(None, y, y_pred, sample_weight)


def function(inputs: Any, outputs: Any) -> Callable[[Any], Any]:
    """A part of a functional model as a function of arrays, as `K.function`.

    Example:

    ```python
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    run = kje.keras2.function([model.inputs[0]], [model.layers[-1].output])
    (hidden,) = run([np.ones((4, 3))])
    hidden.shape  # (4, 2)
    ```

    Args:
        inputs: List of tensors that layers take, and of a `learning_phase()`.
        outputs: List of tensors computed of them, or one.

    Returns:
        A function of a list of arrays, which returns NumPy arrays.
    """
    phases = [x is _PHASE for x in inputs] if isinstance(inputs, list) else []
    asks = any(phases)
    if asks:
        inputs = [x for x in inputs if x is not _PHASE]
    part = keras.Model(inputs, outputs)

    def run(arrays: Any) -> Any:
        mode = {}
        if asks:
            mode["training"] = bool(np.all(arrays[phases.index(True)]))
            pairs = zip(arrays, phases, strict=True)
            arrays = [x for x, is_phase in pairs if not is_phase]
        found = part(keras.tree.map_structure(jnp.asarray, arrays), **mode)
        found = keras.tree.map_structure(np.array, found)
        single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
        return [found] if single and not isinstance(found, list) else found

    return run


# Stands for the mode among the inputs of a `function`.
_PHASE = object()


def learning_phase() -> Any:
    """The mode as an input of `function`: 1 to train, 0 to predict.

    Example:

    ```python
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5)])
    inputs = [model.inputs[0], kje.keras2.learning_phase()]
    run = kje.keras2.function(inputs, [model.outputs[0]])
    (same,) = run([np.ones((4, 3)), 0])
    assert (same == 1).all()
    ```

    Returns:
        An object that only `function` knows.
    """
    return _PHASE


def in_train_phase(x: Any, alt: Any, training: Any) -> Any:
    """What a layer computes to train, or else.

    Args:
        x: Tensor, or a function that returns it, to train.
        alt: Tensor, or a function that returns it, to predict.
        training: Boolean, the argument of the layer's `call`; `None` is
            `False`.

    Returns:
        Tensor.
    """
    chosen = x if training else alt
    return chosen() if callable(chosen) else chosen


def in_test_phase(x: Any, alt: Any, training: Any) -> Any:
    """What a layer computes to predict, or else.

    Args:
        x: Tensor, or a function that returns it, to predict.
        alt: Tensor, or a function that returns it, to train.
        training: Boolean, the argument of the layer's `call`; `None` is
            `False`.

    Returns:
        Tensor.
    """
    return in_train_phase(alt, x, training)


def image_dim_ordering() -> str:
    """The order of an image's axes, by the names of Keras 1.

    Returns:
        `"tf"`, where the channels are last, or `"th"`.
    """
    first = keras.config.image_data_format() == "channels_first"
    return "th" if first else "tf"


def set_image_dim_ordering(dim_ordering: str) -> None:
    """Set the order of an image's axes by the names of Keras 1.

    Example:

    ```python
    kje.keras2.set_image_dim_ordering("tf")
    assert keras.config.image_data_format() == "channels_last"
    ```

    Args:
        dim_ordering: `"tf"`, where the channels are last, or `"th"`.

    Raises:
        ValueError: If it is none of the two.
    """
    names = {"tf": "channels_last", "th": "channels_first"}
    if dim_ordering not in names:
        raise ValueError(
            "An order of axes is 'tf' or 'th'. Received: "
            f"dim_ordering={dim_ordering!r}. Give one of them."
        )
    keras.config.set_image_data_format(names[dim_ordering])


def reset_states(owner: Any) -> None:
    """Forget what a metric, a recurrent layer or a whole model has seen.

    Example:

    ```python
    mean = keras.metrics.Mean()
    mean.update_state([1.0, 3.0])
    kje.keras2.reset_states(mean)
    assert mean.result() == 0.0
    ```

    Args:
        owner: A metric, a layer, or a model of layers that keep states.
    """
    if isinstance(owner, keras.Model) or not hasattr(owner, "reset_state"):
        for layer in getattr(owner, "layers", ()):
            if hasattr(layer, "layers") or hasattr(layer, "reset_state"):
                reset_states(layer)
        return
    owner.reset_state()


@keras.saving.register_keras_serializable("keras_jax_ext")
class _AddsLoss(keras.layers.Layer):
    """Hands its first input on, and adds the second as a loss."""

    def call(self, outputs, loss):
        for each in keras.tree.flatten(loss):
            self.add_loss(keras.ops.mean(each))
        return outputs

    def compute_output_spec(self, outputs, loss):
        return keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, x.dtype), outputs
        )


def with_loss(model: Any, loss: Any) -> Any:
    """A functional model with a loss of its own, as `model.add_loss`.

    Example:

    ```python
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(3)(inputs)
    model = kje.Model(inputs, outputs)
    model = kje.keras2.with_loss(model, (outputs - inputs) ** 2)
    model(x)
    assert len(model.losses) == 1
    ```

    Args:
        model: A functional model.
        loss: Tensor computed of the model's inputs and layers, or a list of
            them, which are added up.

    Returns:
        A model of the same inputs, outputs, layers and name, not compiled.
    """
    outputs = _AddsLoss()(model.output, loss)
    is_list = isinstance(model, keras.Sequential)
    kind = models.Model if is_list else type(model)
    found = kind(model.input, outputs, name=model.name)
    for each in _keras.computed_losses(model):
        _keras.add_computed_loss(found, each)
    return found
