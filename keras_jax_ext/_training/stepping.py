"""Keras's functions of one step, guarded, and made fast on a CPU."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from keras_jax_ext._loop import device
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import PREDICT, Mode
from keras_jax_ext._loop.program import jitted
from keras_jax_ext._training.guard import guarded
from keras_jax_ext._xla import cpu
from keras_jax_ext._xla.faults import disables_jit

import keras


def make(
    model: Any, mode: Mode, make_function: Callable[..., None], force: bool
) -> None:
    """Make a guarded step function, and forget the program of the old one.

    Args:
        model: A compiled model.
        mode: `Mode`.
        make_function: Keras's `make_train_function` and the like, of `model`.
        force: Boolean, whether to make it anew.
    """
    name = f"{mode.name}_function"
    if getattr(model, name) is not None and not force:
        return
    with _rewritten(model, mode):
        make_function(force=force)
    made = getattr(model, name)
    setattr(model, name, guarded(model, made, mode))
    memo(model).forget(mode, inspect.unwrap(made))


@contextlib.contextmanager
def _rewritten(model: Any, mode: Mode) -> Iterator[None]:
    """Within the block, Keras finds the step as a CPU is fast at it.

    `fit` rewrites its own; this is for `train_on_batch`, and for `fit` where
    it runs Keras's loop. The step of `predict` has no gradients, and Keras
    looks it up later.
    """
    name = f"{mode.name}_step"
    compiles = model.jit_compile and not model.run_eagerly
    if (
        mode is PREDICT
        or name in vars(model)
        or not (compiles and device.is_cpu())
        or keras.config.is_nnx_enabled()
    ):
        yield
        return
    vars(model)[name] = _for_cpu(getattr(model, name))
    try:
        yield
    finally:
        del vars(model)[name]


def _for_cpu(plain: Callable[..., Any]) -> Callable[..., Any]:
    # Without `jitted` it would be traced twice.
    fast = cpu.rewritten(jitted(plain))

    def step(state, data):
        return (plain if disables_jit() else fast)(state, data)

    return step
