"""The only module that touches Keras's private names.

Each private name has a line on why it is needed and what would replace it, so
that a new Keras release is adapted here and nowhere else.
"""

import collections
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

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import keras  # noqa: E402 (the backend is chosen above)

if _unwanted_config:
    # Keras writes its default, "tensorflow", whatever KERAS_BACKEND says; the
    # next plain `import keras` of this user would then ask for TensorFlow.
    with contextlib.suppress(OSError):
        os.remove(_unwanted_config)

_check_keras(keras)

# ruff: isort: off
# Per-thread registers: name scopes, call context, numbers of automatic names,
# variables that wait for their first value. Replaced by: nothing public.
from keras.src.backend.common.global_state import (  # noqa: E402
    get_global_attribute,
    set_global_attribute,
)

# Whether variables are made for real or only traced; the scope classes are
# public, these questions are not.
from keras.src.backend.common.stateless_scope import (  # noqa: E402
    in_stateless_scope,
)
from keras.src.backend.common.symbolic_scope import (  # noqa: E402
    in_symbolic_scope,
)

# A mask travels as an attribute of its tensor. Replaced by: nothing public.
from keras.src.backend.common.masking import (  # noqa: E402
    get_keras_mask as get_keras_mask,
    set_keras_mask as set_keras_mask,
)

# What `keras.Model(inputs, outputs)` really makes, and what a subclass of ours
# must be registered as to be found in a file.
from keras.src.models.functional import (  # noqa: E402
    Functional as Functional,
)
from keras.src.models.model import (  # noqa: E402
    functional_init_arguments as functional_init_arguments,
)
from keras.src.saving import object_registration  # noqa: E402

# Marks a method as "not written by the user", which Keras asks of `build`.
from keras.src.utils.python_utils import default as default  # noqa: E402

# Keras's own spelling of a class as a name (`conv2d`, not `conv2_d`).
from keras.src.utils.naming import (  # noqa: E402
    to_snake_case as to_snake_case,
)
# ruff: isort: on


def check_fresh(what):
    """Raise if Keras was reloaded since this module was imported."""
    if sys.modules.get("keras", keras) is not keras:
        raise RuntimeError(
            f"{what} was made before Keras was reloaded by "
            "`keras.config.set_backend`, and can no longer be used. "
            "Import keras and keras_jax_ext again, and make it anew."
        )


def in_trace():
    """Whether JAX traces here, so that new values are only symbols."""
    return isinstance(jnp.add(0, 0), jax.core.Tracer)


def in_compiled_step():
    """Whether a trace takes the values of variables from outside."""
    return in_stateless_scope() and not in_symbolic_scope() and in_trace()


def is_eager():
    """Whether variables made here get their values at once."""
    return not in_stateless_scope() and not in_trace()


def running_layer():
    """The layer whose name scope is the innermost: it builds or is called."""
    scopes = get_global_attribute("name_scope_stack")
    return scopes[-1].caller if scopes else None


def uninitialized_variables():
    """Variables made under a stateless scope, still without a value."""
    return list(get_global_attribute("uninitialized_variables") or ())


@contextlib.contextmanager
def _swapped(name, value):
    """Replace one of Keras's per-thread registers for a while."""
    before = get_global_attribute(name)
    set_global_attribute(name, value)
    try:
        yield
    finally:
        set_global_attribute(name, before)


def fresh_names():
    """Count automatic names from zero, so that they repeat exactly."""
    return _swapped("object_name_uids", collections.defaultdict(int))


def no_call_context():
    """Hide the enclosing layer call, whose `training` a trace would change."""
    return _swapped("current_call_ctx", None)


def sublayers(layer, recursive=True):
    """The layers that `layer` tracks, itself left out."""
    return layer._flatten_layers(include_self=False, recursive=recursive)


def has_value(variable):
    """Whether a variable made under a stateless scope has its value yet."""
    return variable._value is not None


def stored_dtype(variable):
    """The dtype a variable is kept in, also under mixed precision."""
    return variable._dtype


def own_variables(layer):
    """The variables that `layer` itself holds, not its sublayers."""
    return layer._trainable_variables + layer._non_trainable_variables


def unlock(layer):
    """Let a built layer track more state; Keras locks it in `build`."""
    layer._tracker.unlock()


