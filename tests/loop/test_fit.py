"""Fit, evaluate and predict give what stock Keras gives, in fewer programs."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest


class Fused(kje.Model):
    """A functional model with the fused loop."""


RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
LABELS = (Y > 0).astype("float32")


def make(model_class, **options):
    """The same small model, of a class, with the same weights."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Dense(8, activation="relu")(inputs)
    h = keras.layers.Dropout(0.2)(h)
    h = keras.layers.BatchNormalization()(h)
    model = model_class(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


def assert_same(ours, stock):
    for a, b in zip(ours, stock, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def fit(model, x=X, y=Y, **options):
    history = model.fit(x, y, **{"verbose": 0, "epochs": 2, **options})
    return history.history, model.get_weights()


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"shuffle": "batch"},
        {"validation_split": 0.2, "validation_freq": 2},
        {"validation_data": (X[:40], Y[:40]), "batch_size": 50},
        {"steps_per_epoch": 3, "epochs": 3},
        {"sample_weight": np.arange(150) / 150, "initial_epoch": 1},
        {"y": LABELS, "class_weight": {0: 1.0, 1: 3.0}},
    ],
    ids=lambda options: "-".join(options),
)
def test_fit_gives_the_weights_and_history_of_stock(options):
    stock = fit(make(keras.Model), **options)
    ours = fit(make(Fused), **options)
    assert list(ours[0]) == list(stock[0])
    assert_same(ours[0].values(), stock[0].values())
    assert_same(ours[1], stock[1])


@pytest.mark.parametrize("model_class", [keras.Model, Fused])
def test_the_most_epochs_and_steps_that_keras_allows_are_kept(model_class):
    model = make(model_class)
    keras.config.set_max_epochs(2)
    keras.config.set_max_steps_per_epoch(3)
    try:
        with pytest.warns(UserWarning, match="Limiting") as told:
            model.fit(X, Y, epochs=9, verbose=0)
    finally:
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)
    assert sorted({str(w.message) for w in told}) == [
        "Limiting epochs to 2",
        "Limiting steps_per_epoch to 3",
    ]
    assert len(model.history.epoch) == 2
    assert int(model.optimizer.iterations.value) == 6


def test_an_integer_of_steps_per_execution_keeps_keras_calls():
    stock = Recorder()
    fit(make(keras.Model, steps_per_execution=3), callbacks=[stock])
    ours = Recorder()
    fit(make(Fused, steps_per_execution=3), callbacks=[ours])
    assert [c[:2] for c in ours.calls] == [c[:2] for c in stock.calls]
    assert ours.calls[1][0] == "end"
    assert_same(
        [list(c[2].values()) for c in ours.calls if c[0] == "end"],
        [list(c[2].values()) for c in stock.calls if c[0] == "end"],
    )


class Recorder(keras.callbacks.Callback):
    """Notes each batch hook, its step and its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("begin", batch, dict(logs)))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("end", batch, dict(logs)))


def test_a_batch_callback_is_called_after_each_step():
    recorder, model = Recorder(), make(Fused)
    fit(model, epochs=3)  # learns how many steps it could run at once
    fit(model, epochs=1, callbacks=[recorder])
    ends = [step for name, step, _ in recorder.calls if name == "end"]
    assert ends == [0, 1, 2, 3, 4]


class StopAndZero(keras.callbacks.Callback):
    """Writes the last bias at step 2 and stops after step 3."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            self.model.layers[-1].bias.assign([5.0])
        self.model.stop_training = batch == 3


def test_a_callback_writes_weights_and_stops_in_the_middle():
    stock = fit(make(keras.Model), callbacks=[StopAndZero()])
    ours = fit(make(Fused), callbacks=[StopAndZero()])
    assert_same(ours[1], stock[1])
    assert ours[1][-1] > 4


def test_evaluate_and_predict_give_what_stock_gives():
    stock, ours = make(keras.Model), make(Fused)
    kwargs = {"verbose": 0, "batch_size": 16}
    assert_same(ours.evaluate(X, Y, **kwargs), stock.evaluate(X, Y, **kwargs))
    predicted = ours.predict(X, **kwargs)
    assert predicted.shape == (150, 1)
    np.testing.assert_allclose(
        predicted, stock.predict(X, **kwargs), rtol=1e-5, atol=1e-6
    )


