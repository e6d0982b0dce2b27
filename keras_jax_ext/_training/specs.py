"""Sorts the arguments of `compile`: specs for Keras, and ours."""

from typing import Any

from keras_jax_ext._by_name import entries
from keras_jax_ext._by_name.binding import (
    Binding,
    takes_labels_and_outputs,
)
from keras_jax_ext._by_name.naming import take_name
from keras_jax_ext.losses import Loss
from keras_jax_ext.metrics import Function, Metric, On

import keras

SPECS = {"loss", "metrics", "weighted_metrics"}
# What Keras writes for every compiled model. One that lacks the entry of a
# loss would train without it.
_WRITTEN = {"optimizer", *SPECS}


@keras.saving.register_keras_serializable("keras_jax_ext")
class Kept(keras.losses.Loss):
    """The specs of an extended model, in a file that stock Keras can load."""

    def __init__(self, specs: dict[str, Any]) -> None:
        super().__init__(name="kept")
        self.specs = specs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Refuse: only a model of ours can call these losses."""
        raise ValueError(
            "This model was saved with losses of the whole output, and was "
            f"loaded as a stock model. Received: {self.specs!r}. Call "
            "keras_jax_ext.extend(model): it is compiled again as it was."
        )

    def get_config(self) -> dict[str, Any]:
        """The specs, serialized."""
        return {"specs": keras.saving.serialize_keras_object(self.specs)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Kept":
        """Deserialize the specs."""
        return cls(entries.read("kept losses", config, "specs", _are_specs))


def _are_specs(value):
    return isinstance(value, dict) and value.keys() <= SPECS


def from_file(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `compile` that a file holds.

    Args:
        config: Dict, from `get_compile_config()`.
    """
    whole = {"compile_config": config}
    given = entries.read("a model", whole, "compile_config", _is_whole_config)
    entries.check("a `compile_config`", given, _KINDS)
    if isinstance(given.get("loss"), Kept):
        given.update(given["loss"].specs)
    return given


def _is_whole_config(value):
    return isinstance(value, dict) and value.keys() >= _WRITTEN


def _is_spec(value):
    """Whether a value may be losses or metrics, alone or in a structure.

    A dict of what is left of a serialized object would be losses by output.
    """
    if isinstance(value, dict):
        return "registered_name" not in value and all(
            map(_is_spec, value.values())
        )
    if isinstance(value, list | tuple):
        return all(map(_is_spec, value))
    return value is None or isinstance(value, str) or callable(value)


_KINDS = {
    **dict.fromkeys(SPECS, _is_spec),
    "run_eagerly": entries.is_flag,
    "auto_scale_loss": entries.is_flag,
    "jit_compile": lambda value: value == "auto" or entries.is_flag(value),
}


def _is_whole(spec):
    """Whether `spec` is a function that only we can call."""
    return (
        callable(spec)
        and not isinstance(spec, (type, keras.losses.Loss, keras.Metric))
        and not takes_labels_and_outputs(spec)
    )


def _leaves(spec, path=()):
    """Every entry of nested dicts and lists, with the keys of the dicts."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(spec, (list, tuple)):
        for value in spec:
            yield from _leaves(value, path)
    elif spec is not None:
        yield path, spec


def _has_ours(spec):
    return any(
        isinstance(leaf, (Loss, Metric)) or _is_whole(leaf)
        for _, leaf in _leaves(spec)
    )


def split_losses(
    spec: Any, loss_weights: Any
) -> tuple[Any, list[tuple[str, Loss, Binding]]]:
    """Separate the losses of Keras from ours.

    Args:
        spec: `loss`, as in `compile`.
        loss_weights: As in `compile`.

    Returns:
        The stock spec or `None`, and a list of `(log name, loss, binding)`.
    """
    if not _has_ours(spec):
        return spec, []
    top = list(spec) if isinstance(spec, (list, tuple)) else [spec]
    stock = [s for s in top if s is not None and not _has_ours(s)]
    ours, taken = [], set[str]()
    for part in top:
        for path, leaf in _leaves(part) if _has_ours(part) else ():
            if not isinstance(leaf, Loss):
                if not _is_whole(leaf):
                    stock.append(leaf)
                    continue
                leaf = Loss(leaf)
            name = leaf.name.removesuffix("_loss") + "_loss"
            name = take_name("/".join([*path, name]), taken)
            ours.append((name, leaf, leaf.binding()))
    inside = any(_has_ours(s) and not isinstance(s, Loss) for s in top)
    if len(stock) > 1 or (stock and inside and not _is_flat(top)):
        raise ValueError(
            "A loss holds ours and at most one spec of Keras, beside them in "
            f"a list. Received: loss={spec!r}. Put a Keras loss on one output "
            "with keras_jax_ext.losses.on(loss, key)."
        )
    if loss_weights is not None and not stock:
        raise ValueError(
            "`loss_weights` belong to the losses of Keras, and there are none. "
            f"Received: loss_weights={loss_weights!r}. Give each loss its "
            "`weight=`."
        )
    return (stock[0] if stock else None), ours


def _is_flat(top):
    return not any(isinstance(s, (dict, list, tuple)) for s in top)


def split_metrics(spec: Any, weighted: bool) -> tuple[Any, list[Metric]]:
    """Separate the metrics of Keras from ours.

    Args:
        spec: `metrics` or `weighted_metrics`, as in `compile`.
        weighted: Boolean, whether sample weights count.

    Returns:
        The stock spec or `None`, and a list of our metrics.
    """
    if not _has_ours(spec):
        return spec, []
    if not isinstance(spec, (list, tuple)):
        raise ValueError(
            "Metrics of ours are given in a list. Received: metrics="
            f"{spec!r} (of type {type(spec).__name__})."
        )
    ours, stock = [], []
    for one in spec:
        if _is_whole(one):
            one = Function(one, weighted=weighted)
        if isinstance(one, Metric):
            if isinstance(one, (Function, On)):
                one.weighted = weighted
            ours.append(one)
        elif _has_ours(one):
            raise ValueError(
                "Metrics of ours stand at the top of the list. Received: "
                f"metrics={spec!r}."
            )
        else:
            stock.append(one)
    return stock or None, ours


def renamed(metrics: list[Metric]) -> list[Metric]:
    """Give repeated metrics the names that Keras gives repeated ones.

    Args:
        metrics: List of metrics, which are renamed.
    """
    taken: set[str] = set()
    for metric in metrics:
        metric.name = take_name(metric.name, taken)
    return metrics
