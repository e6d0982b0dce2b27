"""Hooks of callbacks, which Keras 3 gives their `logs` by name."""

from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.script import Script

import libcst as cst

_CALLBACK = "keras.callbacks."
_BY_NAME = [
    f"on_{mode}_batch_{end}"
    for mode in ("train", "test", "predict")
    for end in ("begin", "end")
]
_NOW = "logs"


def given_logs(
    script: Script, node: cst.FunctionDef, updated: cst.FunctionDef
) -> cst.FunctionDef:
    """`on_train_batch_end(self, step, report)`, whose last one is `logs` now.

    The name that the body has is given the value of `logs` first.
    """
    owner = script.names.parents.get(script.names.parents[node])
    if node.name.value not in _BY_NAME or not _is_callback(script, owner):
        return updated
    params = list(updated.params.params)
    names = [p.name.value for p in params]
    if _NOW in names or updated.params.star_kwarg is not None:
        return updated
    if len(params) < 3 or _names(script, node, _NOW):
        script.todo(
            node.name,
            f"`{node.name.value}` is given `logs=` by name",
            "call its second argument `logs`",
        )
        return updated
    script.done(node.name, f"`{names[2]}` is `logs`, which goes by name")
    params[2] = params[2].with_changes(name=cst.Name(_NOW))
    return _beginning(updated, f"{names[2]} = {_NOW}").with_changes(
        params=updated.params.with_changes(params=params)
    )


def _beginning(updated: cst.FunctionDef, text: str) -> cst.FunctionDef:
    """A function whose body begins with a line, behind its docstring."""
    body: Any = updated.body
    if isinstance(body, cst.SimpleStatementSuite):
        line = cst.parse_statement(text)
        assert isinstance(line, cst.SimpleStatementLine)
        semicolon = cst.Semicolon(whitespace_after=cst.SimpleWhitespace(" "))
        first = line.body[0].with_changes(semicolon=semicolon)
        inner = body.with_changes(body=[first, *body.body])
        return updated.with_changes(body=inner)
    place = 1 if updated.get_docstring() is not None else 0
    lines = [*body.body]
    lines.insert(place, cst.parse_statement(text))
    return updated.with_changes(body=body.with_changes(body=lines))


def _names(script: Script, node: cst.FunctionDef, name: str) -> bool:
    """Whether the code of a function has a name."""
    found = False

    class Search(cst.CSTVisitor):
        def visit_Name(self, each: cst.Name) -> None:
            nonlocal found
            found = found or each.value == name

    node.visit(Search())
    return found


def _is_callback(script: Script, owner: Any) -> bool:
    if not isinstance(owner, cst.ClassDef):
        return False
    for base in owner.bases:
        name = dotted(base.value) and script.names.quiet(base.value)
        if (name or "").startswith(_CALLBACK):
            return True
        if isinstance(base.value, cst.Name):
            made = [made_by(a) for a in script.names.assignments(base.value)]
            if any(m is not owner and _is_callback(script, m) for m in made):
                return True
    return False
