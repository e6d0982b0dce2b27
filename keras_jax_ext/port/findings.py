"""What is said of each line: done, done with a difference, or left to do."""

from typing import NamedTuple

DONE = "done"
DIFFERS = "differs"
TODO = "to do"


class Finding(NamedTuple):
    """One thing found in a script.

    Attributes:
        line: Integer, the line of the original, from 1.
        kind: `DONE`, `DIFFERS` or `TODO`.
        what: What stood there.
        text: What became of it, or why it is left.
        recipe: How to do by hand what is left.
    """

    line: int
    kind: str
    what: str
    text: str
    recipe: str = ""


class Ported(NamedTuple):
    """A script after the tool.

    Attributes:
        text: The new text.
        findings: List of `Finding`, by line.
        note: Said in place of a table, where nothing was to do.
    """

    text: str
    findings: list[Finding]
    note: str = ""

    @property
    def left(self) -> list[Finding]:
        """What is to be done by hand."""
        return [f for f in self.findings if f.kind == TODO]
