"""Which batch hooks read the logs of a step, and nothing else of the model."""

import inspect
from typing import Any

# By this attribute a callback says that its batch hooks do so.
SAYS_SO = "reads_only_logs"
# Packages, and their classes whose batch hooks do: they pass the logs on, with
# `optimizer.iterations` and the learning rate. Read in their sources in
# November 2026.
TRACKERS = {
    ("comet_ml", "CometKerasCallback"),
    ("mlflow", "MlflowCallback"),
    ("neptune_tensorflow_keras", "NeptuneCallback"),
    ("swanlab", "SwanLabLogger"),
    ("tqdm", "TqdmCallback"),
    ("wandb", "WandbMetricsLogger"),
}


def reads_only_logs(callback: Any, hook: str) -> bool:
    """Whether a batch hook of a callback can be called after later steps.

    Args:
        callback: A Keras callback.
        hook: String, the name of the hook.
    """
    said = _said(callback, hook)
    if said is not None:
        return said
    function = getattr(callback, hook)
    function = inspect.unwrap(getattr(function, "__func__", function))
    module = getattr(function, "__module__", None) or ""
    classes = getattr(function, "__qualname__", "").split(".")
    return any((module.split(".")[0], each) in TRACKERS for each in classes)


def _said(callback, hook):
    """What the callback says of a hook, or the class that has written it.

    A class below may write the hook anew, and is to say so again.
    """
    for each in (callback, *type(callback).__mro__):
        if SAYS_SO in vars(each):
            return bool(vars(each)[SAYS_SO])
        if hook in vars(each):
            return None
    return None
