"""Compiled code that asks for a value: `if tf.reduce_sum(x) > 0` in `call`.

TensorFlow rewrote such code (autograph), and arrays of any size were made in
it. JAX compiles `call`, losses and metrics of `fit` by shapes alone.
"""

import re
from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules import training
from keras_jax_ext.port.rules.kinds import base_kind
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.operations import OPERATIONS

import libcst as cst

_COMPILING = re.compile(
    r"\.(fit|fit_generator|predict|evaluate|train_on_batch|test_on_batch)\("
)
_EAGERLY = re.compile(r"run_eagerly\s*=\s*True")
# Methods that a compiled step calls, of a model, a layer, a metric, a loss.
_METHODS = ("call", "update_state", "__call__")
_PARTS = ("keras.losses.", "keras.constraints.", "keras.regularizers.")
_FIRST = slice(1, 2)  # the tensor of `call(self, x, ...)`
_BOTH = slice(0, 2)  # the labels and what is predicted
# What is known of a traced array.
_KNOWN = ("shape", "size", "ndim", "is_tensor", "to_numpy", "convert_dtype")
_BUILTINS = ("range", "int", "float", "bool")
# Functions whose result is as long as the values say.
_OF_ANY_SIZE = (
    "tensorflow.boolean_mask",
    "tensorflow.unique",
)
# Those of a mask, that are computed without its size.
MASKED = {
    "tensorflow.reduce_sum": "masked_sum",
    "tensorflow.math.reduce_sum": "masked_sum",
    "tensorflow.reduce_mean": "masked_mean",
    "tensorflow.math.reduce_mean": "masked_mean",
}
_RECIPE = (
    "use `keras.ops.where` or `keras.ops.cond`, or give `run_eagerly=True` to "
    "`compile`"
)
_SIZE_RECIPE = (
    "keep the shape and weigh by the mask, or give `run_eagerly=True` to "
    "`compile`"
)

# Functions that call another one for each entry, and never saw shapes alone
# outside of a graph.
_LOOPS = [
    f"{module}.{name}"
    for module in ("tensorflow", "keras.backend")
    for name in ("map_fn", "vectorized_map", "foldl", "foldr", "scan")
] + ["tensorflow.while_loop", "tensorflow.cond"]
_LOOPING = re.compile(r"\b(map_fn|vectorized_map|fold[lr]|scan|_loop|cond)\(")
_SEEN = ("print", "append", "numpy")
_LOOP_RECIPE = "write the loop in Python, and `keras.ops.stack` its results"


def mark(script: Script) -> None:
    """Refuse what asks for values where only shapes are known."""
    text = script.text
    compiles = bool(_COMPILING.search(text)) and not _EAGERLY.search(text)
    if not compiles and not _LOOPING.search(text):
        return
    finder = _Compiled(script, compiles)
    script.module.visit(finder)
    seen: set[cst.CSTNode] = set()
    while finder.found:
        function, tensors = finder.found.pop()
        if function in seen:
            continue
        seen.add(function)
        _Walker(script, tensors, finder).function(function)
    script.traced |= seen


