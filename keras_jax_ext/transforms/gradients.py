"""Gradients by hand: what `tf.GradientTape` did, for any Keras variables."""

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from keras_jax_ext.transforms.programs import Compiled, Scope

import jax
import jax.numpy as jnp
import keras


def value_and_grad(
    function: Callable[..., Any],
    variables: Any,
    *,
    has_aux: bool = False,
    jit: bool = False,
    unconnected_gradients: str = "zero",
) -> Callable[..., Any]:
    """See a function of Keras models as its value and its gradients.

    For loops written by hand. The function may call models and layers in
    training mode, and update metrics: what it writes to variables (moving
    averages, seeds, counts) is written to them, as without gradients. Inside
    another transformation of JAX, or another `value_and_grad`, it works too.
    A call that builds the model runs the function twice; lists, dicts and sets
    outside of it then hold what the second run gives them.

    Example:

    ```python
    def loss(x, y):
        return jnp.mean((model(x, training=True) - y) ** 2)

    step = kje.value_and_grad(loss, model.trainable_variables, jit=True)
    value, gradients = step(x, y)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.apply(gradients, model.trainable_variables)
    ```

    Args:
        function: Function that returns the value to differentiate. Of a value
            that is no scalar, the sum is differentiated.
        variables: List of variables, or any structure of them; or a function
            that returns it, for a model that the first call builds. An entry
            may be an array that is also an argument of the call: the gradient
            is then by that argument. A tuple of such structures stands for
            several values, one for each: `function` returns a tuple of them.
        has_aux: Boolean. Whether `function` returns a pair of the value and
            anything else, which is handed on; with `jit=True`, arrays and
            structures of them. Defaults to `False`.
        jit: Boolean. Whether to compile the function, once for each shape of
            the arguments. Numbers and strings outside of the arguments are
            then constants, as in `jax.jit`. Defaults to `False`.
        unconnected_gradients: String, `"zero"` or `"none"`: what stands for
            the gradient by a variable that the function does not read, zeros
            or `None`. Defaults to `"zero"`.

    Returns:
        Function of the same arguments that returns the value, or the pair of
        `has_aux`, and the gradients in the structure of `variables`. By
        variables that are read, and that the value does not depend on, they
        are zeros.

    Raises:
        ValueError: If there are no variables, one that is neither a variable
            nor an argument, or none that the function reads, but for
            `unconnected_gradients="none"`; if that is another string; if the
            function returns no pair for `has_aux`, or no value for each
            structure.
        TypeError: If the value is no float and no array of floats.
    """
    if unconnected_gradients not in ("zero", "none"):
        raise ValueError(
            "What stands for a gradient by an unread variable is zeros, or "
            "nothing. Received: "
            f"unconnected_gradients={unconnected_gradients!r}. Give "
            '"zero" or "none".'
        )
    options = has_aux, unconnected_gradients == "none"
    if jit:
        return _CompiledStep(function, variables, options)

    def step(*args: Any, **kwargs: Any) -> Any:
        return _differentiated(function, variables, options, args, kwargs)

    return step


def _differentiated(function, variables, options, args, kwargs):
    """The value and the gradients, once the variables are known."""
    given = _given(variables)
    while True:
        put_back = _contents(function)
        outcome = _once(function, given, options, args, kwargs)
        now = _given(variables)
        if [id(v) for v in keras.tree.flatten(now)] == [
            id(v) for v in keras.tree.flatten(given)
        ]:
            break
        given = now  # the call has built a model
        put_back()  # it is run once more
    if not keras.tree.flatten(given):
        raise ValueError(
            "Gradients are by variables. Received: variables=[]. If the first "
            "call builds the model, give a function: `lambda: "
            "model.trainable_variables`."
        )
    outputs, gradients, written, check = outcome
    check()  # now: the first run may have built what is read
    for variable, value in written:
        variable.assign(value)
    return outputs, gradients


def _contents(function):
    """Note what outer lists and dicts hold; a function that puts it back."""
    code = getattr(function, "__code__", None)
    if code is None:
        return lambda: None
    found = [function.__globals__.get(name) for name in code.co_names]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is empty yet
            found.append(cell.cell_contents)
    held = [
        (each, each.copy())
        for each in found
        if type(each) in (list, dict, set, deque)
    ]

    def put_back():
        for each, copy in held:
            each.clear()
            add = each.extend if hasattr(each, "extend") else each.update
            add(copy)

    return put_back


def _given(variables):
    """The structures of variables; functions that return them are called."""
    if callable(variables) and not isinstance(variables, keras.Variable):
        return variables()
    if isinstance(variables, tuple):
        return tuple(_given(v) for v in variables)
    return variables


def _once(function, given, options, args, kwargs):
    has_aux, without_zeros = options
    groups = given if isinstance(given, tuple) else (given,)
    leaves = keras.tree.flatten(list(groups))
    differentiated = _Sources(leaves, args)
    several = isinstance(given, tuple)
    aside: list[Any] = []

    def pure(values, arrays):
        filled = differentiated.fill(args, arrays)
        with Scope(differentiated.pairs(values)) as scope:
            outputs = function(*filled, **kwargs)
        value, aux = _pair(outputs) if has_aux else (outputs, None)
        losses = _several(value, len(groups)) if several else (value,)
        losses = tuple(map(_differentiable, losses))
        differentiated.note_unread(scope.read)
        arrays_out, rest = _parted((value, aux))
        written = list(scope.written.values())
        aside[:] = [rest, written]
        new = [scope.get_current_value(v) for v in written]
        return losses, (arrays_out, new)

    losses, pull_back, (arrays_out, new) = jax.vjp(
        pure, *differentiated.values(args), has_aux=True
    )
    rest, written = aside
    value, aux = _joined(arrays_out, rest)
    gradients = [
        differentiated.gradients(
            group, pull_back(_one_of(losses, i)), without_zeros
        )
        for i, group in enumerate(groups)
    ]
    outputs = (value, aux) if has_aux else value
    result = tuple(gradients) if several else gradients[0]
    check = differentiated.check_read if not without_zeros else lambda: None
    return outputs, result, list(zip(written, new, strict=True)), check


