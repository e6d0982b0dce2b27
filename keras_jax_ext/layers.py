"""The names of `keras.layers`, to be declared where they are used.

Within the `call` of a `kje.Layer` or `kje.Model`, `layers.Dense(64)` makes
the layer once and finds it ever after; elsewhere it is `keras.layers.Dense`.
In both cases it returns a stock Keras object.
"""

import abc
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from keras_jax_ext import _keras
from keras_jax_ext._by_name import entries
from keras_jax_ext._by_name.mirror import mirror
from keras_jax_ext._inline import first_use, scope, shapes
from keras_jax_ext._inline.declarations import declarations
from keras_jax_ext._saving import files
from keras_jax_ext._seeing import reports

import jax
import keras

__all__ = ["Layer"]

# Keras's metaclass is `type`, except in NNX mode. Ours also derives from
# ABCMeta, so that a layer may be abstract.
_KerasMeta = type(keras.Layer)
if not issubclass(_KerasMeta, abc.ABCMeta):
    _KerasMeta = abc.ABCMeta


class _InlineMeta(_KerasMeta):  # type: ignore[valid-type, misc]
    """Makes the constructors of our classes find their layer in a `call`."""

    def __call__(cls, *args, **kwargs):
        return scope.declare(cls, args, kwargs, super().__call__)


