"""A model as a pure function of its variables, for JAX's transformations."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from keras_jax_ext._xla import purity
from keras_jax_ext.transforms.variables import Paths, nested

import jax
import keras


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
    _, variables = kje.functional(model, x[:1])
    halved = jax.tree.map(lambda a: 0.5 * a, variables["params"])
    kje.assign(model, {**variables, "params": halved})
    ```

    Args:
        model: The model; unchanged if there is an error.
        variables: Dict, as `functional` returns it.

    Raises:
        ValueError: If a value is missing, unknown, or of another shape.
    """
    for variable, value in Paths.of(model).pairs(variables):
        variable.assign(value)


def bound(
    model: Any, training: bool, values: Sequence[Any]
) -> Callable[..., Any]:
    """A model as a function of its inputs alone.

    The function is pure, so that JAX differentiates it by the inputs and by
    the values: whatever `call` assigns is dropped, and each call draws the
    same random numbers.

    Args:
        model: A built model.
        training: Boolean, the mode.
        values: Arrays for the trainable variables, and for the others.
    """
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    pairs = list(zip(variables, values, strict=True))

    def apply(*args, **kwargs):
        with keras.StatelessScope(pairs, collect_losses=True):
            return model(*args, training=training, **kwargs)

    return apply


class Apply:
    """A model as a function of its variables and its inputs.

    Made by `functional`. `apply(variables, x)` infers; `apply.train` runs the
    model in training mode. Both are pure: no variable of the model changes.

    Example:

    ```python
    apply, variables = kje.functional(model, x[:1])
    outputs = jax.jit(apply)(variables, x)
    outputs, state = apply.train(variables, x, rng=jax.random.key(0))
    variables = {**variables, "state": state}
    ```
    """

    def __init__(self, model: keras.Model, paths: Paths) -> None:
        self._owner = model
        self._paths = paths
        # By the kind of a call, paths of the seeds that its outputs need.
        self._needs: dict[Hashable, list[str]] = {}

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
            Pair of the outputs and the new `"state"` of the variables. As in
            `fit`, a value that `call` assigns to a trained variable is
            dropped (`SpectralNormalization` does so).

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
        needs = self._checked(training, pairs, args, kwargs)
        if needs and rng is None:
            call = "apply.train" if training else "apply"
            raise ValueError(
                "A model that draws random numbers needs a key. Received: "
                f"rng=None, and draws from {needs}. Give one: "
                f"`{call}(variables, x, rng=jax.random.key(0))`."
            )
        seeds = self._seeds(rng)
        return self._compute(training, pairs, seeds, args, kwargs)

    def _seeds(self, rng):
        """A value for each seed generator, drawn from a key."""
        paths = sorted(self._paths.seeds)
        if rng is None:  # nothing depends on them
            return [jax.numpy.zeros(2, "uint32") for _ in paths]
        keys = jax.random.split(rng, len(paths)) if paths else ()
        return [jax.random.bits(key, (2,), "uint32") for key in keys]

    def _compute(self, training, pairs, seeds, args, kwargs):
        drawn = [self._paths.seeds[path] for path in sorted(self._paths.seeds)]
        mapping = [*pairs, *zip(drawn, seeds, strict=True)]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            outputs = self._owner(*args, training=training, **kwargs)
            losses = list(self._owner.losses)
        state = {
            path: scope.get_current_value(variable)
            for path, variable in self._paths.state.items()
        }
        return outputs, nested(state), losses

    def _checked(self, training, pairs, args, kwargs):
        """Trace twice, once for each kind of call.

        Returns:
            Paths of the seeds that the outputs depend on.

        Raises:
            ValueError: If the second trace is not the first again.
        """
        values = [value for _, value in pairs]
        structure: Any
        leaves, structure = jax.tree.flatten(
            (values, self._seeds(None), args, kwargs)
        )
        places = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype")]
        plain = [repr(v) for v in leaves if not hasattr(v, "dtype")]
        kind = training, structure, tuple(plain)
        if kind in self._needs:
            return self._needs[kind]

        def compute(*given):
            filled = list(leaves)
            for i, leaf in zip(places, given, strict=True):
                filled[i] = leaf
            values, seeds, args, kwargs = structure.unflatten(filled)
            known = [(v, x) for (v, _), x in zip(pairs, values, strict=True)]
            return self._compute(training, known, seeds, args, kwargs)

        shapes = [
            jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype)
            for i in places
        ]
        first, second = (purity.trace(compute, shapes) for _ in range(2))
        if not purity.same(first, second):
            raise ValueError(
                "A function of JAX's keeps no state in Python: each trace "
                "would be another function. Received: "
                f"{type(self._owner).__name__} {self._owner.name!r}, whose "
                "`call` computed something else when it was traced again. "
                "Keep the state in a variable, `self.add_weight(..., "
                "trainable=False)`, and draw from a `SeedGenerator`."
            )
        used = dict(zip(places, purity.used_inputs(first), strict=True))
        seeds = enumerate(sorted(self._paths.seeds), len(values))
        self._needs[kind] = [path for place, path in seeds if used[place]]
        return self._needs[kind]
