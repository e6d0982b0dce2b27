"""Statements that go, and the blocks that they leave."""

from typing import Any

import libcst as cst

_GONE = "__ported_away__"


def removed(line: cst.SimpleStatementLine) -> cst.SimpleStatementLine:
    """A line that is to go; its comments are kept until then."""
    return line.with_changes(
        body=[cst.Expr(cst.Name(_GONE))],
        trailing_whitespace=cst.TrailingWhitespace(),
    )


def _is_removed(line: cst.CSTNode) -> bool:
    return (
        isinstance(line, cst.SimpleStatementLine)
        and isinstance(line.body[0], cst.Expr)
        and isinstance(line.body[0].value, cst.Name)
        and line.body[0].value.value == _GONE
    )


def tidied(block: Any) -> Any:
    """A block without the lines that are to go; comments go to the next."""
    if not any(map(_is_removed, block.body)):
        return block
    body: list = []
    held: list = []
    for line in block.body:
        if _is_removed(line):
            held += [x for x in line.leading_lines if x.comment]
        else:
            if held:
                line = line.with_changes(
                    leading_lines=[*held, *line.leading_lines]
                )
                held = []
            body.append(line)
    if not body and isinstance(block, cst.IndentedBlock):
        body = [cst.parse_statement("pass")]
    footer = [*held, *block.footer]
    return block.with_changes(body=body, footer=footer)
