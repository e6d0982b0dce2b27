"""Entries of a config from a file, which may be damaged."""

from collections.abc import Callable
from typing import Any

import keras


def read(
    owner: str, config: dict, name: str, fits: Callable[[Any], bool]
) -> Any:
    """Deserialize the entry `name` of a config.

    Args:
        owner: Whose config it is, in words.
        config: The config.
        name: The key.
        fits: Predicate of the values that the owner can use.

    Raises:
        ValueError: If there is no such entry, or it does not fit.
    """
    cause = None
    try:
        value = keras.saving.deserialize_keras_object(config[name])
        if fits(value):
            return value
    except (AttributeError, LookupError) as error:
        cause = error
    received = config.get(name) if isinstance(config, dict) else config
    raise ValueError(
        f"The entry {name!r} of {owner} in a file is damaged. Received: "
        f"{name}={received!r}. Use another copy of the file."
    ) from cause
