"""A train step with a gradient for each example, clipped or stacked."""

import itertools
from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._optax import extra
from keras_jax_ext._training import compiling
from keras_jax_ext._training import step as steps
from keras_jax_ext.optimizers import PerExample
from keras_jax_ext.optimizers._optax_optimizer import (
    innermost,
    optax_optimizers,
)
from keras_jax_ext.transforms.variables import is_seed

import jax
import jax.numpy as jnp
import keras


def is_asked_for(optimizer: Any) -> bool:
    """Whether an optimizer takes the gradients of each example.

    Args:
        optimizer: A Keras optimizer, or `None`.
    """
    return isinstance(optimizer, PerExample) or any(
        each.aggregates for each in optax_optimizers(optimizer)
    )


class _Result(NamedTuple):
    """What some examples give."""

    gradients: Any  # stacked, or the sum of the clipped ones
    losses: Any  # of shape (examples,)
    outputs: Any  # those of each example, stacked
    seeds: Any  # of the first example, after its draws
    metrics: Any  # what the examples add to the metrics' variables


def train_step(model: Any, state: Any, data: Any) -> tuple[Any, Any]:
    """As `keras.Model.train_step`, with a gradient for each example.

    Args:
        model: The model.
        state: Tuple of lists of arrays.
        data: One batch.

    Returns:
        Tuple of the logs and the next state.
    """
    trainable, fixed, optimizer_variables, metrics = state
    batch = keras.utils.unpack_x_y_sample_weight(data)
    count = _count(batch)
    optimizer, examples = model.optimizer, _Examples(model, state)
    if isinstance(optimizer, PerExample):
        result = examples.clipped(
            batch,
            optimizer.l2_norm_clip,
            min(optimizer.microbatch_size or count, count),
        )
        trainable, optimizer_variables = optimizer.apply_clipped(
            optimizer_variables, result.gradients, count, trainable
        )
    else:
        result = examples.stacked(batch)
        with extra.giving_examples():
            trainable, optimizer_variables = optimizer.stateless_apply(
                optimizer_variables, result.gradients, trainable
            )
    metrics = [
        (old + new).astype(old.dtype)
        for old, new in zip(metrics, result.metrics, strict=True)
    ]
    x, y, sample_weight = batch
    outputs = jax.tree.map(_rows, result.outputs)
    loss = jnp.mean(result.losses)
    logs, metrics = _keras.update_metrics(
        model, metrics, loss, x, y, outputs, sample_weight
    )
    fixed = examples.after(result.seeds)
    return logs, (trainable, fixed, optimizer_variables, metrics)


def _count(batch):
    shapes = [tuple(a.shape) for a in jax.tree.leaves(batch)]
    counts = {shape[0] if shape else None for shape in shapes}
    if len(counts) != 1 or None in counts:
        raise ValueError(
            "Examples are the rows of all arrays of a batch, which have as "
            f"many. Received: a batch of shapes {shapes}. Give each example "
            "its own row, or use an optimizer without gradients per example."
        )
    return counts.pop()


def _rows(stacked):
    """Outputs of batches of one as those of one batch."""
    if stacked.ndim > 1 and stacked.shape[1] == 1:
        return stacked[:, 0]
    return stacked[0]  # it has no axis of examples


