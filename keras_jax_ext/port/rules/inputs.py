"""`Input(shape=3)`: Keras 2 took a number for a shape of one axis."""

import re
from typing import Any

from keras_jax_ext.port.resolve import made_by
from keras_jax_ext.port.rules.calling import unpacked
from keras_jax_ext.port.rules.operations import keyword
from keras_jax_ext.port.script import Script

import libcst as cst

_INPUTS = ("keras.Input", "keras.layers.Input")
_NUMBERS = ("int", "len")


def shaped(
    script: Script, node: cst.Call, args: list[cst.Arg], name: str
) -> list[cst.Arg]:
    """The arguments, with a tuple for a shape that is a number."""
    if name not in _INPUTS:
        return args
    for place, arg in enumerate(node.args):
        by_name = arg.keyword is not None and arg.keyword.value == "shape"
        first = place == 0 and arg.keyword is None and not arg.star
        if (by_name or first) and _is_number(script, arg.value, 3):
            text = script.code(args[place].value.with_changes(lpar=[], rpar=[]))
            script.done(node, f"`({text},)`: a shape is a tuple")
            value = cst.parse_expression(f"({text},)")
            return [
                each.with_changes(value=value) if i == place else each
                for i, each in enumerate(args)
            ]
    return args


def is_later(script: Script, node: cst.Call) -> bool | None:
    """Whether a layer of a Sequential comes behind another, which it follows.

    Returns:
        `None` for one that a loop puts there: the first of them is not.
    """
    parents = script.names.parents
    parent = parents[node]
    add: Any = parents[parent]
    if isinstance(parent, cst.Element):
        return add.elements[0] is not parent
    model = script.code(add.func.value)
    first: bool | None = False
    inner: Any = add
    for outer in script.names.up(add)[1:]:
        if isinstance(outer, (cst.IndentedBlock, cst.Module)):
            before = outer.body[: outer.body.index(inner)]
            for statement in reversed(before):
                if found := _last_of(script, statement, model):
                    return True if found == "added" else first
        if isinstance(outer, (cst.For, cst.While)):
            first = None
        if isinstance(outer, cst.FunctionDef):
            break
        inner = outer
    return first


def _last_of(script: Script, statement: Any, model: str) -> str | None:
    """What a statement does with a model: `"made"`, `"added"` or nothing."""
    if isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
        return None  # its names are others
    code = script.code(statement)
    name = rf"(?<![\w.]){re.escape(model)}"
    if re.search(rf"{name}\s*\.\s*add\s*\(", code):
        return "added"
    made = re.search(rf"{name}\s*=\s*([\w.]+)\((.*)", code, re.DOTALL)
    if made is None:
        return None
    has_layers = re.match(r"\s*(layers\s*=\s*)?\[\s*[^\]\s]", made[2])
    is_empty = made[1].endswith("Sequential") and not has_layers
    return "made" if is_empty else "added"


_RECURRENT = ("SimpleRNN", "GRU", "LSTM", "RNN", "ConvLSTM2D")


def of_steps(
    script: Script, node: cst.Call, args: list[cst.Arg], name: str
) -> list[cst.Arg]:
    """A recurrent layer, whose `input_dim` was that of a step."""
    module, _, layer = name.rpartition(".")
    if module != "keras.layers" or layer not in _RECURRENT:
        return args
    given = {a.keyword.value: a.value for a in args if a.keyword}
    if not given.keys() & {"input_dim", "input_length"}:
        return args
    kept = [
        a
        for a in args
        if not (a.keyword and a.keyword.value in ("input_dim", "input_length"))
    ]
    if given.keys() & {"input_shape", "batch_input_shape"}:
        script.done(node, "`input_dim=` is left out: the shape is given")
        return kept
    sizes = [
        script.code(given[key]) if key in given else "None"
        for key in ("input_length", "input_dim")
    ]
    text = f"({', '.join(sizes)})"
    script.done(node, f"`input_shape={text}`")
    return [*kept, keyword("input_shape", cst.parse_expression(text))]


def _is_number(script: Script, node: Any, depth: int) -> bool:
    """Whether a value is surely a number, as far as the script tells."""
    if isinstance(node, cst.Integer):
        return True
    if isinstance(node, cst.BinaryOperation):
        return _is_number(script, node.left, depth) or (
            _is_number(script, node.right, depth)
            and not isinstance(node.operator, cst.Multiply)
        )
    if isinstance(node, cst.Call):
        return isinstance(node.func, cst.Name) and node.func.value in _NUMBERS
    if isinstance(node, cst.Subscript):
        index = node.slice[0].slice if len(node.slice) == 1 else None
        return script.code(node.value).endswith(".shape") and isinstance(
            index, cst.Index
        )
    if not isinstance(node, cst.Name) or not depth:
        return False
    values = [
        value
        for each in script.names.assignments(node)
        for value in _values(script, each)
    ]
    return bool(values) and all(
        _is_number(script, each, depth - 1) for each in values
    )


def _values(script: Script, assignment: Any) -> list[Any]:
    """All that a name may stand for; `None` for what is not seen."""
    made = made_by(assignment)
    if isinstance(made, cst.Param):
        return _given(script, made)
    value = script.names.value(assignment)
    if value is not None:
        return [value]
    return [unpacked(script, made)]


def _given(script: Script, param: cst.Param) -> list[Any]:
    """What the calls of a function give for an argument."""
    function = script.within(param, cst.FunctionDef)
    if not isinstance(function, cst.FunctionDef):
        return [None]
    calls = _Calls(function.name.value)
    script.module.visit(calls)
    place = [p.name.value for p in function.params.params].index(
        param.name.value
    )
    found = [param.default] if param.default is not None else []
    for call in calls.found:
        named = {a.keyword.value: a.value for a in call.args if a.keyword}
        by_place = [a.value for a in call.args if a.keyword is None]
        if param.name.value in named:
            found.append(named[param.name.value])
        elif place < len(by_place):
            found.append(by_place[place])
    return found or [None]


class _Calls(cst.CSTVisitor):
    def __init__(self, name: str) -> None:
        self._function = name
        self.found: list[cst.Call] = []

    def visit_Call(self, node: cst.Call) -> None:
        if (
            isinstance(node.func, cst.Name)
            and node.func.value == self._function
        ):
            self.found.append(node)
