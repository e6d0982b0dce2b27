"""Short texts between the processes of a run, past their devices.

JAX's coordination service keeps them, which joins the processes anyway. A
collective of the devices would wait for the programs that run on them.
"""

from typing import Any

import jax


def _client() -> Any:
    # Private; replaced by: a public store of keys and values.
    from jax._src import distributed

    return distributed.global_state.client


def can_talk() -> bool:
    """Whether JAX's coordination service joins the processes."""
    return _client() is not None


def post(key: str, text: str) -> None:
    """Let every process read a text.

    Args:
        key: String, its name.
        text: String.
    """
    _client().key_value_set(key, text, allow_overwrite=True)


def wait_for(key: str, seconds: float) -> str | None:
    """Read a text as soon as a process has posted it.

    Args:
        key: String, its name.
        seconds: Float, how long to wait.

    Returns:
        The text; `None` if there was none in time.
    """
    try:
        return _client().blocking_key_value_get(key, int(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


def forget(folder: str) -> None:
    """Delete the texts whose keys begin with a folder's name.

    Args:
        folder: String, which ends with a slash.
    """
    _client().key_value_delete(folder)
