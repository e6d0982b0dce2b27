"""Trace a model on shapes, and collect one row for each of its layers."""

import contextlib
import dataclasses
import re
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name import structures
from keras_jax_ext._inline import shapes
from keras_jax_ext._inline.arguments import DeclarationError
from keras_jax_ext._inline.declarations import declarations, remember
from keras_jax_ext._seeing import calls

import jax
import keras

# Two sizes for what is unknown: a dimension that differs between the traces
# depends on it, and is shown as `None`.
_UNKNOWN_SIZES = (64, 128)


@dataclasses.dataclass
class Row:
    """One layer: where it was first called, and what each call returned."""

    layer: Any
    level: int
    outputs: list
    below: list


def collect(model, x, depth):
    """The row of the model with all below it; `None` leaves it to Keras.

    Args:
        model: A `keras.Model`.
        x: Sample input, or `None`.
        depth: Integer, or `None` if the user gave none.

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
        pass  # a batch size or a length that `call` takes for granted
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
    """What the model was built with, as `(args, kwargs)` of `KerasTensor`s."""
    if getattr(model, "_declares", False):
        return declarations(model).signature if model.built else None
    if isinstance(model, keras.Sequential):
        # Keras raises where it built the layers one by one.
        inputs = getattr(model, "inputs", None)
        return ((inputs[0],), {}) if inputs else None
    if isinstance(model, _keras.Functional):
        return (model.input,), {}
    return None


def _sized(inputs, size):
    """The signature with `size` for the batch and for what is unknown."""
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
    undo = [remember(layer) for layer in [model, *_keras.sublayers(model)]]
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


def _cannot(model, received, error):
    said = re.sub(r"\x1b\[\d*m", "", str(error)).strip()  # Keras's bold
    return ValueError(
        "`summary` traces the model on shapes, without values, and that "
        f"failed. Received: {type(model).__name__} {model.name!r} on "
        f"{received}. Pass a sample of what `call` takes. "
        f"{type(error).__name__}: {said}"
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
    # In `__call__` of the model: it spreads the inputs, checks and casts.
    trace = shapes.shape_tracer(
        model.__call__, args, {**kwargs, "training": False}, None
    )
    layers = [model, *_keras.sublayers(model)]
    end = calls.listen(layers, recorder.hear)
    try:
        trace()
    finally:
        end()
    return recorder.root


class _Recorder:
    """Makes a tree of rows of the calls that it hears."""

    def __init__(self, model):
        self.model = model
        self.rows = {}
        self.running = []

    @property
    def root(self):
        return self.rows[id(self.model)]

    def hear(self, layer, call, args, kwargs):
        """Make a call, and add its outputs to the rows."""
        if self.running and self.running[-1].layer is layer:
            return call(*args, **kwargs)  # `super().call`, or quantized
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
    """A leaf of the outputs; not a tuple of the structure around it."""


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


def _merged(roots):
    """One row of the traces: what differs between them is `None`."""
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
