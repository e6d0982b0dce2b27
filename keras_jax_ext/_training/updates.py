"""What `compile(updates=)` takes: several losses and optimizers in a step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

from keras_jax_ext import optimizers
from keras_jax_ext._by_name import entries
from keras_jax_ext._by_name.binding import UPDATE_NAMES, Binding
from keras_jax_ext.losses import Loss

import keras


@keras.saving.register_keras_serializable("keras_jax_ext")
class Update:
    """One part of a training step: a loss, what it trains, and an optimizer.

    `compile(updates=[...])` takes several. They run in order, and each sees
    the weights that the one before has left. A step so trains networks against
    or beside each other, without a `train_step`.

    Example:

    ```python
    def fit_loss(model, x, y_true, training):
        return (model(x, training=training) - y_true) ** 2

    model.compile(updates=[kje.Update(fit_loss, "*", optax.adam(1e-3))])
    model.fit(x, y, verbose=0)
    ```

    Args:
        loss: Function of any of the names that a `kje.losses.Loss` may ask
            for, and of `model` and `rng`, a new key of `jax.random` at each
            call; or a `kje.losses.Loss`. Within it the variables have the
            values of the step. The model is called for `y_pred` only if the
            loss asks for it.
        variables: String or list of them, patterns of the variables that are
            trained: `"critic/*"` are those below the attribute `critic`. `*`
            stands for any text, `/` included. A path is matched too. No other
            trainable variable changes; seeds and statistics do.
        optimizer: As in `compile`.
        repeats: Integer, how often the update runs in a step, on the same
            batch, with another `rng`. Defaults to `1`.
        name: String, the name in the logs, where `_loss` is appended.
            Defaults to the name of the loss.

    Raises:
        TypeError: If the loss is none, or there is no optimizer.
        ValueError: If `repeats` is no positive integer, the loss requires an
            argument that cannot be given, or the optimizer scales the loss.
    """

    def __init__(
        self,
        loss: Callable[..., Any] | Loss,
        variables: str | Sequence[str],
        optimizer: Any,
        *,
        repeats: int = 1,
        name: str | None = None,
    ) -> None:
        self.loss = _loss(loss)
        self.binding: Binding = self.loss.binding(UPDATE_NAMES)
        self.variables = _patterns(variables)
        self.optimizer = _optimizer(optimizer)
        self.repeats = _positive(repeats, "repeats")
        self.name = name or self.loss.name.removesuffix("_loss")

    def __str__(self) -> str:
        return f"the update {self.name!r}"

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        serialize = keras.saving.serialize_keras_object
        return {
            "loss": serialize(self.loss),
            "variables": self.variables,
            "optimizer": serialize(self.optimizer),
            "repeats": self.repeats,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make an update from `get_config()`."""
        config = dict(config)
        for name, kind in (
            ("loss", Loss),
            ("optimizer", keras.optimizers.Optimizer),
        ):
            fits = functools.partial(_is_a, kind)
            config[name] = entries.read("an update", config, name, fits)
        return cls(**config)


@keras.saving.register_keras_serializable("keras_jax_ext")
class MovingAverage:
    """One part of a training step: variables that follow others slowly.

    A target network of reinforcement learning, or the average of a generator's
    weights: `target = (1 - rate) * target + rate * online`, for each pair of
    variables. It stands among the updates of `compile(updates=[...])`, and
    averages what those before it have left.

    Example:

    ```python
    kje.MovingAverage("target/*", of="online/*", rate=0.005)
    kje.MovingAverage("target/*", of="online/*", rate=1.0, every=1000)
    ```

    Args:
        variables: String or list of them, patterns as in `kje.Update`:
            the variables that follow, trainable or not.
        of: String or list of them: the variables that they follow, as many, of
            the same shapes, in the same order. Only floating variables count.
        rate: Float in `(0, 1]`.
        every: Integer: the average moves at every so many steps. Defaults to
            `1`.

    Raises:
        ValueError: If `rate` or `every` is out of range.
    """

    def __init__(
        self,
        variables: str | Sequence[str],
        *,
        of: str | Sequence[str],
        rate: float,
        every: int = 1,
    ) -> None:
        self.variables = _patterns(variables)
        self.of = _patterns(of)
        if isinstance(rate, bool) or not 0 < rate <= 1:
            raise ValueError(
                "The rate of a moving average is in (0, 1]. Received: "
                f"rate={rate!r}. Use 0.005, or 1.0 for a copy."
            )
        self.rate = float(rate)
        self.every = _positive(every, "every")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return dict(vars(self))

    def __str__(self) -> str:
        return f"the moving average {self.variables}"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a moving average from `get_config()`."""
        return cls(**config)


def _is_a(kind, value):
    return isinstance(value, kind)


def _loss(given):
    if isinstance(given, Loss):
        return given
    if not callable(given) or isinstance(given, (type, keras.losses.Loss)):
        raise TypeError(
            "The loss of an update is a function of names such as `model`, `x` "
            "and `rng`, or a `kje.losses.Loss`. Received: "
            f"loss={given!r} (of type {type(given).__name__}). Write "
            "`def critic_loss(model, x, rng): ...`."
        )
    return Loss(given)


def _patterns(given):
    patterns = [given] if isinstance(given, str) else given
    good = isinstance(patterns, (list, tuple)) and patterns
    if not good or not all(isinstance(p, str) for p in patterns):
        raise TypeError(
            "Variables are given by a pattern or a list of patterns. Received: "
            f"{given!r} (of type {type(given).__name__}). Write "
            '`"critic/*"`.'
        )
    return list(patterns)


def _positive(number, name):
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(
            f"`{name}` is a positive integer. Received: {name}={number!r} (of "
            f"type {type(number).__name__}). Leave it out for 1."
        )
    return number


def _optimizer(given):
    if given is None:
        raise TypeError(
            "An update needs an optimizer. Received: optimizer=None. Give "
            "`optax.adam(1e-3)`, or use `kje.MovingAverage` for variables "
            "that follow others."
        )
    optimizer = optimizers.get(given)
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if scales or optimizer.loss_scale_factor is not None:
        raise ValueError(
            "The loss of an update is not scaled. Received: "
            f"optimizer={optimizer.name!r} with a loss scale. Use the policy "
            '"mixed_bfloat16", which needs no scaling.'
        )
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        raise ValueError(
            "An update has one optimizer. Received: "
            f"optimizer={optimizer.name!r} (of type "
            f"{type(optimizer).__name__}). Write an update for each, or use "
            "`optax.partition`."
        )
    return optimizer
