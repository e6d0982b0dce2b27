"""Keras's TensorBoard callback, without TensorFlow."""

import os
import time
import warnings

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
    """Write what TensorBoard shows, as `keras.callbacks.TensorBoard`.

    Arguments, tags and folders are Keras's; the files are written with the
    `tensorboard` package alone. It also writes the learning rate, and what
    layers give to `add_summary`. The profile is taken by `jax.profiler`.

    Example:

    ```python
    callback = kje.callbacks.TensorBoard("logs", histogram_freq=1)
    # model.fit(x, y, callbacks=[callback]); then: tensorboard --logdir logs
    ```

    Args:
        log_dir: Path of the folder. Training is written to `train` in it, and
            validation to `validation`. Defaults to `"logs"`.
        histogram_freq: Integer, epochs between two histograms of the weights.
            Defaults to 0, none.
        write_graph: Boolean, whether to write the layers of a functional or
            sequential model for the Graphs tab. Others have no such graph.
        write_images: Boolean, whether the weights that have histograms are
            also drawn, each scaled to its own range.
        write_steps_per_second: Boolean.
        update_freq: `"epoch"`, `"batch"`, or an integer, the number of
            batches between two writings of the losses and metrics. Unless it
            is `"epoch"`, `fit` runs one batch at a time.
        profile_batch: Integer or pair of integers, the batches to profile,
            the first of all is 1. Defaults to 0, none. The profile is shown
            by the package `tensorboard-plugin-profile`.
        embeddings_freq: Integer, epochs between two writings of the weights
            of embedding layers for the Projector tab. Defaults to 0, none.
        embeddings_metadata: Dict of file names by names of embedding layers,
            or one file name for all; relative to `log_dir`. Defaults to
            `None`.

    Raises:
        ImportError: If `tensorboard` is not installed.
        OSError: Before training, if `log_dir` cannot be written.
        ValueError: If an argument is none of the above, or a layer of
            `embeddings_metadata` is not in the model.
    """

    def __init__(
        self,
        log_dir="logs",
        histogram_freq=0,
        write_graph=True,
        write_images=False,
        write_steps_per_second=False,
        update_freq="epoch",
        profile_batch=0,
        embeddings_freq=0,
        embeddings_metadata=None,
    ):
        super().__init__()
        check_installed()
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = check_frequency("histogram_freq", histogram_freq)
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = check_frequency("update_freq", update_freq)
        self.embeddings_freq = check_frequency(
            "embeddings_freq", embeddings_freq
        )
        self.embeddings_metadata = embeddings_metadata
        self._profiled = profiled_batches(profile_batch)
        self._profiling = False
        self._writers = {}
        self._summaries = {}
        self._phase = "train"
        self._batch = 0
        self._training = False
        if self.update_freq != "epoch" or self._profiled:
            # Only here: a callback that overrides them is called after each
            # batch, and `fit` then runs one batch at a time.
            self.on_train_batch_begin = self._begin_batch
            self.on_train_batch_end = self._end_batch

    def set_model(self, model):
        """Prepare to write about `model`; what cannot work raises here."""
        super().set_model(model)
        self._close()
        self._summaries = {}
        self._history = getattr(model, "history", None)
        check_folder(self.log_dir)
        if self.embeddings_freq:
            write_projector(self.log_dir, model, self.embeddings_metadata)
        if self.write_graph:
            self._write_graph()
        self._listen()

    def _listen(self):
        """Receive summaries; what is compiled without them is made anew."""
        layers = [self._model, *_keras.sublayers(self._model)]
        layers = [each for each in layers if isinstance(each, reports.Reports)]
        reports.listen(layers, self._receive)
        self._retrace(layers)

    def _retrace(self, layers):
        if any(map(reports.has_summaries, layers)):
            self._model.train_function = None
            self._model.test_function = None

    def _receive(self, layer, name, kind, value):
        if getattr(self._model, "history", None) is not self._history:
            return  # a training that failed did not say that it ended
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

    def _events(self, phase):
        """The writer of `"train"` or `"validation"`, made when first used."""
        if phase not in self._writers:
            folder = os.path.join(self.log_dir, phase)
            self._writers[phase] = Events(folder)
        return self._writers[phase]

    def _flush(self):
        for writer in self._writers.values():
            writer.flush()

    def _close(self):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write_graph(self):
        stacks = (_keras.Functional, keras.Sequential)
        if not isinstance(self._model, stacks):
            return
        try:
            self._events("train").keras_model("keras", self._model.to_json())
        except (TypeError, ValueError, NotImplementedError) as error:
            warnings.warn(
                "TensorBoard's graph is the model's JSON, and this model has "
                f"none. Received: {error}. Training goes on without it; "
                "`write_graph=False` leaves it out.",
                stacklevel=2,
            )

    def on_train_begin(self, logs=None):
        """Count batches from the start of this training."""
        self._batch = 0
        self._phase = "train"
        self._training = True

    def on_train_end(self, logs=None):
        """Write the rest, and listen no more."""
        self._training = False
        self._stop_profile()
        self._close()
        layers = [self.model, *_keras.sublayers(self.model)]
        reports.ignore(layers, self._receive)
        self._retrace(layers)

    def on_test_begin(self, logs=None):
        """From here on, summaries are of validation."""
        jax.effects_barrier()
        self._phase = "validation"

    def on_test_end(self, logs=None):
        """Write the results of an evaluation, over the training's steps."""
        optimizer = self.model.optimizer
        jax.effects_barrier()
        self._phase = "train"
        if optimizer is not None:
            step = int(optimizer.iterations)
            for name, value in (logs or {}).items():
                tag = f"evaluation_{name}_vs_iterations"
                self._events("validation").scalar(tag, value, step)
            if not self._training:  # else they are part of the epoch
                self._write_summaries("validation", step)
            self._flush()

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        if self.write_steps_per_second:
            self._epoch_start = (
                time.time(),
                int(self.model.optimizer.iterations),
            )

    def on_epoch_end(self, epoch, logs=None):
        """Write what there is once an epoch."""
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