class _Compiled(cst.CSTVisitor):
    """Finds the functions that are compiled, and their tensors."""

    def __init__(self, script: Script, compiles: bool) -> None:
        self._script = script
        self._compiles = compiles
        self.found: list[tuple[Any, set[str]]] = []

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        if not self._compiles or not self._is_of_keras(node):
            return
        for each in node.body.body:
            if not isinstance(each, cst.FunctionDef):
                continue
            name = each.name.value
            # A step with several optimizers is not compiled.
            if name in _METHODS or (
                name in training.STEPS and not training.other_optimizers(each)
            ):
                self.add(each, _FIRST)

    def _is_of_keras(self, node: cst.ClassDef) -> bool:
        names = [
            self._script.names.quiet(b.value)
            for b in node.bases
            if dotted(b.value)
        ]
        return base_kind(self._script, node) is not None or any(
            name and name.startswith(_PARTS) for name in names
        )

    def visit_Call(self, node: cst.Call) -> None:
        func = node.func
        name = dotted(func) and self._script.names.quiet(func)
        if name in _LOOPS:
            for arg in node.args:
                self._looped(arg.value)
        if not self._compiles:
            return
        if isinstance(func, cst.Attribute) and func.attr.value == "compile":
            for place, arg in enumerate(node.args):
                key = arg.keyword.value if arg.keyword else ""
                if key in ("loss", "metrics") or (not key and place in (1, 2)):
                    self._given(arg.value)
        elif name == "keras.layers.Lambda":
            for arg in node.args[:1]:
                self._given(arg.value)

    def _given(self, node: cst.BaseExpression) -> None:
        """A loss or a metric, or several, of functions of the script."""
        if isinstance(node, (cst.List, cst.Tuple)):
            for element in node.elements:
                self._given(element.value)
        elif isinstance(node, cst.Lambda):
            self.add(node, _BOTH)
        elif isinstance(node, cst.Name):
            for function in self.functions(node):
                self.add(function, _BOTH)

    def _looped(self, node: cst.BaseExpression) -> None:
        """A function that is called for each entry of an array."""
        functions: list[Any] = []
        if isinstance(node, cst.Lambda):
            functions = [node]
        elif isinstance(node, cst.Name):
            functions += self.functions(node)
        for each in functions:
            self.add(each, slice(None))
            each.visit(_Shown(self._script))

    def functions(self, node: cst.Name) -> list[cst.FunctionDef]:
        """The functions of the script that a name may stand for."""
        made = map(made_by, self._script.names.assignments(node))
        return [each for each in made if isinstance(each, cst.FunctionDef)]

    def add(
        self, function: cst.FunctionDef | cst.Lambda, tensors: slice | None
    ) -> None:
        """Note a function, and which of its arguments are tensors."""
        names = [p.name.value for p in function.params.params]
        arrays = set() if tensors is None else {*names[tensors]}
        arrays |= {"y_true", "y_pred"} & {*names}
        self.found.append((function, arrays))


