"""Our models under the names by which Keras's own tests know Keras's.

`test_keras_own.py` lets them import this module in the place of `keras.models`
and of `keras`; it is their pytest plugin too.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

from keras_jax_ext import Model, Sequential
from keras_jax_ext import models as ours

import keras
import pytest
from keras.src import models as stock
from keras.src.backend.jax import trainer

# Keras 3.16 calls it Trainer.
StockTrainer = getattr(trainer, "JAXTrainer", None) or trainer.Trainer


class Trainer(ours.Trainer, StockTrainer):
    """What Keras's tests mix with a layer to make a model."""


Functional = ours.Functional


class Models:
    """`keras.models`."""

    Model, Sequential = Model, Sequential

    def __getattr__(self, name):
        return getattr(stock, name)


class Keras(Models):
    """`keras`."""

    models = Models()

    def __getattr__(self, name):
        return getattr(keras, name)


k = Keras()


def __getattr__(name):
    """Everything else, for `from in_place_of_keras import name`."""
    for module in (stock, stock.model, stock.sequential, stock.functional):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Skip what needs a package that is not installed."""
    report = yield
    if call.excinfo and issubclass(call.excinfo.type, ImportError):
        report.outcome = "skipped"
        report.longrepr = (*item.location[:2], str(call.excinfo.value))
    return report
