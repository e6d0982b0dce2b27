"""Tapes whose gradient is taken within their own block, as if behind it."""

import re
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
    return cst.parse_module(text).visit(_Ends()).code


class _Ends(cst.CSTTransformer):
    def leave_With(self, original: cst.With, updated: cst.With) -> Any:
        name = _tape(original)
        body = updated.body
        if name is None or not isinstance(body, cst.IndentedBlock):
            return updated
        takes = re.compile(rf"\b{re.escape(name)}\.gradient\(")
        codes = [_code(each) for each in body.body]
        first = next((i for i, c in enumerate(codes) if takes.search(c)), 0)
        if not first:
            return updated
        kept = body.with_changes(body=body.body[:first])
        return cst.FlattenSentinel(
            [updated.with_changes(body=kept), *body.body[first:]]
        )


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
