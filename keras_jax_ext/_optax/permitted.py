"""Which calls a file may describe: those of optax, with data.

A file chooses the arguments of its calls. A function or an object that the
user registered may therefore stand only where optax calls it with values of
its own: the number of an update, or trees of the model. All this is checked in
the JSON, before anything in it is made.
"""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from keras_jax_ext._optax import recording

# Parameters of optax whose functions get such values only. `inner_factory` is
# left out, since it gets the arguments of the file, and so is `decay_rate_fn`,
# which gets `decay_rate` from the file.
_GIVEN_BY_OPTAX = frozenset(
    {
        "adam_learning_rate",
        "alpha",
        "b3",
        "beta",
        "clip_value_fn",
        "every_k_schedule",
        "f",
        "freeze_mask",
        "learning_rate",
        "mask",
        "measure",
        "measures",
        "muon_weight_dimension_numbers",
        "param_labels",
        "scaling",
        "schedules",
        "should_skip_update_fn",
        "should_transform_fn",
        "step_size_fn",
        "trust_ratio_mask",
        "weight_decay",
        "weight_decay_mask",
        "weight_decay_rate",
        "weight_dimension_numbers",
    }
)


def why_not(call: Mapping[str, Any]) -> str | None:
    """Say why a call may not stand in a file.

    Args:
        call: JSON with the keys `"call"`, `"args"` and `"kwargs"`.

    Returns:
        What a file cannot hold, in words, or `None` if the call may stand.
    """
    callee = call["call"]
    if not isinstance(callee, dict):
        return "a call of this"
    if "call" not in callee:
        return _why_not_by_name(call)
    factory = maker(callee["call"])
    if factory not in recording.FACTORIES:
        return "a call of what this returns"
    if why := why_not(callee):
        return why
    making = _bound(factory, callee)
    inner = making["inner_factory"]["optax"]
    return misplaced(inner, _bound(inner, call), _static(making))


def _why_not_by_name(call):
    name = maker(call["call"])
    if name is None:
        return "a call of this"
    given = _bound(name, call)
    if name in recording.FACTORIES:
        inner = maker(given.get("inner_factory"))
        if inner is None or inner in recording.FACTORIES:
            return "a function of another library to call"
    return misplaced(name, given)


def maker(config: Any) -> str | None:
    """Return the name in JSON if calling it makes a part of an optimizer."""
    name = config.get("optax") if isinstance(config, dict) else None
    return name if isinstance(name, str) and recording.makes(name) else None


def misplaced(
    name: str,
    given: Mapping[str, Any],
    static: Collection[str] | None = None,
) -> str | None:
    """Say why arguments of a function of optax may not stand in a file.

    Args:
        name: The public name of the function.
        given: JSON by parameter.
        static: The parameters that `inject_hyperparams` hands on as they are.
            It takes a function in any other for a schedule. Defaults to
            `None`, all of them.

    Returns:
        What a file cannot hold, in words, or `None` if they may stand.
    """
    for parameter, value in given.items():
        is_schedule = (
            static is not None and parameter not in static and _is_own(value)
        )
        if parameter in _GIVEN_BY_OPTAX or is_schedule:
            continue
        if _holds_own(value):
            return f"what is not optax's as `{parameter}` of `{name}`"
    return None


def _is_own(value):
    """Whether JSON stands for something that the user registered."""
    return isinstance(value, dict) and bool({"registered", "object"} & {*value})


def _holds_own(value):
    if isinstance(value, (list, tuple)):
        return any(map(_holds_own, value))
    if not isinstance(value, dict) or "call" in value:
        return False  # `decode` checks the arguments of each call
    return _is_own(value) or any(map(_holds_own, value.values()))


def _bound(name, call):
    """The arguments of a call by parameter. Raises if they do not fit."""
    signature = inspect.signature(recording.public_names()[name])
    args, kwargs = call.get("args", []), call.get("kwargs", {})
    return signature.bind(*args, **kwargs).arguments


def _static(making):
    given = making.get("static_args", [])
    if isinstance(given, dict):
        given = given.get("tuple", [])
    return {given} if isinstance(given, str) else {*map(str, given)}
