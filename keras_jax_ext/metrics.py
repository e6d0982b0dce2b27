"""Metrics that see the whole output, updated with the names they ask for."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from keras_jax_ext import _keras
from keras_jax_ext._by_name import entries, structures
from keras_jax_ext._by_name.binding import Binding, bind
from keras_jax_ext._by_name.mirror import mirror

import jax
import keras

__all__ = ["Function", "Metric", "on"]


@keras.saving.register_keras_serializable("keras_jax_ext.metrics")
class Metric(keras.metrics.Metric):
    """A Keras metric whose `update_state` is called with named arguments.

    Write `update_state` with any of the arguments `x, y_true, y_pred,
    sample_weight, class_weight, training, parameters, states`; the rest is as
    in `keras.metrics.Metric`.

    Example:

    ```python
    class Spread(kje.metrics.Metric):
        def __init__(self, name="spread"):
            super().__init__(name=name)
            self.mean = keras.metrics.Mean()

        def update_state(self, y_pred):
            self.mean.update_state(keras.ops.std(y_pred[0], axis=-1))

        def result(self):
            return self.mean.result()
    ```

    Args:
        name: String, the name in the logs. Defaults to the name of the class
            in snake case.
        dtype: As in `keras.metrics.Metric`. Defaults to `None`.
    """

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        name = name or _keras.to_snake_case(type(self).__name__)
        super().__init__(name=name, dtype=dtype)

    def binding(self) -> Binding:
        """Read the names that this metric asks for."""
        return bind(self.update_state, f"The metric {self.name!r}")

    def update(self, given: Mapping[str, Any], binding: Binding) -> None:
        """Call `update_state` with the values that it asks for.

        Args:
            given: The values that may be asked for, by name.
            binding: The result of `binding()`.
        """
        binding(given)


@keras.saving.register_keras_serializable("keras_jax_ext.metrics")
class Function(Metric):
    """The mean of a function of named arguments over the epoch.

    `compile` wraps each function in `metrics` that Keras cannot call. Wrap a
    function of `(y_true, y_pred)` yourself to give it the whole output; Keras
    would call it once for each output.

    Example:

    ```python
    def total(y_true, y_pred):
        return keras.ops.sum(y_pred, axis=-1)

    model.compile("adam", "mse", metrics=[kje.metrics.Function(total)])
    ```

    Args:
        fn: Function that returns a scalar, a value for each sample, or a dict
            of these, logged as `<name>/<part>`.
        name: String. Defaults to the name of the function.
        weighted: Boolean, whether sample weights count. `compile` sets it:
            `True` in `weighted_metrics`. Defaults to `False`.
        **kwargs: As `Metric`.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        weighted: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name or fn.__name__, **kwargs)
        self.fn = fn
        self.weighted = weighted
        self._means: dict[str, keras.metrics.Mean] = {}

    def binding(self) -> Binding:
        """Read the names that the function asks for."""
        return bind(self.fn, f"The metric {self.name!r}")

    def update(self, given: Mapping[str, Any], binding: Binding) -> None:
        """Add the values of one batch."""
        parts = structures.named(binding(given), f"The metric {self.name!r}")
        if not self._means:
            self._means = {part: keras.metrics.Mean() for part in parts}
        if parts.keys() != self._means.keys():
            raise ValueError(
                "A metric returns the same parts at every step. Received: "
                f"parts {list(parts)} from {self.name!r}, and at first "
                f"{list(self._means)}."
            )
        for part, values in parts.items():
            self._add(self._means[part], values, given)

    def _add(self, mean, values, given):
        values = keras.ops.convert_to_tensor(values, dtype=self.dtype)
        weights = given.get("sample_weight") if self.weighted else None
        if not values.shape:
            weights = structures.count_rows(given)
        elif weights is not None:
            what = f"the metric {self.name!r}"
            weights = structures.spread(weights, values, what)
        mean.update_state(values, sample_weight=weights)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the means, which Keras does not track."""
        return [v for mean in self._means.values() for v in mean.variables]

    def reset_state(self) -> None:
        """Forget what was seen."""
        for mean in self._means.values():
            mean.reset_state()

    def result(self) -> jax.Array | dict[str, jax.Array]:
        """Return the mean so far, or a dict of the means of named parts."""
        results = {
            f"{self.name}/{part}" if part else self.name: mean.result()
            for part, mean in self._means.items()
        }
        return results if [*self._means] != [""] else results[self.name]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        fn = keras.saving.serialize_keras_object(self.fn)
        return {**super().get_config(), "fn": fn, "weighted": self.weighted}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a metric from `get_config()`."""
        fn = entries.read("a metric", config, "fn", callable)
        return cls(**{**config, "fn": fn})


