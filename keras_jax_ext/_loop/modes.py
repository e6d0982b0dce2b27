"""What training, testing and predicting differ in, and their programs."""

from typing import Any, NamedTuple

from keras_jax_ext._loop import device
from keras_jax_ext._loop.parts import is_shared
from keras_jax_ext._loop.program import Keep, Program


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


def numbers_in(state: Any) -> list[Any]:
    """The optimizer's numbers in the state of a step: as of `numbers`.

    Args:
        state: Lists of arrays.
    """
    optimizer = TRAIN.state.index("optimizer_variables")
    arrays = state[optimizer] if len(state) == len(TRAIN.state) else ()
    return [a for a in arrays if a.ndim == 0]


def _logs(outputs, state):
    """The logs of a step, and the optimizer's numbers after it."""
    return outputs, numbers_in(state)


PREDICTIONS = Keep(lambda outputs, state: outputs, 64, has_rows=True)
LOGS = Keep(_logs, 1024, has_rows=False)


def numbers(model: Any, mode: Mode) -> list[Any]:
    """The variables of the optimizer that are one number each.

    Args:
        model: A compiled model.
        mode: `Mode`.
    """
    every = model.optimizer.variables if mode is TRAIN else ()
    return [v for v in every if v.shape == ()]


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
        # The collectives of a CPU raise when a process has ended. Those of
        # other devices do not return, and JAX ends the process.
        can_lose=device.is_cpu() and is_shared(),
    )
