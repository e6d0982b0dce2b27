"""The first use of a layer: find out what its `call` declares.

`call` is traced abstractly with `training=False` and with `training=True`;
every layer in the trace that declares inline takes part. Then the variables
get their values and the declared layers become attributes. If anything
raises, all of them are as they were.
"""

import copy
import threading

from keras_jax_ext import _keras
from keras_jax_ext._inline import scope, shapes
from keras_jax_ext._inline.arguments import DeclarationError
from keras_jax_ext._inline.frame import declarations
from keras_jax_ext._inline.orphans import check_kept

import jax
import keras

# One build at a time: two threads may share a layer below different models.
_one_build = threading.RLock()


class _Build:
    """The layers that take part in one build, and the way back."""

    def __init__(self):
        self.owners = []
        self._restores = []

    def add(self, owner):
        """Let `owner` take part, remembering it as it is now."""
        if any(o is owner for o in self.owners):
            return
        declared = declarations(owner)
        before = {k: copy.copy(v) for k, v in vars(declared).items()}
        restore = _keras.snapshot(owner)

        def undo():
            restore()
            vars(declared).update(before)

        self.owners.append(owner)
        self._restores.append(undo)

    def roll_back(self):
        """Leave every layer as it was when it was added."""
        for undo in reversed(self._restores):
            undo()

    def declared(self):
        """All the layers and all the weights that were declared."""
        records = [declarations(owner) for owner in self.owners]
        layers = [c.layer for r in records for c in r.children.values()]
        return layers, [v for r in records for v in r.weights.values()]

    def is_empty(self):
        return not any(self.declared())

    def kept(self):
        """The ids of all variables that somebody keeps."""
        keepers = self.owners + self.declared()[0]
        kept = {id(v) for k in keepers for v in k.variables}
        return kept | {id(v) for k in keepers for v in _metric_variables(k)}

    def finish(self):
        """Make the children attributes, and close all the owners."""
        for owner in self.owners:
            _attach(owner)
            declared = declarations(owner)
            declared.complete = True
            _keras.lock(owner)


def _metric_variables(layer):
    return [v for metric in layer.metrics for v in metric.variables]


def _attach(owner):
    """Track the children that nobody else tracks, as attributes."""
    children = declarations(owner).children.values()
    layers = [child.layer for child in children]
    tracked = [_keras.sublayers(layer) for layer in layers]
    tracked.append(_keras.sublayers(owner, recursive=False))
    elsewhere = {id(layer) for below in tracked for layer in below}
    # A wrapper such as Bidirectional copies the layer that it is given, which
    # then is never built.
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


def first_call(layer, call, args, kwargs):
    """`call(*args, **kwargs)`, after what it declares has been found.

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


def run(layer, call, args, kwargs, required=True):
    """Build `layer` from one real call, for what cannot be traced abstractly.

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


def discover(layer, call, args, kwargs):
    """Trace `call` both ways; if that works, `layer` is complete.

    Returns:
        `None`, or the exception of a trace that failed: `call` is then to be
        run for real, and may fail as it would in Keras.
    """
    requested = bool(kwargs.get("training"))
    declared = declarations(layer)
    with _one_build:
        if declared.complete:
            return None
        error = _try(layer, call, args, kwargs, modes=(False, True))
        if error is None:
            return None
        # The other mode may need what this call does not give (labels...):
        # it stays unbuilt, and says so if it is ever reached.
        declared.untraced = f"{type(error).__name__}: {error}"
        return _try(layer, call, args, kwargs, modes=(requested,))


def _try(layer, call, args, kwargs, modes):
    """Build `layer` from traces in `modes`, or leave it as it was.

    Returns:
        `None`, or the exception that a trace raised.

    Raises:
        DeclarationError: If a rule of inline declaration is broken.
        Exception: What a single trace raised after it declared something, if
            there is no real call to come.
    """
    build = _Build()
    build.add(layer)
    final = len(modes) == 1 and not _keras.is_eager()
    before = {id(v) for v in _keras.uninitialized_variables()}
    # Values are computed even if all this happens inside `jax.jit`.
    with jax.ensure_compile_time_eval(), keras.StatelessScope():
        try:
            for training in modes:
                # Random layers cannot be traced for an unknown batch size;
                # the first of two traces keeps it unknown, to see misuse.
                unknown = None if training is modes[-1] else "symbolic"
                trace = shapes.abstract(
                    call, args, {**kwargs, "training": training}, unknown
                )
                with scope.building(build):
                    trace()
                    check_kept(layer, build.kept() | before, trace)
        except BaseException as error:
            refused = not build.is_empty() and final
            build.roll_back()
            if isinstance(error, DeclarationError) or refused:
                raise
            if not isinstance(error, Exception):
                raise
            return error
        build.finish()
    return None
