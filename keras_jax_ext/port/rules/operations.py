"""Calls of functions in the table of operations."""

import re

from keras_jax_ext.port.rules import names
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.operations import OPERATIONS, Row

import libcst as cst

# What is said where JAX computes in 32 bits.
_NARROW = re.compile(r"become 32 bit|is int32")


class Unknown(Exception):
    """An argument that the table does not have."""


class Spec:
    """The arguments of a row, read."""

    def __init__(self, row: Row) -> None:
        self.order: list[str] = []
        self.now: dict[str, str | None] = {}
        self.named: set[str] = set()
        self.refused: set[str] = set()
        self.written: dict[str, str] = {}
        self.added: list[tuple[str, str]] = []
        self.any = row.arguments == "*args"
        for token in [] if self.any else row.arguments.split():
            self._read(token)

    def _read(self, token: str) -> None:
        if token[0] == "+":
            name, value = token[1:].split("=")
            self.added.append((name, value))
            return
        mark = token[0] if token[0] in "-*!" else ""
        token, _, default = token.removeprefix(mark).partition("=")
        name, _, now = token.partition(">")
        self.order.append(name)
        self.now[name] = None if mark == "-" else now or name
        if mark == "*":
            self.named.add(name)
        if mark == "!":
            self.refused.add(name)
        if default:
            self.written[name] = default


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression | None:
    """The call as it is now; `None` if it is none of the table."""
    row = OPERATIONS.get(name)
    if row is None:
        return None
    try:
        arguments = bound(row, node, updated)
    except Unknown as error:
        if f"{name}+" in OPERATIONS:  # it has more arguments
            return rewrite(script, node, updated, f"{name}+")
        names.keep(script, node.func)
        script.todo(
            node,
            f"{error} of `{short(name)}` has no counterpart",
            f"write it with `{row.target}`",
        )
        return updated
    _say(script, node, row)
    func = names.written(script, node.func, row.target)
    return updated.with_changes(func=func, args=arguments)


def short(name: str) -> str:
    """A dotted name as scripts write it."""
    return (
        name.rstrip("+")
        .replace("tensorflow", "tf")
        .replace("keras.backend", "K")
    )


def _say(script: Script, node: cst.Call, row: Row) -> None:
    if row.note and not (script.in_64_bits and _NARROW.search(row.note)):
        script.differs(node, f"{short(row.name)}: {row.note}")
    else:
        script.done(node, f"`{row.target}`")


def bound(row: Row, node: cst.Call, updated: cst.Call) -> list[cst.Arg]:
    """The arguments of a call, with their names and places of now.

    Raises:
        Unknown: If the row does not have one of them.
    """
    spec = Spec(row)
    given: set[str] = set()
    arguments: list[cst.Arg] = []
    shifted = False  # one was left out, or is named: the rest by name
    for place, arg in enumerate(updated.args):
        if arg.star and not spec.any:
            raise Unknown("a starred argument")
        if spec.any:
            arguments.append(arg)
            continue
        name = _name_of(spec, arg, place)
        given.add(name)
        now = spec.now[name]
        if now is None:
            shifted = shifted or arg.keyword is None
        elif arg.keyword is not None:
            arguments.append(arg.with_changes(keyword=cst.Name(now)))
        elif shifted or name in spec.named:
            shifted = True
            arguments.append(keyword(now, arg.value, arg))
        else:
            arguments.append(arg)
    extra = [
        (spec.now[name], value)
        for name, value in spec.written.items()
        if name not in given
    ]
    for extra_name, value in [*extra, *spec.added]:
        assert extra_name is not None
        arguments.append(keyword(extra_name, cst.parse_expression(value)))
    return tidy(arguments)


def _name_of(spec: Spec, arg: cst.Arg, place: int) -> str:
    if arg.keyword is None:
        if place >= len(spec.order):
            raise Unknown("one of so many arguments")
        name = spec.order[place]
    else:
        name = arg.keyword.value
    if name not in spec.now or name in spec.refused:
        plain = isinstance(arg.value, cst.Name) and arg.value.value
        if name in spec.refused and plain in ("None", "False"):
            spec.now[name] = None  # it is the default
            return name
        raise Unknown(f"`{name}=`")
    return name


def keyword(
    name: str, value: cst.BaseExpression, like: cst.Arg | None = None
) -> cst.Arg:
    """An argument by name."""
    plain = cst.AssignEqual(
        whitespace_before=cst.SimpleWhitespace(""),
        whitespace_after=cst.SimpleWhitespace(""),
    )
    arg = like or cst.Arg(value)
    return arg.with_changes(keyword=cst.Name(name), equal=plain, value=value)


def tidy(arguments: list[cst.Arg]) -> list[cst.Arg]:
    """Commas between arguments, and none needed behind the last."""
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    fixed = []
    for place, arg in enumerate(arguments):
        last = place == len(arguments) - 1
        if not last and isinstance(arg.comma, cst.MaybeSentinel):
            arg = arg.with_changes(comma=comma)
        elif last and not isinstance(arg.comma, cst.MaybeSentinel):
            after = getattr(arg.comma, "whitespace_after", None)
            if not isinstance(after, cst.ParenthesizedWhitespace):
                arg = arg.with_changes(comma=cst.MaybeSentinel.DEFAULT)
        fixed.append(arg)
    return fixed