class _Shown(cst.CSTVisitor):
    """Refuses what a function of a loop shows, or keeps, of each entry."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def visit_Call(self, node: cst.Call) -> None:
        func = node.func
        name = getattr(getattr(func, "attr", func), "value", None)
        if name in _SEEN:
            self._script.todo(
                node,
                f"`{name}` of each entry, and this is compiled by shapes",
                _LOOP_RECIPE,
            )


class _Walker:
    """Goes through a function in order, with the names of its arrays."""

    def __init__(
        self, script: Script, arrays: set[str], finder: _Compiled
    ) -> None:
        self._script = script
        self._arrays = arrays
        self._finder = finder

    def function(self, node: cst.FunctionDef | cst.Lambda) -> None:
        """Go through the body of a function."""
        if isinstance(node, cst.Lambda):
            self._read(node.body)
        else:
            self._block(node.body)

    def _block(self, node: Any) -> None:
        for each in getattr(node, "body", ()):
            self._statement(each)

    def _statement(self, node: Any) -> None:
        if isinstance(node, cst.SimpleStatementLine):
            for each in node.body:
                self._small(each)
        elif isinstance(node, (cst.If, cst.While)):
            self._read(node.test)
            self.asked(node.test)
            self._block(node.body)
            if isinstance(node.orelse, cst.If):
                self._statement(node.orelse)
            elif node.orelse is not None:
                self._block(node.orelse.body)
        elif isinstance(node, cst.For):
            self._read(node.iter)
            self._assign(node.target, self._is_array(node.iter))
            self._block(node.body)
        elif isinstance(node, (cst.With, cst.Try, cst.FunctionDef)):
            self._block(node.body)

    def _small(self, node: Any) -> None:
        self._read(node)
        if isinstance(node, cst.Assign):
            array = self._is_array(node.value)
            for each in node.targets:
                self._assign(each.target, array)
        elif isinstance(node, cst.AugAssign):
            if self._is_array(node.value):
                self._assign(node.target, True)
        elif isinstance(node, cst.Assert):
            self.asked(node.test)

    def _assign(self, target: Any, array: bool) -> None:
        if isinstance(target, cst.Name):
            change = self._arrays.add if array else self._arrays.discard
            change(target.value)
        elif isinstance(target, (cst.Tuple, cst.List)):
            for each in target.elements:
                self._assign(each.value, array)

    def asked(self, test: cst.BaseExpression) -> None:
        """Refuse a test of an array."""
        if self._is_array(test) and not isinstance(test, cst.Name):
            self._script.todo(
                test,
                "it asks for a value, and this is compiled by shapes",
                _RECIPE,
            )

    # Expressions

    def _read(self, node: cst.CSTNode) -> None:
        """What a statement calls, and its `a if b else c`."""
        walker = self

        class Read(cst.CSTVisitor):
            def visit_IfExp(self, node: cst.IfExp) -> None:
                walker.asked(node.test)

            def visit_Call(self, node: cst.Call) -> None:
                walker.called(node)

        node.visit(Read())

    def called(self, node: cst.Call) -> None:
        """Follow a call; refuse one that values decide the size of."""
        self._follow(node.func)
        name = dotted(node.func) and self._script.names.quiet(node.func)
        if name in _OF_ANY_SIZE or (
            name == "tensorflow.where" and len(node.args) == 1
        ):
            if not is_masked(self._script, self._outer(node)):
                self._script.todo(
                    node,
                    "its size depends on values, and this is compiled by "
                    "shapes",
                    _SIZE_RECIPE,
                )
        elif isinstance(node.func, cst.Name) and (
            node.func.value in _BUILTINS
            and any(self._is_array(a.value) for a in node.args)
        ):
            self._script.todo(
                node,
                "it asks for a value, and this is compiled by shapes",
                _RECIPE,
            )

    def _outer(self, node: cst.CSTNode) -> Any:
        parent = self._script.names.parents.get(node)
        return parent and self._script.names.parents.get(parent)

    def _follow(self, func: cst.BaseExpression) -> None:
        """A function, or a method of `self`, is compiled with its caller."""
        if isinstance(func, cst.Name):
            for made in self._finder.functions(func):
                self._finder.add(made, None)
        elif self._script.code(func).startswith("self."):
            owner = self._script.within(func, cst.ClassDef)
            body = owner.body.body if isinstance(owner, cst.ClassDef) else ()
            for each in body:
                if isinstance(each, cst.FunctionDef) and (
                    self._script.code(func) == f"self.{each.name.value}"
                ):
                    self._finder.add(each, None)

    def _is_array(self, node: Any) -> bool:
        """Whether a value is that of an array, as far as is seen."""
        if isinstance(node, cst.Name):
            return node.value in self._arrays
        if isinstance(node, cst.Call):
            return self._makes_array(node)
        if isinstance(node, cst.Comparison):
            return self._compares_arrays(node)
        parts: list[Any] = []
        if isinstance(node, cst.Subscript):
            parts = [node.value]
        elif isinstance(node, (cst.BinaryOperation, cst.BooleanOperation)):
            parts = [node.left, node.right]
        elif isinstance(node, cst.UnaryOperation):
            parts = [node.expression]
        elif isinstance(node, cst.IfExp):
            parts = [node.body, node.orelse]
        return any(map(self._is_array, parts))

    def _makes_array(self, node: cst.Call) -> bool:
        name = dotted(node.func) and self._script.names.quiet(node.func)
        row = OPERATIONS.get(name or "")
        if row is None:
            return False
        module, _, short = row.target.rpartition(".")
        return short not in _KNOWN and module in (
            "keras.ops",
            "keras.random",
            "keras_jax_ext.keras2",
        )

    def _compares_arrays(self, node: cst.Comparison) -> bool:
        known = (cst.Is, cst.IsNot, cst.In, cst.NotIn)
        sides = [node.left, *(c.comparator for c in node.comparisons)]
        if any(isinstance(c.operator, known) for c in node.comparisons):
            return False
        if any(isinstance(s, cst.BaseString) for s in sides):
            return False
        return any(map(self._is_array, sides))


def is_masked(script: Script, node: Any) -> bool:
    """Whether a call is `tf.reduce_sum(tf.boolean_mask(x, mask))`, or a mean.

    It is the same of the entries that count, and has their shape.
    """
    if not isinstance(node, cst.Call) or len(node.args) != 1:
        return False
    inner = node.args[0].value
    return (
        isinstance(inner, cst.Call)
        and _name(script, node) in MASKED
        and _name(script, inner) == _OF_ANY_SIZE[0]
        and len(inner.args) == 2
        and not any(a.star or a.keyword for a in (*node.args, *inner.args))
    )


def _name(script: Script, node: cst.Call) -> str | None:
    return script.names.quiet(node.func) if dotted(node.func) else None
