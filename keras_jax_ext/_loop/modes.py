"""What training, testing and predicting differ in, and their programs."""

from typing import Any, NamedTuple

from keras_jax_ext._loop import device
from keras_jax_ext._loop.parts import is_shared
from keras_jax_ext._loop.program import Program


class Mode(NamedTuple):
    """What training, testing and predicting differ in.

    Attributes:
        name: String, as in `train_step` and `on_train_batch_end`.
        method: String, the method of a model that runs it.
        state: Attributes of a model, the state of a step in its order.
        stop: String, the attribute of a model that a callback sets to stop.
    """

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


def state_variables(model: Any, mode: Mode) -> list[list[Any]]:
    """Lists of variables, in the order of the state of a step.

    Args:
        model: A built model.
        mode: `Mode`.
    """
    return [
        model.optimizer.variables
        if name == "optimizer_variables"
        else getattr(model, name)
        for name in mode.state
    ]


def make_program(model: Any, mode: Mode) -> Program:
    """Make the program of a model's step.

    Args:
        model: A built model.
        mode: `Mode`.
    """
    step = getattr(model, f"{mode.name}_step")
    if mode is PREDICT:
        predict_step = step

        def step(state, data):
            outputs, non_trainable = predict_step(state, data)
            return outputs, (state[0], non_trainable)

    return Program(
        step,
        place=device.place,
        shardings=device.shardings(state_variables(model, mode)),
        keeps=mode is PREDICT,
        # The collectives of a CPU raise when a process has ended. Those of
        # other devices do not return, and JAX ends the process.
        can_lose=device.is_cpu() and is_shared(),
    )
