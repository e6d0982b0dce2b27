"""Tapes whose gradient is taken within their own block, as if behind it."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

from keras_jax_ext.port.resolve import dotted

import libcst as cst


def ended(text: str) -> str:
    """A script whose tapes end where their gradient is taken.

    What comes after it is differentiated by no one: it is the same behind the
    block, where the rules for tapes look. Lines stay where they are.

    Args:
        text: A script.
    """
    if "GradientTape" not in text:
        return text
    names = (f"target_{i}" if i else "target" for i in itertools.count())
    free = (n for n in names if not re.search(rf"\b{n}\b", text))
    return cst.parse_module(text).visit(_Ends(free)).code


class _Ends(cst.CSTTransformer):
    def __init__(self, names: Iterator[str]) -> None:
        self._names = names

    def leave_With(self, original: cst.With, updated: cst.With) -> Any:
        name = _tape(original)
        body = updated.body
        if name is None or not isinstance(body, cst.IndentedBlock):
            return updated
        takes = re.compile(rf"\b{re.escape(name)}\.gradient\(")
        codes = [_code(each) for each in body.body]
        found = [i for i, c in enumerate(codes) if takes.search(c)]
        if not found:
            return updated
        kept = list(body.body[: found[0]])
        rest: list[Any] = list(body.body[found[0] :])
        call = _gradient(rest[0], name)
        if call is not None and _is_computed(call.args[0].value):
            target = cst.Name(next(self._names))
            value = call.args[0].value
            rest[0] = rest[0].deep_replace(value, target)
            line = cst.Assign([cst.AssignTarget(target)], value)
            if not kept:  # on the line of the block itself
                suite = cst.SimpleStatementSuite([line])
                with_target = updated.with_changes(body=suite)
                return cst.FlattenSentinel([with_target, *rest])
            if not isinstance(kept[-1], cst.SimpleStatementLine):
                return updated
            kept[-1] = kept[-1].with_changes(body=[*kept[-1].body, line])
        if not kept:
            return updated
        ends = updated.with_changes(body=body.with_changes(body=kept))
        return cst.FlattenSentinel([ends, *rest])


def _gradient(line: cst.CSTNode, tape: str) -> cst.Call | None:
    """The call that takes a gradient, in `gradients = tape.gradient(...)`."""
    statement = getattr(line, "body", [None])[0]
    call = statement.value if isinstance(statement, cst.Assign) else None
    if not isinstance(call, cst.Call) or not call.args:
        return None
    is_call = dotted(call.func) == f"{tape}.gradient"
    return call if is_call and call.args[0].keyword is None else None


def _is_computed(target: cst.BaseExpression) -> bool:
    """Whether a call computes what is differentiated, on one line."""
    code = _code(target)
    return "(" in code and "\n" not in code


def _tape(node: cst.With) -> str | None:
    """The name of the one tape of a block."""
    item = node.items[0]
    if len(node.items) > 1 or item.asname is None:
        return None
    called = isinstance(item.item, cst.Call) and dotted(item.item.func)
    if not called or called.rpartition(".")[2] != "GradientTape":
        return None
    return dotted(item.asname.name)


def _code(node: cst.CSTNode) -> str:
    bare = node
    if hasattr(node, "leading_lines"):  # their comments may speak of it
        bare = node.with_changes(leading_lines=[])
    return cst.Module([]).code_for_node(bare)
