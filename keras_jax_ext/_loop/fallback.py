"""When Keras's own loop runs in place of the compiled one, and why."""

import inspect
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.agreement import agreement
from keras_jax_ext._loop.memo import memo, tell
from keras_jax_ext._loop.modes import Mode
from keras_jax_ext._loop.parts import is_shared
from keras_jax_ext._xla.faults import disables_jit
from keras_jax_ext._xla.processes import can_talk

import keras


def fuses(model: Any, mode: Mode, verbose: Any) -> bool:
    """Whether a call runs fused; says once why if not.

    Args:
        model: A compiled model.
        mode: `Mode` of the call.
        verbose: As in `fit`.
    """
    why = _why_not(model, mode)
    agreed = agreement()
    if agreed is not None:
        # All of them run the same loop.
        every = agreed.gather(f"{mode.method}: whether it is compiled", why)
        why = next(filter(None, every), None)
    if why:
        tell(model, f"{mode.name}: one step at a time, since {why}.", verbose)
    return not why


def _why_not(model, mode):
    """The reason why this model cannot run many steps in a program."""
    name = f"{mode.name}_function"
    made = getattr(model, name)
    if model.run_eagerly:
        return "the model is compiled with run_eagerly=True"
    if not model.jit_compile:
        return "the model is compiled with jit_compile=False"
    if disables_jit():
        return "jax.disable_jit() is on"
    if keras.config.is_nnx_enabled():
        return "Keras is in NNX mode"
    if is_shared() and not can_talk():
        return "jax.distributed.initialize() was not called"
    replaced = _keras.replaced(mode.method)
    if replaced:
        return f"{replaced} has replaced keras.Model.{mode.method}"
    make = getattr(type(model), f"make_{name}")
    if not make.__module__.startswith("keras_jax_ext."):
        return f"{type(model).__name__} overrides make_{name}"
    if made is not None and inspect.unwrap(made) is not memo(
        model
    ).functions.get(mode):
        return f"{name} was set by hand"
    return None
