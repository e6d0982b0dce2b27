"""Imports of TensorFlow and of Keras 2."""

from keras_jax_ext.port import exports
from keras_jax_ext.port.resolve import dotted, normal
from keras_jax_ext.port.rules.lookup import find
from keras_jax_ext.port.script import Script

import libcst as cst

# Packages that need TensorFlow themselves.
COMPANIONS = {
    "tensorflow_datasets": "load the data with `datasets`, or from files",
    "tensorflow_hub": "load the model with keras_hub",
    "tensorflow_probability": "use TensorFlow Probability's substrate for JAX",
    "tensorflow_addons": "look in Keras 3, or write the part",
    "tensorflow_text": "prepare the text in Python",
    "tensorflow_model_optimization": "use `model.quantize`",
    "tensorflow_io": "read the files in Python",
    "tensorflow_docs": "leave it out",
    "keras_contrib": "look in Keras 3, or write the layer",
    "keras_tuner": "",
    "keras_applications": "use `keras.applications`",
    "keras_preprocessing": "use `kje.keras2`",
    "kerastuner": "use keras_tuner",
}


# Packages whose imports are rewritten.
ROOTS = ("keras", "tensorflow", "tf_keras", "tensorflow_core")


def root(statement: cst.BaseSmallStatement) -> str | None:
    """The package that a line imports from."""
    if isinstance(statement, cst.ImportFrom):
        if statement.relative or statement.module is None:
            return None
        whole = dotted(statement.module)
    elif isinstance(statement, cst.Import):
        whole = dotted(statement.names[0].name)
    else:
        return None
    return whole.split(".")[0] if whole else None


def is_ours(statement: cst.BaseSmallStatement) -> bool:
    """Whether a line imports from Keras or TensorFlow."""
    names = []
    if isinstance(statement, cst.Import):
        names = [dotted(a.name) or "" for a in statement.names]
    elif root(statement):
        names = [root(statement) or ""]
    return any(n.split(".")[0] in ROOTS for n in names)


def check(script: Script, statement: cst.BaseSmallStatement) -> None:
    """Refuse a package that needs TensorFlow."""
    name = root(statement) or ""
    if COMPANIONS.get(name):
        script.todo(
            statement, f"{name} needs TensorFlow or Keras 2", COMPANIONS[name]
        )


def rewrite(
    script: Script, statement: cst.Import | cst.ImportFrom
) -> list[str]:
    """The lines that take the place of an import."""
    if isinstance(statement, cst.Import):
        return _plain(script, statement)
    return _from(script, statement)


def _plain(script: Script, statement: cst.Import) -> list[str]:
    lines = []
    for alias in statement.names:
        whole = dotted(alias.name) or ""
        bound = dotted(alias.asname.name) if alias.asname else None
        name = normal(whole)
        local = bound or whole.split(".")[0]
        if whole.split(".")[0] not in ROOTS:
            lines.append(f"import {whole}" + (f" as {bound}" if bound else ""))
        elif name.split(".")[0] == "tensorflow" or not _is_used(script, local):
            if local in script.kept:
                lines.append(
                    f"import {whole}" + (f" as {bound}" if bound else "")
                )
        else:
            lines += _module(name, bound, whole)
    return lines


def _module(name: str, bound: str | None, whole: str) -> list[str]:
    now = find(name).name or name
    if bound is None:
        return ["import keras"] if whole.startswith("keras") else []
    if now == bound:
        return [f"import {now}"]
    head, _, last = now.rpartition(".")
    if head:
        return [
            f"from {head} import {last}"
            + (f" as {bound}" if bound != last else "")
        ]
    return [f"import {now} as {bound}"]


def _is_used(script: Script, local: str) -> bool:
    return local not in script.unused


def _from(script: Script, statement: cst.ImportFrom) -> list[str]:
    module = normal(dotted(statement.module) or "")
    if isinstance(statement.names, cst.ImportStar):
        return _star(script, statement, module)
    groups: dict[str, list[str]] = {}
    lines = []
    for alias in statement.names:
        bound = dotted(alias.asname.name if alias.asname else alias.name) or ""
        whole = normal(f"{module}.{alias.name.value}")
        if not _is_used(script, bound):
            continue
        now = find(whole).name
        if now is None or (bound in script.kept and find(whole).row):
            lines.append(_original(statement, alias))
            continue
        if now == "keras":
            lines.append(
                "import keras" + (f" as {bound}" if bound != "keras" else "")
            )
            continue
        head, _, last = now.rpartition(".")
        what = last + (f" as {bound}" if bound != last else "")
        groups.setdefault(head, []).append(what)
    for head, members in groups.items():
        lines.append(f"from {head} import {', '.join(members)}")
    return lines


def _original(statement: cst.ImportFrom, alias: cst.ImportAlias) -> str:
    kept = alias.with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return cst.Module([]).code_for_node(
        statement.with_changes(names=[kept], lpar=None, rpar=None)
    )


def _star(script: Script, statement: cst.ImportFrom, module: str) -> list[str]:
    now = find(module).name
    if now is None or not exports.is_module(now):
        script.todo(
            statement,
            "an import of everything, from a module that is gone",
            "import the names that are used",
        )
        return [cst.Module([]).code_for_node(statement)]
    script.differs(
        statement,
        f"everything of `{now}` is imported: some names are no longer in it",
    )
    return [f"from {now} import *"]
