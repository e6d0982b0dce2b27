"""What a model does for an optax transformation: the loss, other weights."""

import contextlib
from typing import Any

from keras_jax_ext import _keras, optimizers

import jax
import keras


class OptaxTraining(_keras.Mixin):
    """Mixin that gives optax transformations what they need of a model.

    `compile` accepts them. The train step hands the loss to those that
    evaluate it (line searches, Polyak steps, sharpness-aware minimization).
    Evaluation uses the averaged weights of those that keep some.
    """

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        optimizer = optimizers.get(optimizer)
        for each in optimizers.optax_optimizers(optimizer):
            each.expect_loss()
        super().compile(optimizer, *args, **kwargs)

    def __deepcopy__(self, memo):
        # Keras copies a model through a file, which raw optax is not in.
        written: Any = self.__reduce__()
        rebuild, arguments = written
        known = optimizers.custom_objects(getattr(self, "optimizer", None))
        with keras.saving.custom_object_scope(known):
            return rebuild(*arguments)

    def make_train_function(self, force=False):
        # Before the first step: an error within it would come too late.
        _check(self)
        return super().make_train_function(force)

    def train_step(self, state, data):
        asking = [
            each
            for each in optimizers.optax_optimizers(self.optimizer)
            if each.needs_loss
        ]
        if not asking:
            return super().train_step(state, data)
        trainable, fixed, optimizer_variables, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def compute(values):
            return self.compute_loss_and_updates(
                values,
                fixed,
                metrics,
                x,
                y,
                sample_weight,
                training=True,
                optimizer_variables=optimizer_variables,
            )

        (_, aux), gradients = jax.value_and_grad(compute, has_aux=True)(
            trainable
        )
        loss, y_pred, new_fixed, metrics = aux
        ids = [id(v) for v in self.trainable_variables]

        def value_fn(changed):
            # Same batch, same seeds and statistics as the step itself: what
            # this evaluation would change in them is dropped.
            values = zip(ids, trainable, strict=True)
            return compute([changed.get(i, v) for i, v in values])[1][0]

        given = optimizers.GivenLoss(
            loss, dict(zip(ids, gradients, strict=True)), value_fn
        )
        with contextlib.ExitStack() as stack:
            for each in asking:
                stack.enter_context(each.given_loss(given))
            trainable, optimizer_variables = self.optimizer.stateless_apply(
                optimizer_variables, gradients, trainable
            )
        logs, metrics = _keras.update_metrics(
            self, metrics, loss, x, y, y_pred, sample_weight
        )
        return logs, (trainable, new_fixed, optimizer_variables, metrics)

    def evaluate(self, *args, **kwargs):
        with optimizers.evaluation_weights(self):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        with optimizers.evaluation_weights(self):
            return super().predict(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        with optimizers.evaluation_weights(self):
            return super().test_on_batch(*args, **kwargs)

    def predict_on_batch(self, *args, **kwargs):
        with optimizers.evaluation_weights(self):
            return super().predict_on_batch(*args, **kwargs)


def _check(model):
    """Raise if an optax optimizer cannot train this model."""
    root = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    scales = root is not model.optimizer
    for each in optimizers.optax_optimizers(model.optimizer):
        each.check_model(model.trainable_variables, whole=each is root)
        if scales or each.loss_scale_factor is not None:
            each.refuse_functions(
                "with a scaled loss",
                'Use the policy "mixed_bfloat16", which needs no scaling, or '
                "`compile(auto_scale_loss=False)`.",
            )
        if each.gradient_accumulation_steps:
            each.refuse_functions(
                "with accumulated gradients",
                "Use larger batches.",
            )
