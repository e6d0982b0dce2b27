"""`PerExample`: an optimizer that is given clipped gradients, and noise."""

import random
from collections.abc import Sequence
from typing import Any

from keras_jax_ext._by_name import entries
from keras_jax_ext._optax.parameters import Parameters
from keras_jax_ext.optimizers._get import get

import jax
import jax.numpy as jnp
import keras

# Its keys are two words, as the seeds of Keras; whatever JAX's default is.
_IMPL = "threefry2x32"


@keras.saving.register_keras_serializable("keras_jax_ext")
class PerExample(keras.optimizers.Optimizer):
    """Clips the gradient of each example before an optimizer takes their mean.

    The mechanism of differentially private training (DP-SGD): no example moves
    the weights by more than a bound, and noise hides which ones were there.

    The loss of an example is that of a batch of one, regularizers included.
    Its gradient is scaled down to a norm of at most `l2_norm_clip`, over all
    weights together. Normal noise of standard deviation
    `l2_norm_clip * noise_multiplier` is added to the sum over the batch, and
    what is divided by its number of examples goes to the optimizer.

    Clipping takes two passes: one for the norms, one for the gradient of the
    loss in which each example is weighed by its factor. With
    `microbatch_size`, no more than so many gradients are in memory at once.

    It makes no claim about privacy, which depends on how batches are drawn
    too: see the guide on transformations.

    Example:

    ```python
    optimizer = kje.optimizers.PerExample(
        optax.adam(1e-3), l2_norm_clip=1.0, noise_multiplier=0.5, seed=1
    )
    model.compile(optimizer, "mse")
    ```

    Args:
        optimizer: Optimizer, or what `compile` takes for one.
        l2_norm_clip: Float above 0, the largest norm of the gradient of an
            example.
        noise_multiplier: Float, the noise in units of `l2_norm_clip`. Defaults
            to 0, no noise.
        seed: Integer, for the noise. Defaults to `None`: another one each
            time, or what `keras.utils.set_random_seed` leads to.
        microbatch_size: Integer, how many examples go together. Defaults to
            `None`, the whole batch.
        name: String. Defaults to `None`.

    Raises:
        ValueError: If a number is out of its range. By `fit`, for a model
            with a state that the batch changes, such as the statistics of
            `BatchNormalization`: it would carry what no clipping bounds.
    """

    def __init__(
        self,
        optimizer: Any,
        l2_norm_clip: float,
        noise_multiplier: float = 0.0,
        *,
        seed: int | None = None,
        microbatch_size: int | None = None,
        name: str | None = None,
    ) -> None:
        _check(l2_norm_clip, noise_multiplier, microbatch_size)
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = get(optimizer)
        self.l2_norm_clip = l2_norm_clip
        self.noise_multiplier = noise_multiplier
        # As Keras draws a seed where none is given.
        self.seed = random.randint(1, 10**9) if seed is None else seed
        self.microbatch_size = microbatch_size

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state.

        Args:
            variables: The trainable variables of a model.
        """
        if self.built:
            return
        self.inner_optimizer.build(variables)
        super().build(variables)
        key = jax.random.key(self.seed, impl=_IMPL)
        self.noise_state = self.add_variable(
            shape=(2,),
            initializer=lambda shape, dtype=None: jax.random.key_data(key),
            dtype="uint32",
            name="noise_state",
        )
        # Noise is drawn in the order in which optax would draw it.
        self._noise_order = tuple(Parameters(variables).order)

    @property
    def variables(self) -> list[Any]:
        """Those of the noise, and of the optimizer within."""
        return [*super().variables, *self.inner_optimizer.variables]

    def apply_clipped(
        self, state: Sequence[Any], sums: Sequence[Any], count: int, values: Any
    ) -> tuple[Any, Any]:
        """Update a model, as a pure function.

        Args:
            state: List of arrays, the values of `variables`.
            sums: List of arrays, the sums of the clipped gradients.
            count: Integer, of how many examples.
            values: List of arrays, of the trainable variables.

        Returns:
            Pair of the new values, and the new state.
        """
        inner = self.inner_optimizer
        own = len(state) - len(inner.variables)
        noise, noisy = self._noisy(state[own - 1], sums)
        means = [g / count for g in noisy]
        values, after = inner.stateless_apply(state[own:], means, values)
        return values, [*state[: own - 1], noise, *after]

    def _noisy(self, state, sums):
        """The next state of the noise, and the sums with noise."""
        if not self.noise_multiplier:
            return state, sums
        key = jax.random.wrap_key_data(state, impl=_IMPL)
        key, *keys = jax.random.split(key, len(sums) + 1)
        scale = self.l2_norm_clip * self.noise_multiplier
        noisy = list(sums)
        for i, own in zip(self._noise_order, keys, strict=True):
            drawn = jax.random.normal(own, sums[i].shape, sums[i].dtype)
            noisy[i] = sums[i] + jnp.asarray(scale, drawn.dtype) * drawn
        return jax.random.key_data(key), noisy

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Refuse: these are gradients of a whole batch."""
        raise ValueError(
            "`PerExample` clips the gradient of each example, which only the "
            "train step of a kje model computes. Received: gradients of a "
            f"batch, for {self.inner_optimizer.name!r}. Use `kje.Model`, "
            "`kje.Sequential` or `kje.extend(model)`, pass this optimizer to "
            "its `compile`, and keep its `train_step`."
        )

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the optimizer within."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        """The number of updates so far."""
        return self.inner_optimizer.iterations

    def finalize_variable_values(self, var_list: Any) -> None:
        """As the optimizer within, at the end of `fit`.

        Args:
            var_list: List of the trainable variables.
        """
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            "l2_norm_clip": self.l2_norm_clip,
            "noise_multiplier": self.noise_multiplier,
            "seed": self.seed,
            "microbatch_size": self.microbatch_size,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "PerExample":
        """Make an optimizer from a config.

        Args:
            config: Dict, from `get_config`.
            custom_objects: As in `keras.models.load_model`.
        """
        with entries.telling_damage("A `PerExample`", config):
            inner = keras.saving.deserialize_keras_object(
                config["optimizer"], custom_objects=custom_objects
            )
        return cls(**{**config, "optimizer": inner})


def _check(l2_norm_clip, noise_multiplier, microbatch_size):
    if not l2_norm_clip > 0 or not noise_multiplier >= 0:
        raise ValueError(
            "Gradients are clipped to a norm above 0, and noise is 0 or more. "
            f"Received: l2_norm_clip={l2_norm_clip!r} and noise_multiplier="
            f"{noise_multiplier!r}. A clip of 1.0 is a usual beginning."
        )
    whole = isinstance(microbatch_size, int) and microbatch_size > 0
    if microbatch_size is not None and not whole:
        raise ValueError(
            "A micro-batch has one example or more. Received: "
            f"microbatch_size={microbatch_size!r}. Leave it out to clip the "
            "whole batch at once."
        )
