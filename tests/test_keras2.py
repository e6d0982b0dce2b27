"""`kje.keras2`: what ported scripts need beside Keras 3."""

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

keras2 = kje.keras2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype("float32")
Y = RNG.normal(size=(16, 2)).astype("float32")


class ByHand(kje.Model):
    """The step of Keras's own `fit`, written out."""

    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()
        self.out = keras.layers.Dense(2)
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.tracker]

    def call(self, x, training=None):
        return self.out(self.norm(x, training=training))

    def loss_of(self, data, training):
        x, y = data
        return jnp.mean((self(x, training=training) - y) ** 2)

    @keras2.stateful_step
    def train_step(self, data):
        loss, gradients = kje.value_and_grad(
            lambda: self.loss_of(data, True), self.trainable_variables
        )()
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_variables, strict=True)
        )
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}

    @keras2.stateful_step
    def test_step(self, data):
        self.tracker.update_state(self.loss_of(data, False))
        return {"loss": self.tracker.result()}


class Stock(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()
        self.out = keras.layers.Dense(2)

    def call(self, x, training=None):
        return self.out(self.norm(x, training=training))


class Uncounted(ByHand):
    """Its steps return a loss that no metric has counted, as in Keras 2."""

    metrics = kje.Model.metrics

    @keras2.stateful_step
    def train_step(self, data):
        return {"loss": self.loss_of(data, False)}

    @keras2.stateful_step
    def test_step(self, data):
        return {"loss": self.loss_of(data, False)}


@pytest.mark.parametrize("eager", [False, True])
def test_a_loss_that_no_metric_counts_is_in_the_logs(eager):
    model = Uncounted()
    model(X)
    model.compile("sgd", run_eagerly=eager)
    given = {"batch_size": len(X), "verbose": 0, "validation_data": (X, Y)}
    logs = model.fit(X, Y, **given).history
    loss = float(model.loss_of((X, Y), False))
    np.testing.assert_allclose(logs["loss"], [loss], rtol=1e-6)
    np.testing.assert_allclose(logs["val_loss"], [loss], rtol=1e-6)


def test_a_step_by_hand_is_called_with_the_data_alone():
    model = Uncounted()
    logs = model.train_step((X, Y))
    assert float(logs["loss"]) == float(model.loss_of((X, Y), False))


@pytest.mark.parametrize("eager", [False, True])
def test_a_step_by_hand_trains_as_keras_does(eager):
    ours, stock = ByHand(), Stock()
    ours(X)
    stock(X)
    stock.set_weights(ours.get_weights()[:6])
    given = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    given["validation_data"] = (X, Y)
    ours.compile(keras.optimizers.Adam(0.1), run_eagerly=eager)
    stock.compile(keras.optimizers.Adam(0.1), "mse")
    first = ours.fit(X, Y, **given).history
    second = stock.fit(X, Y, **given).history
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-5)
    for a, b in zip(ours.get_weights()[:6], stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_an_optimizer_of_the_models_own_is_changed_eagerly():
    class Two(ByHand):
        @keras2.stateful_step
        def train_step(self, data):
            loss, gradients = kje.value_and_grad(
                lambda: self.loss_of(data, True), self.trainable_variables
            )()
            self.own.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    model = Two()
    model(X)
    model.own = keras.optimizers.Adam(0.1)
    model.compile(run_eagerly=True)
    before = model.out.kernel.numpy()
    model.fit(X, Y, batch_size=8, verbose=0)
    assert int(model.own.iterations) == 2
    assert not np.allclose(before, model.out.kernel)


def sampled(x):
    return x + keras.random.normal(x.shape[1:], seed=keras2.layer_seed())


def test_a_lambda_layer_draws_anew_in_a_compiled_program():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras2.Lambda(sampled, (3,))(inputs))
    first = model.predict(X, verbose=0)
    assert not np.allclose(first, model.predict(X, verbose=0))
    assert not np.allclose(model(X), model(X))
    assert keras2.layer_seed() is None


