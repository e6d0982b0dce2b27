"""Ctrl-C at any moment ends fit soon, with the weights of whole steps."""

import signal
import sys
import time
import weakref

from keras_jax_ext import _keras
from keras_jax_ext._loop.interrupts import Interrupts

import pytest
from processes import run_script


def test_an_interrupt_leaves_the_weights_of_a_whole_number_of_steps():
    late = run_script("interrupted.py", timeout=120)
    # About a second; the machine that runs the tests may be busy.
    assert float(late) < 5


def test_an_interrupt_that_keras_would_swallow_comes_again():
    class Value:
        def __float__(self):
            signal.raise_signal(signal.SIGINT)
            return 1.0

    def tell(*_):
        raise KeyboardInterrupt("told")

    def log():
        with Interrupts(_keras.pythonify_logs):
            logs = _keras.pythonify_logs({"loss": Value()})
            assert logs == {"loss": 1.0}
            time.sleep(20)

    before = signal.signal(signal.SIGINT, tell)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt, match="told"):
            log()
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 10


class Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class Referred:
    """Something that is deleted while a weak reference looks."""


def drop_reference():
    held = Referred()
    reference = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGINT))
    del held
    return reference


DROPPING = {"__del__": Deleted, "weak reference": drop_reference}


@pytest.mark.parametrize("where", DROPPING)
def test_an_interrupt_that_python_drops_comes_again(where):
    hook, sent = sys.unraisablehook, []
    # A process started in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.monotonic()

    def train():
        with Interrupts():
            DROPPING[where]()
            sent.append(1)
            time.sleep(20)

    try:
        with pytest.raises(KeyboardInterrupt):
            train()
    finally:
        signal.signal(signal.SIGINT, before)
    assert sent
    assert time.monotonic() - start < 10
    assert sys.unraisablehook is hook


def test_what_else_python_drops_is_told_as_before(monkeypatch):
    class Broken:
        def __del__(self):
            raise ArithmeticError("mine")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda u: told.append(str(u[1])))
    with Interrupts():
        Broken()
    assert told == ["mine"]


def test_a_handler_that_is_set_within_stays():
    def mine(*_):
        """Does nothing."""

    before = signal.getsignal(signal.SIGINT)
    try:
        with Interrupts():
            signal.signal(signal.SIGINT, mine)
        assert signal.getsignal(signal.SIGINT) is mine
        with Interrupts():
            pass
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
