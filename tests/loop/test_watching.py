"""What callbacks do decides how many steps go together, and what they see."""

import keras_jax_ext as kje
from keras_jax_ext._loop.modes import PREDICT, TEST, TRAIN
from keras_jax_ext._loop.watching import acts_on_epochs, watches_batches

import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def make(cls=kje.Sequential, metrics=(), **options):
    keras.utils.set_random_seed(0)
    model = cls([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=list(metrics), **options)
    return model


class Idle(keras.callbacks.Callback):
    """Has batch hooks that do nothing."""

    def on_batch_begin(self, batch, logs=None):
        """Nothing yet."""

    def on_train_batch_end(self, batch, logs=None):
        pass

    def on_test_batch_end(self, batch, logs=None):
        return None


class Tuner:
    """What a callback of KerasTuner passes its batches on to."""

    def on_batch_end(self, trial, batch, logs=None):
        """Users may override it."""


class BusyTuner(Tuner):
    def on_batch_end(self, trial, batch, logs=None):
        trial.append(batch)


class PassingOn(keras.callbacks.Callback):
    def __init__(self, tuner):
        super().__init__()
        self.tuner, self.trial = tuner, []

    def on_batch_end(self, batch, logs=None):
        self.tuner.on_batch_end(self.trial, batch, logs=logs)


class PassingMore(PassingOn):
    def on_batch_end(self, batch, logs=None):
        self.tuner.on_batch_end(self.trial.append(batch), batch)


class PassingTwice(PassingOn):
    def on_batch_end(self, batch, logs=None):
        self.trial = [batch]
        self.tuner.on_batch_end(self.trial, batch)


def patched(tuner):
    tuner.on_batch_end = lambda trial, batch, logs: trial.append(batch)
    return tuner


class Counting(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def on_batch_end(self, batch, logs=None):
        self.seen += 1


class Checkpoint(keras.callbacks.ModelCheckpoint):
    """Adds something by epoch."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)


class Backup(keras.callbacks.BackupAndRestore):
    """Adds nothing."""


class EagerCheckpoint(keras.callbacks.ModelCheckpoint):
    """Acts on batches as well."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.model.stop_training = True


@pytest.mark.parametrize(
    ("callback", "watches"),
    [
        (Idle(), False),
        (Counting(), True),
        (PassingOn(Tuner()), False),
        (PassingOn(BusyTuner()), True),
        (PassingOn(patched(Tuner())), True),
        (PassingOn(None), True),
        (PassingMore(Tuner()), True),
        (PassingTwice(Tuner()), True),
        (Checkpoint("a.keras"), False),
        (Checkpoint("a.keras", save_freq=3), True),
        (Backup("a"), False),
        (Backup("a", save_freq=3), True),
        (EagerCheckpoint("a.keras"), True),
        (keras.callbacks.LambdaCallback(on_epoch_end=print), False),
        (keras.callbacks.LambdaCallback(on_train_batch_end=print), True),
        (keras.callbacks.EarlyStopping("loss"), False),
        (keras.callbacks.TerminateOnNaN(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_callback_watches_batches_if_a_hook_of_it_does_something(
    callback, watches
):
    assert watches_batches(callback, TRAIN) is watches
    assert not watches_batches(callback, PREDICT)
    assert not watches_batches(callback, TEST)


def test_a_saver_that_acts_on_batches_does_not_act_on_epochs_only():
    assert acts_on_epochs(Checkpoint("a.keras"))
    assert not acts_on_epochs(EagerCheckpoint("a.keras"))
    assert not acts_on_epochs(Idle())


@pytest.mark.parametrize(
    ("callbacks", "told"), [([], 0), ([Idle()], 0), ([Counting()], 1)]
)
def test_single_steps_say_once_whose_they_are(callbacks, told, capsys):
    model = make()
    for _ in range(2):
        model.fit(X, Y, verbose=2, callbacks=callbacks)
    out = capsys.readouterr().out
    assert out.count("one step at a time, since Counting acts on") == told
    assert out.count("steps_per_execution=32") == told
    chosen = make(steps_per_execution=2)
    chosen.fit(X, Y, verbose=2, callbacks=callbacks)
    assert "one step" not in capsys.readouterr().out


@pytest.mark.parametrize("when", ["on_train_begin", "on_epoch_begin"])
def test_hooks_that_a_callback_sets_while_training_are_called(when):
    class Late(keras.callbacks.Callback):
        seen = 0

    def late(self, *args, **kwargs):
        def hook(batch, logs=None):
            self.seen += 1

        self.on_batch_end = hook

    setattr(Late, when, late)
    seen = []
    for cls in (keras.Sequential, kje.Sequential):
        callback = Late()
        make(cls).fit(
            X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[callback]
        )
        seen.append(callback.seen)
    assert seen[1] == seen[0] == 16


def test_variables_are_read_and_written_past_the_model_of_a_callback():
    model, seen, written = make(), [], []
    model.fit(X, Y, verbose=0)

    class Past(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(int(model.optimizer.iterations.value))
            assert np.isfinite(model.layers[0].kernel.numpy()).all()
            if batch in (1, 3):
                written.append(model.layers[0].bias.numpy().item())
                model.layers[0].bias.assign([7.0 + batch])

        def on_epoch_end(self, epoch, logs=None):
            seen.append(model.get_weights()[1].item())

    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[Past()])
    assert seen == [3, 4, 5, 6, 10.0]
    assert model.get_weights()[1].item() == 10.0
    assert written[1] > 4  # on the way from 8


class Forever(keras.metrics.MeanSquaredError):
    """Does not start anew at each epoch."""

    def reset_state(self):
        pass


def by_class():
    return Forever(name="mse")


def by_instance():
    metric = keras.metrics.MeanSquaredError(name="mse")
    metric.reset_state = lambda: None
    return metric


def by_another_module():
    metric = Forever(name="mse")
    Forever.reset_state.__module__ = "keras.src.metrics"
    return metric


@pytest.mark.parametrize("metric", [by_class, by_instance, by_another_module])
@pytest.mark.parametrize("callbacks", [[], [Counting()]])
@pytest.mark.parametrize("validation", [None, (X, Y)])
def test_a_metric_is_reset_by_its_own_rule(metric, callbacks, validation):
    histories = []
    for cls in (keras.Sequential, kje.Sequential):
        model = make(cls, metrics=[metric()])
        history = model.fit(
            X,
            Y,
            batch_size=16,
            epochs=4,
            validation_data=validation,
            verbose=0,
            callbacks=callbacks,
        ).history
        histories.append(history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)