@pytest.mark.filterwarnings("ignore:(.|\\n)*symbolic")
def test_a_functional_model_has_a_loss_of_its_own():
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(3, name="d")(inputs)
    model = kje.Model(inputs, outputs, name="auto")
    loss = keras.ops.mean(keras.ops.square(outputs - inputs), axis=-1)
    model = keras2.with_loss(model, loss)
    assert (model.name, [*model.output_shape]) == ("auto", [None, 3])
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(X, epochs=1, batch_size=16, verbose=0).history
    expected = np.mean((model.predict(X, verbose=0) - X) ** 2)
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:(.|\\n)*symbolic")
@pytest.mark.parametrize("form", [list, dict])
def test_a_loss_of_its_own_leaves_the_structure_of_a_model(form):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    names, y = {"a": a, "b": b}, keras.layers.Dense(2)(a + b)
    inputs = names if form is dict else [*names.values()]
    model = keras2.with_loss(kje.Model(inputs, {"y": y, "a": a}), y**2)
    found = model({"a": X, "b": X} if form is dict else [X, X])
    assert {name: v.shape for name, v in found.items()} == {
        "y": (16, 2),
        "a": (16, 3),
    }
    np.testing.assert_allclose(model.losses, [np.mean(found["y"] ** 2)], 1e-6)


@pytest.mark.filterwarnings("ignore:(.|\\n)*symbolic")
def test_several_losses_of_its_own_are_added_up():
    inputs = keras.Input((3,))
    model = keras2.with_loss(
        kje.Model(inputs, inputs * 2.0), [inputs * 3.0, inputs * 4.0]
    )
    model(np.ones((2, 3)))
    assert [float(loss) for loss in model.losses] == [3.0, 4.0]


def test_states_are_forgotten():
    mean = keras.metrics.Mean()
    mean.update_state([1.0])
    keras2.reset_states(mean)
    assert float(mean.result()) == 0
    lstm = keras.layers.LSTM(2, stateful=True)
    model = keras.Sequential(
        [keras.Input(batch_shape=(1, 4, 3)), keras.Sequential([lstm])]
    )
    x = X[:4][None]
    first = np.asarray(model(x))
    assert not np.allclose(first, model(x))
    keras2.reset_states(model)
    np.testing.assert_allclose(first, model(x), rtol=1e-6)


def test_a_shape_is_checked():
    assert keras2.ensure_shape(X, (None, 3)) is X
    with pytest.raises(ValueError, match=r"shape=\(None, 4\)"):
        keras2.ensure_shape(X, (None, 4))


def test_texts_are_tokenized_as_before():
    tokenizer = keras2.Tokenizer(num_words=3)
    tokenizer.fit_on_texts(["a b a", "a c"])
    assert tokenizer.texts_to_sequences(["a b c"]) == [[1, 2]]
    assert keras2.text_to_word_sequence("Ab, c!") == ["ab", "c"]


def test_every_name_is_there():
    assert {*keras2.__all__} <= {*dir(keras2)}


class Compiled(kje.Model):
    """A step of Keras 2 with the loss and the metrics of `compile`."""

    @keras2.stateful_step
    def train_step(self, data):
        x, y = data

        def forward():
            y_pred = self(x, training=True)
            loss = keras2.compiled_loss(
                self, y, y_pred, regularization_losses=self.losses
            )
            return loss, y_pred

        (_, y_pred), gradients = kje.value_and_grad(
            forward, lambda: self.trainable_variables, has_aux=True
        )()
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_variables, strict=True)
        )
        keras2.update_compiled_metrics(self, y, y_pred)
        return self.get_metrics_result()


def test_a_step_with_the_loss_of_compile_logs_what_fit_does():
    histories = []
    for cls in (Compiled, keras.Model):
        inputs = keras.Input((3,))
        layer = keras.layers.Dense(
            2, kernel_initializer="ones", kernel_regularizer="l2"
        )
        model = cls(inputs, layer(inputs))
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
        # Batches of 6, 6 and 4 rows.
        options = {"epochs": 2, "batch_size": 6, "shuffle": False}
        history = model.fit(X, Y, verbose=0, **options)
        histories.append(history.history)
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-5)


def test_the_losses_of_a_model_count_only_if_given():
    inputs = keras.Input((3,))
    layer = keras.layers.Dense(2, kernel_regularizer="l2")
    model = kje.Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    y = model(X)
    plain = keras2.compiled_loss(model, Y, y)
    np.testing.assert_allclose(plain, np.mean((Y - y) ** 2), rtol=1e-5)


