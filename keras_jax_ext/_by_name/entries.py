"""Entries of a config from a file, which may be damaged."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

# What Python and Keras raise where a config is another than they expect.
UNEXPECTED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
)


@contextlib.contextmanager
def telling_damage(what: str, received: Any) -> Iterator[None]:
    """Raise a `ValueError` that names the config which the block reads.

    A `TypeError` that says what was received is clear, and is raised as it is.

    Args:
        what: What is read, in words, with its article.
        received: The config.

    Raises:
        ValueError: For any of `UNEXPECTED`.
    """
    try:
        yield
    except UNEXPECTED as error:
        if isinstance(error, TypeError) and "Received" in str(error):
            raise
        raise ValueError(
            f"{what} in a file is damaged ({type(error).__name__}: {error}). "
            f"Received: {received!r}. Use another copy of the file."
        ) from error


def is_flag(value: Any) -> bool:
    """Whether a value is `True` or `False`."""
    return isinstance(value, bool)


def is_text(value: Any) -> bool:
    """Whether a value is a string."""
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """Whether a value may be a number, of NumPy or a tensor too."""
    return value is not None and not isinstance(
        value, bool | str | list | tuple | dict
    )


def is_whole(value: Any) -> bool:
    """Whether a value is an integer of any kind, and no boolean."""
    return is_number(value) and hasattr(value, "__index__")


def or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A predicate that also takes `None`."""
    return lambda value: value is None or fits(value)


def check(
    owner: str, config: Any, kinds: Mapping[str, Callable[[Any], bool]]
) -> None:
    """Raise if an entry of a config is of another type than it was written.

    Keras's constructors take many a wrong type in silence.

    Args:
        owner: Whose config it is, in words.
        config: The config.
        kinds: Predicates by key. A key that is not there is left out.

    Raises:
        ValueError: If so.
    """
    for name, fits in kinds.items():
        if name in config and not fits(config[name]):
            raise _damaged(owner, config, name)


def _damaged(owner, config, name):
    received = config.get(name) if isinstance(config, dict) else config
    return ValueError(
        f"The entry {name!r} of {owner} in a file is damaged. Received: "
        f"{name}={received!r}. Use another copy of the file."
    )


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
    raise _damaged(owner, config, name) from cause
