"""Trains on eight devices; `test_distribution.py` runs it in a process."""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import keras_jax_ext as kje
from keras_jax_ext import layers
from keras_jax_ext._loop.program import Program

import jax
import keras
import numpy as np
import optax

RANDOM = np.random.default_rng(0)
# 32 rows to a batch; eight devices cannot share the 22 of the last one.
X = RANDOM.normal(size=(150, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def one_device():
    """No distribution."""
    return


def data_parallel():
    """The weights on every device, and a share of each batch."""
    return keras.distribution.DataParallel()


def model_parallel(devices=8, kernel=".*wide/kernel"):
    """The kernel of the first layer cut in two."""
    mesh = keras.distribution.DeviceMesh(
        (devices // 2, 2), ("batch", "model"), jax.devices()[:devices]
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[kernel] = (None, "model")
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )


def begin(distribution):
    """Forget what was before, the distribution too."""
    keras.utils.clear_session(free_memory=False)
    keras.distribution.set_distribution(distribution())
    keras.utils.set_random_seed(1)


def make(distribution):
    """A small model with state of every kind."""
    begin(distribution)
    inputs = keras.Input((4,))
    h = keras.layers.Dense(8, activation="relu", name="wide")(inputs)
    h = keras.layers.BatchNormalization()(keras.layers.Dropout(0.2)(h))
    model = kje.Model(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse", metrics=["mae"])
    return model


class Pair(kje.Model):
    """Inline layers, and an output of two parts."""

    def call(self, x):
        h = layers.Dense(8, activation="relu", name="wide")(x)
        h = layers.Dropout(0.2)(h)
        return layers.Dense(1, name="mean")(h), layers.Dense(1, name="log")(h)


def likelihood(y_true, y_pred):
    mean, log = y_pred
    return log + (y_true - mean) ** 2 / jax.numpy.exp(2 * log)


def make_pair(distribution):
    """As `make`: inline layers, a loss over the whole output, and optax."""
    begin(distribution)
    model = Pair()
    loss = kje.losses.Loss(likelihood)
    model.compile(optax.adamw(1e-2, weight_decay=0.1), loss)
    return model


def from_arrays(model):
    history = model.fit(
        X, Y, epochs=2, validation_split=0.2, batch_size=32, verbose=0
    )
    return history.history


def from_generator(model):
    def batches():
        while True:
            for i in range(0, 150, 32):
                yield X[i : i + 32], Y[i : i + 32]

    history = model.fit(
        batches(), steps_per_epoch=5, epochs=2, shuffle=False, verbose=0
    )
    return history.history


def results(distribution, fit, make=make):
    """What a fit leaves, as lists."""
    model = make(distribution)
    found = {"history": fit(model)}
    found["weights"] = [w.tolist() for w in model.get_weights()]
    if fit is from_arrays and make is not make_pair:
        found["evaluated"] = model.evaluate(X, Y, batch_size=32, verbose=0)
        predicted = model.predict(X, batch_size=32, verbose=0)
        found["predicted"] = predicted.tolist()
    variables = [model.get_layer("wide").kernel, *model.optimizer.variables]
    found["shards"] = [
        list(v.value.addressable_shards[0].data.shape) for v in variables
    ]
    found["devices"] = len(model.weights[0].value.sharding.device_set)
    found["bytes"] = bytes_of_a_device(model.optimizer.variables)
    found["all_bytes"] = sum(v.value.nbytes for v in model.optimizer.variables)
    return found


def bytes_of_a_device(variables):
    """What the first device holds of variables."""
    shards = [v.value.addressable_shards[0].data for v in variables]
    return sum(shard.nbytes for shard in shards)


class Die(keras.callbacks.Callback):
    """Ends training where a kill would."""

    epoch, dies = 0, False

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.dies and (self.epoch, batch) == (1, 2):
            raise KeyboardInterrupt


def resumed(distribution, folder):
    """Whether a fit that was interrupted ends as one that was not."""

    def fit(dies=False, *callbacks):
        model, die = make_pair(distribution), Die()
        die.dies = dies
        history = model.fit(
            X,
            Y,
            epochs=3,
            batch_size=32,
            verbose=0,
            callbacks=[*callbacks, die],
        )
        variables = [*model.variables, *model.optimizer.variables]
        values = [np.asarray(v).tobytes() for v in variables]
        return (
            values,
            history.history,
            [str(v.value.sharding) for v in variables],
        )

    expected = fit()
    backup = kje.callbacks.BackupAndRestore(folder / "backup", 1)
    with contextlib.suppress(KeyboardInterrupt):
        fit(True, backup)
    assert any((folder / "backup").iterdir())
    return fit(False, backup) == expected


def loaded(folder):
    """Files of eight devices, loaded on others: the largest difference."""
    model = make_pair(model_parallel)
    from_arrays(model)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    expected = [np.asarray(v) for v in model.weights]
    state = [np.asarray(v) for v in model.optimizer.variables]
    found = {}
    for name, other in [
        ("one", one_device),
        ("four", lambda: model_parallel(4)),
        ("eight", model_parallel),
    ]:
        again = make_pair(other)
        again(X[:2])
        again.load_weights(folder / "model.weights.h5")
        begin(other)
        whole = keras.saving.load_model(
            folder / "model.keras",
            custom_objects={
                "Pair": Pair,
                "likelihood": likelihood,
                "optax_tx": optax.adamw(1e-2, weight_decay=0.1),
            },
        )
        same = [
            all(map(np.array_equal, map(np.asarray, each.weights), expected))
            for each in (again, whole)
        ]
        kept = map(np.asarray, whole.optimizer.variables)
        same.append(all(map(np.array_equal, kept, state)))
        devices = whole.get_layer("wide").kernel.value.sharding.device_set
        found[name] = {"same": same, "devices": len(devices)}
    return found


def summary():
    """The summary of a model that devices share."""
    lines = []
    model = make_pair(model_parallel)
    model.summary(X[:32], print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines)


WIDTH = 2**9


def memory(distribution):
    """Bytes of a device in the program of a step, by the compiler.

    One kernel is nearly all of the state: a device of `model_parallel` has half
    of it.
    """
    begin(distribution)
    inputs = keras.Input((WIDTH,))
    wide = keras.layers.Dense(WIDTH, activation="relu", name="wide")(inputs)
    model = kje.Model(inputs, keras.layers.Dense(1)(wide))
    model.compile("adam", "mse")
    x = np.zeros((32, WIDTH), "float32")
    programs, run = [], Program.__call__

    def note(self, state, span, *kept):
        args = (state, *span[:2], span.steps, span.has_tail, None)
        shapes = jax.tree.map(
            lambda a: (
                jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)
                if isinstance(a, jax.Array)
                else a
            ),
            args,
        )
        programs.append(self._donating.lower(*shapes).compile())
        return run(self, state, span, *kept)

    Program.__call__ = note
    try:
        model.fit(x, x[:, :1], batch_size=32, verbose=0)
    finally:
        Program.__call__ = run
    found = programs[0].memory_analysis()
    groups = model.variables, model.optimizer.variables
    state = sum(map(bytes_of_a_device, groups))
    return {
        "state": state,
        "arguments": found.argument_size_in_bytes,
        "aliased": found.alias_size_in_bytes,
        "temporary": found.temp_size_in_bytes,
    }


class Watch:
    """Notes the largest part of an array that a device has, while code runs."""

    def __init__(self):
        self.most, self._looks = 0, False

    def look(self, frame, event, argument):
        keras_s = "keras" in frame.f_code.co_filename
        if self._looks or event != "return" or not keras_s:
            return
        self._looks = True
        for array in jax.live_arrays():
            if array.ndim == 2:
                part = array.addressable_shards[0].data.nbytes
                self.most = max(self.most, part)
        self._looks = False

    def __enter__(self):
        sys.setprofile(self.look)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)


class Large(kje.Model):
    def call(self, x):
        return layers.Dense(4096)(x)


def largest_part():
    """The largest part of a kernel that a device ever has, and its share.

    Keras makes a variable whole where all copies take less than 250 MB.
    """
    begin(lambda: model_parallel(kernel=".*kernel"))
    with Watch() as watch:
        model = Large()
        model.build((None, 2048))
        model.compile(optax.adam(1e-3), "mse")
        model.optimizer.build(model.trainable_variables)
    return watch.most, model.weights[0].value.nbytes // 2


def main():
    """Print the results of every kind of distribution and of data."""
    assert jax.device_count() == 8
    with tempfile.TemporaryDirectory() as name:
        # The same programs are compiled again and again.
        jax.config.update("jax_compilation_cache_dir", f"{name}/cache")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        json.dump(everything(Path(name)), sys.stdout)


def everything(folder):
    """The results, as JSON holds them."""
    kinds = one_device, data_parallel, model_parallel
    found = {
        kind.__name__: {
            fit.__name__: results(kind, fit)
            for fit in (from_arrays, from_generator)
        }
        for kind in kinds
    }
    for kind in kinds:
        found[kind.__name__]["pair"] = results(kind, from_arrays, make_pair)
        found[kind.__name__]["memory"] = memory(kind)
    found["resumed"] = {
        kind.__name__: resumed(kind, folder) for kind in kinds[1:]
    }
    found["loaded"] = loaded(folder)
    found["largest"] = largest_part()
    found["summary"] = summary()
    return found


if __name__ == "__main__":
    main()