def test_a_module_knows_its_variables():
    class Inner(keras2.Module):
        def __init__(self):
            super().__init__()
            self.steps = keras.Variable(0, trainable=False, dtype="int32")

    class Outer(keras2.Module):
        def __init__(self):
            super().__init__(name="outer")
            self.layer = keras.layers.Dense(1)
            self.layer.build((None, 2))
            self.inner = [Inner(), self.layer]
            self.b = keras.Variable(1.0)

    module = Outer()
    assert (module.name, module.inner[0].name) == ("outer", "inner")
    layer, inner = module.layer, module.inner[0]
    found = [module.b, inner.steps, *layer.variables]
    assert [id(v) for v in module.variables] == [id(v) for v in found]
    trained = [module.b, *layer.variables]
    assert [id(v) for v in module.trainable_variables] == list(map(id, trained))
    assert module.submodules == (inner, layer, layer)


def test_a_scalar_is_a_number():
    assert round(keras2.to_numpy(jnp.float32(1.6))) == 2
    assert isinstance(keras2.to_numpy(jnp.ones(2)), np.ndarray)
    assert keras2.to_numpy({"a": 3, "b": keras.Variable(2.0)}) == {
        "a": 3,
        "b": 2.0,
    }
    with pytest.raises(Exception, match="in a compiled function"):
        jax.jit(keras2.to_numpy)(1.0)


def test_images_change_at_random_within_bounds():
    keras.utils.set_random_seed(0)
    image = np.full((6, 6, 3), 0.5, "float32")
    drawn = [keras2.random_brightness(image, 0.25)[0, 0, 0] for _ in range(20)]
    assert 0.25 <= min(drawn) < 0.4
    assert 0.6 < max(drawn) <= 0.75
    ramp = np.arange(6.0, dtype="float32")[:, None, None] * np.ones((6, 3))
    flips = {float(keras2.random_flip_up_down(ramp)[0, 0, 0]) for _ in range(9)}
    assert flips == {0.0, 5.0}
    wide = ramp.transpose(1, 0, 2)
    flips = {
        float(keras2.random_flip_left_right(wide)[0, 0, 0]) for _ in range(9)
    }
    assert flips == {0.0, 5.0}
    starts = {
        float(keras2.random_crop(ramp, (4, 6, 3))[0, 0, 0]) for _ in range(30)
    }
    assert starts == {0.0, 1.0, 2.0}
    contrast = keras2.random_contrast(ramp, 2.0, 2.0)
    np.testing.assert_allclose(contrast, (ramp - 2.5) * 2 + 2.5, rtol=1e-6)
    colours = RNG.uniform(size=(2, 2, 3)).astype("float32")
    same = keras2.random_hue(keras2.random_saturation(colours, 1.0, 1.0), 0.0)
    np.testing.assert_allclose(same, colours, atol=1e-5)


def test_a_part_is_no_larger_than_the_whole():
    with pytest.raises(ValueError, match=r"Received: an array of shape \(3,"):
        keras2.random_crop(np.ones((3, 3, 1)), (4, 3, 1))


def test_a_model_takes_its_mode_by_position():
    model = kje.Sequential([keras.layers.Dropout(0.5, seed=0)])
    x = np.ones((4, 8), "float32")
    np.testing.assert_array_equal(model(x, False), x)
    assert 0.0 in np.asarray(model(x, True))


def test_a_stack_has_an_input_and_an_output():
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert (model.input.shape, model.output.shape) == ((None, 3), (None, 2))
    with pytest.raises(AttributeError, match="never been called"):
        _ = kje.Sequential([keras.layers.Dense(2)]).input


