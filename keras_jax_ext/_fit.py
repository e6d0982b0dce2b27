"""`fit`, `evaluate` and `predict` as one compiled program for many steps."""

import contextlib
import inspect

from keras_jax_ext import _fused, _keras
from keras_jax_ext._notes import notes
from keras_jax_ext._steps import PREDICT, TEST, TRAIN
from keras_jax_ext._turns import in_turn


class FusedFit(_keras.Mixin):
    """Mixin: runs a `keras.Model`'s steps many at a time."""

    # Share of the device's memory that the arrays given to `fit` may take.
    # Larger ones are read in super-batches.
    resident_fraction = 0.5

    @property
    def steps_per_execution(self):
        """Integer, steps between two calls of a callback's batch hooks."""
        return notes(self).steps_per_execution

    @steps_per_execution.setter
    def steps_per_execution(self, value):
        auto = value == "auto"
        if not auto and (not isinstance(value, int) or value < 1):
            raise ValueError(
                '`steps_per_execution` is "auto" or a positive integer. '
                f"Received: steps_per_execution={value!r}."
            )
        noted = notes(self)
        noted.auto_steps = auto
        # Keras's own code compares it with numbers: "auto" is 1 to it.
        noted.steps_per_execution = 1 if auto else value

    def compile(self, *args, steps_per_execution="auto", **kwargs):
        super().compile(
            *args, steps_per_execution=steps_per_execution, **kwargs
        )

    def get_compile_config(self):
        config = super().get_compile_config()
        if config and config.get("steps_per_execution") == "auto":
            # Stock Keras may load it, and knows numbers only.
            del config["steps_per_execution"]
        return config

    def make_train_function(self, force=False):
        _make(self, TRAIN, super().make_train_function, force)

    def make_test_function(self, force=False):
        _make(self, TEST, super().make_test_function, force)

    def make_predict_function(self, force=False):
        _make(self, PREDICT, super().make_predict_function, force)

    @in_turn
    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        arguments = {k: v for k, v in locals().items() if k in _FIT}
        _keras.check_compiled(self, "fit")
        if not _fused.fuses(self, TRAIN, verbose):
            return super().fit(**arguments)
        with _keeping_state(self):
            return _fused.fit(self, **arguments)

    @in_turn
    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        _keras.check_compiled(self, "evaluate")
        iterator = None
        if kwargs.get("_use_cached_eval_dataset"):
            iterator = self._eval_epoch_iterator
        elif not kwargs and _fused.fuses(self, TEST, verbose):
            iterator = _fused.iterate(
                self, x, y, sample_weight, batch_size=batch_size, steps=steps
            )
        if not isinstance(iterator, _keras.EpochIterator):
            return super().evaluate(
                x,
                y,
                batch_size,
                verbose,
                sample_weight,
                steps,
                callbacks,
                return_dict,
                **kwargs,
            )
        with _keeping_state(self):
            logs = _fused.evaluate(self, iterator, verbose, callbacks)
        return logs if return_dict else _keras.in_order(self, logs)

    @in_turn
    def predict(
        self, x, batch_size=None, verbose="auto", steps=None, callbacks=None
    ):
        if not self.built or not _fused.fuses(self, PREDICT, verbose):
            return super().predict(x, batch_size, verbose, steps, callbacks)
        with _keeping_state(self):
            iterator = _fused.iterate(
                self, x, batch_size=batch_size, steps=steps
            )
            return _fused.predict(self, iterator, verbose, callbacks)


_FIT = frozenset(inspect.signature(FusedFit.fit).parameters) - {"self"}


def _make(model, mode, make, force):
    """Make a step function of Keras's, and forget the program of the old."""
    name = f"{mode.name}_function"
    new = getattr(model, name) is None or force
    make(force=force)
    if new:
        noted = notes(model)
        noted.programs.pop(mode, None)
        noted.paces.pop(mode, None)
        noted.functions[mode] = inspect.unwrap(getattr(model, name))


@contextlib.contextmanager
def _keeping_state(model):
    """After a failure, give the variables the last good state."""
    try:
        yield
    except BaseException:
        _keras.release_state(model)
        _keras.forget_losses(model)
        raise
