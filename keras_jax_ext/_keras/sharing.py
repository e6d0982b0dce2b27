"""Optimizers of several models, or of variables that come later, as in Keras 2.

Replaced by: an optimizer that takes further variables once it is built.
"""

from collections.abc import Iterable
from typing import Any

import keras


def knows(optimizer: Any, variable: Any) -> bool:
    """Whether an optimizer was built for a variable."""
    return id(variable) in optimizer._trainable_variables_indices


def sibling(optimizer: Any) -> Any:
    """An optimizer of the same kind, and of the same rate and count of steps.

    They are the same variables: what one of them counts, the other one has
    counted.
    """
    rate = vars(optimizer)["_learning_rate"]
    # A schedule, or a function, need not be one that can be saved.
    vars(optimizer)["_learning_rate"] = None
    try:
        config = optimizer.get_config()
    finally:
        vars(optimizer)["_learning_rate"] = rate
    found = type(optimizer).from_config(config)
    share_scalars(found, optimizer)
    return found


def share_scalars(optimizer: Any, other: Any) -> None:
    """Let an optimizer have the scalars of another one as its own."""
    for name, value in list(vars(optimizer).items()):
        now = vars(other).get(name, value)
        is_variable = isinstance(value, keras.Variable)
        if now is value or not (is_variable or name == "_learning_rate"):
            continue
        if is_variable:
            optimizer._untrack_variable(value)
        setattr(optimizer, name, now)


def copy_slots(optimizer: Any, others: Iterable[Any]) -> None:
    """Take over what optimizers of its kind hold for its variables."""
    for variable in optimizer._trainable_variables:
        for other in others:
            if knows(other, variable):
                _copy(optimizer, other, variable)
                break


def _copy(optimizer, other, variable):
    here = optimizer._get_variable_index(variable)
    there = other._get_variable_index(variable)
    theirs = _slots(other)
    for name, slots in _slots(optimizer).items():
        if slots[here] is not None:
            slots[here].assign(theirs[name][there])


def _slots(optimizer):
    """The lists of an optimizer that have an entry for each variable."""
    count = len(optimizer._trainable_variables)
    return {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, list)
        and name not in ("_variables", "_trainable_variables")
        and len(value) == count > 0
    }


def take_on(optimizer: Any, variables: list[Any]) -> None:
    """Let an optimizer that is built have further variables."""
    part = sibling(optimizer)
    part.build(variables)
    for name, slots in _slots(part).items():
        for slot in slots:
            if slot is not None:
                optimizer._track_variable(slot)
        vars(optimizer)[name].extend(slots)
    known = optimizer._trainable_variables
    for place, variable in enumerate(variables, len(known)):
        optimizer._trainable_variables_indices[id(variable)] = place
    known.extend(variables)  # in place: they are none of its own