def test_what_trains_is_said_by_compile():
    critic = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    maker = kje.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    keras2.compile(critic, keras.optimizers.SGD(0.1), "mse")
    critic.trainable = False
    inputs = keras.Input((2,))
    both = kje.Model(inputs, critic(maker(inputs)))
    keras2.compile(both, keras.optimizers.SGD(0.1), "mse")
    critic.layers[0].trainable = True  # as code around it may

    def weights():
        return [np.array(m.get_weights()[0]) for m in (maker, critic)]

    def changed(run):
        before = weights()
        run()
        state = [layer.trainable for layer in (critic, critic.layers[0])]
        assert state == [False, True]
        pairs = zip(before, weights(), strict=True)
        return [not np.array_equal(a, b) for a, b in pairs]

    y = np.ones((16, 1))
    fit = {"epochs": 1, "verbose": 0}
    assert changed(lambda: critic.train_on_batch(X, y)) == [False, True]
    assert changed(lambda: critic.fit(X, y, **fit)) == [False, True]
    z = X[:, :2]
    assert changed(lambda: both.train_on_batch(z, y)) == [True, False]
    assert changed(lambda: both.fit(z, y, **fit)) == [True, False]
    critic.trainable = False
    keras2.compile(critic, "sgd", "mse")  # frozen from now on
    critic.trainable = True
    before = weights()[1]
    critic.train_on_batch(X, y)
    assert critic.trainable
    assert np.array_equal(before, weights()[1])


def test_a_plain_compile_takes_the_place_of_an_earlier_one():
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    keras2.compile(model, "sgd", "mse")
    model.trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.train_on_batch(X, np.ones((16, 1)))
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_layer_that_came_after_compile_keeps_what_it_is():
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    keras2.compile(model, keras.optimizers.SGD(0.1), "mse")
    later = keras.layers.Dense(1)
    model.add(later)
    later.trainable = model.layers[0].trainable = False
    before = [np.array(w) for w in model.get_weights()]
    model.train_on_batch(X, np.ones((16, 1)))
    same = map(np.array_equal, before, model.get_weights())
    assert [*same] == [False, False, True, True]