class _Examples:
    """The loss and the gradients of the examples of one step.

    Args:
        model: The model.
        state: Tuple of lists of arrays.
    """

    def __init__(self, model: Any, state: Any) -> None:
        self.model = model
        self.trainable, self.fixed, self.slots, self.metrics = state
        variables = enumerate(model.non_trainable_variables)
        self.seeds = [i for i, v in variables if is_seed(v)]

    def clipped(self, batch: Any, clip: float, size: int) -> _Result:
        """The sum of the clipped gradients, `size` examples at a time."""
        count = jax.tree.leaves(batch)[0].shape[0]
        rows = self._seeds_of(count), batch
        whole = count // size * size
        if size == count:
            return self._chunk(rows, clip)

        def body(carry, rows):
            result = self._chunk(rows, clip)
            sums = jax.tree.map(
                jnp.add, carry, (result.gradients, result.metrics)
            )
            return sums, result._replace(gradients=(), metrics=())

        zeros = jax.tree.map(jnp.zeros_like, (self.trainable, self.metrics))
        cut = jax.tree.map(
            lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), rows
        )
        sums, result = jax.lax.scan(body, zeros, cut)
        joined = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), result)
        seeds = [s[0] for s in result.seeds]
        if whole < count:
            left = jax.tree.map(lambda a: a[whole:], rows)
            sums, last = body(sums, left)
            joined = jax.tree.map(lambda *a: jnp.concatenate(a), joined, last)
        gradients, metrics = sums
        return joined._replace(
            gradients=gradients, metrics=metrics, seeds=seeds
        )

    def _chunk(self, rows, clip):
        """The sum of the clipped gradients, in two passes.

        The second is the gradient of a weighted sum, in which the weights of
        the model have no axis of examples: each kernel has one product over
        the examples, where a sum of stacked gradients takes many times longer.
        """

        def losses(values):
            return jax.vmap(self._one, (None, 0, 0))(values, *rows)

        def norm(seeds, example):
            gradients = jax.grad(self._one, has_aux=True)(
                self.trainable, seeds, example
            )[0]
            return jnp.sqrt(sum(map(_square, gradients)))

        norms = jax.vmap(norm)(*rows)
        factors = jnp.minimum(1.0, clip / norms)
        values, pull_back, aux = jax.vjp(losses, self.trainable, has_aux=True)
        (gradients,) = pull_back(factors.astype(values.dtype))
        return _result(gradients, aux)

    def stacked(self, batch: Any) -> _Result:
        """The gradients of all examples, with a first axis of examples."""
        seeds = self._seeds_of(jax.tree.leaves(batch)[0].shape[0])
        one = jax.grad(self._one, has_aux=True)
        gradients, aux = jax.vmap(one, (None, 0, 0))(
            self.trainable, seeds, batch
        )
        return _result(gradients, aux)

    def _one(self, values, seeds, example):
        """The loss of an example, as a batch of one.

        Returns:
            Tuple of the loss and `(loss, outputs, seeds, metrics)`.
        """
        model, fixed = self.model, list(self.fixed)
        for i, seed in zip(self.seeds, seeds, strict=True):
            fixed[i] = seed
        state = values, fixed
        with compiling.stepping(model, state, training=True):
            loss, (unscaled, outputs, after, metrics) = (
                model.compute_loss_and_updates(
                    values,
                    fixed,
                    [jnp.zeros_like(m) for m in self.metrics],
                    *jax.tree.map(lambda a: a[None], example),
                    training=True,
                    optimizer_variables=self.slots,
                )
            )
            reported = _reports(model)
        # The step around this one knows what was reported, not the values.
        _reports(model).extend((layer, n, None) for layer, n, _ in reported)
        self._check_states(fixed, after)
        seeds = [after[i] for i in self.seeds]
        return loss, (unscaled, outputs, seeds, metrics)

    def _check_states(self, before, after):
        """Raise if an example changes a state that others see."""
        changed = [
            variable.path
            for i, variable in enumerate(self.model.non_trainable_variables)
            if i not in self.seeds and after[i] is not before[i]
        ]
        if changed:
            raise ValueError(
                "Clipping bounds what each example does to the weights, and "
                "this model has other state that the examples of a batch "
                "change together: it would carry what nothing bounds. "
                f"Received: the states {changed}. Use `GroupNormalization` or "
                "`LayerNormalization` for `BatchNormalization`, or freeze the "
                "layer: `layer.trainable = False`."
            )

    def _seeds_of(self, count):
        """For each seed generator, a seed for each example."""
        numbers = jnp.arange(count, dtype="uint32")

        def seed(state):
            # The seed of Keras has the two words of a key of this kind.
            key = jax.random.wrap_key_data(state, impl="threefry2x32")
            each = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
            return jax.random.key_data(each)

        return [seed(jnp.asarray(self.fixed[i], "uint32")) for i in self.seeds]

    def after(self, drawn: Any) -> list[Any]:
        """The fixed state after the step: each seed draws as one example did.

        Args:
            drawn: List of the seeds of the first example after its draws.
        """
        after = list(self.fixed)
        first = [each[0] for each in self._seeds_of(1)]
        for i, begun, ended in zip(self.seeds, first, drawn, strict=True):
            after[i] = after[i] + (ended - begun)
        return after


def _reports(model):
    """The list of what layers report in the step that is traced."""
    step = steps.current(compiling.objective(model))
    return [] if step is None or step.reports is None else step.reports


def _result(gradients, aux):
    losses, outputs, seeds, metrics = aux
    return _Result(
        gradients,
        losses,
        outputs,
        [each[0] for each in seeds],
        [jnp.sum(each, axis=0) for each in metrics],
    )


def _square(gradient):
    return jnp.sum(jnp.square(gradient.astype("float32")))


def check(model: Any) -> None:
    """Raise if gradients per example cannot be clipped as they are asked for.

    Args:
        model: A compiled model.
    """
    optimizer = model.optimizer
    clips = isinstance(optimizer, PerExample)
    inner = innermost(optimizer)
    parts = list(getattr(inner, "optimizers", [inner]))
    nested = [p for p in _within(optimizer, parts) if isinstance(p, PerExample)]
    stacking = [p for p in optax_optimizers(optimizer) if p.aggregates]
    if not (nested or stacking):
        return
    every = [*_within(optimizer, parts), *parts]
    if any(map(_scales, every)):
        _refuse(optimizer, "a scaled loss", _UNSCALED)
    if nested and (not clips or len(nested) > 1 or stacking):
        _refuse(optimizer, "another optimizer around or within it", _ALONE)
    if len(parts) > 1 and stacking:
        _refuse(optimizer, "one optimizer of several", _ALONE)
    if any(p.needs_loss for p in optax_optimizers(optimizer)):
        _refuse(optimizer, "a transformation that is given the loss", _PLAIN)
    for name in _SHAPED if stacking else ():
        if any(getattr(p, name, None) for p in stacking):
            _refuse(optimizer, f"`{name}`", _CHAINED)


_SHAPED = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "gradient_accumulation_steps",
)
_UNSCALED = (
    'Use the policy "mixed_bfloat16", which needs no scaling, or '
    "`compile(auto_scale_loss=False)`."
)
_ALONE = "Make one `PerExample` around the whole optimizer, and nothing else."
_PLAIN = "Use one without a line search, such as `optax.adam`."
_CHAINED = (
    "Use `kje.optimizers.PerExample` around the optimizer that has it, or "
    "chain it in optax behind the aggregation."
)


def _within(optimizer, parts):
    """The optimizers around the innermost one, and around each of its parts."""
    found = []
    for each in itertools.chain([optimizer], parts):
        while hasattr(each, "inner_optimizer"):
            found.append(each)
            each = each.inner_optimizer
    return found


def _scales(optimizer):
    scaler = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return scaler or getattr(optimizer, "loss_scale_factor", None) is not None


def _refuse(optimizer, what, fix):
    raise ValueError(
        "Gradients per example cannot be clipped with "
        f"{what}. Received: optimizer={type(optimizer).__name__} "
        f"{optimizer.name!r}. {fix}"
    )
