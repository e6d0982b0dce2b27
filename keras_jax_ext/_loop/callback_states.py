"""What callbacks know between two epochs, read and set again."""

from collections.abc import Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.encoding import decoded, encoded, is_plain

import keras

# Attributes that belong to the running `fit`, or to a file as it is.
_OF_THE_RUN = {"params", "validation_data", "append_header"}
# Whether a callback knows in which direction a log is better.
_MONITORS = "knows direction"


def read_states(
    callbacks: Sequence[Any],
) -> tuple[list[Any], dict[str, Any]]:
    """The states of callbacks.

    A callback offers its own by `get_state()`. Of Keras's classes, and those
    derived from them, every attribute is read that holds numbers, strings,
    arrays, or lists and dicts of these.

    Args:
        callbacks: List of callbacks.

    Returns:
        Tuple of a list, as JSON holds it, and the arrays by name.
    """
    arrays: dict[str, Any] = {}
    states = [
        encoded(state_of(callback), f"callbacks/{i}", arrays)
        for i, callback in enumerate(callbacks)
    ]
    return states, arrays


def set_states(
    callbacks: Sequence[Any], states: list[Any], arrays: dict[str, Any]
) -> None:
    """Give callbacks their states.

    Args:
        callbacks: List of callbacks.
        states: List, from `read_states`.
        arrays: Arrays by name.
    """
    for callback, state in zip(callbacks, states, strict=True):
        set_state_of(callback, decoded(state, arrays))


def append_to_files(callbacks: Sequence[Any]) -> None:
    """Have callbacks go on with the files that they wrote.

    Args:
        callbacks: List of callbacks, before training begins.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = True


def check_states(callbacks: Sequence[Any], states: list[Any]) -> None:
    """Raise if states are those of other callbacks.

    Args:
        callbacks: List of callbacks.
        states: List, from `read_states`.

    Raises:
        ValueError: If there are more or fewer.
    """
    if len(states) != len(callbacks):
        names = [type(each).__name__ for each in callbacks]
        raise ValueError(
            "Training goes on with the callbacks that it was interrupted "
            f"with. Received: {names}, and a backup of {len(states)}. Give the "
            "same ones, or another `backup_dir`."
        )


def state_of(callback: Any) -> Any:
    """The state of a callback; `None` if it offers none.

    Args:
        callback: A callback.
    """
    if hasattr(callback, "get_state"):
        return callback.get_state()
    derived = [
        cls
        for cls in type(callback).__mro__
        if cls.__module__.startswith("keras.")
        and cls is not keras.callbacks.Callback
    ]
    if not derived:
        return None
    plain = {
        name: value
        for name, value in vars(callback).items()
        if name not in _OF_THE_RUN and is_plain(value)
    }
    return plain | {_MONITORS: _keras.knows_direction(callback)}


def set_state_of(callback: Any, state: Any) -> None:
    """Give a callback its state.

    Args:
        callback: A callback, which has its model.
        state: What `state_of` returned.
    """
    if state is None:
        return
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    state = {**state}
    if state.pop(_MONITORS):
        # It turns the sign of an attribute, once.
        _keras.know_direction(callback)
    vars(callback).update(state)
