"""Validation's programs are compiled with those of training, where known."""

import itertools
import signal
import threading
import time

import keras_jax_ext as kje
from keras_jax_ext._xla import compilation

import jax
import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(96, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
HELD = X[:70], Y[:70]  # batches of 32 leave over 6 rows

threads = []


def hear(event, duration, fun_name="", **_):
    if event.endswith("backend_compile_duration") and fun_name == "jit(run)":
        name = threading.current_thread().name
        threads.append(name.startswith("keras_jax_ext"))


jax.monitoring.register_event_duration_secs_listener(hear)


def make(base, traces=None, overrides=False):
    """A model whose step reads what Python holds, compiled."""

    class Scaled(base):
        scale = 1.0
        evaluated = None
        fails = False

        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x, training=False):
            if self.fails and not training and self.optimizer.built:
                raise ArithmeticError("while tracing a test step")
            if traces is not None:
                traces.append(training)
            return self.scale * self.dense(x)

        def evaluate(self, x=None, y=None, **kwargs):
            if self.evaluated is not None:
                x, y = self.evaluated
            return super().evaluate(x, y, **kwargs)

    if not overrides:
        del Scaled.evaluate
    keras.utils.set_random_seed(0)
    model = Scaled()
    model.compile("adam", "mse")
    model(X[:1])
    return model


def fit(model, **options):
    """Train two epochs with validation; which compilations were in threads."""
    threads.clear()
    options = {"x": X, "y": Y, "validation_data": HELD} | options
    history = model.fit(epochs=2, verbose=0, **options)
    return history.history, [*threads]


def check(theirs, ours):
    assert theirs.keys() == ours.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("options", "programs"),
    [
        ({}, 3),
        ({"validation_steps": 2}, 2),  # never reaches what is left over
        (
            {
                "validation_data": None,
                "validation_split": 1 / 3,
                "callbacks": [keras.callbacks.Callback()],
            },
            2,
        ),
    ],
)
def test_programs_are_compiled_at_the_same_time_and_once(options, programs):
    traces = []
    model = make(kje.Model, traces)
    traces.clear()
    ours, in_threads = fit(model, **options)
    assert in_threads == [True] * programs
    # The metrics are built, then no step is traced twice.
    assert traces == [False, True] + [False] * (programs - 1)
    theirs, _ = fit(make(keras.Model), **options)
    check(theirs, ours)
    assert fit(model, **options)[1] == []


class Doubles(keras.callbacks.Callback):
    """Changes what steps do, in one hook."""

    def __init__(self, hook):
        super().__init__()
        setattr(self, hook, self.double)

    def double(self, *_, **__):
        self.model.scale = 2.0


def batches(x, y):
    for i in itertools.cycle(range(0, 60, 10)):
        yield x[i : i + 10], y[i : i + 10]


@pytest.mark.parametrize(
    ("made", "options"),
    [
        ({}, {"callbacks": lambda: [Doubles("on_train_batch_end")]}),
        ({}, {"callbacks": lambda: [Doubles("on_test_begin")]}),
        (
            {},
            {
                "callbacks": lambda: [Doubles("on_epoch_end")],
                "validation_freq": lambda: [2],
            },
        ),
        (
            {},
            {
                "validation_data": lambda: batches(*HELD),
                "validation_steps": lambda: 2,
            },
        ),
        (
            {},
            {
                "x": lambda: batches(X, Y),
                "y": lambda: None,
                "steps_per_epoch": lambda: 3,
                "shuffle": lambda: False,
            },
        ),
        ({"overrides": True}, {}),
    ],
    ids=[
        "a batch hook acts",
        "validation's first hook acts",
        "the end of an epoch before it acts",
        "its data are a generator",
        "the data are a generator",
        "evaluate is the user's",
    ],
)
def test_validation_that_may_change_compiles_its_programs_itself(made, options):
    def run(base):
        model = make(base, **made)
        if made.get("overrides"):
            model.evaluated = X[:50], Y[:50]
        return fit(model, **{k: v() for k, v in options.items()})

    (theirs, _), (ours, in_threads) = run(keras.Model), run(kje.Model)
    check(theirs, ours)
    # That of training may be in a thread.
    assert in_threads[1:] == [False] * (len(in_threads) - 1) != []


def test_a_test_step_reads_what_the_first_steps_have_left():
    def steps(y_true, y_pred):
        return model.optimizer.iterations.value

    model = make(kje.Model)
    model.compile("adam", "mse", metrics=[steps])
    logs, in_threads = fit(model)
    assert logs["val_steps"] == [3, 3]  # as of the trace
    assert in_threads == [True, False, False]


def test_a_test_step_that_cannot_be_traced_fails_when_validation_comes():
    model, other = make(kje.Model), make(kje.Model)
    model.fails = True
    with pytest.raises(ArithmeticError, match="while tracing a test step"):
        fit(model, shuffle=False)
    other.fit(X, Y, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fails = False
    assert len(fit(model)[0]["val_loss"]) == 2


def test_what_fails_to_compile_in_a_thread_is_told_by_the_call(monkeypatch):
    def fail(self):
        raise RuntimeError("in a thread")

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    ours, in_threads = fit(make(kje.Model))
    assert in_threads == [False] * 3
    assert len(ours["val_loss"]) == 2


def test_every_compilation_is_logged_where_that_is_asked_for(caplog):
    with jax.log_compiles():
        fit(make(kje.Model))
    told = "Finished XLA compilation of jit(run)"
    assert sum(told in line for line in caplog.messages) == 3


def test_an_interrupt_ends_the_wait_for_a_compiler(monkeypatch):
    goes_on, compile_it = threading.Event(), compilation._compile

    def slowly(*args):
        started.set()
        goes_on.wait(60)
        compile_it(*args)

    def interrupt():
        started.wait(60)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    started = threading.Event()
    monkeypatch.setattr(compilation, "_compile", slowly)
    model = make(kje.Model)
    before = model.get_weights()
    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(model)
        assert not goes_on.is_set()
    finally:
        goes_on.set()
        sender.join()
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(fit(model)[0]["val_loss"]) == 2


def test_a_step_that_calls_python_is_compiled_alone():
    class Calls(kje.Model):
        def train_step(self, state, data):
            jax.debug.callback(lambda x: None, data[0][0, 0])
            return super().train_step(state, data)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    model = Calls(inputs, keras.layers.Dense(1)(inputs))
    model.compile("adam", "mse")
    assert fit(model)[1] == [True, False, False]
