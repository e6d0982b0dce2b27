"""`MemberEarlyStopping`: each member of an ensemble stops for itself."""

from typing import Any

from keras_jax_ext import _keras

import jax.numpy as jnp
import keras
import numpy as np


class MemberEarlyStopping(keras.callbacks.Callback):
    """Stops each member of an ensemble when its own log no longer improves.

    A member that has stopped keeps its weights, statistics, random state and
    optimizer, as if it had trained alone for as many epochs. `fit` ends when
    all have stopped. Its logs go on with the weights that it keeps.

    Example:

    ```python
    ensemble = kje.Ensemble(lambda: kje.Sequential([Block(1)]), 3)
    ensemble.compile("adam", "mse")
    stopping = kje.callbacks.MemberEarlyStopping("loss", patience=1)
    ensemble.fit(x, y, epochs=4, callbacks=[stopping], verbose=0)
    stopping.stopped_epoch  # of each member; 0 if it trained to the end
    ```

    Args:
        monitor: As `keras.callbacks.EarlyStopping`, and so are all following.
            Defaults to `"val_loss"`.
        min_delta: Float. Defaults to `0`.
        patience: Integer, epochs. Defaults to `0`.
        verbose: Integer. Defaults to `0`.
        mode: String. Defaults to `"auto"`.
        baseline: Float. Defaults to `None`.
        restore_best_weights: Boolean, whether each member has the weights of
            its best epoch in the end. Defaults to `False`.
        start_from_epoch: Integer. Defaults to `0`.

    Raises:
        TypeError: In `fit`, if the model is no ensemble.
        ValueError: In `fit`, if there is no such log.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        # Asked for what is an improvement.
        self._judge = keras.callbacks.EarlyStopping(
            monitor, min_delta=min_delta, mode=mode
        )

    def set_model(self, model: keras.Model) -> None:
        """Note the ensemble, and let all of its members train."""
        super().set_model(model)
        if not hasattr(type(model), "active"):
            raise TypeError(
                "`MemberEarlyStopping` stops members of a `kje.Ensemble`. "
                f"Received: {type(model).__name__} {model.name!r}. Use "
                "`keras.callbacks.EarlyStopping`."
            )
        self._judge.set_model(model)
        # Before the step is compiled, of which the mask is a part.
        model.active = np.ones_like(model.active)

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin anew."""
        count = len(self.model.active)
        self.wait = np.zeros(count, int)
        self.stopped_epoch = np.zeros(count, int)
        self.best_epoch = np.zeros(count, int)
        self.best: np.ndarray | None = None
        self.best_weights: list[Any] | None = None

    def get_state(self) -> dict[str, Any]:
        """What is known between two epochs, for a process that goes on."""
        known = {name: getattr(self, name) for name in _KNOWN}
        return {**known, "active": self.model.active}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on as another process would.

        Args:
            state: Dict, from `get_state`.
        """
        for name in _KNOWN:
            setattr(self, name, state[name])
        self.model.active = state["active"]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop the members that have waited long enough."""
        model = self.model
        values = self._values(epoch, logs or {})
        if values is None or epoch < self.start_from_epoch:
            return
        active = model.active
        better = active & _keras.monitored(self._judge, values, self.best)
        if self.best is None:
            self.best = values
        counts = better
        if self.baseline is not None:
            beats = _keras.monitored(self._judge, values, self.baseline)
            counts = better & beats
        self.best = np.where(better, values, self.best)
        self.best_epoch = np.where(better, epoch, self.best_epoch)
        self._keep_best(better)
        self.wait = np.where(counts, 0, self.wait + 1)
        stops = active & ~better & (self.wait >= self.patience) & (epoch > 0)
        if stops.any():
            self._stop(epoch, stops, active)

    def _values(self, epoch, logs):
        """The values of the members in this epoch; `None` if it has none."""
        rows = self.model.history.members.get(self.monitor)
        if self.monitor in logs and rows is not None:
            return rows[-1]
        known = sorted(self.model.history.members)
        if rows is None and not self.monitor.startswith("val_"):
            raise ValueError(
                "`MemberEarlyStopping` monitors a log of the members. "
                f"Received: monitor={self.monitor!r}, and the logs are {known}."
            )
        return None

    def _keep_best(self, better):
        if not self.restore_best_weights:
            return
        now = [variable.value for variable in self.model.weights]
        if self.best_weights is None:
            # A copy: the step takes the buffers of the variables.
            self.best_weights = [jnp.copy(value) for value in now]
            return
        self.best_weights = _where(better, now, self.best_weights)

    def _stop(self, epoch, stops, active):
        self.stopped_epoch = np.where(stops, epoch, self.stopped_epoch)
        self.model.active = active & ~stops
        if self.verbose:
            stopped = np.flatnonzero(stops).tolist()
            _keras.print_msg(f"Epoch {epoch + 1}: members {stopped} stop")
        if not (active & ~stops).any():
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Give each member its best weights."""
        if self.best_weights is None:
            return
        for variable, value in zip(
            self.model.weights, self.best_weights, strict=True
        ):
            variable.assign(value)
        self.model.history.final[self.monitor] = self.best


_KNOWN = ("wait", "stopped_epoch", "best_epoch", "best", "best_weights")


def _where(mask, new, old):
    return [
        jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        for a, b in zip(new, old, strict=True)
    ]
