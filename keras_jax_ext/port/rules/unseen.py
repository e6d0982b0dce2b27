"""What the other rules cannot see into: it is refused by line."""

import builtins
import sys

from keras_jax_ext.port import exports, visiting
from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules import arguments, gone, imports
from keras_jax_ext.port.rules.lookup import find
from keras_jax_ext.port.script import Script

import libcst as cst

# What only Python 2 has, in scripts that Python 3 can read.
_BUILTINS = [
    "basestring",
    "cmp",
    "execfile",
    "long",
    "raw_input",
    "reduce",
    "reload",
    "unichr",
    "unicode",
    "xrange",
]
_METHODS = ("has_key", "iteritems", "itervalues")
_MODULES = [
    "ConfigParser",
    "HTMLParser",
    "Queue",
    "StringIO",
    "Tkinter",
    "cPickle",
    "cStringIO",
    "urllib2",
    "urlparse",
]
# Attributes of layers that are properties now.
_READ_ONLY = ("kernel", "embeddings")
# How scripts call the two packages.
_USUAL = ("tf", "tensorflow", "keras")
_IMPORTERS = ("importlib.import_module", "import_module", "__import__")
# Functions, and places, where nothing is taken from a module.
_ASKING = ("hasattr", "print", "dir", "help", "type", "id", "repr", "str")
_TESTS = (
    cst.Comparison,
    cst.ComparisonTarget,
    cst.If,
    cst.IfExp,
    cst.BooleanOperation,
    cst.UnaryOperation,
    cst.Expr,
    cst.AssignTarget,
    cst.AnnAssign,
)


# Where scripts take everything of, and names that others have, too.
_OF_KERAS = (
    "keras.layers",
    "keras.models",
    "keras.callbacks",
    "keras.optimizers",
)
_NO_PROJECT = {
    *sys.stdlib_module_names,
    *("matplotlib", "numpy", "pylab", "scipy", "sklearn", "sympy", "torch"),
}


def mark(script: Script) -> None:
    """Refuse what a port would be wrong about, or silent."""
    script.module.visit(_Finder(script))


def imported(script: Script, call: cst.Call) -> str | None:
    """The package that `importlib.import_module("...")` imports."""
    first = call.args[0].value if call.args else None
    name = dotted(call.func)
    if name not in _IMPORTERS or not isinstance(first, cst.SimpleString):
        return None
    whole = str(first.evaluated_value)
    return whole if whole.split(".")[0] in imports.ROOTS else None


def from_elsewhere(node: cst.ImportFrom) -> list[str]:
    """What `from common import tf` imports that is TensorFlow or Keras."""
    if isinstance(node.names, cst.ImportStar) or imports.is_ours(node):
        return []
    names = [alias.evaluated_name for alias in node.names]
    return [name for name in names if name in _USUAL]


def is_unbound(script: Script, node: cst.Name) -> bool:
    """Whether `tf` or `keras` comes from nowhere in this file."""
    parent = script.names.parents.get(node)
    return (
        node.value in _USUAL
        and isinstance(parent, cst.Attribute)
        and parent.value is node
        and not script.names.assignments(node)
        and not script.names.stars
    )


def of_a_star(script: Script, node: cst.Name) -> bool:
    """Whether a file of the project may bring a name of Keras.

    Of `from model import *`, where that file has `from keras.layers import *`.
    """
    names = script.names
    roots = {each.split(".")[0] for each in names.other_stars}
    if not roots - _NO_PROJECT or names.stars or node not in names.scopes:
        return False
    if names.assignments(node) or hasattr(builtins, node.value):
        return False
    return any(exports.exists(f"{m}.{node.value}") for m in _OF_KERAS)


