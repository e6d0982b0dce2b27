"""Trace a model on shapes, and collect one row for each of its layers."""

import contextlib
import copy
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name import structures
from keras_jax_ext._inline import shapes
from keras_jax_ext._inline.arguments import DeclarationError
from keras_jax_ext._inline.frame import declarations
from keras_jax_ext._seeing import calls

import jax
import keras

# Two sizes for unknown dimensions. An output dimension that differs between the
# two traces depends on an unknown one, and is shown as `None`.
_UNKNOWN_SIZES = (64, 128)


@dataclasses.dataclass
class Row:
    """One layer: where it was first called, and what each call returned."""

    layer: Any
    level: int  # 0 for the model
    outputs: list[Any]  # one for each call, with a `Shape` for each array
    below: list["Row"]  # rows of layers that were first called in it


def collect(model: keras.Model, x: Any, depth: int | None) -> Row | None:
    """Return the row of the model, with the rows of all layers below it.

    Args:
        model: The model.
        x: Sample input, or `None`.
        depth: The `depth` of `summary`, or `None` if the user gave none.

    Returns:
        The row, or `None` if Keras's own summary shows as much.

    Raises:
        ValueError: As `Summary.summary`.
    """
    if x is not None:
        inputs: Any = ((x,), {})
        _check_tensors(model, x)
        with _unchanged_on_failure(model, x):
            _make(model, inputs)
            if not any(None in leaf.shape for leaf in jax.tree.leaves(x)):
                return _trace(model, inputs)
            return _traced_for_any_size(model, inputs)
    inputs = _known_inputs(model)
    if inputs is None and depth is not None:
        raise ValueError(
            "`summary` shows levels of layers by tracing the model, and the "
            f"shapes of its inputs are not known. Received: depth={depth} and "
            f"{type(model).__name__} {model.name!r}. "
            "Pass a sample input: `summary(x, depth=...)`."
        )
    if inputs is None or (depth is None and not _has_inline(model)):
        return None
    try:
        return _traced_for_any_size(model, inputs)
    except Exception:
        pass  # `call` may work for one batch size or length only
    try:
        return _trace(model, inputs)
    except Exception as error:
        if depth is None:
            return None
        raise _cannot(model, "the inputs it was built with", error) from error


def _traced_for_any_size(model, inputs):
    return _merged([_trace(model, _sized(inputs, n)) for n in _UNKNOWN_SIZES])


def _check_tensors(model, x):
    for leaf in jax.tree.leaves(x):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise ValueError(
                "`summary` takes a sample input: an array, or the structure "
                f"of arrays that `call` takes. Received: x={x!r} (of type "
                f"{type(x).__name__}) for {type(model).__name__}. "
                "Pass a batch, such as `x[:1]`."
            )


def _has_inline(model):
    layers = [model, *_keras.sublayers(model)]
    return any(
        declarations(layer).children
        for layer in layers
        if getattr(layer, "_declares", False)
    )


def _known_inputs(model):
    """`(args, kwargs)` of `KerasTensor`s that the model was built for."""
    if getattr(model, "_declares", False):
        return declarations(model).signature if model.built else None
    if isinstance(model, keras.Sequential):
        # `model.input` raises if Keras built the layers one by one.
        inputs = getattr(model, "inputs", None)
        return ((inputs[0],), {}) if inputs else None
    if isinstance(model, _keras.Functional):
        return (model.input,), {}
    return None


def _sized(inputs, size):
    """The signature with `size` for the batch and each unknown dimension."""
    leaves = [t for t in jax.tree.leaves(inputs) if hasattr(t, "shape")]
    ranked = [t.shape[0] for t in leaves if t.shape]
    batch = ranked[0] if ranked else None

    def known(tensor):
        if not hasattr(tensor, "shape"):
            return tensor
        shape = [
            size if d is None or (i == 0 and d == batch) else d
            for i, d in enumerate(tensor.shape)
        ]
        return keras.KerasTensor(shape, tensor.dtype)

    return jax.tree.map(known, inputs)


