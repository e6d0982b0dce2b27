"""Files of models and weights: Keras 3 tells their format by their ending."""

import ast
import builtins
import os

from keras_jax_ext.port.resolve import made_by
from keras_jax_ext.port.rules import places, written
from keras_jax_ext.port.rules.arguments import value_of, without
from keras_jax_ext.port.rules.flow import names_in
from keras_jax_ext.port.rules.kinds import (
    class_of,
    has_no_config,
    is_unbuilt,
    may_be_model,
)
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.rules.paths import OLD, ending, key_of
from keras_jax_ext.port.script import Script

import libcst as cst

_MODEL = (".keras", ".h5", ".hdf5")
_WEIGHTS = ".weights.h5"
_SAME = "weights are read into the same model: a file has no such Lambda layer"
_ALONE = "weights alone: a model of its own class needs `get_config`"
_ENDINGS = "only files that end in .keras or .h5 are read"
# Functions that ask for a file by its name, or move it.
_ASKING = ("path.exists", "path.isfile", "path.getsize", "os.remove")


class Files:
    """The files of a script, which are named several times."""

    def __init__(self, script: Script) -> None:
        self._script = script
        # Texts of the arguments that name what is saved here.
        self.models: set[str] = set()
        self.weights: set[str] = set()
        self.loaded: set[str] = set()
        self.unreadable = False  # a Lambda layer that no file can make again
        self.bare = False  # a class of models that no file can make again
        script.module.visit(_Saves(self, script))

    def rewrite(
        self, node: cst.Call, updated: cst.Call, name: str | None
    ) -> cst.Call | None:
        """A call that writes or reads a file, or `None`."""
        if name == "keras.callbacks.ModelCheckpoint":
            return self._checkpoint(node, updated)
        if name in ("keras.models.load_model", "keras.models.save_model"):
            return self._of_model(node, updated, 0 if "load" in name else 1)
        if name is not None or not isinstance(node.func, cst.Attribute):
            return None
        method = node.func.attr.value
        if method == "save" and may_be_model(self._script, node.func.value):
            updated = places.of_file(self._script, node, updated)
            owner = class_of(self._script, node.func.value)
            if owner is not None and has_no_config(self._script, owner):
                return self._weights_of(node, updated)
            return self._of_model(node, updated, 0)
        if method in ("save_weights", "load_weights"):
            updated = places.of_file(self._script, node, updated)
            return self._weights(node, updated, method == "load_weights")
        return None

    def _key(self, path: cst.BaseExpression) -> str:
        return key_of(self._script, path)

    def _of_model(self, node, updated, place) -> cst.Call:
        args = _without_format(self._script, node, list(updated.args))
        place = _place(args, place)
        if place is None:
            return updated
        path = node.args[place].value
        end = ending(self._script, path)
        loads = isinstance(node.func, cst.Name) or "load" in self._script.code(
            node.func
        )
        args = self._trusted(node, args, path, loads)
        if end is not None and end.endswith(_MODEL):
            return updated.with_changes(args=tidy(args))
        if loads and end is None and self._key(path) not in self.models:
            self._script.differs(node, _ENDINGS)
            return updated.with_changes(args=tidy(args))
        if loads and self._key(path) not in self.models:
            self._script.todo(
                node,
                "it may be a SavedModel, which only TensorFlow reads",
                'save it there as `model.save("name.keras")`, once',
            )
            return updated
        way = _format(self._script, updated)
        extension = ".h5" if way == "h5" else ".keras"
        return self._ending(node, updated, args, place, extension)

    def _weights_of(self, node, updated) -> cst.Call:
        """A model that no file can make again: its weights are saved."""
        if self._key(node.args[0].value) in self.loaded:
            self._script.todo(
                node,
                "a model of its own class is read, and has no `get_config`",
                "write `get_config`, or load its weights",
            )
            return updated
        self._script.differs(node, _ALONE)
        func = updated.func.with_changes(attr=cst.Name("save_weights"))
        return self._weights(node, updated.with_changes(func=func), False)

    def _trusted(self, node, args, path, loads):
        """A file with a Lambda layer is read if it is the script's own."""
        script = self._script
        own = self._key(path) in self.models
        if not (loads and own and "Lambda" in script.text):
            return args
        if self.unreadable:
            return self._restored(node, args)
        if value_of(args, "safe_mode") is None:
            script.differs(node, "safe_mode=False: a Lambda layer is code")
            args = [*args, keyword("safe_mode", cst.Name("False"))]
        return args

    def _restored(self, node, args):
        """`model = load_model(path)` reads weights into the model it has."""
        script = self._script
        assign = script.names.parents.get(node)
        target = (
            assign.targets[0].target if isinstance(assign, cst.Assign) else None
        )
        if not (isinstance(target, cst.Name) and _had_a_model(script, target)):
            script.todo(
                node,
                "a Lambda layer whose function names others is in no file",
                "make the model again, and load its weights",
            )
            return args
        script.differs(node, _SAME)
        script.restored[node] = target.value
        return args

    def _weights(self, node, updated, loads) -> cst.Call:
        args = _without_format(self._script, node, list(updated.args))
        place = _place(args, 0)
        if place is None:
            return updated
        path = node.args[place].value
        end = ending(self._script, path)
        if loads and is_unbuilt(self._script, node):
            self._script.todo(
                node,
                "the model has no weights yet, which a file could be read into",
                "call it once with a batch before",
            )
            return updated
        written = self._key(path) in self.weights
        if loads and written and value_of(args, "by_name") is not None:
            self._script.todo(
                node,
                "`by_name=` reads files of Keras 2, and this one is written",
                "give layers of the same name their weights by `set_weights`",
            )
            return updated
        if end is not None and end.endswith(_WEIGHTS):
            return updated.with_changes(args=tidy(args))
        if loads and self._key(path) not in self.weights:
            if end is not None and end.endswith(_MODEL):
                return updated
            self._script.todo(
                node,
                "it may be a checkpoint of TensorFlow's",
                'save it there as `model.save_weights("name.h5")`, once',
            )
            return updated
        return self._ending(node, updated, args, place, _WEIGHTS)

    def asked(self, node: cst.Call, updated: cst.Call) -> cst.Call:
        """`os.path.exists(path)` of a file that has another name now."""
        written.check_listed(self._script, node)
        asks = self._script.code(node.func).endswith(_ASKING)
        if not asks or len(node.args) != 1:
            return updated
        path = node.args[0].value
        text, end = self._key(path), ending(self._script, path)
        for files, endings in (
            (self.weights, (_WEIGHTS,)),
            (self.models, _MODEL),
        ):
            if text in files and not (end or "").endswith(endings):
                args = list(updated.args)
                return self._ending(node, updated, args, 0, endings[0])
        return updated

    def _checkpoint(self, node, updated) -> cst.Call | None:
        args = list(updated.args)
        place = _place(args, 0, "filepath")
        if place is None:
            return None
        only = value_of(args, "save_weights_only")
        only_weights = only is not None and self._script.code(only) == "True"
        if self.bare and not only_weights and not self.loaded:
            self._script.differs(node, _ALONE)
            args = without(args, "save_weights_only")
            args.append(keyword("save_weights_only", cst.Name("True")))
            only_weights = True
        end = ending(self._script, node.args[place].value)
        good = (_WEIGHTS,) if only_weights else (".keras", ".h5")
        if end is not None and end.endswith(good):
            return updated.with_changes(args=tidy(args))
        extension = _WEIGHTS if only_weights else ".keras"
        if end is not None and end.endswith(".hdf5") and not only_weights:
            extension = ".h5"
        return self._ending(node, updated, args, place, extension)

    def _make_folder(self, node, text) -> None:
        """TensorFlow makes the folder of a file; Keras 3 does not."""
        folder = os.path.dirname(text)
        saves = isinstance(node.func, cst.Attribute) and (
            node.func.attr.value in ("save", "save_weights")
        )
        if folder not in ("", ".", "..") and saves and "{" not in folder:
            make = self._script.target("os.makedirs")
            line = f'{make}("{folder}", exist_ok=True)'
            self._script.preceding[self._script.statement(node)] = line

    def _ending(self, node, updated, args, place, extension) -> cst.Call:
        """Give the path another ending."""
        path = args[place].value
        if isinstance(path, cst.SimpleString) and not path.prefix:
            text = ast.literal_eval(path.value)
            self._make_folder(node, text)
            value = repr(OLD.sub("", text) + extension).replace("'", path.quote)
            new: cst.BaseExpression = cst.SimpleString(value)
        else:
            code = self._script.code(path)
            simple = isinstance(
                path, (cst.Name, cst.Attribute, cst.Subscript, cst.Call)
            )
            code = code if simple else f"({code})"
            new = cst.parse_expression(f'{code} + "{extension}"')
        self._script.differs(
            node,
            f"the file ends in {extension}: Keras 3 tells its format by it",
        )
        args[place] = args[place].with_changes(value=new)
        return updated.with_changes(args=tidy(args))