def _pair(outputs):
    if isinstance(outputs, (tuple, list)) and len(outputs) == 2:
        return outputs
    raise ValueError(
        "With `has_aux=True` a function returns a pair: the value, and "
        f"anything else. Received: {outputs!r} (of type "
        f"{type(outputs).__name__}). Return `value, other`."
    )


def _several(value, count):
    if isinstance(value, (tuple, list)) and len(value) == count:
        return value
    raise ValueError(
        "For a tuple of variables a function returns a tuple of as many "
        f"values. Received: {value!r} (of type {type(value).__name__}) for "
        f"{count} structures of variables. Return a value for each, or give "
        "the variables as one list."
    )


def _differentiable(value):
    """The value as an array of floats."""
    try:
        array = None if isinstance(value, str) else jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is not None and jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    kind = type(value).__name__ if array is None else array.dtype
    raise TypeError(
        "What is differentiated is a float, or an array of floats. Received: "
        f"{value!r} (of type {kind}). Return the loss, and what is beside it "
        "by `has_aux=True`."
    )


def _one_of(losses, place):
    """Ones for one of the losses, zeros for the others."""
    return tuple(
        jnp.ones_like(loss) if i == place else jnp.zeros_like(loss)
        for i, loss in enumerate(losses)
    )


class _Sources:
    """What to differentiate by: variables, and arguments."""

    def __init__(self, leaves: Sequence[Any], args: Sequence[Any]) -> None:
        self.variables: list[Any] = []
        self.places: list[int] = []
        self.unread: set[int] = set()
        for leaf in leaves:
            if isinstance(leaf, keras.Variable):
                if all(leaf is not v for v in self.variables):
                    self.variables.append(leaf)
            else:
                self.places.append(_place(leaf, args))
        self.places = sorted(set(self.places))
        self._args = args

    def values(self, args):
        """Arrays of the variables and of the arguments."""
        values = [v.value for v in self.variables]
        return values, [jnp.asarray(args[i]) for i in self.places]

    def pairs(self, values):
        """Each variable with its value."""
        return list(zip(self.variables, values, strict=True))

    def note_unread(self, read):
        """Note which variables have nothing to do with the function."""
        self.unread = {id(v) for v in self.variables if id(v) not in read}

    def check_read(self):
        """Refuse variables, if none has to do with the function."""
        if self.places or not self.variables:
            return
        if len(self.unread) == len(self.variables):
            names = [v.path for v in self.variables[:3]]
            raise ValueError(
                "Gradients are by variables that the function reads, and it "
                f"reads none of these. Received: variables={names}. Give those "
                "of the model that it calls."
            )

    def fill(self, args, arrays):
        """The arguments, some of them replaced."""
        filled = list(args)
        for place, array in zip(self.places, arrays, strict=True):
            filled[place] = array
        return filled

    def gradients(self, group, pulled, without_zeros):
        """The gradients in the structure of the variables."""
        by_variable, by_argument = pulled
        known = {
            id(v): g for v, g in zip(self.variables, by_variable, strict=True)
        }
        for place, g in zip(self.places, by_argument, strict=True):
            known[id(self._args[place])] = g
        if without_zeros:
            known |= dict.fromkeys(self.unread)
        return keras.tree.map_structure(lambda v: known[id(v)], group)


def _place(leaf, args):
    for place, arg in enumerate(args):
        if arg is leaf:
            return place
    raise ValueError(
        "Gradients are by variables, or by arguments of the call. Received: "
        f"{leaf!r} (of type {type(leaf).__name__}). Give it to the function as "
        "an argument."
    )


def _parted(tree):
    """Arrays of a structure, and a function's worth of the rest."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [x for x in leaves if isinstance(x, jax.Array)]
    return arrays, (leaves, structure)


def _joined(arrays, rest):
    """A structure with its arrays put back."""
    leaves, structure = rest
    left = iter(arrays)
    filled = [next(left) if isinstance(x, jax.Array) else x for x in leaves]
    return structure.unflatten(filled)


class _CompiledStep:
    """A step as one program, another when it is by other variables."""

    def __init__(self, function, variables, options):
        self._by = variables
        self._wanted: list[int] = []
        self._run = Compiled(
            lambda *args, **kwargs: _differentiated(
                function, variables, options, args, kwargs
            )
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Others than before: the model has grown, or a part was frozen.
        if self._wanted != self._sought():
            self._run.forget()
        result = self._run(*args, **kwargs)
        self._wanted = self._sought()
        return result

    def _sought(self):
        """The variables to differentiate by, as they are now."""
        leaves = keras.tree.flatten(_given(self._by))
        return [id(v) for v in leaves if isinstance(v, keras.Variable)]