@contextlib.contextmanager
def _unchanged_on_failure(model, x):
    """Explain a failure, and leave every layer as it was."""
    undo = [_remember(layer) for layer in [model, *_keras.sublayers(model)]]
    try:
        yield
    except BaseException as error:
        for restore in undo:
            restore()
        if isinstance(error, DeclarationError) or not isinstance(
            error, Exception
        ):
            raise
        raise _cannot(model, _spelled(x), error) from error


def _remember(layer):
    restore = _keras.snapshot(layer)
    declared = vars(layer).get("_declarations")
    before = declared and {k: copy.copy(v) for k, v in vars(declared).items()}

    def undo():
        restore()
        if declared:
            vars(declared).update(before)

    return undo


def _cannot(model, received, error):
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip()  # Keras's bold
    return ValueError(
        "`summary` traces the model on shapes, without values, and that "
        f"failed. Received: {type(model).__name__} {model.name!r} on "
        f"{received}. Pass a sample of what `call` takes. "
        f"{type(error).__name__}: {text}"
    )


def _spelled(x):
    """The shapes of an input, for a message."""
    return "x=" + str(jax.tree.map(lambda t: f"{t.dtype}{[*t.shape]}", x))


def _make(model, inputs):
    """Build the model for the shapes of `inputs`, computing no outputs."""
    if model.built:
        return
    args, kwargs = shapes.signature(*inputs)
    if getattr(model, "_declares", False):
        args, kwargs = model._spread(args, kwargs)
        model._declare_from(args, kwargs)
    else:
        model(*args, **kwargs)


def _trace(model, inputs):
    """The row of `model`, from one abstract call."""
    recorder = _Recorder(model)
    args, kwargs = inputs
    # `__call__` of the model spreads the inputs, checks and casts them.
    trace = shapes.abstract(
        model.__call__, args, {**kwargs, "training": False}, None
    )
    layers = [model, *_keras.sublayers(model)]
    undo = calls.intercept(layers, recorder.record)
    try:
        trace()
    finally:
        undo()
    return recorder.root


class _Recorder:
    """Makes a tree of rows from the calls of layers."""

    def __init__(self, model) -> None:
        self.model = model
        self.rows: dict[int, Row] = {}  # by id of the layer
        self.running: list[Row] = []  # of the calls that run, outermost first

    @property
    def root(self) -> Row:
        """The row of the model."""
        return self.rows[id(self.model)]

    def record(self, layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        """Make a call, and add its outputs to the rows."""
        if self.running and self.running[-1].layer is layer:
            # `call` of its base class, or `quantized_call`: the same call.
            return call(*args, **kwargs)
        row = self._row(layer)
        self.running.append(row)
        try:
            outputs = call(*args, **kwargs)
        finally:
            self.running.pop()
        row.outputs.append(_shapes(outputs))
        return outputs

    def _row(self, layer):
        if id(layer) not in self.rows:
            row = Row(layer, len(self.running), [], [])
            self.rows[id(layer)] = row
            if self.running:
                self.running[-1].below.append(row)
        return self.rows[id(layer)]


class Shape(tuple):
    """The shape of an output, told apart from a tuple of outputs."""


def _shapes(outputs):
    if isinstance(outputs, (list, tuple)):
        return [_shapes(part) for part in outputs]
    if isinstance(outputs, dict):
        return {key: _shapes(part) for key, part in outputs.items()}
    if structures.is_structure(outputs):
        return _shapes(vars(outputs))
    if hasattr(outputs, "shape"):
        return Shape(outputs.shape)
    return outputs


def _merged(roots: Sequence[Row]) -> Row:
    """Merge traces into one row, with `None` where dimensions differ."""
    first = roots[0]
    first.outputs = [
        _unified(each) for each in zip(*(r.outputs for r in roots), strict=True)
    ]
    for below in zip(*(root.below for root in roots), strict=True):
        _merged(below)
    return first


def _unified(shapes):
    first = shapes[0]
    if isinstance(first, list):
        return [_unified(each) for each in zip(*shapes, strict=True)]
    if isinstance(first, dict):
        return {key: _unified([s[key] for s in shapes]) for key in first}
    if isinstance(first, Shape):
        sizes = zip(*shapes, strict=True)
        return Shape(s[0] if len(set(s)) == 1 else None for s in sizes)
    return first