class _Saves(cst.CSTVisitor):
    """Collects what is saved."""

    def __init__(self, files: Files, script: Script) -> None:
        self._files = files
        self._script = script

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._files.bare |= has_no_config(self._script, node)

    def visit_Call(self, node: cst.Call) -> None:
        if not node.args:
            return
        if self._script.names.quiet(node.func) == "keras.layers.Lambda":
            self._files.unreadable |= names_others(node.args[0].value)
        text = key_of(self._script, node.args[0].value)
        name = self._script.names.quiet(node.func)
        if name == "keras.callbacks.ModelCheckpoint":
            path = value_of(list(node.args), "filepath")
            only = value_of(list(node.args), "save_weights_only")
            text = key_of(self._script, path) if path is not None else text
            weights = only is not None and self._script.code(only) == "True"
            (self._files.weights if weights else self._files.models).add(text)
        elif name == "keras.models.load_model":
            self._files.loaded.add(text)
        elif isinstance(node.func, cst.Attribute):
            if node.func.attr.value == "save":
                self._files.models.add(text)
            if node.func.attr.value == "save_weights":
                self._files.weights.add(text)


def names_others(function: cst.BaseExpression) -> bool:
    """Whether a function uses more than its own arguments."""
    if not isinstance(function, cst.Lambda):
        return True
    own = {p.name.value for p in function.params.params}
    code = cst.Module([]).code_for_node(function.body)
    return bool(names_in(code) - own - set(dir(builtins)))


def _had_a_model(script: Script, name: cst.Name) -> bool:
    """Whether a name was that of a model before."""
    line = script.names.line(name)
    return any(
        isinstance(script.names.value(a), cst.Call)
        and 0 < script.names.line(made_by(a)) < line
        for a in script.names.assignments(name)
    )


def _place(args, place, key="filepath"):
    for i, arg in enumerate(args):
        if arg.keyword is not None and arg.keyword.value == key:
            return i
    if (
        len(args) > place
        and args[place].keyword is None
        and not args[place].star
    ):
        return place
    return None


def _format(script: Script, updated: cst.Call) -> str | None:
    value = value_of(list(updated.args), "save_format")
    return (
        ast.literal_eval(script.code(value))
        if isinstance(value, cst.SimpleString)
        else None
    )


def _without_format(script, node, args):
    if value_of(args, "save_format") is not None:
        script.done(node, "`save_format=` is left out: the ending tells it")
    return without(args, "save_format")
