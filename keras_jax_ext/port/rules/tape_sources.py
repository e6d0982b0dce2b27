"""What a gradient is of, and by what."""

import textwrap

from keras_jax_ext.port.resolve import made_by
from keras_jax_ext.port.rules.flow import flow, names_in
from keras_jax_ext.port.rules.tape_uses import Left, owner_of

import libcst as cst

_ORDER = ("target", "sources", "output_gradients")


def arguments(call: cst.Call):
    """The target, the sources, and the gradients of the target or `None`."""
    found = {}
    for place, arg in enumerate(call.args):
        order = _ORDER[place] if place < len(_ORDER) else "?"
        found[arg.keyword.value if arg.keyword else order] = arg.value
    found.pop("unconnected_gradients", None)
    given = found.pop("output_gradients", None)
    if set(found) != {"target", "sources"}:
        raise Left(f"`gradient` with {sorted(found)}")
    if isinstance(given, cst.Name) and given.value == "None":
        given = None
    return found["target"], found["sources"], given


def weighed(script, target, given, between) -> str:
    """The text of a target whose own gradients are given.

    Of the sum of both's product, the gradient is the same.
    """
    several = (cst.List, cst.Tuple, cst.Dict)
    if isinstance(target, several) or isinstance(given, several):
        raise Left("it has gradients of several targets")
    text = script.code(given)
    if calls_tensorflow(script, given) or names_in(text) & between:
        raise Left("its `output_gradients=` are computed behind it")
    constant = script.target("keras.ops.stop_gradient")
    return f"{script.code(target)} * {constant}({text})"


def stored(script, statements) -> set[str]:
    found: set[str] = set()
    for statement in statements:
        code = textwrap.dedent(cst.Module([statement]).code)
        found |= set(flow(code).assigned)
    return found


def sources_of(script, statements, sources, between) -> str:
    """The text of the sources; a name that is assigned on the way is put in."""
    text = script.code(sources)
    if not names_in(text) & between:
        return text
    if isinstance(sources, cst.Name):
        for statement in statements:
            if (
                isinstance(statement, cst.SimpleStatementLine)
                and len(statement.body) == 1
                and isinstance(statement.body[0], cst.Assign)
            ):
                assign = statement.body[0]
                if script.code(assign.targets[0].target) == sources.value:
                    value = script.code(assign.value)
                    if not names_in(value) & between:
                        return value
    raise Left("its variables are computed behind it")


def check_sources(script, sources, assigned, watched) -> None:
    leaves = [sources]
    if isinstance(sources, (cst.List, cst.Tuple)):
        leaves = [e.value for e in sources.elements]
    if isinstance(sources, cst.Dict):
        leaves = [e.value for e in sources.elements]
    if calls_tensorflow(script, sources):
        raise Left("its variables are computed in the call")
    for leaf in leaves:
        if not isinstance(leaf, cst.Name) or leaf.value in watched:
            continue
        if leaf.value in assigned:
            raise Left("the gradient is by a value that its body computes")
        values = _values(script, leaf)
        if values and all(_is_fixed(script, v) for v in values):
            raise Left(f"`{leaf.value}` is no variable, and not watched")


def _values(script, name: cst.Name) -> list:
    """What a name may hold: the latest value, if it is of its own function."""
    found = list(script.names.assignments(name))
    here, owner = script.names.line(name), owner_of(script, name)
    own = [
        a
        for a in found
        if made_by(a) is not None
        and owner_of(script, made_by(a)) is owner
        and script.names.line(made_by(a)) <= here
    ]
    if own:
        found = [max(own, key=lambda a: script.names.line(made_by(a)))]
    return [script.names.value(a) for a in found]


def _is_fixed(script, value) -> bool:
    """Whether a value is surely no variable."""
    if isinstance(value, cst.BinaryOperation):
        # A sum of lists may be one of variables.
        return isinstance(value.left, cst.Float | cst.Integer) or isinstance(
            value.right, cst.Float | cst.Integer
        )
    if isinstance(value, cst.Float):
        return True
    called = (
        script.names.quiet(value.func) if isinstance(value, cst.Call) else None
    )
    return bool(
        called
        and called.startswith("tensorflow.")
        and called != "tensorflow.Variable"
    )


def calls_tensorflow(script, node) -> bool:
    found = False

    class Search(cst.CSTVisitor):
        def visit_Name(self, node: cst.Name) -> None:
            nonlocal found
            name = script.names.quiet(node)
            if name and name.split(".")[0] in ("tensorflow", "keras"):
                found = True

    node.visit(Search())
    return found
