"""`OptaxOptimizer`: any optax transformation as a Keras optimizer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name import entries
from keras_jax_ext._optax import extra
from keras_jax_ext._optax.bridge import Bridge
from keras_jax_ext._optax.transformation import Transformation
from keras_jax_ext.optimizers._learning_rate import LearningRate
from keras_jax_ext.optimizers._source import Source, from_file

import keras

# Keras's arguments, which a config keeps under their own names, and what they
# may be.
_KINDS = {
    "name": entries.or_none(entries.is_text),
    "clipnorm": entries.or_none(entries.is_number),
    "clipvalue": entries.or_none(entries.is_number),
    "global_clipnorm": entries.or_none(entries.is_number),
    "use_ema": entries.is_flag,
    "ema_momentum": entries.is_number,
    "ema_overwrite_frequency": entries.or_none(entries.is_whole),
    "loss_scale_factor": entries.or_none(entries.is_number),
    "gradient_accumulation_steps": entries.or_none(entries.is_whole),
}


@keras.saving.register_keras_serializable("keras_jax_ext")
class OptaxOptimizer(_keras.UpdatesAtOnce):
    """Runs an optax transformation where Keras expects an optimizer.

    Made by `compile` from a raw transformation. Make it yourself to add what
    Keras does around an optimizer (clipping, averages, accumulation), for a
    learning rate that callbacks can read and set (the second form below), or
    for a stock `keras.Model`.

    Example:

    ```python
    import optax
    from keras_jax_ext import optimizers

    optimizers.OptaxOptimizer(optax.lion(1e-4), clipnorm=1.0)
    optimizers.OptaxOptimizer(optax.adam, learning_rate=1e-3, b1=0.8)
    ```

    Args:
        transformation: An optax transformation, or a function of optax that
            makes one (`optax.adam`), which then gets `learning_rate` and
            `arguments`.
        learning_rate: Float, or a schedule: a function of the number of
            updates. Only with a function; it is then part of the state
            (`optax.inject_hyperparams`). Defaults to the function's own.
        clipnorm: Float, as for every Keras optimizer, and so are all
            following. Defaults to `None`.
        clipvalue: Float. Defaults to `None`.
        global_clipnorm: Float. Defaults to `None`.
        use_ema: Boolean. Defaults to `False`.
        ema_momentum: Float. Defaults to `0.99`.
        ema_overwrite_frequency: Integer. Defaults to `None`.
        loss_scale_factor: Float. Defaults to `None`.
        gradient_accumulation_steps: Integer. Defaults to `None`.
        name: String. Defaults to `None`, an automatic name.
        **arguments: Passed to the function that makes the transformation.
    """

    def __init__(
        self,
        transformation: Transformation | Callable[..., Transformation],
        *,
        learning_rate: float | Callable[[Any], Any] | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **arguments: Any,
    ) -> None:
        source = Source(transformation, learning_rate, arguments)
        super().__init__(
            # Keras would make a variable of a number, and nothing would read
            # it.
            learning_rate=lambda: None,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self._source = source
        self._rate = LearningRate(source)
        self._bridge: Any = None  # a `Bridge` once it is built
        # Whether the train step of a kje model will give the loss: noted by
        # `compile`, for as long as this optimizer lives.
        self._expects_loss = False

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state.

        Args:
            variables: The trainable variables of a model.
        """
        if self.built:
            return
        # Keras itself updates variables that their gradient replaces (the
        # scales of float8).
        own = [v for v in variables if not v.overwrite_with_gradient]
        bridge = Bridge(self._source.transformation, own)
        self._rate.check_pending(bridge.slots)
        if not self._expects_loss:
            self._check_needs(bridge)
            self._check_examples(bridge)
        # Nothing fails from here on, so nothing is left half built.
        super().build(variables)
        bridge.slots.create(self)
        self._bridge = bridge
        self._rate.bind(bridge.slots)

    def _check_needs(self, bridge):
        if bridge.needs:
            raise ValueError(
                "This optax transformation needs the loss when it updates, "
                "which only the train step of a kje model gives. Received: "
                f"transformation={self._source.given}, which needs "
                f"{list(bridge.needs)}. Use `kje.Model`, `kje.Sequential` or "
                "`kje.extend(model)` and pass this optimizer to its `compile`."
            )

    def _check_examples(self, bridge):
        if bridge.aggregates:
            raise ValueError(
                "This optax transformation takes one gradient an example, "
                "which only the train step of a kje model gives. Received: "
                f"transformation={self._source.given}. Use `kje.Model`, "
                "`kje.Sequential` or `kje.extend(model)`, pass this optimizer "
                "to its `compile`, and keep its `train_step`."
            )

    def update_at_once(self, gradients: dict[int, Any]) -> None:
        """Update the variables and the state, as Keras asks of an optimizer.

        Args:
            gradients: Arrays by the id of the variable. A variable without a
                gradient stays as it is.
        """
        loss = extra.given_loss()
        if loss is None:
            self._check_needs(self._bridge)
        if not extra.given_examples():
            self._check_examples(self._bridge)
        ordered = [gradients.get(id(v)) for v in self._bridge.variables]
        self._bridge.step(ordered, loss)

    @property
    def learning_rate(self) -> Any:
        """The learning rate, where the transformation shows it.

        It can be set where the state holds it: in an `OptaxOptimizer` made
        from a function, or with `optax.inject_hyperparams`. A schedule shows
        the rate of the next update, as in Keras. A schedule that only the
        state of `optax.inject_hyperparams` knows shows the rate of the last.
        """
        # Keras hands it to our update, which ignores it: where it cannot be
        # read, there is no reason to raise.
        return None if self.is_applying else self._rate.read()

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self._rate.set(learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments.

        A transformation made by optax itself is a closure, which no file can
        hold; make it with `from keras_jax_ext import optax`.
        """
        config = {name: getattr(self, name) for name in _KINDS}
        config |= {"learning_rate": None, **self._source.get_config()}
        if isinstance(config["learning_rate"], float):
            config["learning_rate"] = float(self.learning_rate)
        return config

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: Mapping[str, Any] | None = None,
    ) -> "OptaxOptimizer":
        """Make an optimizer from a config.

        Args:
            config: Dict, from `get_config`.
            custom_objects: Dict that may hold `"optax_tx"`, a transformation
                for a file that could not keep it. Defaults to `None`.
        """
        entries.check("an OptaxOptimizer", config, _KINDS)
        optimizer = cls(**from_file(dict(config), custom_objects))
        # The file of an extended model is read as a stock model. Its state is
        # built before the user calls `kje.extend`, which gives the loss.
        optimizer.expect_loss()
        return optimizer

    def check_model(
        self, variables: Sequence[keras.Variable], *, whole: bool
    ) -> None:
        """Raise if this optimizer was built for other variables.

        Args:
            variables: List of the trainable variables of a model.
            whole: Whether this optimizer updates all of them.
        """
        if not self.built:
            return
        given = {id(v): v.path for v in variables}
        own = {id(v): v.path for v in self.trained_variables}
        strange = own.keys() - given.keys()
        if whole:
            strange |= given.keys() - own.keys()
        if strange:
            paths = sorted({**given, **own}[i] for i in strange)
            raise ValueError(
                "An optimizer can only train the variables that it was built "
                "for: it belongs to one model, and to the weights that were "
                f"trainable then. Received: name={self.name!r}, which differs "
                f"in {paths[:5]}. Pass a new optimizer to `compile`."
            )

    def refuse_functions(self, situation: str, fix: str) -> None:
        """Raise if an update evaluates the loss.

        Args:
            situation: What makes the loss another than the step's, in words.
            fix: What to do instead, a sentence.
        """
        if self._bridge is not None and self._bridge.needs_functions:
            raise ValueError(
                "An optax transformation that evaluates the loss itself, as "
                f"line searches do, cannot work {situation}. Received: "
                f"transformation={self._source.given}. {fix}"
            )

    def evaluation_weights(self) -> list[tuple[Any, Any]]:
        """Return what to evaluate with, where that is not what is trained.

        Returns:
            List of pairs of a variable and its value.
        """
        if self._bridge is None or not self._bridge.has_evaluation_weights:
            return []
        return self._bridge.evaluation_weights()

    def expect_loss(self) -> None:
        """Note that every train step will give its loss, by `extra.giving`."""
        self._expects_loss = True

    @property
    def aggregates(self) -> bool:
        """Whether the transformation takes one gradient an example."""
        return self._bridge is not None and self._bridge.aggregates

    @property
    def needs_loss(self) -> tuple[str, ...]:
        """Names of the extra arguments that the transformation is given."""
        return () if self._bridge is None else self._bridge.uses


def custom_objects(optimizer: Any) -> dict[str, Any]:
    """Return the `custom_objects` that a copy of a model is read with.

    Empty for several transformations, which one name cannot tell apart.
    """
    every = optax_optimizers(optimizer)
    if len(every) != 1:
        return {}
    return {"optax_tx": every[0]._source.transformation}


def innermost(optimizer: Any) -> Any:
    """Return the optimizer within others that change its gradients."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def optax_optimizers(optimizer: Any) -> list[OptaxOptimizer]:
    """Return the `OptaxOptimizer`s that a Keras optimizer holds, or is."""
    optimizer = innermost(optimizer)
    every = getattr(optimizer, "optimizers", [optimizer])
    return [each for each in every if isinstance(each, OptaxOptimizer)]