class Layer(reports.Reports, keras.Layer, metaclass=_InlineMeta):
    """A Keras layer that may declare others, and weights, in its `call`.

    Sublayers and weights are made when the layer is first called and found by
    name ever after, so there is nothing to set up in `__init__`. The classic
    way, with `__init__` and `build`, works as in `keras.Layer`.

    Example:

    ```python
    class Block(kje.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def call(self, x):
            h = kje.layers.Dense(self.units, activation="relu")(x)
            return x + kje.layers.Dense(x.shape[-1])(h)
    ```

    Args:
        **kwargs: As `keras.Layer`: `name`, `dtype`, `trainable`...

    Raises:
        ValueError: When first called, if a rule of inline declaration is
            broken; the message names the line and the fix.
    """

    _declares = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls):
            _check_call(cls)
            cls._declares = True
            cls.call = scope.scoped(vars(cls)["call"])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _keras.check_fresh(f"{type(self).__name__} {self.name!r}")
        call = super().__call__
        with _keras.entered(self):
            if not self._declares or declarations(self).complete:
                return call(*args, **kwargs)
            return first_use.first_call(self, call, args, kwargs)

    @_keras.default
    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of `input_shape`.

        Args:
            input_shape: Shape tuple, batch first and possibly `None`, or a
                structure of them.
        """
        if self._is_undeclared():
            tensors = keras.tree.map_shape_structure(
                keras.KerasTensor, input_shape
            )
            self._declare_from((tensors,), {})
        super().build(input_shape)

    def _is_undeclared(self):
        """Whether `call` must be traced before anything else happens."""
        return (
            self._declares
            and not declarations(self).complete
            and scope.current_build() is None
            and not _keras.in_compiled_step()
        )

    def _declare_before(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Build the layer if its `call` is reached without `__call__`."""
        if self._is_undeclared():
            first_use.discover(self, super().__call__, args, kwargs)

    def _declare_from(self, args, kwargs):
        """Make what `call` declares for arguments of these shapes."""
        declared = declarations(self)
        if declared.signature is None:
            declared.signature = (args, kwargs)
        call = super().__call__
        failed = first_use.discover(self, call, args, kwargs)
        if failed is not None and _keras.is_eager():
            args, kwargs = shapes.zeros(args, kwargs)
            first_use.run(self, call, args, kwargs, required=False)
            for layer in _keras.sublayers(self):
                if hasattr(layer, "reset_state"):
                    layer.reset_state()  # it saw zeros

    def add_weight(
        self, *args: Any, name: str | None = None, **kwargs: Any
    ) -> keras.Variable:
        """Add a weight; in `call`, make it once and find it by name.

        Args:
            *args: As `keras.Layer.add_weight`: `shape`, `initializer`,
                `dtype`.
            name: String. In `call`, the same name means the same weight.
                Defaults to `"weight"`, numbered by order of execution.
            **kwargs: As `keras.Layer.add_weight`.

        Returns:
            The `keras.Variable`.

        Raises:
            ValueError: In `call`, if the weight was made with another shape
                or dtype, or is first asked for after the first use.
        """
        frame = scope.current()
        add = super().add_weight
        if frame is None or frame.owner is not self:
            return add(*args, name=name, **kwargs)
        spec = {
            **dict(zip(("shape", "", "dtype"), args, strict=False)),
            **kwargs,
        }
        return frame.weight(
            name, spec, lambda name: add(*args, name=name, **kwargs)
        )

    def next_rng_key(self) -> jax.Array:
        """Return a new random key at each call, for `jax.random`.

        The keys come from a `keras.random.SeedGenerator`, so that they repeat
        after `keras.utils.set_random_seed`.

        Example:

        ```python
        class Noise(kje.Layer):
            def call(self, x):
                return x + jax.random.normal(self.next_rng_key(), x.shape)
        ```

        Returns:
            Typed `jax.random` key, of shape `()`.
        """
        seed = scope.seed_generator(self).next()
        return jax.random.wrap_key_data(seed, impl="threefry2x32")

    def get_build_config(self) -> dict[str, Any] | None:
        """Return what `build_from_config` needs: the first call's arguments."""
        config = super().get_build_config()
        signature = declarations(self).signature
        if signature is None or not self.built:
            return config
        args, kwargs = signature
        shapes.check_savable(self, signature)
        return {**(config or {}), "call": {"args": args, "kwargs": kwargs}}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Declare the sublayers again, before their weights are read."""
        if not isinstance(config, dict) or "call" not in config:
            with entries.telling_damage("The `build_config`", config):
                super().build_from_config(config)
            return
        self._declare_from(*shapes.from_file(config["call"]))

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        _keras.sign(store)

    def load_own_variables(self, store: Any) -> None:
        files.load(self, store, super().load_own_variables)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Self:
        """Make a layer from `get_config()`.

        Keras's automatic config holds `trainable` and `dtype` even if the
        constructor does not take them. Here they are then set afterwards, so
        that a layer with a plain `__init__(self, units)` can be loaded.

        Args:
            config: Dict, from `get_config()`.
            *args: As the stock `from_config`.
            **kwargs: As the stock `from_config`.

        Returns:
            A layer, not built.
        """
        config = dict(config)
        if "dtype" in config:
            config["dtype"] = _policy(cls, config["dtype"])
        later = {
            key: config.pop(key)
            for key in ("trainable", "dtype")
            if key in config and not _takes(cls.__init__, key)
        }
        layer = super().from_config(config, *args, **kwargs)
        if "trainable" in later:
            layer.trainable = later["trainable"]
        if "dtype" in later:
            layer.dtype_policy = later["dtype"]
        return layer

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(
            value, (keras.Layer, list, tuple, dict)
        ) and scope.assigned(self, name, value):
            object.__setattr__(self, name, value)
            return
        super().__setattr__(name, value)


def _policy(cls, given):
    policy = keras.dtype_policies.get(given)
    if not isinstance(policy, keras.dtype_policies.DTypePolicy):
        raise ValueError(
            "The config of a layer holds its dtype policy. Received: "
            f"dtype={given!r} for {cls.__name__}."
        )
    # As Keras: the automatic config of a layer holds plain values only. With
    # the object a model that was loaded could not be saved.
    plain = type(policy) is keras.dtype_policies.DTypePolicy
    return policy.name if plain else policy


def _check_call(cls):
    """Refuse a `call` without `self` or without an input.

    Keras's own message for these does not name the cause.
    """
    call = vars(cls)["call"]
    parameters = inspect.signature(cls.call).parameters.values()
    inputs = [
        p
        for p in parameters
        if p.kind is p.VAR_POSITIONAL or p.name not in ("training", "mask")
    ]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in inputs)
    if not isinstance(call, staticmethod) and len(inputs) < 2 and not variadic:
        raise TypeError(
            f"`call` takes `self` and at least one input. Received: "
            f"{cls.__name__}.call{inspect.signature(cls.call)}. "
            "Write it as `def call(self, x)`."
        )


def _takes(function, name):
    """Whether `function` can be called with `name=`."""
    parameters = inspect.signature(function).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    return name in parameters or inspect.Parameter.VAR_KEYWORD in kinds


_find, __dir__ = mirror(globals(), keras.layers)


def __getattr__(name: str) -> Any:
    value = _find(name)
    if isinstance(value, type) and issubclass(value, keras.Layer):
        value = scope.inline(value)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    # For editors and type checkers. It stands last, so that they keep our
    # classes where Keras has the same name.
    from keras.layers import *  # noqa: F403
