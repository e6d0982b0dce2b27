"""What training, testing and predicting differ in, and their programs."""

from typing import NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._loop.program import Program

import keras


class Mode(NamedTuple):
    """What training, testing and predicting differ in."""

    name: str
    method: str
    state: tuple[str, ...]
    stop: str


_MODEL = ("trainable_variables", "non_trainable_variables")
TRAIN = Mode(
    "train",
    "fit",
    (*_MODEL, "optimizer_variables", "metrics_variables"),
    "stop_training",
)
TEST = Mode(
    "test", "evaluate", (*_MODEL, "metrics_variables"), "stop_evaluating"
)
PREDICT = Mode("predict", "predict", _MODEL, "stop_predicting")


def variables(model, mode):
    """Lists of variables, in the order of the state of a step."""
    return [
        model.optimizer.variables
        if name == "optimizer_variables"
        else getattr(model, name)
        for name in mode.state
    ]


def make_program(model, mode):
    """Make the program of a model's step."""
    step = getattr(model, f"{mode.name}_step")
    if mode is PREDICT:
        predict_step = step

        def step(state, data):
            outputs, non_trainable = predict_step(state, data)
            return outputs, (state[0], non_trainable)

    shardings = None
    if keras.distribution.distribution() is not None:
        shardings = tuple(
            [v.value.sharding for v in group]
            for group in variables(model, mode)
        )
    return Program(
        step,
        place=_keras.place,
        shardings=shardings,
        keeps=mode is PREDICT,
    )
