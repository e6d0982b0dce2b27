"""Visits the names that are values, and not those of attributes."""

import libcst as cst


class Names(cst.CSTVisitor):
    """Passes over the names of attributes and of arguments."""

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        """Visit what has the attribute."""
        node.value.visit(self)
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:
        """Visit the value of an argument."""
        node.value.visit(self)
        return False