@keras.saving.register_keras_serializable("keras_jax_ext.metrics")
class On(Metric):
    """A Keras metric on one part of the output; made by `on`."""

    def __init__(
        self,
        metric: Any,
        on: str | int | Sequence[str | int],
        name: str | None = None,
        weighted: bool = False,
        **kwargs: Any,
    ) -> None:
        path = structures.path_of(on)
        given_name = name
        if name is None:
            last = metric if isinstance(metric, str) else _name_of(metric)
            name = "_".join([*map(str, path), last])
        super().__init__(name=name, **kwargs)
        self.on = on
        self.path = path
        self.metric = metric
        self.weighted = weighted
        self.given_name = given_name
        self.stock: Any = None

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Update the Keras metric on its part."""
        y_pred = structures.pick(y_pred, self.path, "`y_pred`")
        y_true = structures.pick(y_true, self.path, "`y_true`", shallow=True)
        if self.stock is None:
            self.stock = _keras.get_metric(self.metric, y_true, y_pred)
        if not self.weighted or sample_weight is None:
            self.stock.update_state(y_true, y_pred)
            return
        weights = structures.pick(
            sample_weight, self.path, "`sample_weight`", shallow=True
        )
        self.stock.update_state(y_true, y_pred, sample_weight=weights)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the Keras metric, once its class is known."""
        return [] if self.stock is None else self.stock.variables

    def reset_state(self) -> None:
        """Forget what was seen."""
        if self.stock is not None:
            self.stock.reset_state()

    def result(self) -> Any:
        """Return the result of the Keras metric."""
        return self.stock.result()

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        metric = keras.saving.serialize_keras_object(self.metric)
        return {
            "metric": metric,
            "on": self.on,
            "name": self.given_name,
            "weighted": self.weighted,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a metric from `get_config()`."""
        metric = entries.read("a metric", config, "metric", _is_metric)
        return cls(**{**config, "metric": metric})


def _is_metric(value):
    return isinstance(value, str) or callable(value)


def _name_of(metric):
    return getattr(metric, "name", None) or metric.__name__


def on(
    metric: Any,
    path: str | int | Sequence[str | int],
    *,
    name: str | None = None,
) -> Metric:
    """Put any Keras metric on one part of the output.

    Example:

    ```python
    metrics = [kje.metrics.on("accuracy", "class")]
    ```

    Args:
        metric: String, function `f(y_true, y_pred)` or `keras.metrics.Metric`.
        path: Key, index or list of them into `y_pred`, and into `y_true` and
            `sample_weight` if they are structures.
        name: String. Defaults to the path and the metric's name, joined by
            an underscore, as Keras names the metrics of an output.

    Returns:
        A `Metric`. In `weighted_metrics` it applies the sample weights.
    """
    return On(metric, path, name=name)


__getattr__, __dir__ = mirror(globals(), keras.metrics)


if TYPE_CHECKING:
    # For editors and type checkers. It stands last, so that they keep our
    # classes where Keras has the same name.
    from keras.metrics import *  # noqa: F403
