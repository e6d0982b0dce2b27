"""A model as a pure function of its variables, for JAX's transformations."""

import re
from typing import Any

from keras_jax_ext.transforms.variables import Paths, nested

import jax
import keras
import numpy as np

# Addresses of objects, which two traces of one function do not share.
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def functional(
    model: keras.Model, *args: Any, **kwargs: Any
) -> tuple["Apply", dict[str, Any]]:
    """See a model as a pure function of its variables.

    The function may be given to any transformation of JAX: `jit`, `grad`,
    `vmap`, `hessian`, `scan`, `checkpoint`, `jax.export`. The model itself is
    not changed by it.

    Example:

    ```python
    apply, variables = kje.functional(model, x[:1])

    def loss(params):
        outputs = apply({**variables, "params": params}, x)
        return jnp.mean((outputs - y) ** 2)

    gradients = jax.grad(loss)(variables["params"])
    ```

    Args:
        model: Any Keras model, of ours or stock.
        *args: Inputs to build the model with. Not needed if it was built.
        **kwargs: Further arguments of `call`, to build it with.

    Returns:
        Pair of the function, an `Apply`, and the variables: a dict whose
        entries `"params"` (trained) and `"state"` (the rest) are nested dicts
        by layer and name, of arrays. JAX sorts the keys of dicts: find a
        variable by its name, not by its place.

    Raises:
        ValueError: If the model is not built and there are no inputs.
    """
    if not model.built or args or kwargs:
        _build(model, args, kwargs)
    paths = Paths.of(model)
    return Apply(model, paths), paths.values()


def _build(model, args, kwargs):
    if not (args or kwargs):
        raise ValueError(
            "A model has variables once it is built. Received: "
            f"{type(model).__name__} {model.name!r}, never called. Give a "
            "sample input: `functional(model, x[:1])`."
        )
    if not model.built:
        model(*args, **kwargs)


def assign(model: keras.Model, variables: dict[str, Any]) -> None:
    """Set the variables of a model to the values of a nested dict.

    Example:

    ```python
    kje.assign(model, {**variables, "params": params})
    ```

    Args:
        model: The model; unchanged if there is an error.
        variables: Dict, as `functional` returns it.

    Raises:
        ValueError: If a value is missing, unknown, or of another shape.
    """
    for variable, value in Paths.of(model).pairs(variables):
        variable.assign(value)


class Apply:
    """A model as a function of its variables and its inputs.

    Made by `functional`. `apply(variables, x)` infers; `apply.train` runs the
    model in training mode. Both are pure: no variable of the model changes.
    """

    def __init__(self, model: keras.Model, paths: Paths):
        self._owner = model
        self._paths = paths
        # The modes that were checked for state in Python.
        self._pure: set[bool] = set()

    def __call__(
        self,
        variables: dict[str, Any],
        *args: Any,
        rng: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Compute the outputs, in inference mode.

        Args:
            variables: Dict, as `functional` returns it.
            *args: Arguments of `call`.
            rng: Key of `jax.random`. Defaults to `None`, for a model that
                draws nothing in inference.
            **kwargs: Further arguments of `call`.

        Returns:
            The outputs.

        Raises:
            ValueError: If the variables do not match the model, if it draws
                and there is no `rng`, or if `call` keeps state in Python.
        """
        return self._run(False, variables, rng, args, kwargs)[0]

    def train(
        self,
        variables: dict[str, Any],
        *args: Any,
        rng: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Compute the outputs and the new state, in training mode.

        Args:
            variables: Dict, as `functional` returns it.
            *args: Arguments of `call`.
            rng: Key of `jax.random`. Defaults to `None`, for a model that
                draws nothing in training.
            **kwargs: Further arguments of `call`.

        Returns:
            Pair of the outputs and the new `"state"` of the variables.

        Raises:
            ValueError: As a call.
        """
        return self._run(True, variables, rng, args, kwargs)[:2]

    def losses(
        self,
        variables: dict[str, Any],
        *args: Any,
        rng: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Any], list[Any]]:
        """As `train`, with the losses that the layers add.

        Args:
            variables: Dict, as `functional` returns it.
            *args: Arguments of `call`.
            rng: Key of `jax.random`. Defaults to `None`.
            **kwargs: Further arguments of `call`.

        Returns:
            Tuple of the outputs, the new state, and a list of scalars: of
            `add_loss`, and of regularizers.

        Raises:
            ValueError: As a call.
        """
        return self._run(True, variables, rng, args, kwargs)

    def _run(self, training, variables, rng, args, kwargs):
        pairs = self._paths.pairs(variables)
        if training not in self._pure:
            self._check_pure(training, pairs, rng, args, kwargs)
            self._pure.add(training)
        return self._compute(training, pairs, rng, args, kwargs)

    def _compute(self, training, pairs, rng, args, kwargs):
        seeds = _seeds(self._paths, rng)
        with keras.StatelessScope(
            [*pairs, *seeds], collect_losses=True
        ) as scope:
            outputs = self._owner(*args, training=training, **kwargs)
            losses = list(self._owner.losses)
        if rng is None:
            self._check_drew_nothing(scope, training)
        given = {id(variable): value for variable, value in pairs}
        state = {}
        for path, variable in self._paths.state.items():
            value = scope.get_current_value(variable)
            state[path] = given[id(variable)] if value is None else value
        return outputs, nested(state), losses

    def _check_drew_nothing(self, scope, training):
        drew = [
            path
            for path, variable in self._paths.seeds.items()
            if scope.get_current_value(variable) is not None
        ]
        if drew:
            call = "apply.train" if training else "apply"
            raise ValueError(
                "A model that draws random numbers needs a key. Received: "
                f"rng=None, and draws from {drew}. Give one: "
                f"`{call}(variables, x, rng=jax.random.key(0))`."
            )

    def _check_pure(self, training, pairs, rng, args, kwargs):
        """Raise if `call` computes something else when it runs again."""
        variables = [variable for variable, _ in pairs]
        leaves, structure = jax.tree.flatten(
            ([value for _, value in pairs], rng, args, kwargs)
        )
        arrays = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype")]

        def compute(*given):
            filled = list(leaves)
            for i, leaf in zip(arrays, given, strict=True):
                filled[i] = leaf
            values, rng, args, kwargs = structure.unflatten(filled)
            pairs = list(zip(variables, values, strict=True))
            return self._compute(training, pairs, rng, args, kwargs)

        shapes = [
            jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype)
            for i in arrays
        ]
        first, second = (jax.make_jaxpr(compute)(*shapes) for _ in range(2))
        if not _same(first, second):
            raise ValueError(
                "A function of JAX's keeps no state in Python: each trace "
                "would be another function. Received: "
                f"{type(self._owner).__name__} {self._owner.name!r}, whose "
                "`call` computed something else when it was traced again. "
                "Keep the state in a variable, `self.add_weight(..., "
                "trainable=False)`, and draw from a `SeedGenerator`."
            )


def _seeds(paths, rng):
    """A state for each seed generator, drawn from a key."""
    if rng is None or not paths.seeds:
        return []
    keys = jax.random.split(rng, len(paths.seeds))
    return [
        (paths.seeds[path], jax.random.bits(key, (2,), "uint32"))
        for path, key in zip(sorted(paths.seeds), keys, strict=True)
    ]


def _same(first, second):
    """Whether two traces have the same operations and constants."""
    texts = (_ADDRESS.sub("", str(each.jaxpr)) for each in (first, second))
    if len({*texts}) > 1 or len(first.consts) != len(second.consts):
        return False
    return all(
        a is b or np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(first.consts, second.consts, strict=True)
    )
