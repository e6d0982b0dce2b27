"""The only module that touches Keras's private names.

Each private name has a line on why it is needed and what would replace it, so
that a new Keras release is adapted here and nowhere else.
"""

import contextlib
import os
import re
import sys

_OLDEST_KERAS = (3, 15)
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
    version = tuple(int(n) for n in re.findall(r"\d+", module.__version__)[:2])
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

from keras.src.backend.common import global_state as global_state  # noqa: E402

# Snake case of a class name, Keras's own spelling (`conv2d`, not `conv2_d`).
# Replaced by: a public naming function.
from keras.src.utils.naming import to_snake_case as to_snake_case  # noqa: E402


def check_fresh(what):
    """Raise if Keras was reloaded since this module was imported."""
    if sys.modules.get("keras", keras) is not keras:
        raise RuntimeError(
            f"{what} was made before Keras was reloaded by "
            "`keras.config.set_backend`, and can no longer be used. "
            "Import keras and keras_jax_ext again, and make it anew."
        )


# --- optimizers ---------------------------------------------------------------


def layout_for(shape, variable=None):
    """Where an optimizer's variable lives, or `None` without a distribution.

    Args:
        shape: Tuple of integers, the shape of the new variable.
        variable: The model's variable that it belongs to, if any. One of the
            same shape gives its layout; anything else is replicated, since the
            rules of a `LayoutMap` are about the model's variables.
    """
    if variable is not None and tuple(variable.shape) == tuple(shape):
        # Private, as in Keras's own `add_variable_from_reference`; replaced
        # by: a public `Variable.layout`.
        layout = getattr(variable, "_layout", None)
        if layout is not None:
            return layout
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    axes = [None] * len(shape)
    return keras.distribution.TensorLayout(axes, distribution.device_mesh)


def update_metrics(model, metrics_variables, loss, x, y, y_pred, sample_weight):
    """Update the metrics of a step, as a pure function.

    Returns:
        `(logs, metrics_variables)`.
    """
    # Private, the last part of Keras's own `train_step`; replaced by: a public
    # stateless `compute_metrics`.
    return model._update_metrics_variables(
        metrics_variables, loss, x, y, y_pred, sample_weight
    )
