"""Select the JAX backend, and refuse a Keras that cannot be extended."""

import contextlib
import os
import re
import sys

_OLDEST_KERAS = (3, 15, 1)
_BACKEND_FIXES = (
    "Either set KERAS_BACKEND=jax (or import keras_jax_ext first) in a new "
    'process, or call keras.config.set_backend("jax") before importing '
    "keras_jax_ext."
)


def _select_jax():
    """Make the first `import keras` of this process choose JAX.

    Returns:
        The path of a `keras.json` that is not there yet, or `None` if it is.
    """
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen and chosen != "jax":
        raise ImportError(
            "keras_jax_ext extends the JAX backend of Keras, and another one "
            f"is chosen. Received: KERAS_BACKEND={chosen!r}. {_BACKEND_FIXES}"
        )
    os.environ["KERAS_BACKEND"] = "jax"
    # A failed `import keras` (TensorFlow not installed) leaves submodules that
    # remember the backend; Keras must read the choice again.
    for name in [n for n in sys.modules if n.startswith("keras.")]:
        del sys.modules[name]
    home = os.environ.get("KERAS_HOME")
    if home is None:
        user = os.path.expanduser("~")
        home = os.path.join(
            user if os.access(user, os.W_OK) else "/tmp", ".keras"
        )
    config = os.path.expanduser(os.path.join(home, "keras.json"))
    return None if os.path.exists(config) else config


def _check_keras(module):
    """Refuse a Keras that is too old or that runs on another backend."""
    version = tuple(int(n) for n in re.findall(r"\d+", module.__version__)[:3])
    if version < _OLDEST_KERAS:
        raise ImportError(
            "keras_jax_ext needs Keras 3.15.1 or newer. Received: "
            f"keras.__version__={module.__version__!r}. "
            "Run: pip install -U keras"
        )
    if module.config.backend() != "jax":
        raise ImportError(
            "keras_jax_ext extends the JAX backend of Keras, and keras is "
            "imported with another one. Received: keras.config.backend()="
            f"{module.config.backend()!r}. {_BACKEND_FIXES}"
        )


_unwanted_config = _select_jax() if "keras" not in sys.modules else None

import keras  # noqa: E402 (the backend is chosen above)

if _unwanted_config:
    # Keras writes its default, "tensorflow", whatever KERAS_BACKEND says; the
    # next plain `import keras` of this user would then ask for TensorFlow.
    with contextlib.suppress(OSError):
        os.remove(_unwanted_config)

_check_keras(keras)


def check_fresh(what: str) -> None:
    """Raise if Keras was reloaded since this module was imported."""
    if sys.modules.get("keras", keras) is not keras:
        raise RuntimeError(
            f"{what} was made before Keras was reloaded by "
            "`keras.config.set_backend`, and can no longer be used. "
            "Import keras and keras_jax_ext again, and make it anew."
        )
