"""The optimizer of an ensemble: a member's own, with stacked variables."""

import functools
import inspect
from typing import Any

from keras_jax_ext import _keras, optimizers
from keras_jax_ext._optax import extra
from keras_jax_ext._optax.transformation import is_transformation
from keras_jax_ext._xla import purity
from keras_jax_ext.ensembles.stack import Stack
from keras_jax_ext.optimizers._optax_optimizer import optax_optimizers

import jax
import jax.numpy as jnp
import keras
import numpy as np


class Given:
    """What `compile` was given as the optimizer, for each member.

    Args:
        optimizer: As in `Ensemble.compile`.
    """

    def __init__(self, optimizer: Any) -> None:
        self._given = optimizer
        self.is_sweep = _is_sweep(optimizer)

    def make(self, i: int) -> Any:
        """A new optimizer for member `i`, not built."""
        given = self._given(i) if self.is_sweep else self._given
        made = optimizers.get(given)
        if made is given and made is not None and not self.is_sweep:
            # One object cannot belong to several models.
            made = type(made).from_config(made.get_config())
        for each in optax_optimizers(made):
            each.expect_loss()
        return made


def _is_sweep(given):
    """Whether an optimizer is a function of the member's number."""
    if (
        not callable(given)
        or inspect.isclass(given)
        or is_transformation(given)
    ):
        return False
    if isinstance(given, keras.optimizers.Optimizer):
        return False
    function = getattr(given, "func", given)  # of a `functools.partial`
    # `optax.adam` itself: `optimizers.get` says that it must be called.
    return not str(getattr(function, "__module__", "")).startswith("optax.")


def build(given: Given, model: Any, stack: Stack) -> Any:
    """Build the optimizers of all members, and stack their variables.

    Some have a state that depends on the weights, or a rate of their own.

    Args:
        given: `Given`.
        model: The member that is traced, compiled with its own.
        stack: `Stack` of the variables of the members.

    Returns:
        The stacked optimizer.

    Raises:
        ValueError: If the optimizers differ in more than their variables.
    """
    own = model.optimizer
    if own is None:
        return None
    stack.take(0)
    own.build(model.trainable_variables)
    alone = own.variables
    if not given.is_sweep and _starts_alike(own):
        stack.add(alone)
        return _stacked(own, model, stack)
    rows = [[v.value for v in alone]]
    made = [own]
    update = _update(own, model) if given.is_sweep else None
    for i in range(1, stack.count):
        stack.take(i)
        other = given.make(i)
        if type(other) is not type(own):
            # Keras has wrapped the member's own, to scale the loss.
            other = _wrapped(other, own)
        _check_new(other, made, i)
        other.build(model.trainable_variables)
        _check_same(other, own, i)
        if update is not None and not purity.same(
            _update(other, model), update
        ):
            raise _unlike(other, i)
        rows.append([v.value for v in other.variables])
    stack.take(0)
    stack.add(alone, [jnp.stack(column) for column in zip(*rows, strict=True)])
    return _stacked(own, model, stack)


def _starts_alike(optimizer):
    """Whether the first state is the same, whatever the weights are."""
    return type(optimizer).__module__.startswith(
        "keras."
    ) and not optax_optimizers(optimizer)


