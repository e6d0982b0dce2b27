"""`OptaxOptimizer`: any optax transformation as a Keras optimizer."""

import contextlib
from typing import Any

from keras_jax_ext._optax.bridge import Bridge
from keras_jax_ext.optimizers._source import (
    RATE,
    SETTABLE_RATE,
    Source,
    from_file,
)

import keras

_KEPT = (
    "name",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


class _Now:
    """What is true for the time of one call; Keras does not track it."""

    def __init__(self):
        self.applying = False
        self.given = None
        self.loss_is_given = False
        self.pending_rate = None


@keras.saving.register_keras_serializable("keras_jax_ext")
class OptaxOptimizer(keras.optimizers.Optimizer):
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
        transformation,
        *,
        learning_rate=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **arguments,
    ):
        source = Source(transformation, learning_rate, arguments)
        super().__init__(
            # A number would become a variable that nothing reads.
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
        self._bridge: Any = None  # a `Bridge` once it is built
        self._now = _Now()

    def build(self, variables):
        """Create the state for a list of trainable variables."""
        if self.built:
            return
        # Variables that their gradient replaces (float8 scales) are Keras's.
        own = [v for v in variables if not v.overwrite_with_gradient]
        bridge = Bridge(self._source.transformation, own)
        if self._now.pending_rate is not None:
            self._source.check_settable(self._now.pending_rate, bridge.slots)
        if not self._now.loss_is_given:
            self._check_needs(bridge)
        # From here nothing fails, so that nothing is left half built.
        super().build(variables)
        bridge.slots.create(self)
        self._bridge = bridge
        if self._now.pending_rate is not None:
            self.learning_rate = self._now.pending_rate

    def _check_needs(self, bridge):
        if bridge.needs:
            raise ValueError(
                "This optax transformation needs the loss when it updates, "
                "which only the train step of a kje model gives. Received: "
                f"transformation={self._source.given}, which needs "
                f"{list(bridge.needs)}. Use `kje.Model`, `kje.Sequential` or "
                "`kje.extend(model)` and pass this optimizer to its `compile`."
            )

    def _backend_apply_gradients(self, grads, trainable_variables):
        # Keras reads `learning_rate` here and passes it on; a transformation
        # has its own, which may be unknown.
        self._now.applying = True
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self._now.applying = False

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        del learning_rate
        if self._now.given is None:
            self._check_needs(self._bridge)
        gradient_of = {
            id(v): g for v, g in zip(trainable_variables, grads, strict=True)
        }
        gradients = [gradient_of.get(id(v)) for v in self._bridge.variables]
        self._bridge.step(gradients, self._now.given)

    @property
    def learning_rate(self):
        """The learning rate, where the transformation shows it.

        It can be set where the state holds it: `OptaxOptimizer` made from a
        function, or `optax.inject_hyperparams`. Of a schedule it is the rate
        of the next update, as Keras has it; of one that only the state of
        `optax.inject_hyperparams` knows, that of the last.
        """
        if self._now.applying:
            return None
        scheduled = callable(self._source.learning_rate)
        rate = None if scheduled else self._rate_in_state()
        if rate is None:
            rate = self._now.pending_rate
        if rate is None:
            rate = self._source.rate_at(self._updates())
        if rate is None:
            raise ValueError(
                "The learning rate of this optax transformation cannot be "
                f"read. Received: {self._source.given}. {SETTABLE_RATE}"
            )
        return rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        slots = None if self._bridge is None else self._bridge.slots
        self._source.check_settable(learning_rate, slots)
        if slots is None:
            self._now.pending_rate = learning_rate
        else:
            self._rate_in_state().assign(learning_rate)

    def get_config(self):
        """The constructor's arguments, the transformation as it was made.

        A transformation made by optax itself is a closure, which no file can
        hold; make it with `from keras_jax_ext import optax`.
        """
        config = {name: getattr(self, name) for name in _KEPT}
        config |= {"learning_rate": None, **self._source.get_config()}
        if isinstance(config["learning_rate"], float):
            config["learning_rate"] = float(self.learning_rate)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Make an optimizer from `get_config`.

        Args:
            config: Dict from `get_config`.
            custom_objects: Dict that may hold `"optax_tx"`, a transformation
                for a file that could not keep it. Defaults to `None`.
        """
        optimizer = cls(**from_file(dict(config), custom_objects))
        # The file of an extended model is read as a stock one, whose state
        # must be built before `kje.extend` can give the loss.
        optimizer.expect_loss()
        return optimizer

    def check_model(self, variables, *, whole):
        """Raise if this optimizer was built for other variables.

        Args:
            variables: List of the trainable variables of a model.
            whole: Whether this optimizer updates all of them.
        """
        if not self.built:
            return
        given = {id(v): v.path for v in variables}
        own = {id(v): v.path for v in self._trainable_variables}
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

    def refuse_functions(self, situation, fix):
        """Raise if an update evaluates the loss, which `situation` changes."""
        if self._bridge is not None and self._bridge.needs_functions:
            raise ValueError(
                "An optax transformation that evaluates the loss itself, as "
                f"line searches do, cannot work {situation}. Received: "
                f"transformation={self._source.given}. {fix}"
            )

    def evaluation_weights(self):
        """Pairs of a variable and the value to evaluate it with, if other."""
        if self._bridge is None or not self._bridge.has_evaluation_weights:
            return []
        return self._bridge.evaluation_weights()

    def expect_loss(self):
        """Note that the train step will run within `given_loss`."""
        self._now.loss_is_given = True

    @property
    def needs_loss(self):
        """Names of the extra arguments that the transformation is given."""
        return () if self._bridge is None else self._bridge.uses

    @contextlib.contextmanager
    def given_loss(self, given):
        """Have the loss of a train step at hand for the extra arguments."""
        self._now.given = given
        try:
            yield
        finally:
            self._now.given = None

    def _updates(self):
        """How often the transformation updated: not every step need do so."""
        if self._bridge is None:
            return 0
        counts = self._bridge.slots.find("count")
        return counts[-1].value if counts else None

    def _rate_in_state(self):
        if self._bridge is None:
            return None
        held = self._bridge.slots.find(*RATE)
        return held[0] if len(held) == 1 else None


def custom_objects(optimizer):
    """What it takes to read a model again that was written with `optimizer`.

    Of several transformations none can be told from the others.
    """
    every = optax_optimizers(optimizer)
    if len(every) != 1:
        return {}
    return {"optax_tx": every[0]._source.transformation}


def optax_optimizers(optimizer):
    """The `OptaxOptimizer` instances within a Keras optimizer, or itself."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    every = getattr(optimizer, "optimizers", [optimizer])
    return [each for each in every if isinstance(each, OptaxOptimizer)]