def test_predict_keeps_the_order_over_many_executions():
    model = make(Fused)
    x = np.repeat(X, 2, axis=0)
    predicted = model.predict(x, batch_size=1, verbose=0)
    np.testing.assert_allclose(
        predicted, model(x, training=False), rtol=1e-5, atol=1e-6
    )


def counting():
    """A model, and a list of the shapes of batches that it is traced for."""
    traces = []

    class Counting(kje.Model):
        def train_step(self, state, data):
            traces.append(data[0].shape)
            return super().train_step(state, data)

    return make(Counting), traces


def test_a_step_is_traced_once_for_a_batch_size_and_not_again():
    model, traces = counting()
    fit(model, epochs=3)
    fit(model, epochs=2)
    fit(model, x=X[:64], y=Y[:64])
    assert sorted(traces) == [(22, 4), (32, 4)]


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_the_model_is_traced_once_to_evaluate_and_to_predict(method):
    traces = []

    class Counting(kje.Model):
        def call(self, x, training=False):
            traces.append(x.shape)
            return kje.layers.Dense(1)(x)

    model = Counting()
    model.compile("adam", "mse")
    model.test_on_batch(X, Y)  # Keras traces it for the metrics.
    data = (X, Y) if method == "evaluate" else (X,)
    traces.clear()
    for _ in range(2):
        getattr(model, method)(*data, batch_size=32, verbose=0)
    assert sorted(traces) == [(22, 4), (32, 4)]


def test_a_generator_trains_as_in_stock():
    def batches():
        while True:
            yield X[:32], Y[:32]

    options = {"verbose": 0, "epochs": 2, "steps_per_epoch": 3}
    options["shuffle"] = False  # Keras warns that a generator is not.
    weights = []
    for cls in (keras.Model, Fused):
        model = make(cls)
        model.fit(batches(), **options)
        weights.append(model.get_weights())
    assert_same(*weights)


def test_a_fallback_says_why_once(capsys):
    model = make(Fused, run_eagerly=True, jit_compile=False)
    model.fit(X[:32], Y[:32], verbose=2)
    model.fit(X[:32], Y[:32], verbose=2)
    out = capsys.readouterr().out
    assert out.count("the model is compiled with run_eagerly=True") == 1


def of_shapes(*rows):
    """A generator of batches of these numbers of rows."""
    for count in rows:
        yield X[:count], Y[:count]


@pytest.mark.parametrize("verbose", [0, 2])
def test_batches_that_cannot_go_together_say_so_once(verbose, capsys):
    model = make(Fused)
    options = {"steps_per_epoch": 4, "verbose": verbose, "shuffle": False}
    for _ in range(2):
        model.fit(of_shapes(*(8, 8, 8, 7) * 2), epochs=2, **options)
    assert "train:" not in capsys.readouterr().out
    for _ in range(2):
        model.fit(of_shapes(8, 7, 8, 7), **options)
    line = "train: batches of one shape at a time, since their shapes change."
    assert capsys.readouterr().out.count(line) == (verbose > 0)


def test_sparse_batches_say_that_they_go_alone(capsys):
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.random(64, 6, density=0.3, dtype="float32", random_state=0)
    inputs = keras.Input((6,), sparse=True)
    model = Fused(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    model.fit(x, Y[:64], verbose=2)
    assert (
        "train: one batch at a time, since they are not dense arrays of "
        "numbers." in capsys.readouterr().out
    )


def test_data_larger_than_its_share_of_memory_takes_keras_path():
    stock = fit(make(keras.Model))
    model = make(Fused)
    model.resident_fraction = 0.0
    weights = fit(model)[1]
    assert_same(weights, stock[1])


def test_an_epoch_without_data_is_an_error():
    model = make(Fused)
    with pytest.raises(ValueError, match="needs at least one batch"):
        model.evaluate(X[:0], Y[:0], verbose=0)


def endless():
    while True:
        for i in range(0, 150, 32):
            yield X[i : i + 32], Y[i : i + 32]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, i):
        return X[32 * i : 32 * (i + 1)], Y[32 * i : 32 * (i + 1)]


