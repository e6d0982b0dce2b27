"""Give a callable its arguments by name, or say which it cannot have."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

NAMES = (
    "x",
    "y_true",
    "y_pred",
    "sample_weight",
    "class_weight",
    "training",
    "parameters",
    "states",
    "apply",
)
# What the losses of `kje.Update` may ask for too.
UPDATE_NAMES = (*NAMES, "model", "rng")
# These may be absent when asked for; any other must be there.
_OPTIONAL = ("sample_weight", "class_weight")


class Binding(NamedTuple):
    """A callable and the names it asks for, read once from its signature.

    Attributes:
        function: The callable.
        what: How messages call it.
        positional: Names that it takes by position only.
        keywords: Names that it takes by keyword.
        required: Those of either that have no default.
    """

    function: Callable[..., Any]
    what: str
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    required: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that the callable asks for."""
        return self.positional + self.keywords

    def __call__(self, given: Mapping[str, Any]) -> Any:
        """Call the callable with the entries of `given` that it asks for."""
        for name in self.required:
            if name not in _OPTIONAL and given.get(name) is None:
                raise ValueError(_absent(self.what, name))
        # An absent value leaves a parameter at its default, if it has one.
        keywords = {
            name: given.get(name)
            for name in self.keywords
            if name in self.required or given.get(name) is not None
        }
        positional = [given.get(name) for name in self.positional]
        return self.function(*positional, **keywords)


def _absent(what, name):
    if name == "y_true":
        return (
            f"{what} asks for `y_true`, and there are no labels. Received: "
            "y=None. Pass `y`, or take `y_true` out of the signature."
        )
    return (
        f"{what} asks for `{name}`, and only a model of keras_jax_ext knows "
        f"it. Received: {name}=None. Use keras_jax_ext.Model, or "
        "keras_jax_ext.extend(model)."
    )


def bind(
    function: Callable[..., Any], what: str, names: Sequence[str] = NAMES
) -> Binding:
    """Read the signature of `function`.

    Args:
        function: Function, bound method, partial or callable object.
        what: How messages call it.
        names: The names that can be given. Defaults to `NAMES`.

    Raises:
        ValueError: If it requires an argument whose name is not in `names`.
    """
    positional: list[str] = []
    keywords: list[str] = []
    required: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        needed = parameter.default is parameter.empty
        if name not in names:
            if needed:
                raise ValueError(_unknown(function, what, name, names))
            continue
        only = parameter.kind is parameter.POSITIONAL_ONLY
        (positional if only else keywords).append(name)
        if needed:
            required.append(name)
    return Binding(
        function, what, tuple(positional), tuple(keywords), tuple(required)
    )


def _unknown(function, what, name, names):
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return (
        f"{what} requires an argument that cannot be given by name. Received: "
        f"`{name}` in {inspect.signature(function)}.{hint} The names are: "
        f"{', '.join(names)}. Rename it, or give it a default."
    )


def takes_labels_and_outputs(function: Callable[..., Any]) -> bool:
    """Whether `function` is Keras's `f(y_true, y_pred)`, by position.

    A function that takes two positional arguments is, whatever their names;
    unless all that it requires are names of ours, other than these two.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    kinds = {p.kind for p in parameters}
    pair = [
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ][:2]
    required = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return set(required) <= set(pair)
    if len(pair) < 2 or not set(required) <= set(pair):
        return False
    return set(pair) == {"y_true", "y_pred"} or not (
        required and set(required) <= set(NAMES)
    )
