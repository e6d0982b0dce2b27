"""The model classes, composed of what the lower floors build."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from keras_jax_ext import _keras
from keras_jax_ext._by_name.mirror import mirror
from keras_jax_ext._inline.declarations import declarations
from keras_jax_ext._loop.points import Sets
from keras_jax_ext._saving.loading import load_model, model_from_json
from keras_jax_ext._saving.models import Saved, is_numbered, pickled
from keras_jax_ext._seeing.summary import Summary
from keras_jax_ext._training.specs import Kept
from keras_jax_ext._training.trainer import Trainer
from keras_jax_ext.layers import Layer

import keras

__all__ = ["Model", "Sequential", "extend", "load_model", "model_from_json"]

AnyModel = TypeVar("AnyModel", bound=keras.Model)


class _ModelMeta(type(Layer)):  # type: ignore[misc]
    """Makes `Model(inputs, outputs)` return the functional form."""

    def __call__(cls, *args, **kwargs):
        if cls is Model and _keras.functional_init_arguments(args, kwargs):
            return Functional(*args, **kwargs)
        return super().__call__(*args, **kwargs)


# The order of the bases matters: a method of an earlier one calls those of the
# later ones by `super()`. Keras's own methods come last.
class Model(
    Saved,
    Trainer,
    Summary,
    _keras.PathName,
    Layer,
    keras.Model,
    metaclass=_ModelMeta,
):
    """A Keras model whose layers may be declared where they are used.

    Everything that works with `keras.Model` works here: subclassing, the
    functional form `Model(inputs, outputs)`, `compile`, `fit`, saving.

    A `call` with several tensor arguments receives the entries of a tuple by
    position, or those of a dict by name; a `call` with one receives it whole.

    Example:

    ```python
    class Classifier(kje.Model):
        def call(self, x):
            x = kje.layers.Dense(64, activation="relu")(x)
            return kje.layers.Dense(10)(x)

    model = Classifier()
    model(np.zeros((32, 8), "float32"))
    model.dense_1.kernel.shape  # (64, 10)
    ```

    Args:
        *args: `inputs, outputs` for the functional form.
        **kwargs: As `keras.Model`: `name`, `dtype`, `trainable`...

    Raises:
        ValueError: When first called, if a rule of inline declaration is
            broken; the message names the line and the fix.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Not `keras.Model.__new__`, which drops the arguments that the
        # automatic `get_config` saves.
        return keras.Layer.__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _keras.functional_init_arguments(args, kwargs):
            # Keras would put `Functional` into the bases of the class itself,
            # and so change all its other instances and subclasses.
            self.__class__ = _functional_variant(type(self))
            Functional.__init__(self, *args, **kwargs)
        else:
            super().__init__(*args, **kwargs)
            given = kwargs.get("name") is not None
            declarations(self).is_named = given

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "call" in vars(cls):
            cls._call_inputs = _tensor_arguments(vars(cls)["call"])

    _call_inputs: tuple[list[str], list[str]] = ([], [])

    def _path_name(self) -> str:
        """The first part of the paths of this model's variables."""
        self._choose_path_name(composed=False)
        return declarations(self).path_name or self.name

    def _choose_path_name(self, composed):
        """Use the class's name in paths in place of an automatic, numbered one.

        So equal models have equal paths, whatever was built before. Within
        another model the number stays, to tell its parts apart.

        Args:
            composed: Boolean, whether this is a part of a functional model.
        """
        declared = declarations(self)
        if not self._declares or declared.path_name is not None:
            return
        base = _keras.to_snake_case(type(self).__name__)
        root = _keras.running_layer() in (None, self) and not composed
        automatic = not declared.is_named and is_numbered(self.name, base)
        declared.path_name = base if root and automatic else self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _keras.modes_by_name(self, args, kwargs)
        args, kwargs = self._spread(args, kwargs)
        if any(isinstance(a, keras.KerasTensor) for a in args):
            self._choose_path_name(composed=True)
        return super().__call__(*args, **kwargs)

    def stateless_call(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """As `keras.Model.stateless_call`; one structure may fill `call`."""
        _keras.check_fresh(f"{type(self).__name__} {self.name!r}")
        args, kwargs = self._spread(args, kwargs)
        return super().stateless_call(
            trainable_variables,
            non_trainable_variables,
            *args,
            return_losses=return_losses,
            **kwargs,
        )

    def _spread(self, args, kwargs):
        """Give the entries of one structure to the arguments of `call`."""
        required, allowed = self._call_inputs
        named = any(name in kwargs for name in required)
        if len(required) < 2 or len(args) != 1 or named:
            return args, kwargs
        if isinstance(args[0], Sets):  # no input: a loss takes it apart
            return args, kwargs
        (inputs,) = args
        if isinstance(inputs, dict):
            received = f"a dict of {sorted(inputs)}"
            fits = inputs.keys() >= set(required)
            entries = {n: inputs[n] for n in allowed if n in inputs}
            args, kwargs = (), {**entries, **kwargs}
        elif isinstance(inputs, (list, tuple)):
            received = f"{len(inputs)} inputs"
            fits = len(required) <= len(inputs) <= len(allowed)
            args = tuple(inputs)
        else:
            received, fits = "one input", False
        if not fits:
            raise ValueError(
                f"`call` of {type(self).__name__} takes the inputs {required}, "
                f"as a tuple or a dict of them. Received: {received}."
            )
        return args, kwargs


def _tensor_arguments(call):
    """Names of the arguments of `call` for tensors: the required ones, all."""
    parameters = list(inspect.signature(call).parameters.values())[1:]
    tensors = [
        p
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD
        and p.name not in ("training", "mask")
    ]
    required = [p.name for p in tensors if p.default is p.empty]
    return required, [p.name for p in tensors]


@keras.saving.register_keras_serializable("keras_jax_ext")
class Functional(_keras.Functional, Model):
    """A model made by `Model(inputs, outputs)`.

    It is named as Keras's own, since legacy files find it by this name.
    """

    _is_named_as_stock = True


@functools.cache
def _functional_variant(cls):
    """Make a subclass of `cls` with the functional form's methods.

    It has the same name, so that files are as those of `cls`.
    """
    if issubclass(cls, Functional):
        return cls
    names = ("__module__", "__qualname__", "__doc__")
    variant = type(
        cls.__name__, (cls, Functional), {n: getattr(cls, n) for n in names}
    )
    _keras.register_like(variant, cls)
    return variant


@keras.saving.register_keras_serializable("keras_jax_ext")
class Sequential(keras.Sequential, Model):
    """A stack of layers, as `keras.Sequential`.

    Example:

    ```python
    model = kje.Sequential([kje.layers.Dense(8), Block(8)])
    ```

    Args:
        layers: List of layers. Defaults to `None`.
        trainable: Boolean. Defaults to `True`.
        name: String. Defaults to `None`.
    """

    _is_named_as_stock = True

    @property
    def input(self) -> Any:
        """The tensor that a built stack begins with, as of other models."""
        return self._of_stack("input")

    @property
    def output(self) -> Any:
        """The tensor that a built stack ends with, as of other models."""
        return self._of_stack("output")

    def _of_stack(self, name):
        try:
            return getattr(super(), name)
        except AttributeError:  # it was never called itself
            found = getattr(self, f"{name}s", None)
            if not found:
                raise
            return found[0]


class _Extension(Trainer, Summary, keras.Model):
    """The methods that `extend` puts above those of `keras.Model`."""

    _loads_as_stock = True

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pickled(self)


@functools.cache
def _extended(cls):
    """Make a subclass of `cls`, of the same name, that trains as `Model` does.

    `cls` comes first, so that its own methods are still called, and their
    `super()` finds ours.
    """
    names = ("__module__", "__qualname__", "__doc__")
    variant = type(
        cls.__name__, (cls, _Extension), {n: getattr(cls, n) for n in names}
    )
    _keras.register_like(variant, cls)
    return variant


def extend(model: AnyModel) -> AnyModel:
    """Give an existing Keras model the `compile` and `fit` of `kje.Model`.

    The model is changed in place; its weights, name and layers are kept. It
    must be compiled again, unless it comes from the file of an extended one.

    Example:

    ```python
    model = kje.extend(keras.applications.MobileNetV3Small(weights=None))
    model.compile("adam", loss=MyLoss())
    ```

    Args:
        model: A `keras.Model`.

    Returns:
        `model`.

    Raises:
        TypeError: If it is not a `keras.Model`.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`extend` takes a model. Received: "
            f"model={model!r} (of type {type(model).__name__})."
        )
    if not isinstance(model, Trainer):
        cls: Any = type(model)
        model.__class__ = _extended(cls)
        # Keras's methods made these; ours must make them anew.
        model.train_function = model.test_function = None
        model.predict_function = None
        if isinstance(getattr(model, "loss", None), Kept):
            _compile_as_saved(model)
    return model


def _compile_as_saved(model):
    """Compile with the losses that a file kept for a model of ours."""
    config = keras.saving.deserialize_keras_object(model.get_compile_config())
    # Not the optimizer of the config: this one has its state from the file.
    specs = {**config.pop("loss").specs, "optimizer": model.optimizer}
    model.compile(**{**config, **specs})


__getattr__, __dir__ = mirror(globals(), keras.models)


if TYPE_CHECKING:
    # For editors and type checkers. It stands last, so that they keep our
    # classes where Keras has the same name.
    from keras.models import *  # noqa: F403
