"""Find where the first NaN of a training came from."""

import dataclasses
import threading
import weakref
from collections.abc import Callable
from typing import Any

from keras_jax_ext.callbacks.patches import Patches, end_stale, is_patched

import jax
import jax.numpy as jnp
import keras
import numpy as np

# In the order in which a step computes them: the first that is not finite is to
# blame.
_KINDS = ("data", "weight", "output", "loss", "gradient", "new weight")
# These must be finite. An infinite output may be meant, such as a mask.
_FATAL = ("loss", "gradient", "new weight")


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """An array of a step that is checked."""

    kind: str
    number: int  # in the order of the step
    name: str  # of the variable, layer or part of the data
    shape: tuple[int, ...]

    @property
    def order(self) -> tuple[int, int]:
        """A key to sort by when a step computes it."""
        return _KINDS.index(self.kind), self.number


class NaNFinder(keras.callbacks.Callback):
    """Stop at the first NaN, and say where it came from.

    Every step is compiled with checks of its data, of each layer's outputs, of
    the loss and of the gradients. Values are sent to Python only if a check
    fails, so many steps still run as one program. When the loss, a gradient or
    an updated weight is not finite, training stops, and the error names the
    step and the first tensor that was not finite. The weights are then those
    of the start of the epoch.

    Example:

    ```python
    model.compile("sgd", "mse")
    model.fit(x, y, callbacks=[kje.callbacks.NaNFinder()], verbose=0)
    ```

    Raises:
        FloatingPointError: At the end of the epoch, or of the execution of
            several steps, in which something was not finite.
    """

    def __init__(self) -> None:
        super().__init__()
        # The model that is trained. `self.model` would write its state into
        # the variables at each access.
        self._trained: Any = None
        self._patches: Patches | None = None  # while steps have checks
        # The tensors that were not finite, by step: numbers of NaN and
        # infinite values. Steps report from threads of JAX.
        self._found: dict[int, dict[_Tensor, tuple[int, int]]] = {}
        self._found_lock = threading.Lock()
        self._step: Any = None  # the number of the step that is traced
        self._checks = 0  # how many the trace of the step has so far
        self._training = False

    def set_model(self, model: keras.Model) -> None:
        """Let the steps of `model` be compiled with checks."""
        self._end_checks()
        end_stale(model)
        super().set_model(model)
        self._trained = model
        self._found = {}
        if is_patched(model):
            return  # another finder checks the steps
        self._patches = Patches(
            model,
            call=self._call,
            train_step=self._train_step,
            stateless_apply=self._apply,
        )

    def _end_checks(self):
        if self._patches is not None:
            self._patches.end()
            self._patches = None

    def _train_step(self, _, train_step, args, kwargs):
        state, data = args
        self._step, self._checks = self._iterations_in(state[2]), 0
        try:
            data_names = "x", "y", "sample_weight"
            parts = keras.utils.unpack_x_y_sample_weight(data)
            named = zip(data_names, parts, strict=True)
            self._check("data", {k: v for k, v in named if v is not None})
            self._check_weights("weight", state[0])
            logs, new_state = train_step(state, data, **kwargs)
            self._check("loss", logs.get("loss"))
        finally:
            self._step = None
        return logs, new_state

    def _iterations_in(self, values):
        """The number of the step, from the optimizer's part of its state."""
        optimizer = self._trained.optimizer
        for variable, value in zip(optimizer.variables, values, strict=True):
            if variable is optimizer.iterations:
                return value
        return -1

    def _call(self, layer, call, args, kwargs):
        outputs = call(*args, **kwargs)
        if self._step is not None:
            path = getattr(layer, "path", None) or layer.name
            self._check("output", outputs, f"{path!r} ({type(layer).__name__})")
        return outputs

    def _apply(self, _, apply, args, kwargs):
        # Gradients of a scaled loss may overflow; such steps are skipped.
        scaled = isinstance(
            self._trained.optimizer, keras.optimizers.LossScaleOptimizer
        )
        if self._step is not None and not scaled:
            self._check_weights("gradient", args[1])
        result = apply(*args, **kwargs)
        if self._step is not None:
            self._check_weights("new weight", result[0])
        return result

    def _check_weights(self, kind, values):
        variables = self._trained.trainable_variables
        for variable, value in zip(variables, values, strict=True):
            self._check(kind, value, repr(variable.path))

    def _check(self, kind, values, name=""):
        """Let the step report the leaves of `values` that are not finite."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(values):
            dtype = getattr(leaf, "dtype", None)
            if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
                continue
            whole_name = name + jax.tree_util.keystr(path)
            self._checks += 1
            tensor = _Tensor(kind, self._checks, whole_name, jnp.shape(leaf))
            receive = weakref.WeakMethod(self._receive)
            _report_unless_finite(receive, tensor, leaf, self._step)

    def _receive(self, tensor, step, nans, infinite):
        """Note a tensor. Runs on the host, while a step runs."""
        step = int(step)
        with self._found_lock:
            if self._found and min(self._found) < step:
                return
            self._found.setdefault(step, {})[tensor] = int(nans), int(infinite)
            if tensor.kind in _FATAL:
                self._trained.stop_training = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the checks until this training ends."""
        self._training = True

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """End the checks, unless the evaluation is part of a training."""
        if not self._training:
            self._end_checks()

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Copy the state, to go back to it if a step of this epoch fails."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        self._start = [(v, jnp.copy(v.value)) for v in variables]
        self._start_step = int(self.model.optimizer.iterations)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Raise if something in a step of this epoch was not finite."""
        jax.effects_barrier()
        for step in sorted(self._found):
            found = self._found[step]
            if any(tensor.kind in _FATAL for tensor in found):
                self.model.jax_state_sync()
                for variable, value in self._start:
                    variable.assign(value)
                self._end_checks()
                raise FloatingPointError(self._message(epoch, step, found))
        self._found = {}

    def _message(self, epoch, step, found):
        tensor = min(found, key=lambda each: each.order)
        nans, infinite = found[tensor]
        where = {
            "data": f"the data {tensor.name}",
            "weight": f"the weight {tensor.name}, before the step",
            "output": f"the output of layer {tensor.name}",
            "loss": "the loss; every layer's output was finite",
            "gradient": f"the gradient of {tensor.name}; the loss was finite",
            "new weight": f"the update of {tensor.name}; its gradient was "
            "finite",
        }[tensor.kind]
        return (
            "Training cannot go on from values that are not finite. Received: "
            f"step {step - self._start_step + 1} of epoch {epoch + 1}, where "
            f"the first is in {where}: {nans} NaN and {infinite} infinite of "
            f"{int(np.prod(tensor.shape))} values, shape {tensor.shape}. The "
            "weights are those of the start of the epoch. "
            f"{_ADVICE[tensor.kind]}"
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Let the next steps be compiled without checks."""
        self._training = False
        self._end_checks()


_ADVICE = {
    "data": "Look at the data.",
    "weight": "Look at the weights that training began with.",
    "output": "Look at the `call` of that layer.",
    "loss": "Look at the loss: a logarithm or a division by 0?",
    "gradient": "Look for a square root, a norm or a power at 0, or clip.",
    "new weight": "Look at the optimizer, or lower its learning rate.",
}


def _report_unless_finite(
    method: Callable[[], Any], tensor: _Tensor, value: Any, step: Any
) -> None:
    """Compile a call of a weak method, for values that are not finite."""

    def report(step, nans, infinite):
        receive = method()
        # Under `vmap` both branches of the condition run.
        if receive is not None and (nans or infinite):
            receive(tensor, step, nans, infinite)

    nans, infinite = jnp.isnan(value).sum(), jnp.isinf(value).sum()
    jax.lax.cond(
        nans + infinite > 0,
        lambda *args: jax.debug.callback(report, *args),
        lambda *args: None,
        *(jnp.asarray(step), nans, infinite),
    )
