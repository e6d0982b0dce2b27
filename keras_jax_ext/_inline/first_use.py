"""The first use of a layer: find out what its `call` declares.

`call` is traced abstractly with `training=False` and with `training=True`;
every layer in the trace that declares inline takes part. Then the variables
get their values and the declared layers become attributes. If anything
raises, every layer is left as it was.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._inline import scope, shapes
from keras_jax_ext._inline.arguments import DeclarationError
from keras_jax_ext._inline.declarations import declarations, remember
from keras_jax_ext._inline.orphans import check_kept

import jax
import keras

# One build at a time: two threads may share a layer below different models.
_one_build = threading.RLock()


class _Build:
    """The layers that take part in one build, and how to undo it."""

    def __init__(self) -> None:
        self.owners: list[keras.Layer] = []
        self._undo: list[Callable[[], None]] = []

    def add(self, owner: keras.Layer) -> None:
        """Let `owner` take part, remembering it as it is now."""
        if any(o is owner for o in self.owners):
            return
        self.owners.append(owner)
        self._undo.append(remember(owner))

    def roll_back(self) -> None:
        """Leave every layer as it was when it was added."""
        for undo in reversed(self._undo):
            undo()

    def declared(self) -> tuple[list[keras.Layer], list[keras.Variable]]:
        """All the layers and all the weights that were declared."""
        records = [declarations(owner) for owner in self.owners]
        layers = [c.layer for r in records for c in r.children.values()]
        return layers, [v for r in records for v in r.weights.values()]

    def is_empty(self) -> bool:
        """Whether nothing was declared."""
        return not any(self.declared())

    def kept(self) -> set[int]:
        """The ids of all variables that a layer or a metric keeps."""
        keepers = self.owners + self.declared()[0]
        kept = {id(v) for k in keepers for v in k.variables}
        return kept | {id(v) for k in keepers for v in _metric_variables(k)}

    def finish(self) -> None:
        """Make the children attributes, and lock all the owners."""
        for owner in self.owners:
            _attach(owner)
            declared = declarations(owner)
            declared.complete = True
            _keras.lock(owner)


def _metric_variables(layer):
    return [v for metric in layer.metrics for v in metric.variables]


def _attach(owner):
    """Make attributes of the children that no other layer tracks."""
    children = declarations(owner).children.values()
    layers = [child.layer for child in children]
    tracked = [_keras.sublayers(layer) for layer in layers]
    tracked.append(_keras.sublayers(owner, recursive=False))
    elsewhere = {id(layer) for below in tracked for layer in below}
    # A wrapper such as Bidirectional copies the layer that it is given. The
    # original is never built.
    passed = jax.tree.leaves([(c.args, c.kwargs) for c in children])
    elsewhere |= {id(v) for v in passed if not getattr(v, "built", True)}
    _keras.unlock(owner)
    structures = declarations(owner).structures
    in_structures = {id(v) for v in keras.tree.flatten(structures)}
    for child in children:
        if id(child.layer) in elsewhere:
            continue
        if child.attribute is None and id(child.layer) in in_structures:
            _keras.track(owner, child.layer)
        else:
            setattr(owner, child.attribute or child.layer.name, child.layer)
    for attribute, value in structures.items():
        setattr(owner, attribute, value)


def first_call(
    layer: keras.Layer,
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Find what `call` declares, then return `call(*args, **kwargs)`.

    Args:
        layer: The layer that is called; it declares inline and is not
            complete.
        call: Its stock `__call__`.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
    """
    declared = declarations(layer)
    if declared.signature is None:
        declared.signature = shapes.signature(args, kwargs)
    build = scope.current_build()
    if build is not None:
        build.add(layer)
    elif not _keras.in_compiled_step():
        failed = discover(layer, call, args, kwargs)
        if failed is not None and _keras.is_eager():
            return run(layer, call, args, kwargs)
    return call(*args, **kwargs)


def run(
    layer: keras.Layer,
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    required: bool = True,
) -> Any:
    """Build `layer` from one real call, if it cannot be traced on shapes.

    Args:
        layer: The layer that is called.
        call: Its stock `__call__`.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
        required: Boolean, whether to raise what `call` raises before it
            declares anything.

    Returns:
        The outputs of the call.
    """
    build = _Build()
    build.add(layer)
    with _one_build:
        try:
            with scope.building(build):
                outputs = call(*args, **kwargs)
        except BaseException as error:
            quiet = build.is_empty() and isinstance(error, Exception)
            build.roll_back()
            if quiet and not required:
                return None
            raise
        build.finish()
    return outputs


def discover(
    layer: keras.Layer,
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Exception | None:
    """Trace `call` in both modes; if that works, `layer` is complete.

    Returns:
        `None`, or the exception of a trace that failed. Then the caller must
        run `call` for real, which may fail as it would in Keras.
    """
    requested = bool(kwargs.get("training"))
    declared = declarations(layer)
    with _one_build:
        if declared.complete:
            return None
        error = _try(layer, call, args, kwargs, modes=(False, True))
        if error is None:
            return None
        # The other mode may need arguments that this call lacks (labels...).
        # It stays unbuilt; a layer that only it declares raises when reached.
        declared.untraced = f"{type(error).__name__}: {error}"
        return _try(layer, call, args, kwargs, modes=(requested,))


def _try(layer, call, args, kwargs, modes):
    """Build `layer` from traces in `modes`, or leave it as it was.

    Returns:
        `None`, or the exception that a trace raised.

    Raises:
        DeclarationError: If a rule of inline declaration is broken.
        Exception: What a single trace raised after it declared something, if
            no real call follows.
    """
    build = _Build()
    build.add(layer)
    final = len(modes) == 1 and not _keras.is_eager()
    before = {id(v) for v in _keras.uninitialized_variables()}
    # Values are computed even if all this happens inside `jax.jit`. If it does
    # not, the variables are initialized as Keras would: large ones that several
    # devices share by a program of their own, shard by shard.
    computed = jax.ensure_compile_time_eval
    outer = contextlib.nullcontext() if _keras.is_eager() else computed()
    with outer, keras.StatelessScope(), computed():
        try:
            for training in modes:
                # Random layers cannot be traced for an unknown batch size, so
                # the last trace knows it. The first of two does not, to find
                # layers whose arguments depend on the batch size.
                unknown = None if training is modes[-1] else "symbolic"
                trace = shapes.shape_tracer(
                    call, args, {**kwargs, "training": training}, unknown
                )
                with scope.building(build):
                    trace()
                    check_kept(layer, build.kept() | before, trace)
        except BaseException as error:
            refused = final and not build.is_empty()
            build.roll_back()
            if isinstance(error, DeclarationError) or refused:
                raise
            if not isinstance(error, Exception):
                raise
            return error
        build.finish()
    return None