class _Finder(visiting.Names):
    def __init__(self, script: Script) -> None:
        self._script = script
        self._tries = 0

    def _python_2(self, node: cst.CSTNode, what: str) -> None:
        if not self._tries:  # else it tries one of the two
            recipe = "convert the script with 2to3"
            self._script.todo(node, f"`{what}` is of Python 2", recipe)

    def visit_Try(self, node: cst.Try) -> None:
        self._tries += 1

    def leave_Try(self, original_node: cst.Try) -> None:
        self._tries -= 1

    def visit_Import(self, node: cst.Import) -> bool:
        for alias in node.names:
            if (name := dotted(alias.name)) in _MODULES:
                self._python_2(node, name or "")
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        module = "." if node.relative else dotted(node.module) or ""
        if module in _MODULES:
            self._python_2(node, module)
        for name in from_elsewhere(node):
            self._script.todo(
                node,
                f"`{name}` is imported from another file",
                "import it here, by its own name",
            )
        return False

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:
        left = isinstance(node.left, cst.Name) and node.left.value
        if left == "print" and isinstance(node.operator, cst.RightShift):
            self._python_2(node, "print >>")

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:
        target = node.target
        if not isinstance(target, cst.Attribute):
            return
        owner = self._script.code(target.value)
        if target.attr.value in _READ_ONLY and owner != "self":
            self._script.todo(
                node,
                f"`{target.attr.value}` of a layer of Keras 3 is not replaced",
                "assign to the variable, or call a function of the weights",
            )

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        if node.attr.value in _METHODS:
            self._python_2(node, node.attr.value)
        if node.attr.value == "element_spec":
            self._script.todo(
                node,
                "`element_spec` of tf.data",
                "take the shapes of an element",
            )
        name = self._script.names.quiet(node)
        if name is None:
            gone.check(self._script, node)
            node.value.visit(self)
        else:
            self._handed_on(node, name)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        names = self._script.names
        if node.value in _BUILTINS and not names.assignments(node):
            self._python_2(node, node.value)
        if is_unbound(self._script, node):
            self._script.todo(
                node, f"`{node.value}` is imported nowhere", "import it here"
            )
        if of_a_star(self._script, node):
            self._script.todo(
                node,
                "it may be Keras's, by an import of everything",
                "import it by its name",
            )
        if name := names.quiet(node):
            self._handed_on(node, name)

    def visit_Call(self, node: cst.Call) -> None:
        if name := imported(self._script, node):
            self._script.todo(
                node,
                f"`{name}` is imported by a string",
                f"write `import {name}`",
            )
        for name, args in self._constructed(node):
            if found := arguments.unknown(find(name).name or name, args):
                self._script.todo(
                    node,
                    f"`{name}` has no argument `{found[0]}=`",
                    "leave it out, or write what it did",
                )

    def _constructed(self, node: cst.Call):
        """Constructors that a call hands arguments to in other ways."""
        name = dotted(node.func)
        if name in ("partial", "functools.partial") and node.args:
            inner = self._script.names.quiet(node.args[0].value)
            if inner and inner.startswith("keras."):
                yield inner, node.args[1:]
        name = name and self._script.names.quiet(node.func)
        if name and name.startswith("keras."):
            for arg in node.args:
                if arg.star == "**":
                    yield name, self._entries(arg.value)

    def _entries(self, node: cst.BaseExpression) -> list[cst.Arg]:
        """The entries of a dict as arguments, if the script shows it."""
        values = [node]
        if isinstance(node, cst.Name):
            found = self._script.names.assignments(node)
            values = [v for a in found if (v := self._script.names.value(a))]
        args: list[cst.Arg] = []
        for value in values:
            if isinstance(value, cst.Call) and dotted(value.func) == "dict":
                args += [a for a in value.args if a.keyword is not None]
            elif isinstance(value, cst.Dict):
                for each in value.elements:
                    if isinstance(each, cst.DictElement) and isinstance(
                        each.key, cst.SimpleString
                    ):
                        key = cst.Name(str(each.key.evaluated_value))
                        args.append(cst.Arg(each.value, keyword=key))
        return args

    def _handed_on(self, node: cst.BaseExpression, name: str) -> None:
        """A module of Keras as a value: what is taken from it is not seen."""
        if not exports.is_module(find(name).name or name):
            return
        parent = self._script.names.parents[node]
        if isinstance(parent, cst.Call) and parent.func is node:
            return  # it was a function of the same name before
        if isinstance(parent, cst.Assign) and parent.value is node:
            if all(isinstance(t.target, cst.Name) for t in parent.targets):
                return  # an alias, which is followed
        elif isinstance(parent, _TESTS) or self._is_asked(parent):
            return
        self._script.todo(
            node,
            f"the module `{name}` is handed on: what is taken from it is not "
            "seen",
            "write the names of what is used",
        )

    def _is_asked(self, parent: cst.CSTNode) -> bool:
        call = self._script.names.parents.get(parent)
        return (
            isinstance(parent, cst.Arg)
            and isinstance(call, cst.Call)
            and dotted(call.func) in _ASKING
        )