def _wrapped(optimizer, like):
    if isinstance(like, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(optimizer, name=like.name)
    return optimizer


def _check_new(optimizer, made, i):
    if optimizer.built or any(optimizer is each for each in made):
        raise ValueError(
            "A function for `optimizer` returns a new optimizer at each call. "
            f"Received: {optimizer!r} for member {i}, which is that of another "
            "member, or was used before. Make it within the function."
        )
    made.append(optimizer)


def _check_same(optimizer, own, i):
    shapes = [
        [(tuple(v.shape), str(v.dtype)) for v in each.variables]
        for each in (optimizer, own)
    ]
    if type(optimizer) is not type(own) or shapes[0] != shapes[1]:
        raise _unlike(optimizer, i)


def _unlike(optimizer, i):
    return ValueError(
        "The optimizers of the members differ in the values of their "
        "variables alone, such as `learning_rate`: one program trains all. "
        f"Received: for member {i} {type(optimizer).__name__}, whose update is "
        "another than that of member 0. Give a rate as a number to an "
        "optimizer of Keras, or apart: "
        "`OptaxOptimizer(optax.adam, learning_rate=rates[i])`."
    )


def _update(optimizer, model):
    """The trace of an update."""
    variables = model.trainable_variables

    def update(state, gradients, values):
        ids = [id(v) for v in variables]
        given = extra.GivenLoss(
            jnp.zeros(()),
            dict(zip(ids, gradients, strict=True)),
            lambda changed: jnp.sum(
                jnp.stack([jnp.sum(v) for v in changed.values()])
            ),
        )
        with extra.giving(given):
            return optimizer.stateless_apply(state, gradients, values)

    weights = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
    state = [
        jax.ShapeDtypeStruct(v.shape, v.dtype) for v in optimizer.variables
    ]
    return purity.trace(update, [state, weights, weights])


class _Stacked:
    """Mixin: an optimizer whose variables have an axis of members.

    The update itself is that of the member's optimizer, which is traced.
    """

    _member: Any
    _of_member: Any
    _stack: Stack

    @property
    def variables(self) -> list[Any]:
        """The variables, each with an axis of members first."""
        return self._stack.of(self._of_member.variables)

    @property
    def trained_variables(self) -> list[Any]:
        """The stacked variables that it was built for."""
        return self._stack.of(self._member.trainable_variables)

    @property
    def learning_rates(self) -> Any:
        """The learning rate of each member, an array."""
        own = self._of_member
        return np.asarray(self._stack.run(lambda: own.learning_rate))

    @property
    def learning_rate(self) -> Any:
        """The learning rate, the mean where the members have several.

        A number that is set keeps their ratios; an array sets each.
        """
        return _common(self.learning_rates)

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        own = self._of_member
        with keras.StatelessScope():
            own.learning_rate = 0.0  # raises if it cannot be set
        new = np.asarray(learning_rate, "float32")
        rates = self.learning_rates
        if new.ndim == 0:
            common = _common(rates)
            alike = (rates == common).all() or common == 0
            new = np.full_like(rates, new) if alike else rates * (new / common)
        elif new.shape != rates.shape:
            raise ValueError(
                "`learning_rate` is a number, or an array with an entry for "
                f"each member. Received: shape {new.shape} for {len(rates)} "
                "members."
            )
        self._stack.of([own.learning_rate])[0].assign(new)

    @property
    def iterations(self) -> Any:
        """How many updates were made, by the member that made most."""
        return self._stack.run(lambda: self._of_member.iterations).max()

    def evaluation_weights(self) -> list[tuple[Any, Any]]:
        """As `OptaxOptimizer.evaluation_weights`, of all members."""
        own = self._of_member
        pairs = own.evaluation_weights()
        if not pairs:
            return []
        values = self._stack.run(
            lambda: [value for _, value in own.evaluation_weights()]
        )
        twins = self._stack.of([variable for variable, _ in pairs])
        return list(zip(twins, values, strict=True))

    def finalize_variable_values(self, var_list: Any) -> None:
        """As Keras, for all members."""
        own = self._of_member
        trained = self._member.trainable_variables
        if own.use_ema or getattr(own, "inner_optimizer", own).use_ema:
            self._stack.run(
                lambda: own.finalize_variable_values(trained), writes=True
            )

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Refuse: the step of the ensemble updates the members."""
        raise ValueError(
            "The optimizer of an ensemble updates its members within the step "
            f"of `fit`. Received: {len(grads)} gradients for {self!r}. Take "
            "one out, `ensemble.member(i)`, to use its optimizer."
        )


def _common(rates):
    return rates[0] if (rates == rates[0]).all() else rates.mean()


@functools.cache
def _class_of(cls):
    names = ("__module__", "__qualname__", "__doc__")
    made = type(
        cls.__name__, (_Stacked, cls), {n: getattr(cls, n) for n in names}
    )
    _keras.register_like(made, cls)
    return made


def _stacked(optimizer, member, stack):
    """An optimizer of the same class, over the twins of its variables."""
    own: Any = type(optimizer)
    cls: Any = _class_of(own)
    made = cls.__new__(cls)
    held = {
        name: _within(value, member, stack)
        for name, value in vars(optimizer).items()
    }
    vars(made).update(held, _member=member, _of_member=optimizer, _stack=stack)
    return made


def _within(value, member, stack):
    if isinstance(value, keras.optimizers.Optimizer):
        return _stacked(value, member, stack)
    if isinstance(value, (list, tuple)) and any(
        isinstance(v, keras.optimizers.Optimizer) for v in value
    ):
        return [_within(v, member, stack) for v in value]
    return value