def track(layer, sublayer):
    """Let `layer` track `sublayer` without an attribute of its own."""
    layer._tracker.track(sublayer)


def lock(layer):
    """Close what `unlock` opened, with Keras's own message."""
    layer._lock_state()


def snapshot(layer):
    """Remember attributes and tracked state; returns the way back."""
    attributes = dict(vars(layer))
    tracker = layer._tracker
    locked = tracker.locked
    tracked = {name: list(store) for name, (_, store) in tracker.config.items()}

    def restore():
        vars(layer).clear()
        vars(layer).update(attributes)
        tracker.locked = locked
        for name, (_, store) in tracker.config.items():
            store[:] = tracked[name]
            tracker.stored_ids[name] = {id(item) for item in store}

    return restore


class PathName(keras.Layer):
    """Mixin: a model's variable paths begin with `_path_name()`, not its name.

    Keras numbers automatic names over the whole process, so the second model
    of a class would have other paths than the first.
    """

    def _path_name(self):
        raise NotImplementedError

    def _open_name_scope(self):
        scope = super()._open_name_scope()
        scope.name = self._path_name()
        return scope

    def add_weight(self, *args, **kwargs):
        """As `keras.Layer.add_weight`, which opens a scope of `self.name`."""
        variable = super().add_weight(*args, **kwargs)
        parent = f"{self._parent_path}/" if self._parent_path else ""
        variable._path = f"{parent}{self._path_name()}/{variable.name}"
        return variable


def register_like(cls, original):
    """Save instances of `cls` under the name of `original`."""
    names = object_registration.GLOBAL_CUSTOM_NAMES
    if original in names:
        names[cls] = names[original]


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


# ruff: isort: off
# What a Keras loss does after its `call`: mask, weights, reduction.
from keras.src.losses.loss import (  # noqa: E402
    reduce_weighted_values as reduce_weighted_values,
)

# "accuracy" and "crossentropy" mean a class that depends on the shapes.
from keras.src.trainers.compile_utils import (  # noqa: E402
    get_loss as get_loss,
    get_metric as get_metric,
)

# Compiled losses and metrics are no layers, and must not be tracked.
from keras.src.utils.tracking import (  # noqa: E402
    no_automatic_dependency_tracking as untracked,  # noqa: F401
)
# ruff: isort: on


def check_one_output(loss):
    """Refuse a loss that stock Keras calls once for each output."""
    scopes = get_global_attribute("name_scope_stack")
    scope = scopes[-1] if scopes else None
    if scope is None or scope.name != "compile_loss":
        return
    if vars(loss).get("_scope") is scope:
        raise ValueError(
            f"A stock keras.Model calls a loss once for each output, and "
            f"{loss.name!r} was written for the whole output. Received: one "
            "loss and several outputs. Use keras_jax_ext.Model, or "
            "keras_jax_ext.extend(model) and compile again."
        )
    loss._scope = scope


def clear_compiled(model):
    """Empty the slots of `compile`; returns the way back.

    Stock Keras keeps the old loss when compiled again with `loss=None`.
    """
    names = ("_compile_loss", "_compile_metrics", "loss")
    before = {name: vars(model).get(name) for name in names}
    vars(model).update(dict.fromkeys(names))
    return lambda: vars(model).update(before)


def compiled_loss(model):
    """The object behind `compile(loss=)`, or `None`."""
    return model._compile_loss


def set_compiled_loss(model, compiled):
    """Put another object behind `compile(loss=)`."""
    vars(model)["_compile_loss"] = compiled


def stock_loss_name(compiled):
    """The name of the first loss of a built `CompileLoss`."""
    return compiled._flat_losses[0].loss.name


def restore_state(model, state, *, optimizer):
    """Give a model's variables the values that a failed step was given.

    Args:
        model: The model whose step failed.
        state: What the step received: lists of arrays, in Keras's order.
        optimizer: Boolean, whether the optimizer's values are among them.
    """
    groups = [model.trainable_variables, model.non_trainable_variables]
    if optimizer:
        groups.append(model.optimizer.variables)
    groups.append(model.metrics_variables)
    for variables, values in zip(groups, state, strict=False):
        for variable, value in zip(variables, values, strict=False):
            if not getattr(value, "is_deleted", lambda: False)():
                variable._value = value
    model._jax_state = None
    model._jax_state_synced = True
