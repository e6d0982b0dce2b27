"""Keras's TensorBoard callback, without TensorFlow."""

import os
import time
import warnings
from collections.abc import Mapping
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._seeing import reports
from keras_jax_ext.callbacks.arguments import (
    check_folder,
    check_frequency,
    profiled_batches,
)
from keras_jax_ext.callbacks.events import Events, check_installed
from keras_jax_ext.callbacks.weights import (
    learning_rates,
    weight_image,
    write_embeddings,
    write_projector,
)

import jax
import keras
import numpy as np


class TensorBoard(keras.callbacks.Callback):
    """Write files for TensorBoard, as `keras.callbacks.TensorBoard`.

    Arguments, tags and folders are Keras's. It needs the `tensorboard` package
    and no TensorFlow. It also writes the learning rate, and the values that
    layers pass to `add_summary`. `jax.profiler` takes the profile.

    Example:

    ```python
    callback = kje.callbacks.TensorBoard("logs", histogram_freq=1)
    # model.fit(x, y, callbacks=[callback]); then: tensorboard --logdir logs
    ```

    Args:
        log_dir: Path of the folder. Training is written to `train` in it, and
            validation to `validation`. Defaults to `"logs"`.
        histogram_freq: Integer, epochs between two histograms of the weights.
            Defaults to 0, no histograms.
        write_graph: Boolean, whether to write the layers of a functional or
            sequential model for the Graphs tab. Other models have no graph.
            Defaults to `True`.
        write_images: Boolean, whether to draw the weights that have
            histograms, each scaled to its own range. Defaults to `False`.
        write_steps_per_second: Boolean. Defaults to `False`.
        update_freq: `"epoch"`, `"batch"`, or an integer, the number of
            batches between two writings of the losses and metrics. Defaults
            to `"epoch"`. For a profile, the time of a batch or the values of
            `add_summary` in each, `fit` runs one batch at a time.
        profile_batch: Integer or pair of integers, the batches to profile,
            counted from 1. Defaults to 0, no profile. The package
            `tensorboard-plugin-profile` shows it.
        embeddings_freq: Integer, epochs between two writings of the weights
            of embedding layers for the Projector tab. Defaults to 0, never.
        embeddings_metadata: Dict of file names by names of embedding layers,
            or one file name for all, relative to `log_dir`. Defaults to
            `None`.

    Raises:
        ImportError: If `tensorboard` is not installed.
        OSError: Before training, if `log_dir` cannot be written.
        ValueError: If an argument is none of these, or `embeddings_metadata`
            names a layer that is not in the model.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: int | str = "epoch",
        profile_batch: int | tuple[int, int] | str = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Mapping[str, str] | str | None = None,
    ) -> None:
        super().__init__()
        check_installed()
        # The model that is trained. `self.model` would write its state into
        # the variables at each access.
        self._trained: Any = None
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq: Any = check_frequency(
            "histogram_freq", histogram_freq
        )
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq: Any = check_frequency("update_freq", update_freq)
        self.embeddings_freq: Any = check_frequency(
            "embeddings_freq", embeddings_freq
        )
        self.embeddings_metadata = embeddings_metadata
        self._profiled: Any = profiled_batches(profile_batch)
        self._profiling = False
        self._files: dict[str, Events] = {}  # by phase
        # The latest values that are not written yet, by phase and tag.
        self._summaries: dict[tuple[str, str], tuple[str, Any]] = {}
        self._phase = "train"  # or "validation"
        self._batch = 0
        self._training = False
        if self.update_freq != "epoch" or self._profiled:
            # Only if they are needed: `fit` runs one batch at a time for a
            # callback that has these hooks.
            self.on_train_batch_begin = self._begin_batch
            self.on_train_batch_end = self._end_batch

    def set_model(self, model: keras.Model) -> None:
        """Prepare to write about `model`. Raises if that cannot work."""
        super().set_model(model)
        self._trained = model
        self._close()
        self._summaries = {}
        # Each `fit` makes a new one.
        self._history_of_fit = getattr(model, "history", None)
        check_folder(self.log_dir)
        if self.embeddings_freq:
            write_projector(self.log_dir, model, self.embeddings_metadata)
        if self.write_graph:
            self._write_graph()
        self._subscribe()

    def _subscribe(self):
        """Receive the summaries of the layers, of new steps that send them."""
        layers = [self._trained, *_keras.sublayers(self._trained)]
        layers = [each for each in layers if isinstance(each, reports.Reports)]
        reports.subscribe(layers, self._receive)
        self._retrace(layers)
        # These come while a batch runs, and are to be written before the next.
        self.reads_only_logs = not (
            self._profiled
            or self.write_steps_per_second
            or any(map(reports.has_summaries, layers))
        )

    def _retrace(self, layers):
        """Let steps with summaries be compiled again, to send or drop them."""
        if any(map(reports.has_summaries, layers)):
            self._trained.train_function = None
            self._trained.test_function = None

    def _receive(self, layer, name, kind, value):
        history = getattr(self._trained, "history", None)
        if history is not self._history_of_fit:
            return  # our training failed, and this is another one
        tag = f"{getattr(layer, 'path', None) or layer.name}/{name}"
        self._summaries[self._phase, tag] = kind, value

    def _write_summaries(self, phase, step):
        jax.effects_barrier()
        kept = {}
        for (owner, tag), (kind, value) in self._summaries.items():
            if owner == phase:
                write = getattr(self._events(phase), kind)
                write(tag, np.asarray(value), step)
            else:
                kept[owner, tag] = kind, value
        self._summaries = kept

    def _events(self, phase: str) -> Events:
        """The writer of `"train"` or `"validation"`, made at its first use."""
        if phase not in self._files:
            folder = os.path.join(self.log_dir, phase)
            self._files[phase] = Events(folder)
        return self._files[phase]

    def _flush(self):
        for file in self._files.values():
            file.flush()

    def _close(self):
        for file in self._files.values():
            file.close()
        self._files = {}

    def _write_graph(self):
        stacks = (_keras.Functional, keras.Sequential)
        if not isinstance(self._trained, stacks):
            return
        try:
            self._events("train").keras_model("keras", self._trained.to_json())
        except (TypeError, ValueError, NotImplementedError) as error:
            warnings.warn(
                "TensorBoard's graph is the model's JSON, and this model has "
                f"none. Received: {error}. Training continues without it. "
                "Pass `write_graph=False` to leave it out.",
                stacklevel=2,
            )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Count the batches of this training."""
        self._batch = 0
        self._phase = "train"
        self._training = True

    def get_state(self) -> dict[str, Any]:
        """The batches of this training, for a process that goes on."""
        return {"batch": self._batch}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting where another process was.

        Args:
            state: Dict, from `get_state`.
        """
        self._batch = state["batch"]

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the files, and receive no more summaries."""
        self._training = False
        self._stop_profile()
        self._close()
        layers = [self.model, *_keras.sublayers(self.model)]
        reports.unsubscribe(layers, self._receive)
        self._retrace(layers)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take the summaries from now on for those of validation."""
        jax.effects_barrier()  # those of training have arrived
        self._phase = "validation"

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Write the results of an evaluation, by the steps trained so far."""
        optimizer = self.model.optimizer
        jax.effects_barrier()
        self._phase = "train"
        if optimizer is not None:
            step = int(optimizer.iterations)
            for name, value in (logs or {}).items():
                tag = f"evaluation_{name}_vs_iterations"
                self._events("validation").scalar(tag, value, step)
            if not self._training:  # else `on_epoch_end` writes them
                self._write_summaries("validation", step)
            self._flush()

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Start the clock."""
        if self.write_steps_per_second:
            self._epoch_start = (
                time.time(),
                int(self.model.optimizer.iterations),
            )

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Write the values of an epoch."""
        self._write_epoch(epoch, logs or {})
        if self.update_freq == "epoch":
            self._write_summaries("train", epoch)
        self._write_summaries("validation", epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            write_embeddings(self.log_dir, self.model)
        self._flush()

    def _write_epoch(self, epoch, logs):
        train = {k: v for k, v in logs.items() if not k.startswith("val_")}
        train.update(learning_rates(self.model.optimizer))
        if self.write_steps_per_second:
            began, steps = self._epoch_start
            steps = int(self.model.optimizer.iterations) - steps
            train["steps_per_second"] = steps / (time.time() - began)
        validation = {
            name.removeprefix("val_"): value
            for name, value in logs.items()
            if name.startswith("val_")
        }
        for phase, values in {"train": train, "validation": validation}.items():
            for name, value in values.items():
                self._events(phase).scalar(f"epoch_{name}", value, epoch)

    def _write_weights(self, epoch):
        events = self._events("train")
        for weight in self.model.weights:
            name = weight.path.replace(":", "_")
            value = keras.ops.convert_to_numpy(weight)
            events.histogram(f"{name}/histogram", value, epoch)
            image = weight_image(value) if self.write_images else None
            if image is not None:
                events.image(f"{name}/image", image, epoch)

    def _begin_batch(self, batch, logs=None):
        self._batch += 1
        self._batch_start = time.time()
        if self._profiled and self._batch == self._profiled[0]:
            jax.profiler.start_trace(os.path.join(self.log_dir, "train"))
            self._profiling = True

    def _end_batch(self, batch, logs=None):
        if self._profiling and self._batch >= self._profiled[1]:
            jax.block_until_ready(logs)
            self._stop_profile()
        if self.update_freq == "epoch" or self._batch % self.update_freq:
            return
        values = dict(logs or {})
        values.update(learning_rates(self.model.optimizer))
        if self.write_steps_per_second:
            seconds = time.time() - self._batch_start
            values["steps_per_second"] = 1.0 / seconds
        for name, value in values.items():
            self._events("train").scalar(f"batch_{name}", value, self._batch)
        self._write_summaries("train", self._batch)

    def _stop_profile(self):
        if self._profiling:
            self._profiling = False
            jax.profiler.stop_trace()
