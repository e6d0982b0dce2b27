"""Every rule, in one pass over the code from its leaves upward."""

from typing import Any

from keras_jax_ext.port.blocks import removed, tidied
from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules import (
    arguments,
    calling,
    compiled,
    compiling,
    draws,
    freezing,
    imports,
    methods,
    names,
    operations,
    own_gradients,
    rates,
    results,
    saving,
    setup,
    shapes,
    sharing,
    slashes,
    states,
    tensorflow,
    texts,
    training,
    variables,
    weights,
)
from keras_jax_ext.port.rules.tape import Tapes, built
from keras_jax_ext.port.script import Script

import libcst as cst


class Rewriter(cst.CSTTransformer):
    """Applies the rules, from the leaves upward."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.tapes = Tapes(script)
        self.files = saving.Files(script)
        self.results = results.Results(script)
        self.freezing = freezing.Freezing(script)
        self.sharing = sharing.Sharing(script)
        self._dropped: set[cst.CSTNode] = set()

    def run(self) -> cst.Module:
        """The script with everything rewritten but its imports."""
        return self.script.module.visit(self)

    # Names

    def visit_Import(self, node: cst.Import) -> bool:
        imports.check(self.script, node)
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        imports.check(self.script, node)
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        return dotted(node) is None or self._root_means_nothing(node)

    def _root_means_nothing(self, node: cst.Attribute) -> bool:
        return self.script.of(node) is None

    def leave_Attribute(self, original: Any, updated: Any) -> Any:
        if original in self.script.claimed:
            return updated
        if dotted(original) is None:
            return self._plain_attribute(original, updated)
        if self.script.names.quiet(original) is None:
            return self._plain_attribute(original, updated)
        return names.rewrite(self.script, original)

    def _plain_attribute(self, original, updated):
        updated = rates.attribute(self.script, original, updated)
        if original.attr.value == "metrics_names":
            return results.names(self.script, original, updated)
        return shapes.attribute(self.script, original, updated)

    def leave_Name(self, original: Any, updated: Any) -> Any:
        if original in self.script.claimed or self._is_no_value(original):
            return updated
        if self.script.names.may_be_starred(original):
            self.script.todo(
                original,
                "it may be of an import of everything",
                "import it by its name",
            )
        if original in self.script.read_in_tapes:
            helper = self.script.target(methods.TO_NUMPY)
            return cst.parse_expression(f"{helper}({original.value})")
        return names.rewrite(self.script, original)

    def _is_no_value(self, node: cst.Name) -> bool:
        """Whether a name is bound here, or is that of an argument."""
        parent = self.script.names.parents.get(node)
        return (
            isinstance(
                parent,
                (
                    cst.AssignTarget,
                    cst.Param,
                    cst.AsName,
                    cst.NameItem,
                    cst.FunctionDef,
                    cst.ClassDef,
                ),
            )
            or (isinstance(parent, cst.Arg) and parent.keyword is node)
            or (isinstance(parent, cst.Attribute) and parent.attr is node)
            or (isinstance(parent, cst.For) and parent.target is node)
        )

    # Calls

    def visit_Call(self, node: cst.Call) -> None:
        name = dotted(node.func) and self.script.names.quiet(node.func)
        if not name:
            return
        if (
            name in tensorflow.HANDLERS
            or name in operations.OPERATIONS
            or name in tensorflow.FUNCTIONS
        ):
            self._claim(node.func)

    def _claim(self, node: cst.CSTNode) -> None:
        while isinstance(node, cst.Attribute):
            self.script.claimed.add(node)
            node = node.value
        self.script.claimed.add(node)

    def leave_Call(self, original: Any, updated: Any) -> Any:
        if original in self.tapes.names:
            return cst.parse_expression(self.tapes.names[original])
        script = self.script
        updated = slashes.rewrite(script, original, updated)
        name = dotted(original.func) and script.names.quiet(original.func)
        if not name:
            updated = calling.by_name(self.script, original, updated)
            updated = calling.constructed(self.script, original, updated)
            updated = rates.asked(self.script, original, updated)
            return self._method(original, updated)
        updated = draws.seeded(script, original, updated, name)
        updated = draws.initializer(script, original, updated, name)
        updated = variables.as_arrays(script, original, updated, name)
        for rule in (tensorflow.rewrite, operations.rewrite):
            done = rule(script, original, updated, name)
            if done is not None:
                return done
        if name.split(".")[0] == "keras":
            updated = arguments.rewrite(script, original, updated, name)
            if isinstance(updated, cst.Call):
                done = self.files.rewrite(original, updated, name) or updated
                done = states.rewrite(script, original, done, name)
                return self.sharing.made(original, done)
        begins = name.startswith(tensorflow.DATASET + ".")
        if begins and not tensorflow.is_dataset(name):
            script.todo(
                original.func,
                f"`{name.rpartition('.')[2]}` of tf.data",
                "write it with Grain",
            )
        return self.files.asked(original, updated)

    def _method(self, original, updated):
        if not isinstance(updated.func, cst.Attribute):
            return self.files.asked(original, updated)
        several = self.results.several
        updated = compiling.rewrite(self.script, original, updated, several)
        updated = self.sharing.argument(original, updated)
        updated = self.files.asked(original, updated)
        done = self.files.rewrite(original, updated, None)
        done = done or self.freezing.rewrite(original, updated)
        done = done or compiled.call(self.script, original, updated)
        if done is not None:
            return done
        updated = training.eager(self.script, original, updated)
        method = updated.func.attr.value
        if method in tensorflow.NOT_OF_DATASETS and self._has_datasets():
            self.script.todo(
                original.func, f"`{method}` of tf.data", "write it with Grain"
            )
        if method in ("assign", "assign_add", "assign_sub"):
            return variables.assign(self.script, original, updated)
        method_now = methods.rewrite(self.script, original, updated)
        return self.results.rewrite(original, method_now)

    def _has_datasets(self) -> bool:
        return "tf.data" in self.script.text

    def leave_Subscript(self, original: Any, updated: Any) -> Any:
        return rates.entry(self.script, original, updated)

    def leave_SimpleString(self, original: Any, updated: Any) -> Any:
        return texts.rewrite(self.script, original, updated)

    def leave_DictComp(self, original: Any, updated: Any) -> Any:
        return compiled.logs(self.script, original, updated)

    # Statements

    def leave_Assign(self, original: Any, updated: Any) -> Any:
        name = self.script.restored.get(original.value)
        if name is None:
            return updated
        path = self.script.code(updated.value.args[0].value)
        return cst.Expr(cst.parse_expression(f"{name}.load_weights({path})"))

    def leave_Expr(self, original: Any, updated: Any) -> Any:
        name = self.script.rebound.get(original.value)
        if name is None:
            return updated
        target = cst.AssignTarget(cst.Name(name))
        return cst.Assign([target], updated.value)

    def leave_Decorator(self, original: Any, updated: Any) -> Any:
        if self._compiles(original):
            tensorflow.said(self.script, original)
            return cst.RemoveFromParent()
        if own_gradients.is_plain(self.script, original):
            inner = original.decorator
            now = names.written(self.script, inner, own_gradients.NOW)
            return updated.with_changes(decorator=now)
        return updated

    def visit_Decorator(self, node: cst.Decorator) -> bool:
        plain = own_gradients.is_plain(self.script, node)
        return not plain and not self._compiles(node)

    def _compiles(self, node: cst.Decorator) -> bool:
        """Whether it is `tf.function`, with arguments or without."""
        inner = node.decorator
        func = inner.func if isinstance(inner, cst.Call) else inner
        known = dotted(func) and self.script.names.quiet(func)
        return known in tensorflow.FUNCTIONS

    def leave_FunctionDef(self, original: Any, updated: Any) -> Any:
        updated = training.method(self.script, original, updated)
        updated = draws.lent(self.script, original, updated)
        return self._commented(original, updated)

    def leave_ClassDef(self, original: Any, updated: Any) -> Any:
        if original in self.script.drawing:
            updated = training.with_seeds(self.script, updated)
        updated = training.built_by_itself(self.script, original, updated)
        updated = weights.in_order(self.script, original, updated)
        return self._commented(original, updated)

    def leave_With(self, original: Any, updated: Any) -> Any:
        plan = self.tapes.plans.get(original)
        if plan is None:
            return self._commented(original, updated)
        updated = self._commented(original, updated)
        return cst.FlattenSentinel(built(self.script, plan, updated))

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> bool:
        if all(setup.is_dropped(self.script, each) for each in node.body):
            self._dropped.add(node)
            return False
        return True

    def leave_SimpleStatementLine(self, original: Any, updated: Any) -> Any:
        if original in self.tapes.removed:
            return removed(updated)
        if original in self._dropped:
            self.script.done(original, "left out: it sets TensorFlow up")
            return removed(updated)
        if self._is_alias_of_itself(updated) or self._is_spent(original):
            return removed(updated)
        updated = self._commented(original, updated)
        before = self.script.preceding.get(original)
        if before is not None:
            line = cst.parse_statement(before)
            line = line.with_changes(leading_lines=updated.leading_lines)
            rest = updated.with_changes(leading_lines=[])
            return cst.FlattenSentinel([line, rest])
        return self._with_input(original, updated)

    def _is_spent(self, original) -> bool:
        """`nn = tf.nn`: every use of it was written out."""
        for each in original.body:
            if not isinstance(each, cst.Assign) or not dotted(each.value):
                return False
            name = self.script.names.quiet(each.value)
            if name not in names.MODULES:
                return False
        return True

    def _is_alias_of_itself(self, updated) -> bool:
        return all(
            isinstance(each, cst.Assign)
            and len(each.targets) == 1
            and dotted(each.value) is not None
            and dotted(each.targets[0].target) == dotted(each.value)
            for each in updated.body
        )

    def _with_input(self, original, updated):
        """`model.add(Input)` before the layer that asked for its shape."""
        body: list[Any] = []
        for old, new in zip(original.body, updated.body, strict=False):
            text = self._input_before(old)
            line: Any = text and cst.parse_statement(text)
            if line and len(original.body) == 1:
                line = line.with_changes(leading_lines=updated.leading_lines)
                rest = updated.with_changes(leading_lines=[])
                return cst.FlattenSentinel([line, rest])
            body += [*line.body, new] if line else [new]
        return updated.with_changes(body=body)

    def _input_before(self, statement) -> str | None:
        """The text of `model.add(Input)`, where a layer needs one."""
        call = getattr(statement, "value", None)
        if not (isinstance(call, cst.Call) and call.args):
            return None
        text = self.script.inputs.get(call.args[0].value)
        return text and f"{self.script.code(call.func)}({text})"

    def leave_List(self, original: Any, updated: Any) -> Any:
        elements = []
        for old, new in zip(original.elements, updated.elements, strict=False):
            text = self.script.inputs.get(old.value)
            if text is not None:
                comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
                elements.append(cst.Element(cst.parse_expression(text), comma))
            elements.append(new)
        if len(elements) == len(updated.elements):
            return updated
        return updated.with_changes(elements=elements)

    def leave_IndentedBlock(self, original: Any, updated: Any) -> Any:
        return tidied(updated)

    def leave_Module(self, original: Any, updated: Any) -> Any:
        return tidied(updated)

    def _commented(self, original, updated):
        """Put what differs above a statement."""
        texts = self.script.comments.get(original)
        if not texts:
            return updated
        lines = [
            cst.EmptyLine(comment=cst.Comment(f"# {text}")) for text in texts
        ]
        return updated.with_changes(
            leading_lines=[*updated.leading_lines, *lines]
        )

    leave_If = leave_For = leave_While = _commented  # noqa: N815
