"""The first use of a layer: find out what its `call` declares.

`call` is traced abstractly with `training=False` and with `training=True`;
every layer in the trace that declares inline takes part. Then the variables
get their values and the declared layers become attributes. If anything
raises, all of them are as they were.
"""

import contextlib
import copy
import sys
import threading
from typing import Any

import jax
import keras
import numpy as np

from keras_jax_ext import _frame, _keras, _scope
from keras_jax_ext._arguments import DeclarationError

# One build at a time: two threads may share a layer below different models.
_one_build = threading.RLock()

# Stands for an unknown dimension: even, and wide enough for most kernels.
_PLACEHOLDER = 64


class _Build:
    """The layers that take part in one build, and the way back."""

    def __init__(self):
        self.owners = []
        self._restores = []

    def add(self, owner):
        """Let `owner` take part, remembering it as it is now."""
        if any(o is owner for o in self.owners):
            return
        declared = _frame.declarations(owner)
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
        records = [_frame.declarations(owner) for owner in self.owners]
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
            declared = _frame.declarations(owner)
            declared.complete = True
            _keras.lock(owner)


def _metric_variables(layer):
    return [v for metric in layer.metrics for v in metric.variables]


def _attach(owner):
    """Track the children that nobody else tracks, as attributes."""
    children = _frame.declarations(owner).children.values()
    layers = [child.layer for child in children]
    tracked = [_keras.sublayers(layer) for layer in layers]
    tracked.append(_keras.sublayers(owner, recursive=False))
    elsewhere = {id(layer) for below in tracked for layer in below}
    # A wrapper such as Bidirectional copies the layer that it is given, which
    # then is never built.
    passed = jax.tree.leaves([(c.args, c.kwargs) for c in children])
    elsewhere |= {id(v) for v in passed if not getattr(v, "built", True)}
    _keras.unlock(owner)
    structures = _frame.declarations(owner).structures
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
    declared = _frame.declarations(layer)
    if declared.signature is None:
        declared.signature = _signature(args, kwargs)
    build = _scope.current_build()
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
            with _scope.building(build):
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
    declared = _frame.declarations(layer)
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
                trace = _abstract(
                    call, args, {**kwargs, "training": training}, unknown
                )
                with _scope.building(build):
                    trace()
                    _check_kept(build, before, trace)
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


def _abstract(call, args, kwargs, unknown):
    """A function that traces `call` on shapes, computing nothing."""
    leaves, structure = jax.tree.flatten(
        (args, kwargs), is_leaf=lambda x: not _is_container(x)
    )
    tensors = [i for i, leaf in enumerate(leaves) if _is_tensor(leaf)]
    dimension: Any = _PLACEHOLDER
    if unknown == "symbolic":
        dimension = jax.export.symbolic_shape("b", constraints=["b >= 2"])[0]
    structs = [_struct(leaves[i], dimension) for i in tensors]
    masks = [_keras.get_keras_mask(leaves[i]) for i in tensors]
    mask_structs = [m if m is None else _struct(m, dimension) for m in masks]

    def traced(tensor_values, mask_values):
        filled = list(leaves)
        for i, value, mask in zip(
            tensors, tensor_values, mask_values, strict=True
        ):
            if mask is not None:
                _keras.set_keras_mask(value, mask)
            filled[i] = value
        new_args, new_kwargs = jax.tree.unflatten(structure, filled)
        call(*new_args, **new_kwargs)

    def trace():
        with contextlib.ExitStack() as stack:
            stack.enter_context(_keras.no_call_context())
            stack.enter_context(_keras.fresh_names())
            stack.enter_context(keras.StatelessScope())
            stack.enter_context(keras.SymbolicScope())
            # A new function each time: JAX remembers traces by function.
            jax.eval_shape(lambda *a: traced(*a), structs, mask_structs)

    return trace


def zeros(args, kwargs):
    """The arguments with arrays of zeros in place of `KerasTensor`s."""

    def fill(leaf):
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        struct = _struct(leaf, _PLACEHOLDER)
        return jax.numpy.zeros(struct.shape, struct.dtype)

    return jax.tree.map(
        fill, (args, kwargs), is_leaf=lambda x: not _is_container(x)
    )


def _is_container(value):
    return isinstance(value, (list, tuple, dict)) or value is None


def _is_tensor(value):
    if isinstance(value, (jax.Array, keras.KerasTensor, keras.Variable)):
        return True
    if not hasattr(value, "__array__") or not hasattr(value, "dtype"):
        return False
    return np.asarray(value).dtype.kind in "biufc"


def _struct(tensor, batch):
    """Shape and dtype, every unknown dimension the same symbol as in Keras."""
    shape = [d if isinstance(d, int) else batch for d in tensor.shape]
    return jax.ShapeDtypeStruct(shape, _dtype(tensor))


def _dtype(tensor):
    """What JAX makes of the dtype: without x64, int64 becomes int32."""
    return jax.dtypes.canonicalize_dtype(
        keras.backend.standardize_dtype(tensor.dtype)
    )


def _signature(args, kwargs):
    """The arguments as `KerasTensor`s: what to build from another time."""
    kwargs = {k: v for k, v in kwargs.items() if k != "training"}

    def symbol(leaf):
        if not _is_tensor(leaf):
            return leaf
        shape = [d if isinstance(d, int) else None for d in leaf.shape]
        return keras.KerasTensor(shape, str(_dtype(leaf)))

    return jax.tree.map(
        symbol, (args, kwargs), is_leaf=lambda x: not _is_container(x)
    )


def _check_kept(build, before, trace):
    """Variables made in the trace must belong to somebody.

    A stock layer that is constructed in `call` has its weights made anew at
    each trace; nothing would ever train them.
    """
    kept = build.kept() | before
    orphans = [v for v in _keras.uninitialized_variables() if id(v) not in kept]
    if not orphans:
        return
    for made, line in _constructed_in(trace):
        lost = {id(v) for v in getattr(made, "variables", [made])} - kept
        if lost:
            raise _lost_error(build.owners[0], made, line)


def _constructed_in(trace):
    """The layers and variables that a trace constructs, with user lines."""
    codes = {
        cls.__init__.__code__
        for cls in (keras.Layer, keras.Variable, keras.metrics.Metric)
    }
    found = []

    def watch(frame, event, arg):
        if event == "call" and frame.f_code in codes:
            found.append((frame.f_locals["self"], _frame.user_line()))

    previous = sys.getprofile()
    sys.setprofile(watch)
    try:
        trace()
    finally:
        sys.setprofile(previous)
    return found


def _lost_error(owner, made, line):
    cls = type(made)
    if isinstance(made, keras.Variable):
        what, fix = "variable", "Make it with `self.add_weight(name=...)`."
    elif isinstance(made, keras.Layer):
        namespace = getattr(keras.layers, cls.__name__, None) is cls
        inline = (
            f"layers.{cls.__name__}, with `from keras_jax_ext import layers`"
            if namespace
            else f"keras_jax_ext.inline({cls.__name__})"
        )
        what, fix = "stock layer", f"Use {inline}, or make it in `__init__`."
    else:
        what, fix = "metric", "Make it in `__init__`."
    return DeclarationError(
        f"A {what} made in `call` is made anew at each trace, so nothing "
        f"keeps it and it never learns. Received: {cls.__name__} "
        f"{made.name!r} in the `call` of {type(owner).__name__}, at {line}. "
        f"{fix}"
    )