SOURCES = {
    "generator": lambda: {"x": endless(), "steps_per_epoch": 7},
    "dataset": lambda: {"x": Batches()},
    "workers": lambda: {"x": Batches(workers=2)},
    "arrays": lambda: {"x": X, "y": Y},
}


@pytest.mark.parametrize(
    ("name", "steps"), [*((n, "auto") for n in SOURCES), ("generator", 4)]
)
def test_streams_train_as_in_stock(name, steps):
    results = []
    for cls in (keras.Model, Fused):
        known = {} if steps == "auto" else {"steps_per_execution": steps}
        model = make(cls, **known)
        model.resident_fraction = 0.0
        options = {"verbose": 0, "epochs": 2, "shuffle": False}
        history = model.fit(
            **SOURCES[name](), validation_data=(X, Y), **options
        )
        results.append((history.history, model.get_weights()))
    stock, ours = results
    assert list(ours[0]) == list(stock[0])
    assert_same(ours[0].values(), stock[0].values())
    assert_same(ours[1], stock[1])


def test_a_generator_is_not_read_past_the_epochs():
    drawn = []

    def batches():
        while True:
            drawn.append(1)
            yield X[:32], Y[:32]

    counts = []
    for cls in (keras.Model, Fused):
        drawn.clear()
        model = make(cls)
        model.fit(
            batches(), steps_per_epoch=7, epochs=3, verbose=0, shuffle=False
        )
        counts.append(len(drawn))
    assert counts[0] == counts[1]


def test_a_source_that_runs_dry_warns_and_stops_as_in_stock():
    def batches():
        for _ in range(5):
            yield X[:32], Y[:32]

    histories = []
    for cls in (keras.Model, Fused):
        model = make(cls)
        with pytest.warns(UserWarning, match="ran out of data"):
            history = model.fit(
                batches(), steps_per_epoch=8, verbose=0, shuffle=False
            )
        histories.append(history.history)
    assert list(histories[0]) == list(histories[1])
    assert_same(histories[1].values(), histories[0].values())


def test_batches_of_changing_shape_train_as_in_stock():
    def batches():
        for rows in (32, 32, 7, 32, 7, 7):
            yield X[:rows], Y[:rows]

    weights = []
    for cls in (keras.Model, Fused):
        model = make(cls)
        model.fit(batches(), verbose=0, shuffle=False, steps_per_epoch=6)
        weights.append(model.get_weights())
    assert_same(*weights)


def test_sparse_rows_train_as_in_stock():
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.random(64, 6, density=0.3, dtype="float32", random_state=0)
    weights = []
    for cls in (keras.Model, Fused):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,), sparse=True)
        model = cls(inputs, keras.layers.Dense(1)(inputs))
        model.compile("sgd", "mse")
        model.fit(x, Y[:64], verbose=0, epochs=2, shuffle=False)
        weights.append(model.get_weights())
    assert_same(*weights)


class Schedule(keras.callbacks.Callback):
    """A learning rate for each step."""

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.01 / (batch + 1)


@pytest.mark.parametrize(
    "callback",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda e: 0.1 / (e + 1)),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=1),
        lambda: keras.callbacks.EarlyStopping("loss", patience=1),
        Schedule,
    ],
)
def test_callbacks_steer_training_as_in_stock(callback):
    stock = fit(make(keras.Model), epochs=4, callbacks=[callback()])
    ours = fit(make(Fused), epochs=4, callbacks=[callback()])
    assert list(ours[0]) == list(stock[0])
    assert_same(ours[0].values(), stock[0].values())
    assert_same(ours[1], stock[1])


def test_checkpoints_are_written_at_the_steps_of_stock(tmp_path):
    names = []
    for cls in (keras.Model, Fused):
        folder = tmp_path / cls.__name__
        folder.mkdir()
        path = str(folder / "{epoch}-{batch}.weights.h5")
        saver = keras.callbacks.ModelCheckpoint(
            path, save_freq=3, save_weights_only=True
        )
        fit(make(cls), callbacks=[saver])
        names.append(sorted(f.name for f in folder.iterdir()))
    assert names[0] == names[1]
    assert len(names[0]) == 3