def test_own_metrics_get_labels_of_the_rank_of_the_outputs():
    def error(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    class Error(keras.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(error(y_true, y_pred), sample_weight)

    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    given = [error, Error(name="own"), "mse"]
    model.compile("sgd", "mse", metrics=keras2.metrics(given))
    found = model.evaluate(X, Y[:, 0], verbose=0, return_dict=True)
    assert set(found) == {"loss", "error", "own", "mse"}
    np.testing.assert_allclose([*found.values()], found["mse"], rtol=1e-5)


def test_labels_of_the_rank_of_the_outputs_stay():
    def shapes(y_true, y_pred):
        return y_true.shape, y_pred.shape

    (found,) = keras2.metrics([shapes])
    assert found(np.ones(4), np.ones(4)) == ((4,), (4,))
    assert found(np.ones(4), np.ones((4, 2, 2))) == ((4,), (4, 2, 2))
    assert found(np.ones(4), np.ones((4, 2))) == ((4, 1), (4, 2))


def test_own_losses_get_labels_of_two_axes():
    def error(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    class Error(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return error(y_true, y_pred)

    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    reference = np.mean((Y[:, :1] - np.asarray(model(X))) ** 2)
    for loss in (error, Error(), [error]):
        model.compile("sgd", keras2.losses(loss))
        found = model.evaluate(X, Y[:, 0], verbose=0)
        np.testing.assert_allclose(found, reference, rtol=1e-5)


def test_metrics_of_keras_and_names_stay():
    auc = keras.metrics.AUC()
    given = {"a": [auc, "mae", keras.metrics.mean_absolute_error], "b": None}
    assert keras2.metrics(given) == given
    assert "update_state" not in vars(auc)


@pytest.mark.parametrize("again", [False, True])
def test_stateful_layers_keep_their_states(again):
    x = np.arange(24, dtype="float32").reshape(2, 12, 1) / 24
    layer = keras.layers.SimpleRNN(2, return_sequences=True)
    whole = keras.Sequential([keras.Input((12, 1)), layer])
    config = layer.get_config() | {"stateful": True}
    layer = keras.layers.SimpleRNN.from_config(config)
    inputs = keras.Input((3, 1), batch_size=2)
    if again:  # of layers that are built
        model = keras2.stateful(kje.Sequential([inputs, layer]))
    else:
        model = kje.Sequential([inputs, keras2.stateful(layer)])
    model.set_weights(whole.get_weights())
    parts = np.concatenate(np.split(x, 4, axis=1))
    expected = np.concatenate(np.split(whole.predict(x, verbose=0), 4, axis=1))
    for _ in range(2):
        found = model.predict(parts, batch_size=2, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        keras2.reset_states(model)
    half = parts[:4], parts[4:]
    halves = [model.predict(x, batch_size=2, verbose=0) for x in half]
    np.testing.assert_allclose(np.concatenate(halves), expected, rtol=1e-5)


def test_each_output_gets_all_metrics_of_a_flat_list():
    x = keras.Input((3,))
    outputs = [keras.layers.Dense(2, name=name)(x) for name in "ab"]
    model = kje.Model(x, outputs)
    given = ["mae", keras.metrics.MeanSquaredError(name="own")]
    model.compile("sgd", "mse", metrics=keras2.metrics(given, model))
    logs = model.evaluate(X, [Y, Y], verbose=0, return_dict=True)
    assert {"a_mae", "a_own", "b_mae", "b_own"} < set(logs)
    for name, output in zip("ab", model.predict(X, verbose=0), strict=True):
        reference = np.mean((output - Y) ** 2)
        np.testing.assert_allclose(logs[f"{name}_own"], reference, rtol=1e-5)
    nested = [["mae"], ["mse"]]
    assert keras2.metrics(nested, model) == nested


def test_a_part_of_a_model_is_a_function():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    total = keras.ops.sum(model.layers[0].output, axis=1)
    run = keras2.function([model.inputs[0]], [model.layers[0].output, total])
    found, sums = run([X])
    reference = model.predict(X, verbose=0)
    np.testing.assert_allclose(found, reference, rtol=1e-5)
    np.testing.assert_allclose(sums, reference.sum(1), rtol=1e-4, atol=1e-6)
    found[0] = 0  # a copy, as before
    alone = keras2.function(model.inputs[0], model.outputs[0])(X)
    np.testing.assert_allclose(alone, reference, rtol=1e-5)
    (single,) = keras2.function(model.inputs, model.outputs)([X])
    np.testing.assert_allclose(single, reference, rtol=1e-5)


def test_batches_are_weighed_by_class():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            part = slice(8 * index, 8 * index + 8)
            return X[part], classes[part]

    classes = np.arange(16) % 3
    weights = {0: 1.0, 1: 5.0}
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    fit = {"epochs": 2, "verbose": 0, "shuffle": False}
    kinds = [
        model.fit(X, classes, class_weight=weights, batch_size=8, **fit),
        model.fit(keras2.weighted(Batches(), weights), **fit),
        model.fit(
            keras2.weighted(iter([*Batches()] * 2), weights),
            steps_per_epoch=2,
            **fit,
        ),
    ]
    first = kinds[0].history["loss"]
    for each in kinds[1:]:
        np.testing.assert_allclose(each.history["loss"], first, rtol=1e-5)
    one_hot = X, np.eye(3)[classes], np.arange(16)
    (found,) = keras2.weighted(iter([one_hot]), weights)
    expected = np.arange(16) * np.where(classes == 1, 5.0, 1.0)
    np.testing.assert_array_equal(found[2], expected)
    assert keras2.weighted(X, None) is X


def test_a_list_of_numbers_is_an_array():
    assert keras2.as_array([[1, 2.0], [np.float32(3), True]]).shape == (2, 2)
    arrays = [X, Y]
    for given in (arrays, X, [], None, ["a"]):
        assert keras2.as_array(given) is given


def test_the_shapes_of_layers_are_those_of_keras_2():
    x = keras.Input((5, 3))
    y = keras.layers.LSTM(2, return_state=True)(x)
    layers = kje.Model(x, keras.layers.Add()(y)).layers
    shapes = [[(None, 5, 3)], (None, 5, 3), [(None, 2)] * 3]
    assert [*map(keras2.input_shape, layers)] == shapes
    shapes = [[(None, 5, 3)], [(None, 2)] * 3, (None, 2)]
    assert [*map(keras2.output_shape, layers)] == shapes


def test_lists_are_in_the_order_of_the_outputs():
    x = keras.Input((3,))
    layers = [keras.layers.Dense(2, name=n) for n in ("b", "a", "a_b")]
    model = kje.Model(x, [layer(x) for layer in layers])
    given = {"a_b": ["mse"], "a": ["mse", "mae"], "b": ["mse", "mae"]}
    model.compile("sgd", "mse", metrics=given)
    logs = model.evaluate(X, [Y] * 3, verbose=0, return_dict=True)
    names = "loss b_loss a_loss a_b_loss b_mse b_mae a_mse a_mae a_b_mse"
    assert keras2.metrics_names(model) == names.split()
    expected = [logs[name] for name in names.split()]
    assert keras2.as_list(model, logs) == expected
    model.compile("sgd", "mse")
    assert keras2.as_list(model, {"loss": 3.0}) == 3.0


def test_an_error_of_other_ranks_is_of_all_pairs_as_in_keras_2():
    labels, outputs = np.array([1, 2, 4]), np.array([[1.0], [3.0], [4.0]])
    error = keras.losses.mean_absolute_error
    found = error(*keras2.broadcast(labels, outputs))
    np.testing.assert_allclose(found, [4 / 3, 4 / 3, 5 / 3], rtol=1e-6)
    symbols = keras.Input((3,)), keras.Input((3,))
    for same in (symbols, (labels, outputs[:, 0]), ([1.0], [2.0])):
        assert keras2.broadcast(*same) == same


def test_a_dict_gives_the_one_output_its_labels():
    x = keras.Input((3,), name="x")
    model = kje.Model(x, keras.layers.Dense(2, name="y")(x))
    model.compile("sgd", {"y": "mse"}, metrics={"y": ["mse"]})
    weights = np.arange(16.0)
    plain = model.evaluate(X, Y, sample_weight=weights, verbose=0)
    given = {"y": Y}, {"y": weights}
    named = model.evaluate(X, given[0], sample_weight=given[1], verbose=0)
    assert named == plain


def test_a_dict_gives_each_output_its_weights():
    x = keras.Input((3,))
    outputs = [keras.layers.Dense(2, name=name)(x) for name in "ba"]
    model = kje.Model(x, outputs)
    model.compile("sgd", "mse")
    weights = {"a": np.arange(16.0), "b": np.ones(16)}
    found = model.evaluate(
        X, {"a": Y, "b": Y}, sample_weight=weights, verbose=0
    )
    errors = [
        np.mean(np.mean((output - Y) ** 2, axis=1) * weights[name])
        for name, output in zip("ba", model.predict(X, verbose=0), strict=True)
    ]
    np.testing.assert_allclose(found, [sum(errors), *errors], rtol=1e-5)


def test_a_schedule_may_return_a_tensor():
    model = kje.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    halved = kje.keras2.LearningRateScheduler(
        lambda e, r: keras.ops.divide(r, 2)
    )
    ones = np.ones((2, 1))
    history = model.fit(ones, ones, epochs=2, callbacks=[halved], verbose=0)
    assert history.history["learning_rate"] == [0.25, 0.125]
    text = kje.keras2.LearningRateScheduler(lambda epoch: "fast")
    with pytest.raises(ValueError, match="should be a float"):
        model.fit(ones, ones, callbacks=[text], verbose=0)


def test_a_model_of_json_is_not_compiled():
    def loss(y_true, y_pred):
        return y_pred

    model = kje.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    found = kje.keras2.model_from_json(model.to_json())
    assert not found.compiled
    assert [w.shape for w in found.get_weights()] == [(1, 1), (1,)]


def test_a_model_of_json_has_layers_of_the_script():
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    model = kje.Sequential([keras.Input((1,)), Twice()])
    found = keras2.model_from_json(model.to_json(), {"Twice": Twice})
    assert np.ravel(found(np.ones((1, 1)))).tolist() == [2.0]


def test_a_module_has_a_variable_once():
    class Pair(keras2.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = keras.Variable(1.0)

        @keras2.Module.with_name_scope
        def shown(self):
            return len(self.variables)

    assert Pair().shown() == 1


def test_a_function_takes_the_mode_as_an_input():
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5)])
    x = np.ones((4, 3), "float32")
    phase = keras2.learning_phase()
    for place in (0, 1):
        inputs = [model.inputs[0], model.inputs[0]]
        inputs[place] = phase
        run = keras2.function(inputs, [model.outputs[0]])
        given = [x, x]
        for mode, same in ((0, True), (1.0, False), (False, True)):
            given[place], given[1 - place] = mode, x
            (found,) = run(given)
            assert (found == x).all() == same


def test_what_is_computed_is_chosen_by_the_mode():
    assert keras2.in_train_phase(1, lambda: 2, training=None) == 2
    assert keras2.in_train_phase(lambda: 1, 2, training=True) == 1
    assert keras2.in_test_phase(1, 2, training=True) == 2


def test_the_order_of_axes_has_names_of_keras_1():
    before = keras.config.image_data_format()
    try:
        keras2.set_image_dim_ordering("th")
        assert keras.config.image_data_format() == "channels_first"
        assert keras2.image_dim_ordering() == "th"
        keras2.set_image_dim_ordering("tf")
        assert keras2.image_dim_ordering() == "tf"
    finally:
        keras.config.set_image_data_format(before)
    with pytest.raises(ValueError, match="dim_ordering='default'"):
        keras2.set_image_dim_ordering("default")


def _lines(sizes):
    return [
        kje.Sequential(
            [
                keras.Input((size,)),
                keras.layers.Dense(1, kernel_initializer="ones"),
            ]
        )
        for size in sizes
    ]


def _train(models, optimizers, turns=3):
    for _ in range(turns):
        for model, optimizer in zip(models, optimizers, strict=True):
            if not model.compiled:
                model.compile(optimizer, "mse")
            model.train_on_batch(X[:, : model.input_shape[-1]], Y[:, :1])
    return [model.get_weights() for model in models]


@pytest.mark.parametrize("rate", ["number", "schedule"])
def test_an_optimizer_of_two_models_counts_the_steps_of_both(rate):
    # By Adam's formula: its bias is corrected by the count of all steps.
    def made():
        schedule = keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 0.5)
        return keras.optimizers.Adam(0.1 if rate == "number" else schedule)

    one, two = made(), made()
    found = _train(_lines((2, 3)), [keras2.shared(one) for _ in range(2)])
    assert int(one.iterations) == 6

    first, second = _lines((2, 3))
    two.build(first.trainable_variables + second.trainable_variables)
    for _ in range(3):
        for model in (first, second):
            x = X[:, : model.input_shape[-1]]

            def loss(model=model, x=x):
                return keras.ops.mean((model(x) - Y[:, :1]) ** 2)

            variables = model.trainable_variables
            _, gradients = kje.value_and_grad(loss, variables)()
            two.apply(gradients, variables)
    wanted = [first.get_weights(), second.get_weights()]
    for here, there in zip(found, wanted, strict=True):
        for a, b in zip(here, there, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("kind", ["Adam", "SGD", "RMSprop", "Nadam"])
def test_a_shared_optimizer_takes_further_variables(kind):
    def made():
        more = {"momentum": 0.9} if kind == "SGD" else {}
        return getattr(keras.optimizers, kind)(0.1, **more)

    starts = np.array([[1.0], [2.0]], "float32")
    results = []
    for optimizer in (keras2.shared(made()), made()):
        a, b = map(keras.Variable, starts)
        if not results:
            assert optimizer.variables[2:] == []
        else:
            optimizer.build([a, b])  # Keras's own, which knows both
        for turn in range(4):
            optimizer.apply_gradients([(np.ones((1,)) * (turn + 1), a)])
            optimizer.apply_gradients([(np.ones((1,)), b)])
        assert int(optimizer.iterations) == 8
        results.append([a.numpy(), b.numpy(), len(optimizer.variables)])
    for here, there in zip(*results, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-6)


def test_a_model_compiled_anew_keeps_what_a_shared_optimizer_knows():
    sgd = keras.optimizers.SGD(0.1, momentum=0.9)
    (model,) = _lines((2,))
    model.compile(keras2.shared(sgd), "mse")
    model.train_on_batch(X[:, :2], Y[:, :1])
    model.compile(keras2.shared(sgd), "mse")
    model.train_on_batch(X[:, :2], Y[:, :1])

    (stock,) = _lines((2,))
    stock.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    for _ in range(2):
        stock.train_on_batch(X[:, :2], Y[:, :1])
    for a, b in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert int(sgd.iterations) == 2


def test_a_name_of_an_optimizer_is_shared_as_it_is():
    assert keras2.shared("adam") == "adam"


def test_weights_are_in_the_order_of_keras_2():
    class Block(keras.layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.dense = keras.layers.Dense(units)
            self.norm = keras.layers.BatchNormalization()
            self.own = keras.Variable(np.zeros((units, 9, 9)))
            self.fixed = keras.Variable(0.0, trainable=False)

        def call(self, x, training=None):
            return self.norm(self.dense(x), training=training)

    Block = kje.keras2.weights_in_order(Block)  # noqa: N806

    @kje.keras2.weights_in_order
    class Whole(kje.Model):
        def __init__(self):
            super().__init__()
            self.scale = keras.Variable(np.ones(7))
            self.blocks = [Block(2), Block(3)]
            self.dropout = keras.layers.Dropout(0.1)
            self.last = keras.layers.Dense(1)

        def call(self, x, training=None):
            for block in self.blocks:
                x = block(x, training=training)
            return self.last(self.dropout(x, training=training))

    model = Whole()
    model(np.ones((1, 4)))
    # As tf_keras lists them.
    first = [(2, 9, 9), (4, 2), (2,), (2,), (2,)]
    second = [(3, 9, 9), (2, 3), (3,), (3,), (3,)]
    last = [(3, 1), (1,), (7,)]
    fixed = [(), (2,), (2,), (), (3,), (3,)]
    shapes = [w.shape for w in model.get_weights()]
    assert shapes == [*first, *second, *fixed, *last]
    trained = [v.shape for v in model.trainable_variables]
    assert trained == [*first, *second, *last]
    assert [v.shape for v in model.variables[: len(shapes)]] == shapes
    assert len(model.variables) == len(shapes) + 1  # the dropout's state
    model.blocks[0].dense.trainable = False
    first = [(2, 9, 9), (2,), (2,)]
    fixed = [(), (4, 2), (2,), (2,), (2,), (), (3,), (3,)]
    shapes = [w.shape for w in model.get_weights()]
    assert shapes == [*first, *second, *fixed, *last]


def test_the_shape_of_a_function_of_several_tensors_is_inferred():
    def sampled(inputs):
        mean, scale = inputs
        shape = keras.ops.shape(mean)
        seed = keras2.layer_seed()
        return mean + scale * keras.random.normal(shape, seed=seed)

    inputs = keras.Input((3,))
    outputs = keras2.Lambda(sampled)([inputs, keras.layers.Dense(3)(inputs)])
    assert outputs.shape == (None, 3)


def test_a_seed_gives_other_numbers_in_each_call():
    first, second = (
        keras.random.uniform((4,), seed=keras2.seeded(41)) for _ in range(2)
    )
    assert not np.allclose(first, second)
    assert keras2.seeded(None) is None
    assert keras2.seeded(41) is keras2.seeded(41)


def test_metrics_have_the_names_of_keras_2():
    model = kje.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for given, wanted in [
        (["AUC", "mse", "Accuracy"], ["Accuracy", "auc", "mse"]),
        ("acc", ["acc"]),
        ("RootMeanSquaredError", ["root_mean_squared_error"]),
        (keras.metrics.AUC(name="mine"), ["mine"]),
        ({"dense": ["Recall"]}, ["recall"]),
    ]:
        model.compile("sgd", "mse", metrics=keras2.metrics(given))
        logs = model.test_on_batch(X[:, :2], X[:, :1] > 0, return_dict=True)
        assert sorted(logs) == sorted(["loss", *wanted])


def test_functions_of_a_method_draw_from_the_generator_of_its_layer():
    def noise(x):
        seed = keras2.layer_seed()
        return keras.random.normal(keras.ops.shape(x), seed=seed)

    class Noisy(kje.Model):
        def __init__(self):
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(1)
            self.dense = keras.layers.Dense(1)

        @keras2.draws
        def call(self, x):
            return self.dense(x) + noise(x)

    model = Noisy()
    model.compile("sgd", "mse")
    x = np.ones((4, 1), "float32")
    model.fit(x, x, verbose=0)
    assert not np.allclose(model(x), model(x))
    assert not np.allclose(model.predict(x), model.predict(x))
    assert keras2.layer_seed() is None
    with pytest.raises(TypeError):
        model.call()
    assert keras2.layer_seed() is None
