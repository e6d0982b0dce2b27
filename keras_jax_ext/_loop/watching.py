"""What the callbacks of a run may do: act on batches, read, change data."""

import ast
import dis
import functools
import inspect
import textwrap
from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._loop.modes import PREDICT, TEST, TRAIN, Mode
from keras_jax_ext._loop.trackers import reads_only_logs

import keras

CallbackList = keras.callbacks.CallbackList
# Callbacks that never read the model's variables.
READS_NO_WEIGHTS = keras.callbacks.History, keras.callbacks.ProgbarLogger
# With `save_freq="epoch"` their batch hooks do nothing.
SAVERS = keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore
# The operations of a function that does nothing.
IDLE = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}


def _hooks(mode):
    names = [f"on_{mode}_batch_begin", f"on_{mode}_batch_end"]
    return names + ["on_batch_begin", "on_batch_end"] * (mode == "train")


def overrides(callback: Any, mode: Mode, of: str = "") -> bool:
    """Whether a callback has batch hooks of its own.

    Args:
        callback: A Keras callback.
        mode: `Mode`.
        of: String, `"begin"` or `"end"`. Defaults to both.
    """
    return any(
        not _keras.is_default(getattr(callback, name))
        for name in _hooks(mode.name)
        if name.endswith(of)
    )


def acts_on_epochs(callback: Any) -> bool:
    """Whether a callback saves by epoch, with batch hooks that do nothing.

    Args:
        callback: A Keras callback.
    """
    return _saves_epochs(callback) and all(
        _is_idle(getattr(callback, name), callback)
        for mode in ("train", "test", "predict")
        for name in _hooks(mode)
    )


def _saves_epochs(callback):
    return isinstance(callback, SAVERS) and callback.save_freq == "epoch"


def _is_idle(hook, callback):
    """Whether a batch hook of a callback does nothing."""
    if _keras.is_default(hook):
        return True
    function = inspect.unwrap(getattr(hook, "__func__", hook))
    name = getattr(function, "__name__", None)
    if _saves_epochs(callback) and any(
        function is vars(saver).get(name) for saver in SAVERS
    ):
        return True
    code = getattr(function, "__code__", None)
    return _does_nothing(code) or _passes_on_to_nothing(code, callback)


def _passes_on_to_nothing(code, callback):
    """Whether a hook only calls an empty method of another object.

    KerasTuner's hooks call those of the tuner, which users may override.
    """
    path = _only_call(code)
    if path is None:
        return False
    name, method = path
    owner = vars(callback).get(name)  # no property runs
    found = vars(owner).get(method) if hasattr(owner, "__dict__") else None
    function = found or getattr(type(owner), method, None)
    return _does_nothing(getattr(function, "__code__", None))


@functools.lru_cache(maxsize=256)
def _only_call(code):
    """`("tuner", "on_batch_end")` for a body `self.tuner.on_batch_end(...)`."""
    try:
        source = textwrap.dedent(inspect.getsource(code))
        (definition,) = ast.parse(source).body
    except (OSError, SyntaxError, TypeError, ValueError):
        return None
    match definition:
        case ast.FunctionDef(
            body=[
                *documentation,
                ast.Expr(
                    ast.Call(
                        func=ast.Attribute(
                            ast.Attribute(ast.Name(owner), name), method
                        ),
                        args=arguments,
                        keywords=keywords,
                    )
                ),
            ]
        ):
            given = [*arguments, *(each.value for each in keywords)]
            plain = all(map(_is_plain, given))
            quiet = all(map(_is_text, documentation))
            if plain and quiet and owner == definition.args.args[0].arg:
                return name, method
    return None


def _is_plain(node):
    """Whether the text of an expression calls nothing."""
    plain = ast.Name, ast.Attribute, ast.Constant, ast.expr_context
    return all(isinstance(each, plain) for each in ast.walk(node))


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@functools.lru_cache(maxsize=256)
def _does_nothing(code):
    return code is not None and IDLE.issuperset(
        each.opname for each in dis.get_instructions(code)
    )


def watches_batches(callback: Any, mode: Mode) -> bool:
    """Whether a callback must be called after each step.

    Args:
        callback: A Keras callback.
        mode: `Mode`.
    """
    if getattr(callback, "async_safe", False):
        return False
    if isinstance(callback, keras.callbacks.ProgbarLogger):
        return False
    return bool(_busy_hooks(callback, mode))


def _busy_hooks(callback, mode):
    """The names of the batch hooks of a callback that do something."""
    return [
        name
        for name in _hooks(mode.name)
        if not _is_idle(getattr(callback, name), callback)
    ]


