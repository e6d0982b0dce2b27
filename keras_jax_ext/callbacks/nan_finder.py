"""Find where the first NaN of a training came from."""

import dataclasses
import threading
import weakref
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._seeing import calls

import jax
import jax.numpy as jnp
import keras
import numpy as np

# In the order in which a step computes them: the first bad one is to blame.
_KINDS = ("data", "weight", "output", "loss", "gradient", "new weight")
# An infinite output may be meant (a mask); these are never.
_FATAL = ("loss", "gradient", "new weight")


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """Something that is watched: what it is, and where."""

    kind: str
    number: int
    what: str
    shape: tuple

    @property
    def order(self):
        return _KINDS.index(self.kind), self.number


class NaNFinder(keras.callbacks.Callback):
    """Stop at the first NaN, and say where it came from.

    Every step is compiled with a check of its data, of each layer's outputs,
    of the loss and of the gradients; values are sent to Python only where a
    check fails, so steps stay in one program. When the loss, a gradient or an
    updated weight is not finite, training stops and the error names the step
    and the first tensor that was not finite. The weights are then those of
    the start of the epoch.

    Example:

    ```python
    model.compile("sgd", "mse")
    model.fit(x, y, callbacks=[kje.callbacks.NaNFinder()], verbose=0)
    ```

    Raises:
        FloatingPointError: At the end of the epoch, or of the execution of
            several steps, in which something was not finite.
    """

    def __init__(self):
        super().__init__()
        self._end = None
        self._found = {}
        self._lock = threading.Lock()
        self._step: Any = None  # while a step is traced
        self._watched = 0
        self._training = False

    def set_model(self, model):
        """Let the steps of `model` be compiled with checks."""
        self._unwatch()
        _end_stale(model)
        super().set_model(model)
        self._found = {}
        if "_watch" in vars(model):
            return  # another finder does it
        layers = [model, *_keras.sublayers(model)]
        ends = [
            calls.listen(layers, _weak(self._hear)),
            _replaced(model, "train_step", _weak(self._train_step)),
        ]
        if model.optimizer is not None:
            apply = _weak(self._apply)
            ends.append(_replaced(model.optimizer, "stateless_apply", apply))
        vars(model)["_watch"] = watch = _Watch(model, ends)
        ends.append(
            calls.replace(
                model,
                "make_train_function",
                _made_anew(model, model.make_train_function),
            )
        )
        self._end = watch.end
        model.train_function = None

    def _unwatch(self):
        if self._end is not None:
            self._end()
            self._end = None

    def _train_step(self, _, train_step, args, kwargs):
        state, data = args
        iterations = -1
        for variable, value in zip(
            self._model.optimizer.variables, state[2], strict=True
        ):
            if variable is self._model.optimizer.iterations:
                iterations = value
        self._step, self._watched = iterations, 0
        try:
            named = zip(("x", "y", "sample_weight"), _triple(data), strict=True)
            self._watch("data", {k: v for k, v in named if v is not None})
            self._watch_weights("weight", state[0])
            logs, new_state = train_step(state, data, **kwargs)
            self._watch("loss", logs.get("loss"))
        finally:
            self._step = None
        return logs, new_state

    def _hear(self, layer, call, args, kwargs):
        outputs = call(*args, **kwargs)
        if self._step is not None:
            path = getattr(layer, "path", None) or layer.name
            self._watch("output", outputs, f"{path!r} ({type(layer).__name__})")
        return outputs

    def _apply(self, _, apply, args, kwargs):
        scaled = isinstance(
            self._model.optimizer, keras.optimizers.LossScaleOptimizer
        )
        if self._step is not None and not scaled:  # else some may overflow
            self._watch_weights("gradient", args[1])
        result = apply(*args, **kwargs)
        if self._step is not None:
            self._watch_weights("new weight", result[0])
        return result

    def _watch_weights(self, kind, values):
        variables = self._model.trainable_variables
        for variable, value in zip(variables, values, strict=True):
            self._watch(kind, value, repr(variable.path))

    def _watch(self, kind, values, name=""):
        """Report the leaves of `values` that are not finite, as steps run."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(values):
            dtype = getattr(leaf, "dtype", None)
            if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
                continue
            what = name + jax.tree_util.keystr(path)
            self._watched += 1
            tensor = _Tensor(kind, self._watched, what, jnp.shape(leaf))
            _report_unless_finite(weakref.ref(self), tensor, leaf, self._step)

    def _receive(self, tensor, step, nans, infinite):
        # Runs on the host, while a step does.
        step = int(step)
        with self._lock:
            if self._found and min(self._found) < step:
                return
            self._found.setdefault(step, {})[tensor] = int(nans), int(infinite)
            if tensor.kind in _FATAL:
                self._model.stop_training = True

    def on_train_begin(self, logs=None):
        """Watch until the end of this training."""
        self._training = True

    def on_test_end(self, logs=None):
        """An evaluation by itself has no steps to watch."""
        if not self._training:
            self._unwatch()

    def on_epoch_begin(self, epoch, logs=None):
        """Keep the state that training goes back to."""
        self._state = [(v, jnp.copy(v.value)) for v in _variables(self.model)]
        self._epoch_start = int(self.model.optimizer.iterations)

    def on_epoch_end(self, epoch, logs=None):
        """Raise if a step of this epoch was bad."""
        jax.effects_barrier()
        for step in sorted(self._found):
            found = self._found[step]
            if any(tensor.kind in _FATAL for tensor in found):
                self.model.jax_state_sync()
                for variable, value in self._state:
                    variable.assign(value)
                self._unwatch()
                raise FloatingPointError(self._message(epoch, step, found))
        self._found = {}

    def _message(self, epoch, step, found):
        tensor = min(found, key=lambda each: each.order)
        nans, infinite = found[tensor]
        where = {
            "data": f"the data {tensor.what}",
            "weight": f"the weight {tensor.what}, before the step",
            "output": f"the output of layer {tensor.what}",
            "loss": "the loss; every layer's output was finite",
            "gradient": f"the gradient of {tensor.what}; the loss was finite",
            "new weight": f"the update of {tensor.what}; its gradient was "
            "finite",
        }[tensor.kind]
        return (
            "Training cannot go on from values that are not finite. Received: "
            f"step {step - self._epoch_start + 1} of epoch {epoch + 1}, where "
            f"the first is in {where}: {nans} NaN and {infinite} infinite of "
            f"{int(np.prod(tensor.shape))} values, shape {tensor.shape}. The "
            "weights are those of the start of the epoch. "
            f"{_ADVICE[tensor.kind]}"
        )

    def on_train_end(self, logs=None):
        """Let the steps be compiled without checks again."""
        self._training = False
        self._unwatch()


_ADVICE = {
    "data": "Look at the data.",
    "weight": "Look at the weights that training began with.",
    "output": "Look at the `call` of that layer.",
    "loss": "Look at the loss: a logarithm or a division by 0?",
    "gradient": "Look for a square root, a norm or a power at 0, or clip.",
    "new weight": "Look at the optimizer, or lower its learning rate.",
}


def _triple(data):
    return keras.utils.unpack_x_y_sample_weight(data)


def _variables(model):
    return [*model.variables, *model.optimizer.variables]


def _weak(around):
    """`around`, as long as its finder lives: a failed `fit` ends nothing."""
    reference = weakref.WeakMethod(around)

    def weak(owner, call, args, kwargs):
        alive = reference()
        if alive is None:
            return call(*args, **kwargs)
        return alive(owner, call, args, kwargs)

    return weak


class _Watch:
    """The patches of one training, which may end without a word."""

    def __init__(self, model, ends):
        self.model = model
        self.ends = ends
        # Each `fit` has its own.
        self.history = getattr(model, "history", None)

    def end(self):
        """Leave the model as it was."""
        for end in self.ends:
            end()
        if vars(self.model).get("_watch") is self:
            del vars(self.model)["_watch"]
            self.model.train_function = None


def _end_stale(model):
    """End what a failed training has left."""
    watch = vars(model).get("_watch")
    history = getattr(model, "history", None)
    if watch is not None and watch.history is not history:
        watch.end()


def _made_anew(model, make):
    """A `fit` without a finder, after one that failed, asks for its steps."""
    reference = weakref.ref(model)

    def made(*args, **kwargs):
        _end_stale(reference())
        return make(*args, **kwargs)

    return made


def _replaced(owner, name, around):
    """Let `around` make the calls of a method of one object."""
    method = getattr(owner, name)
    return calls.replace(
        owner, name, lambda *args, **kw: around(owner, method, args, kw)
    )


def _report_unless_finite(finder, tensor, value, step):
    def receive(step, nans, infinite):
        # Under `vmap` both branches of the condition run.
        alive = finder()
        if alive is not None and (nans or infinite):
            alive._receive(tensor, step, nans, infinite)

    nans, infinite = jnp.isnan(value).sum(), jnp.isinf(value).sum()
    jax.lax.cond(
        nans + infinite > 0,
        lambda *args: jax.debug.callback(receive, *args),
        lambda *args: None,
        *(jnp.asarray(step), nans, infinite),
    )
