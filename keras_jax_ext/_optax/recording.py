"""Transformations that remember how they were made, so they can be saved.

A transformation is a pair of closures, and closures cannot be saved. The
functions here return what optax returns, together with the call that made it.
"""

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from keras_jax_ext._optax.lazy import optax

RECIPE = "_keras_jax_ext_recipe"
# These make transformations, and optax does not annotate their results.
_UNANNOTATED = (
    "contrib.dog",
    "contrib.dowg",
    "contrib.hutchinson_estimator_diag_hessian",
    "monitor",
    "scale_by_factored_rms",
)
# Their results are called once more, as in `inject_hyperparams(adam)(1e-3)`.
FACTORIES = ("inject_hyperparams", "schedules.inject_hyperparams")


class Name:
    """A public name of optax, dotted, such as `"contrib.sam"`."""

    def __init__(self, name: str) -> None:
        self.name = name


class Call:
    """A call: the callee, and the arguments that it was called with."""

    def __init__(
        self,
        callee: "Recipe",
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        self.callee = callee
        self.args = args
        self.kwargs = kwargs


Recipe: TypeAlias = Name | Call


def _is_public(name, value):
    if isinstance(value, functools.partial):  # `optax.nadam` is one
        value = value.func
    module = getattr(value, "__module__", None) or value.__name__
    return not name.startswith("_") and str(module).startswith("optax.")


@functools.cache
def public_names() -> dict[str, Any]:
    """Return the public functions and classes of optax, by dotted name.

    No other name in a file is ever looked up.
    """
    top = vars(optax.module())
    found = {n: v for n, v in top.items() if callable(v) and _is_public(n, v)}
    for folder, module in top.items():
        if isinstance(module, types.ModuleType) and _is_public(folder, module):
            for name, value in vars(module).items():
                if callable(value) and _is_public(name, value):
                    found[f"{folder}.{name}"] = value
    return found


@functools.cache
def _names_by_id():
    # Where a function has several names, the first one counts.
    return {id(v): n for n, v in reversed(public_names().items())}


def name_of(value: Any) -> str | None:
    """Return the public name of a function or class of optax, or `None`."""
    recipe = recipe_of(value)
    if isinstance(recipe, Name):
        return recipe.name
    return _names_by_id().get(id(value))


@functools.cache
def makes(name: str) -> bool:
    """Whether calling a public name makes a part of an optimizer.

    Other functions of optax compute on arrays, and may call their arguments.
    """
    value = public_names().get(name)
    if value is None:
        return False
    if inspect.isclass(value):
        if issubclass(value, (optax.MultiSteps, optax.GradientTransformation)):
            return value is optax.MultiSteps
        return hasattr(value, "_fields") or hasattr(
            value, "__dataclass_fields__"
        )
    if value.__module__.startswith("optax.schedules") or (
        name in _UNANNOTATED or name in FACTORIES
    ):
        return True
    returned = inspect.signature(value).return_annotation
    return "GradientTransformation" in str(returned)


def recipe_of(value: Any) -> Recipe | None:
    """Return how `value` was made, or `None` if that is not known."""
    return getattr(value, RECIPE, None)


@functools.cache
def _recorded_type(kind: Any):
    """A class like `kind` whose instances are pickled as their recipes."""
    own = {
        "__doc__": kind.__doc__,
        "__reduce__": lambda self: (made_again, (_packed(self),)),
    }
    return type(kind.__name__, (kind,), own)


def _packed(value):
    """`value` with recipes in place of closures, which are not pickled."""
    recipe = recipe_of(value)
    if isinstance(recipe, Call):
        value = recipe
    if isinstance(value, Call):
        args, kwargs = _packed(value.args), _packed(value.kwargs)
        return Call(_packed(value.callee), args, kwargs)
    if isinstance(value, dict):
        return {k: _packed(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_packed, value))
    return value


def made_again(value: Any) -> Any:
    """Return the value that `_packed` was given, made by the same calls."""
    if isinstance(value, Name):
        return named(value.name)
    if isinstance(value, Call):
        args, kwargs = made_again(value.args), made_again(value.kwargs)
        return made_again(value.callee)(*args, **kwargs)
    if isinstance(value, dict):
        return {k: made_again(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(made_again, value))
    return value


def _remember(result, recipe):
    """`result`, with its recipe where it can carry one."""
    if isinstance(result, optax.GradientTransformation):
        kind: Any = type(result)
        result = _recorded_type(kind)(*result)
        setattr(result, RECIPE, recipe)
    elif isinstance(result, optax.MultiSteps):
        setattr(result, RECIPE, recipe)
    elif inspect.isfunction(result):
        return recorded(result, recipe)
    return result


def recorded(
    function: Callable[..., Any], recipe: Recipe
) -> Callable[..., Any]:
    """Return a function that does the same and remembers its calls."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        result = function(*args, **kwargs)
        return _remember(result, Call(recipe, args, kwargs))

    setattr(wrapper, RECIPE, recipe)
    return wrapper


@functools.cache
def named(name: str) -> Callable[..., Any]:
    """Return the function of optax of this name, which remembers its calls.

    There is one for each name: pickle writes the name, and looks it up in
    `keras_jax_ext.optax`.
    """
    function: Any = recorded(public_names()[name], Name(name))
    function.__module__, function.__qualname__ = "keras_jax_ext.optax", name
    return function


class Namespace(types.ModuleType):
    """A module of optax whose functions remember their calls."""

    def __init__(self, name: str, module: types.ModuleType) -> None:
        super().__init__(name, module.__doc__)
        self._module = module
        self._prefix = name.partition(".")[2]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        path = f"{self._prefix}.{name}" if self._prefix else name
        if isinstance(value, types.ModuleType):
            return Namespace(f"optax.{path}", value)
        is_class = inspect.isclass(value) and path != "MultiSteps"
        if is_class or not callable(value) or not makes(path):
            return value
        return named(path) if path in public_names() else value

    def __dir__(self) -> list[str]:
        return dir(self._module)


def learning_rates(recipe: Recipe | None) -> list[Any]:
    """Return the values given as `learning_rate` anywhere in a recipe."""
    if not isinstance(recipe, Call):
        return []
    found = [
        rate
        for part in (*recipe.args, *recipe.kwargs.values())
        for each in (part.values() if isinstance(part, dict) else [part])
        for rate in learning_rates(recipe_of(each))
    ]
    if isinstance(recipe.callee, Name):
        signature = inspect.signature(public_names()[recipe.callee.name])
        bound = signature.bind(*recipe.args, **recipe.kwargs)
        bound.apply_defaults()
        if bound.arguments.get("learning_rate") is not None:
            found.append(bound.arguments["learning_rate"])
    return found
