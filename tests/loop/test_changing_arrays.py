"""Arrays that somebody changes in place are read anew, as in stock Keras."""

import keras_jax_ext as kje
from keras_jax_ext._loop import device
from keras_jax_ext._loop.device import zeros

import jax
import keras
import numpy as np
import pytest

ROWS = 72
HOOKS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_epoch_end",
    "on_test_begin",
    "on_test_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_end",
]


def at(offset, values):
    """`values` in memory at a multiple of 64 bytes and an offset."""
    memory = zeros((values.nbytes + 64,), "uint8")
    array = memory[offset : offset + values.nbytes].view(values.dtype)
    array = array.reshape(values.shape)
    array[:] = values
    return array


def arrays(rows=ROWS, offset=0, dtype="float32"):
    """Inputs, targets and weights, the last of both for validation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype(dtype)
    weight = np.linspace(0.5, 1.5, rows).astype(dtype)
    return [at(offset, a) for a in (x, x.sum(1, keepdims=True), weight)]


def make(cls):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    model = cls([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def scaling(hook, *changed):
    """A callback that scales arrays when a hook of it is called."""

    def change(self, *args, **kwargs):
        for array in changed:
            array *= 0.5

    return type("Scaling", (keras.callbacks.Callback,), {hook: change})()


def compare(make_callbacks, shuffle=True, **options):
    """Train stock and ours, each with arrays of its own."""
    histories = []
    for cls in (keras.Sequential, kje.Sequential):
        x, y, weight = arrays(**options)
        vx, vy, _ = arrays(rows=40)
        model = make(cls)
        history = model.fit(
            x,
            y,
            sample_weight=weight,
            epochs=3,
            batch_size=16,
            shuffle=shuffle,
            validation_data=(vx, vy),
            callbacks=make_callbacks(x, y, weight, vx, vy),
            verbose=0,
        )
        histories.append(history.history)
    stock, ours = histories
    for name, values in stock.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_may_change_everything(hook):
    compare(lambda *given: [scaling(hook, *given)])


@pytest.mark.parametrize("offset", [0, 16])
@pytest.mark.parametrize("rows", [ROWS, 512])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_address_nor_length_nor_type_matters(offset, rows, dtype):
    compare(
        lambda x, *_: [scaling("on_epoch_end", x)],
        rows=rows,
        offset=offset,
        dtype=dtype,
    )


@pytest.mark.parametrize("which", range(5))
def test_each_of_the_arrays_may_change(which):
    compare(lambda *given: [scaling("on_epoch_end", given[which])])


def test_a_hook_set_on_a_callback_of_keras_may_change_them():
    def lambdas(x, *_):
        def change(epoch, logs):
            x[:] = x * 0.5

        return [keras.callbacks.LambdaCallback(on_epoch_end=change)]

    compare(lambdas, shuffle=False)


def test_a_batch_callback_changes_them_for_the_next_batch():
    compare(
        lambda x, *_: [scaling("on_train_batch_end", x)], shuffle=False, rows=73
    )


def test_the_source_of_validation_may_change_them():
    losses = []
    for cls in (keras.Sequential, kje.Sequential):
        x, y, _ = arrays(offset=16)

        def batches(x=x, y=y):
            while True:
                yield x[:8], y[:8]
                x *= 0.5

        history = make(cls).fit(
            x,
            y,
            epochs=3,
            validation_data=batches(),
            validation_steps=2,
            verbose=0,
        )
        losses.append(history.history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_arrays_may_change_between_two_fits():
    losses = []
    for cls in (keras.Sequential, kje.Sequential):
        (x, y, _), model = arrays(), make(cls)
        losses.append([])
        for _ in range(3):
            losses[-1] += model.fit(x, y, verbose=0).history["loss"]
            losses[-1].append(model.evaluate(x, y, verbose=0))
            x *= 0.5
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def frozen(array):
    array = np.array(array)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("convert", "callback", "puts"),
    [
        (np.array, None, 1),
        (np.array, lambda: keras.callbacks.EarlyStopping("loss"), 1),
        (np.array, lambda: keras.callbacks.TerminateOnNaN(), 1),
        (frozen, lambda: scaling("on_epoch_end"), 1),
        (jax.numpy.asarray, lambda: scaling("on_epoch_end"), 1),
        (np.array, lambda: scaling("on_epoch_end"), 4),
    ],
)
def test_they_are_put_again_only_where_somebody_can_change_them(
    convert, callback, puts, monkeypatch
):
    put, count = device.put_whole, []

    def counting(data):
        count.extend([1] * (len(jax.tree.leaves(data)) > 1))
        return put(data)

    monkeypatch.setattr(device, "put_whole", counting)
    x, y, _ = map(convert, arrays())
    callbacks = [callback()] if callback else []
    make(kje.Sequential).fit(x, y, epochs=4, callbacks=callbacks, verbose=0)
    assert len(count) == puts
