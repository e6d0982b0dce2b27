"""The optimizers of several updates, where Keras keeps its one."""

import contextlib
import warnings
import weakref
from collections.abc import Sequence
from typing import Any, Self

from keras_jax_ext import _keras, optimizers
from keras_jax_ext._by_name import entries
from keras_jax_ext._by_name.binding import Binding
from keras_jax_ext._by_name.naming import take_name
from keras_jax_ext._training import places
from keras_jax_ext._training.updates import MovingAverage, Update
from keras_jax_ext.losses import Loss
from keras_jax_ext.optimizers._optax_optimizer import custom_objects as held_by

import jax.numpy as jnp
import keras

# A variable that an update changes, and the one that it follows, if any.
Pair = tuple[keras.Variable, keras.Variable | None]


class _Owners:
    """The optimizer of each variable, as `MultiOptimizer` asks for it."""

    def __init__(self, every: Sequence[Any]) -> None:
        self.every = every
        self.by_id: dict[int, Any] = {}

    def values(self) -> Sequence[Any]:
        return self.every

    def __call__(self, variable: keras.Variable) -> Any:
        return self.by_id[id(variable)]


@keras.saving.register_keras_serializable("keras_jax_ext")
class Updates(_keras.Several):
    """Stands where Keras keeps its optimizer, and holds those of the updates.

    `compile` makes it. The step of a model runs each optimizer itself; Keras
    and its callbacks find the state and the learning rates here.

    Args:
        updates: List of `Update` and `MovingAverage`.
        name: String. Defaults to `None`, an automatic name.

    Attributes:
        seed: Variable of shape `(2,)`: the seed of the keys that losses are
            given, and how many were. The key with the number n is
            `jax.random.fold_in(jax.random.key(seed), n)`.
    """

    def __init__(self, updates: Sequence[Any], name: str | None = None) -> None:
        _check(updates)
        every = [u.optimizer for u in updates if isinstance(u, Update)]
        owners: Any = _Owners(every)
        super().__init__(owners, name=name)
        self._owners = owners
        self.updates = tuple(updates)
        first = keras.random.SeedGenerator().state.value
        self.seed = self.add_variable(
            shape=(2,),
            initializer=lambda shape, dtype=None: jnp.array(first, copy=True),
            dtype="uint32",
            name="seed",
        )
        self._compiled: Any = None  # a weak reference, once one is compiled

    def losses(self) -> list[tuple[str, Loss, Binding]]:
        """Tuples `(name in the logs, loss, binding)`, for the objective."""
        taken: set[str] = set()
        return [
            (take_name(f"{u.name}_loss", taken), u.loss, u.binding)
            for u in self.updates
            if isinstance(u, Update)
        ]

    def bind(self, model: Any) -> None:
        """Find the variables of the updates in a model from now on.

        Args:
            model: The model.

        Raises:
            ValueError: If a loss asks for outputs that the model has not; if
                it is built, as `changed`.
        """
        if not has_forward_pass(model):
            for name, _, binding in self.losses():
                if "y_pred" in binding.required:
                    raise ValueError(
                        "A model without a `call` has no outputs. Received: "
                        f"`y_pred` in {name!r} of {type(model).__name__} "
                        f"{model.name!r}. Ask for `model`, and call its parts."
                    )
        if is_ready(model):
            try:
                changed(self.updates, model)
            except ValueError:
                # Layers that `call` declares may be missing: `build` looks
                # again.
                if model.built or not getattr(model, "_declares", False):
                    raise
            else:
                # Though nothing has called it: Keras reads an optimizer's
                # state from the file of a built model only.
                model.built = True
        self._compiled = weakref.ref(model)

    def calls(self, model: Any) -> bool:
        """Whether the model is called, and not only its parts.

        Args:
            model: The model that is compiled with this.
        """
        known = _keras.compiled_loss(model)
        asked = "y_pred" in known.names or _keras.has_stock_metrics(model)
        return asked and has_forward_pass(model)

    def changed(self) -> list[list[Pair]]:
        """The variables that each update changes, see `changed` below."""
        model = self._compiled and self._compiled()
        if model is None:
            raise self._strange()
        return changed(self.updates, model)

    def _strange(self):
        return ValueError(
            "Updates belong to the model that is compiled with them. Received: "
            f"{self.name!r}, for another model. Use "
            "`model.compile(updates=[...])` of a kje model."
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state of each optimizer.

        Args:
            variables: The trainable variables of the model.
        """
        if self.built:
            return
        found = self.changed()
        covered = {id(v) for pairs in found for v, _ in pairs}
        left = [v.path for v in variables if id(v) not in covered]
        if left and len(left) < len(variables):
            warnings.warn(
                "A trainable variable that no update changes stays as it is. "
                f"Received: {left[:5]} in no update. If this is meant, set "
                "`layer.trainable = False`.",
                stacklevel=2,
            )
        self._owners.by_id = {
            id(variable): update.optimizer
            for update, pairs in zip(self.updates, found, strict=True)
            for variable, _ in pairs
            if isinstance(update, Update)
        }
        owned = self._owned(variables)
        if len(owned) < len(self._owners.by_id):
            raise self._strange()
        super().build(owned)

    def _owned(self, variables):
        return [v for v in variables if id(v) in self._owners.by_id]

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """As Keras's, for the variables that an optimizer updates."""
        super().finalize_variable_values(self._owned(var_list))

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Refuse: there is no one gradient for all updates."""
        del grads, trainable_variables
        raise ValueError(
            "Updates have a loss each, and only the `train_step` of a kje "
            f"model runs them. Received: a gradient for {self.name!r}. Call "
            "`fit` of the model that was compiled with them."
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        serialize = keras.saving.serialize_keras_object
        updates = [serialize(update) for update in self.updates]
        return {"updates": updates, "name": self.name}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> Self:
        """Make the updates from `get_config()`.

        Args:
            config: Dict.
            custom_objects: As in `keras.saving.load_model`.
        """
        # A scope of none would hide those of the scope around it.
        scope = contextlib.nullcontext()
        if custom_objects:
            scope = keras.saving.custom_object_scope(custom_objects)
        with scope:
            updates = entries.read("updates", config, "updates", _is_list)
        made = cls(updates, name=config.get("name"))
        given = keras.saving.get_registered_object("optax_tx", custom_objects)
        held = [held_by(each).get("optax_tx") for each in made.optimizers]
        if given is not None and sum(each is given for each in held) > 1:
            raise ValueError(
                "One transformation cannot stand for several optax "
                "transformations. Received: optax_tx for "
                f"{[*map(str, updates)]}. Load with `compile=False` and "
                "compile again, or make them by `kje.optax`."
            )
        return made


def _is_list(value):
    return isinstance(value, list)


def _check(updates):
    """Raise unless these are updates, each with an optimizer of its own."""
    kinds = Update, MovingAverage
    good = isinstance(updates, (list, tuple)) and updates
    if not good or not all(isinstance(u, kinds) for u in updates):
        raise TypeError(
            "`updates` is a list of `kje.Update` and `kje.MovingAverage`. "
            f"Received: updates={updates!r} (of type "
            f"{type(updates).__name__}). Write `updates=[kje.Update(loss, "
            '"critic/*", optimizer), ...]`.'
        )
    every = [u.optimizer for u in updates if isinstance(u, Update)]
    if not every:
        raise ValueError(
            "One of the updates must train. Received: moving averages only, "
            f"updates={updates!r}. Add a `kje.Update`."
        )
    if len({id(optimizer) for optimizer in every}) < len(every):
        raise ValueError(
            "An optimizer has the state of one update. Received: the same "
            f"optimizer for several of {[*map(str, updates)]}. Make "
            "one for each."
        )


def changed(updates: Sequence[Any], model: Any) -> list[list[Pair]]:
    """The variables that each update changes.

    Args:
        updates: List of `Update` and `MovingAverage`.
        model: A built model.

    Returns:
        A list for each update, of pairs of a variable and the one that it
        follows, `None` for an optimizer's.

    Raises:
        ValueError: If a pattern matches nothing, two updates change one
            variable, or a moving average has no variable to follow.
    """
    found = [
        _following(update, model)
        if isinstance(update, MovingAverage)
        else [
            (v, None)
            for v in places.find(
                model, update.variables, model.trainable_variables
            )
        ]
        for update in updates
    ]
    owners: dict[int, Any] = {}
    for update, pairs in zip(updates, found, strict=True):
        for variable, _ in pairs:
            if id(variable) in owners:
                both = owners[id(variable)], update
                raise ValueError(
                    "A variable is changed by one update. Received: "
                    f"{variable.path!r} for {both[0]} and {both[1]}. Give them "
                    "patterns that do not overlap."
                )
            owners[id(variable)] = update
    return found


def _following(average, model):
    """Pairs of a variable and the one that it follows."""
    every = [
        v for v in model.variables if keras.backend.is_float_dtype(v.dtype)
    ]
    own = places.find(model, average.variables, every, "variable")
    others = places.find(model, average.of, every, "variable")
    shapes = [[tuple(v.shape) for v in group] for group in (own, others)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "The variables of a moving average follow others of the same "
            f"shapes, in order. Received: {average} with "
            f"{len(own)} variables of shapes {shapes[0][:5]}, and "
            f"{len(others)} of shapes {shapes[1][:5]}. Make both networks by "
            "one function."
        )
    return list(zip(own, others, strict=True))


def has_forward_pass(model: Any) -> bool:
    """Whether a model can be called, and not only its parts.

    Args:
        model: The model.
    """
    return type(model).call is not keras.Model.call


def is_ready(model: Any) -> bool:
    """Whether the parts of a model have their variables.

    Args:
        model: The model.
    """
    parts = _keras.sublayers(model)
    return model.built or bool(parts and all(part.built for part in parts))


def optimizer_of(
    model: Any,
    optimizer: Any,
    updates: Any,
    *,
    auto_scale_loss: bool,
    **others: Any,
) -> Any:
    """The optimizer that `compile` gives to Keras.

    Args:
        model: The model.
        optimizer: As in `compile`.
        updates: As in `compile`.
        auto_scale_loss: As in `compile`.
        **others: Arguments of `compile` that exclude updates.

    Raises:
        ValueError: If the arguments exclude each other.
    """
    if updates is None:
        made = optimizers.get(optimizer)
        if not isinstance(made, Updates):
            return made
    else:
        made = Updates(updates)
        others["optimizer"] = None if optimizer == "rmsprop" else optimizer
    for name, value in others.items():
        if value is not None:
            raise ValueError(
                "With `updates`, each has its own loss and optimizer. "
                f"Received: {name}={value!r} beside updates. Put it into a "
                "`kje.Update`."
            )
    if auto_scale_loss and model.dtype_policy.name == "mixed_float16":
        raise ValueError(
            "The losses of updates are not scaled, as float16 needs. Received: "
            f"dtype={model.dtype_policy.name!r} for {model.name!r}. Use the "
            'policy "mixed_bfloat16", or `auto_scale_loss=False`.'
        )
    made.bind(model)
    return made