def logs_batches(callback: Any, mode: Mode) -> bool:
    """Whether all that a callback does with a step is to read its logs.

    Args:
        callback: A Keras callback, which watches batches.
        mode: `Mode`.
    """
    hooks = _busy_hooks(callback, mode)
    return mode is not PREDICT and all(
        reads_only_logs(callback, name) for name in hooks
    )


def keeps_steps(callback: Any) -> bool:
    """Whether a callback leaves alone what the steps of a `fit` do.

    It is about the time between the first step and the first one of validation.

    Args:
        callback: A Keras callback.
    """
    if is_known(callback):
        return True
    hooks = [*_busy_hooks(callback, TRAIN), *_busy_hooks(callback, TEST)]
    if not _is_idle(callback.on_test_begin, callback):
        hooks.append("on_test_begin")
    return all(reads_only_logs(callback, name) for name in hooks)


def only_logs(callback: Any) -> bool:
    """Whether all that a callback does between two steps is to read logs.

    What it does at the beginning and the end of training is not asked.

    Args:
        callback: A Keras callback.
    """
    others = ("on_epoch_begin", "on_epoch_end", "on_test_begin", "on_test_end")
    if not all(_is_idle(getattr(callback, name), callback) for name in others):
        return False
    hooks = [*_busy_hooks(callback, TRAIN), *_busy_hooks(callback, TEST)]
    return bool(hooks) and all(reads_only_logs(callback, h) for h in hooks)


def is_known(callback: Any) -> bool:
    """Whether a callback is Keras's or ours, which change no data.

    Args:
        callback: A Keras callback.
    """
    module = type(callback).__module__
    own = any(name.startswith("on_") for name in vars(callback))
    return module.startswith(("keras.", "keras_jax_ext.")) and not own


def _reads_no_weights(callback):
    own = vars(type(callback)).get("reads_no_weights", False)
    return own or type(callback) in READS_NO_WEIGHTS


class Watch(NamedTuple):
    """What the callbacks of a run may do.

    Attributes:
        weights_unread: Boolean, whether none reads the model.
        no_batch_hooks: Boolean, whether none has batch hooks.
        no_begin_hooks: Boolean, whether none has one for a batch's begin.
        watchers: Names of callbacks that must be called after each step,
            before the next runs.
        logs_each: Boolean, whether one reads the logs of each step, and can
            be called when later ones have run.
        defers: Boolean, whether all that have batch hooks do so, and only at
            the end of a batch.
        meddles: Boolean, whether one may change the data between epochs.
        intrudes: Boolean, whether one may change them between batches.
        saves: Boolean, whether one of Keras's writes files of the model.
    """

    weights_unread: bool
    no_batch_hooks: bool
    no_begin_hooks: bool
    watchers: tuple[str, ...]
    logs_each: bool
    defers: bool
    meddles: bool
    intrudes: bool
    saves: bool

    @property
    def acts(self) -> bool:
        """Whether a batch hook may stop the run, or fail."""
        foreign = self.meddles and not self.no_batch_hooks
        return bool(self.watchers) or self.logs_each or foreign

    @classmethod
    def of(cls, callbacks: Any, mode: Mode, alone: bool) -> "Watch":
        """Ask a `CallbackList`; a list of another class may do anything.

        Args:
            callbacks: The list.
            mode: `Mode`.
            alone: Boolean, whether no other process shares the model. Others
                run the same program, and need not have such a callback.
        """
        if type(callbacks) is not CallbackList:
            name = type(callbacks).__name__
            no, yes = False, True
            return cls(no, no, no, (name,), no, no, yes, yes, yes)
        every = callbacks.callbacks
        watching = [c for c in every if watches_batches(c, mode)]
        watchers = [
            c for c in watching if not (alone and logs_batches(c, mode))
        ]
        no_begin_hooks = not any(overrides(c, mode, "begin") for c in every)
        others = [c for c in every if c not in watching or c in watchers]
        logs_each = len(watchers) < len(watching)
        return cls(
            logs_each=logs_each,
            defers=logs_each
            and no_begin_hooks
            and not any(_busy_hooks(c, mode) for c in others),
            weights_unread=all(
                _reads_no_weights(c) or only_logs(c) for c in every
            ),
            no_batch_hooks=not any(overrides(c, mode) for c in every),
            no_begin_hooks=no_begin_hooks,
            watchers=tuple(type(c).__name__ for c in watchers),
            meddles=not all(is_known(c) or only_logs(c) for c in every),
            intrudes=not all(map(is_known, watchers)),
            saves=any(isinstance(c, SAVERS) for c in every),
        )