@pytest.mark.parametrize("eager", [False, True])
def test_training_that_was_interrupted_goes_on_where_it_was(tmp_path, eager):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    whole = fit(make(Fused, run_eagerly=eager), epochs=4, shuffle=False)
    # Without dropout: Keras does not back up the state of its seeds.
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(
            make(Fused, run_eagerly=eager),
            epochs=4,
            shuffle=False,
            callbacks=[backup, Interrupt()],
        )
    model = make(Fused, run_eagerly=eager)
    history, _ = fit(model, epochs=4, shuffle=False, callbacks=[backup])
    assert len(history["loss"]) == 2
    assert len(whole[0]["loss"]) == 4
    # What was restored then is not where a later call starts.
    history, _ = fit(model, epochs=2, shuffle=False)
    assert len(history["loss"]) == 2


def test_nan_ends_training_at_its_step():
    x = X.copy()
    x[70] = np.nan
    recorder = Recorder()
    fit(
        make(Fused),
        x=x,
        shuffle=False,
        callbacks=[keras.callbacks.TerminateOnNaN(), recorder],
    )
    assert [c[1] for c in recorder.calls if c[0] == "end"] == [0, 1, 2]


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_progress_shows_the_values_of_history(verbose, capsys):
    model = make(Fused)
    history = model.fit(X, Y, epochs=2, verbose=verbose)
    out = capsys.readouterr().out
    assert "Epoch 2/2" in out
    assert "5/5" in out
    for loss in history.history["loss"]:
        assert f"loss: {loss:.4f}" in out


def test_long_epochs_keep_the_progress_bar_moving():
    class Watch(keras.callbacks.ProgbarLogger):
        seen_steps = ()

        def on_train_batch_end(self, batch, logs=None):
            self.seen_steps = (*self.seen_steps, batch)
            super().on_train_batch_end(batch, logs)

    watch = Watch()
    x = np.zeros((60000, 4), "float32")
    model = make(Fused)
    model.fit(
        x, x[:, :1], batch_size=1, verbose=0, callbacks=[watch], shuffle=False
    )
    assert watch.seen_steps[-1] == 59999
    assert 4 < len(watch.seen_steps) < 600


def test_own_steps_and_losses_are_honoured():
    def subclass(base):
        class Own(base):
            def train_step(self, state, data):
                logs, state = super().train_step(state, data)
                return {**logs, "double": 2 * logs["loss"]}, state

            def compute_loss(self, x, y, y_pred, sample_weight=None):
                loss = super().compute_loss(x, y, y_pred, sample_weight)
                return loss + 0.1 * keras.ops.mean(y_pred**2)

            def compute_metrics(self, x, y, y_pred, sample_weight=None):
                logs = super().compute_metrics(x, y, y_pred, sample_weight)
                return {**logs, "largest": keras.ops.max(y_pred)}

        return Own

    stock = fit(make(subclass(keras.Model)))
    ours = fit(make(subclass(kje.Model)))
    assert list(ours[0]) == list(stock[0])
    assert {"double", "largest"} <= set(ours[0])
    assert_same(ours[0].values(), stock[0].values())
    assert_same(ours[1], stock[1])


def test_a_train_function_of_ones_own_is_used(capsys):
    calls = []

    class Own(kje.Model):
        def make_train_function(self, force=False):
            super().make_train_function(force)
            made = self.train_function

            def counting(state, iterator):
                calls.append(1)
                return made(state, iterator)

            self.train_function = counting

    fit(make(Own), epochs=1, verbose=2)
    assert len(calls) == 5
    assert "Own overrides make_train_function" in capsys.readouterr().out


