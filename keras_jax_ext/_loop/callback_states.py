"""What callbacks know between two epochs, read and set again."""

from typing import Any

from keras_jax_ext._loop.encoding import decoded, encoded, is_plain

import keras

# Attributes of every callback that belong to the running `fit`.
_OF_THE_RUN = {"params", "validation_data"}


def read_states(callbacks: Any) -> tuple[list[Any], dict[str, Any]]:
    """The states of callbacks.

    A callback offers its own by `get_state()`. Of Keras's classes, and those
    derived from them, every attribute is read that holds numbers, strings,
    arrays, or lists and dicts of these.

    Args:
        callbacks: `CallbackList`.

    Returns:
        Tuple of a list, as JSON holds it, and the arrays by name.
    """
    arrays: dict[str, Any] = {}
    states = [
        encoded(_state(callback), f"callbacks/{i}", arrays)
        for i, callback in enumerate(callbacks.callbacks)
    ]
    return states, arrays


def set_states(
    callbacks: Any, states: list[Any], arrays: dict[str, Any]
) -> None:
    """Give callbacks their states.

    Args:
        callbacks: `CallbackList`.
        states: List, from `read_states`.
        arrays: Arrays by name.
    """
    for callback, state in zip(callbacks.callbacks, states, strict=True):
        if state is None:
            continue
        state = decoded(state, arrays)
        if hasattr(callback, "set_state"):
            callback.set_state(state)
        else:
            vars(callback).update(state)


def append_to_files(callbacks: Any) -> None:
    """Have callbacks go on with the files that they wrote.

    Args:
        callbacks: `CallbackList`, before training begins.
    """
    for callback in callbacks.callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = True


def check_states(callbacks: Any, states: list[Any]) -> None:
    """Raise if states are those of other callbacks.

    Args:
        callbacks: `CallbackList`.
        states: List, from `read_states`.

    Raises:
        ValueError: If there are more or fewer.
    """
    if len(states) != len(callbacks.callbacks):
        names = [type(each).__name__ for each in callbacks.callbacks]
        raise ValueError(
            "Training goes on with the callbacks that it was interrupted "
            f"with. Received: {names}, and a backup of {len(states)}. Give the "
            "same ones, or another `backup_dir`."
        )


def _state(callback):
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
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in _OF_THE_RUN and is_plain(value)
    }
