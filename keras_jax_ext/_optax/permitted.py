"""Which calls a file may describe: those of optax, with data.

A file chooses the arguments of its calls. What is not optax's own, a function
or an object that the user registered, may therefore stand only where optax
gives it values of its own: the number of an update, or trees of the model.
All this is read in the JSON, before anything in it is made.
"""

import inspect

from keras_jax_ext._optax import recording

# Parameters of optax whose functions get nothing else. Not among them:
# `inner_factory`, which gets what follows it, and `decay_rate_fn`, which gets
# `decay_rate` as it is in the file.
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


def why_not(call: dict):
    """Why a call may not stand in a file, in words, or `None` if it may.

    Args:
        call: JSON with the keys `"call"`, `"args"` and `"kwargs"`.
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


def maker(config):
    """The name in JSON of what makes a part of an optimizer, or `None`."""
    name = config.get("optax") if isinstance(config, dict) else None
    return name if isinstance(name, str) and recording.makes(name) else None


def misplaced(name: str, given: dict, static=None):
    """Why arguments of a function of optax may not stand in a file.

    Args:
        name: The public name of the function.
        given: Dict of JSON, by parameter.
        static: Set of the parameters that `inject_hyperparams` hands on as
            they are; a function as any other is a schedule to it. Defaults
            to `None`, all of them.
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
    """Whether JSON is of something that the user registered."""
    return isinstance(value, dict) and bool({"registered", "object"} & {*value})


def _holds_own(value):
    if isinstance(value, (list, tuple)):
        return any(map(_holds_own, value))
    if not isinstance(value, dict) or "call" in value:
        return False  # a call has places of its own
    return _is_own(value) or any(map(_holds_own, value.values()))


def _bound(name, call):
    """The arguments of a call by parameter; raises if they do not fit."""
    signature = inspect.signature(recording.public_names()[name])
    args, kwargs = call.get("args", []), call.get("kwargs", {})
    return signature.bind(*args, **kwargs).arguments


def _static(making):
    given = making.get("static_args", [])
    if isinstance(given, dict):
        given = given.get("tuple", [])
    return {given} if isinstance(given, str) else {*map(str, given)}