def test_predictions_keep_their_structure():
    inputs = {
        "a": keras.Input((4,), name="a"),
        "b": keras.Input((4,), name="b"),
    }
    h = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    outputs = {"one": keras.layers.Dense(1)(h), "two": [h]}
    model = kje.Model(inputs, outputs)
    x = {"a": X, "b": X[::-1]}
    predicted = model.predict(x, batch_size=16, verbose=0)
    expected = model(x)
    assert_same(predicted["one"], expected["one"])
    np.testing.assert_array_equal(predicted["two"][0], expected["two"][0])
    few = model.predict({k: v[:3] for k, v in x.items()}, verbose=0)
    assert_same(few["one"], expected["one"][:3])


def test_large_predictions_are_kept_in_parts(monkeypatch):
    monkeypatch.setattr("keras_jax_ext._loop.program.KEPT_BYTES", 40)
    model = make(Fused)
    predicted = model.predict(X, batch_size=4, verbose=0)
    np.testing.assert_allclose(
        predicted, model(X, training=False), rtol=1e-5, atol=1e-6
    )


def test_layers_frozen_later_stay_as_they_are():
    model = make(Fused)
    fit(model)
    model.layers[1].trainable = False
    model.compile("adam", "mse")
    before = model.get_weights()
    fit(model)
    after = model.get_weights()
    np.testing.assert_array_equal(after[0], before[0])
    assert np.any(after[-1] != before[-1])


@pytest.mark.parametrize("steps", [0, -1, 2.0, "all", None])
def test_steps_per_execution_is_checked(steps):
    with pytest.raises(ValueError, match='"auto" or a positive integer'):
        make(Fused, steps_per_execution=steps)


def test_auto_is_not_written_to_files(tmp_path):
    model = make(Fused)
    assert model.steps_per_execution == 1
    assert "steps_per_execution" not in model.get_compile_config()
    config = make(Fused, steps_per_execution=3).get_compile_config()
    assert config["steps_per_execution"] == 3


def test_arrays_of_similar_length_share_a_program():
    model, traces = counting()
    for rows in (129, 130, 129, 131):
        fit(model, x=X[:rows], y=Y[:rows], epochs=1)
    # The step is traced for each size of batch, the last one's included.
    assert sorted(set(traces)) == sorted(traces)
    assert set(traces) == {(32, 4), (1, 4), (2, 4), (3, 4)}


def test_metrics_are_reset_by_the_rules_of_the_model():
    counts = []
    for base in (keras.Model, kje.Model):
        resets = []

        class Own(base):
            def reset_metrics(self, resets=resets):
                resets.append(1)
                super().reset_metrics()

        fit(make(Own), epochs=3)
        counts.append(len(resets))
    assert counts == [3, 3]


def narrow_heads(model_class):
    """A wide layer and narrow ones, whose gradients are turned round."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Dense(64, activation="relu")(inputs)
    heads = [keras.layers.Dense(units)(h) for units in (1, 2, 2, 5)]
    model = model_class(inputs, keras.layers.Concatenate()(heads))
    model.compile("sgd", "mse")
    return model


def test_narrow_layers_train_as_in_stock():
    y = X @ RNG.normal(size=(4, 10)).astype("float32")
    stock = fit(narrow_heads(keras.Model), y=y, epochs=5)
    ours = fit(narrow_heads(Fused), y=y, epochs=5)
    assert_same(ours[0].values(), stock[0].values())
    assert_same(ours[1], stock[1])


@pytest.mark.parametrize("verbose", [0, 2])
def test_callbacks_that_look_at_nothing_cost_no_look(verbose, monkeypatch):
    model = make(Fused)
    fit(model, verbose=verbose)
    looks = []
    sync = keras.Model.jax_state_sync

    def counting(self):
        if not self._jax_state_synced:
            looks.append(self)
        sync(self)

    monkeypatch.setattr(keras.Model, "jax_state_sync", counting)
    before = model.get_weights()
    fit(model, verbose=verbose, epochs=3)
    assert looks == []
    assert not np.array_equal(model.get_weights()[0], before[0])
    look = Look()
    fit(model, verbose=verbose, callbacks=[look])
    assert look.steps == [30, 35]  # after 2 epochs of 5 steps, and 3
    assert looks == []


class Look(keras.callbacks.Callback):
    """Notes the steps that the optimizer has made after each epoch."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_epoch_end(self, epoch, logs=None):
        self.steps.append(int(self.model.optimizer.iterations.value))
