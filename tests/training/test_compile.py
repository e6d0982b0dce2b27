"""Losses and metrics over the whole output, through `compile` and `fit`."""

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import pytest
from keras import ops

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Pair(kje.Model):
    def call(self, x):
        return kje.layers.Dense(1, name="a")(x), kje.layers.Dense(1, name="b")(
            x
        )


class Joint(kje.losses.Loss):
    def call(self, y_true, y_pred):
        a, b = y_pred
        return (a + b - y_true) ** 2


class Parts(kje.losses.Loss):
    def call(self, x, y_pred):
        return {
            "a": ops.sum((y_pred[0] - x) ** 2, axis=-1),
            "b": ops.mean(y_pred[1] ** 2, axis=-1),
        }


def spread(y_pred):
    return ops.abs(y_pred[0] - y_pred[1])


def heads(cls):
    inputs = keras.Input((3,))
    outputs = {
        "a": keras.layers.Dense(1, name="a")(inputs),
        "b": keras.layers.Dense(1, name="b")(inputs),
    }
    return cls(inputs, outputs)


def fit(model, *args, **kwargs):
    return model.fit(*args, verbose=0, **kwargs).history


def test_one_loss_over_two_outputs_and_one_label_trains():
    model = Pair()
    model.compile("adam", loss=Joint(), metrics=[spread])
    history = fit(model, X, Y, epochs=3, validation_data=(X, Y))
    assert sorted(history) == ["loss", "spread", "val_loss", "val_spread"]
    assert history["loss"][2] < history["loss"][0]
    a, b = model.predict(X, verbose=0)
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], np.mean((a + b - Y) ** 2), 1e-5)
    np.testing.assert_allclose(logs["spread"], np.mean(np.abs(a - b)), 1e-5)


def test_parts_without_labels_times_weight_sum_to_the_loss():
    model = Pair()
    model.compile(
        "sgd", loss=[Parts(weight=0.5), kje.losses.GlobalL2(0.1, weight=2)]
    )
    logs = {k: v[0] for k, v in fit(model, X).items()}
    assert sorted(logs) == [
        "global_l2_loss",
        "loss",
        "parts_loss/a",
        "parts_loss/b",
    ]
    total = 0.5 * (logs["parts_loss/a"] + logs["parts_loss/b"])
    np.testing.assert_allclose(
        logs["loss"], total + 2 * logs["global_l2_loss"], 1e-5
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_on_equals_a_keras_loss_for_each_output(weighted):
    labels = {"a": Y, "b": -Y}
    options = {"epochs": 5}
    if weighted:
        weights = np.linspace(0.1, 2, 20).astype("float32")
        options["sample_weight"] = {"a": weights, "b": weights[::-1]}
    results = []
    for cls, specs in (
        (
            keras.Model,
            {
                "loss": {"a": "mse", "b": "mae"},
                "loss_weights": {"a": 10.0, "b": 1.0},
            },
        ),
        (
            kje.Model,
            {
                "loss": [
                    kje.losses.on("mse", "a", weight=10.0),
                    kje.losses.on("mae", "b"),
                ]
            },
        ),
    ):
        keras.utils.set_random_seed(1)
        model = heads(cls)
        model.compile("sgd", **specs)
        history = fit(model, X, labels, **options)
        results.append((history, model.get_weights()))
    (stock, stock_weights), (ours, our_weights) = results
    assert list(stock) == list(ours)
    for name in stock:
        np.testing.assert_allclose(ours[name], stock[name], 1e-6)
    for left, right in zip(our_weights, stock_weights, strict=True):
        np.testing.assert_allclose(left, right, 1e-6)


def test_stock_specs_give_the_history_and_order_of_keras():
    results = []
    for cls in (keras.Model, kje.Model):
        keras.utils.set_random_seed(1)
        model = heads(cls)
        model.compile(
            "adam", loss={"a": "mse", "b": "mae"}, metrics={"a": ["mae"]}
        )
        history = fit(model, X, {"a": Y, "b": Y}, epochs=2)
        evaluated = model.evaluate(X, {"a": Y, "b": Y}, verbose=0)
        results.append((history, evaluated, model.metrics_names))
    (stock, at_stock, order), (ours, at_ours, our_order) = results
    assert [*ours] == [*stock]
    assert our_order == order
    # Another program, which XLA may round otherwise.
    np.testing.assert_allclose([*ours.values()], [*stock.values()], 1e-6)
    np.testing.assert_allclose(at_ours, at_stock, 1e-6)


def test_sample_weights_are_applied_unless_asked_for():
    weights = np.linspace(0, 1, 20).astype("float32")

    def by_hand(y_true, y_pred, sample_weight):
        error = (y_pred[0] + y_pred[1] - y_true)[:, 0] ** 2
        return ops.mean(error * sample_weight)

    logs = []
    for loss in (Joint(), by_hand):
        keras.utils.set_random_seed(1)
        model = Pair()
        model.compile("sgd", loss=loss)
        logs.append(fit(model, X, Y, sample_weight=weights)["loss"])
    np.testing.assert_allclose(logs[0], logs[1], 1e-6)


def test_class_weight_reaches_the_loss_that_asks_for_it():
    seen = []

    def loss(y_pred, class_weight, training):
        seen.append((training, class_weight))
        return ops.sum(y_pred[0], axis=-1)

    model = Pair()
    model.compile("sgd", loss=loss)
    fit(model, X, Y, class_weight={0: 2.0}, validation_data=(X, Y))
    assert (True, {0: 2.0}) in seen
    assert seen[-1] == (False, None)  # validation
    model.compile("sgd", loss=[loss, Joint()])
    with pytest.raises(ValueError, match="one loss that asks and others"):
        fit(model, X, Y, class_weight={0: 2.0})


def test_parameters_reach_losses_and_metrics_in_training_and_testing():
    def norm(parameters):
        return sum(ops.sum(v**2) for v in parameters.values())

    model = Pair()
    model.compile("sgd", loss=[Joint(), kje.losses.GlobalL2(1.0)])
    model.fit(X, Y, verbose=0)
    model.compile(
        "sgd", loss=[Joint(), kje.losses.GlobalL2(1.0)], metrics=[norm]
    )
    history = fit(model, X, Y, batch_size=20, validation_data=(X, Y))
    np.testing.assert_allclose(history["norm"], history["global_l2_loss"], 1e-6)
    np.testing.assert_allclose(
        history["val_norm"], history["val_global_l2_loss"], 1e-6
    )


def test_reported_values_and_named_losses_are_logged():
    class Reporter(kje.Layer):
        def call(self, x):
            self.add_metric(ops.mean(x), name="mean")
            self.add_loss(ops.sum(x**2) * 0.01, name="penalty")
            return x

    model = kje.Sequential([Reporter(), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    history = fit(model, X, Y, batch_size=20, validation_data=(X, Y))
    assert set(history) == {
        p + n for p in ("", "val_") for n in ("loss", "mean", "penalty")
    }
    np.testing.assert_allclose(history["mean"][0], X.mean(), 1e-5)
    np.testing.assert_allclose(history["penalty"][0], (X**2).sum() / 100, 1e-5)


def test_recompiling_changes_the_loss_both_ways():
    model = heads(kje.Model)
    stock, ours = {"a": "mse", "b": "mse"}, kje.losses.Loss(_sum_of_heads)
    for loss, names in (
        (stock, {"a_loss", "b_loss", "loss"}),
        (ours, {"loss"}),
        (stock, {"a_loss", "b_loss", "loss"}),
    ):
        model.compile("sgd", loss=loss)
        assert set(fit(model, X, {"a": Y, "b": Y})) == names


@keras.saving.register_keras_serializable("test_compile")
def _sum_of_heads(y_pred):
    return ops.sum(y_pred["a"] ** 2 + y_pred["b"] ** 2, axis=-1)


def test_a_saved_model_keeps_its_losses_and_metrics(tmp_path):
    model = heads(kje.Model)
    model.compile(
        "sgd",
        loss=[
            kje.losses.Loss(_sum_of_heads, weight=0.5),
            kje.losses.on("mse", "a", weight=3.0),
        ],
        metrics=[_sum_of_heads, kje.metrics.on("mae", "b")],
    )
    labels = {"a": Y, "b": Y}
    fit(model, X, labels)
    expected = model.evaluate(X, labels, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Functional": type(model)}
    )
    assert loaded.evaluate(X, labels, verbose=0, return_dict=True) == expected


def test_extend_gives_a_stock_model_whole_output_losses(tmp_path):
    model = heads(keras.Model)
    before, name = model.get_weights(), model.name
    model.compile("sgd", loss=kje.losses.Loss(_joint_heads))
    with pytest.raises(ValueError, match="once for each output"):
        fit(model, X, {"a": Y, "b": Y})
    assert kje.extend(model) is model
    assert model.name == name
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    model.compile("sgd", loss=kje.losses.Loss(_joint_heads))
    assert list(fit(model, X, Y)) == ["loss"]
    model.compile("sgd", loss={"a": "mse", "b": "mse"})
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for left, right in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(left, right)
    with pytest.raises(TypeError, match="`extend` takes a model"):
        kje.extend("model")


def _joint_heads(y_true, y_pred):
    if isinstance(y_pred, dict):
        y_pred = y_pred["a"] + y_pred["b"]
    return ops.sum((y_pred - y_true) ** 2, axis=-1)


def _boom(y_pred, training):
    if training:
        raise RuntimeError("boom")
    return ops.sum(y_pred[0], axis=-1)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_failing_step_leaves_the_weights(run_eagerly):
    model = Pair()
    model.compile("sgd", loss=_boom, run_eagerly=run_eagerly)
    model(X)
    before = model.get_weights()
    with pytest.raises(RuntimeError, match="boom"):
        fit(model, X)
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    model.compile("sgd", loss=Joint())
    fit(model, X, Y)


def test_train_on_batch_returns_loss_then_metrics_then_parts():
    model = Pair()
    model.compile("sgd", loss=Parts(), metrics=[spread])
    names = ["loss", "spread", "parts_loss/a", "parts_loss/b"]
    logs = model.test_on_batch(X, return_dict=True)
    assert model.metrics_names == names
    assert model.test_on_batch(X) == [logs[name] for name in names]
    assert len(model.train_on_batch(X)) == 4


def test_generators_without_labels():
    model = Pair()
    model.compile("sgd", loss=Parts())
    assert "parts_loss/a" in fit(
        model, ((X,) for _ in range(9)), steps_per_epoch=2, shuffle=False
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": lambda y_true, y_pred, y_prd: 0}, "Did you mean `y_pred`"),
        ({"loss": ["mse", "mae", Joint()]}, "at most one spec of Keras"),
        ({"loss": {"a": "mse", "b": Joint()}}, "at most one spec of Keras"),
        ({"loss": Joint(), "loss_weights": [1.0]}, "Give each loss its"),
        ({"metrics": {"a": spread}}, "given in a list"),
    ],
)
def test_a_spec_that_cannot_work_is_refused_by_compile(options, message):
    model = Pair()
    model.compile("sgd", loss=Joint())
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", **options)
    fit(model, X, Y)  # compiled as before


@pytest.mark.parametrize(
    ("loss", "data", "error", "message"),
    [
        (Joint(), {}, ValueError, "there are no labels"),
        (Joint(on="c"), {"y": Y}, KeyError, "is not among"),
        (lambda y_pred: None, {}, TypeError, "Did you forget `return`"),
        (
            lambda x, y_pred: ops.mean(y_pred[0]),
            {"y": Y, "sample_weight": np.ones(20)},
            ValueError,
            "already a scalar",
        ),
        (Joint(reduction=None), {"y": Y}, ValueError, "is not reduced"),
    ],
)
def test_bad_data_are_refused_before_the_first_step(loss, data, error, message):
    model = Pair()
    model.compile("sgd", loss=loss)
    model(X)
    before = model.get_weights()
    with pytest.raises(error, match=message):
        fit(model, X, **data)
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_function_of_labels_and_outputs_names_the_way_to_the_whole():
    model = Pair()
    model.compile("sgd", loss=lambda y_true, y_pred: y_pred)
    with pytest.raises(ValueError, match=r"losses\.Loss\(fn\)"):
        fit(model, X, Y)


def test_what_a_function_raised_is_told():
    def refuse(y_true, y_pred):
        raise ValueError("not today")

    model = Pair()
    model.compile("sgd", loss=[refuse, refuse])
    with pytest.raises(ValueError, match="not today"):
        fit(model, X, [Y, Y])


class Report(kje.Layer):
    """Reports in `when`, declared in the classic way."""

    def __init__(self, when):
        super().__init__()
        self.when = when
        self.dense = keras.layers.Dense(1)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x, training=False):
        if training in self.when:
            self.add_metric(x, name="mean")
        return self.dense(x)


class Inner(keras.layers.Layer):
    """A stock layer around it."""

    def __init__(self, when):
        super().__init__()
        self.inner = Report(when)

    def call(self, x, training=False):
        return self.inner(x, training=training)


@pytest.mark.parametrize("cls", [Report, Inner])
@pytest.mark.parametrize("when", [[True], [False], [True, False]])
def test_a_value_is_logged_where_it_is_reported(cls, when):
    model = kje.Sequential([keras.Input((3,)), cls(when)])
    model.compile("sgd", loss="mse")
    history = fit(model, X, Y, epochs=2, validation_data=(X[:5], Y[:5]))
    names = {"loss", "val_loss"}
    if True in when:
        names.add("mean")
        np.testing.assert_allclose(history["mean"], [X.mean()] * 2, 1e-5)
    if False in when:
        names.add("val_mean")
        np.testing.assert_allclose(
            history["val_mean"], [X[:5].mean()] * 2, 1e-5
        )
    assert set(history) == names
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert ("mean" in logs) is (False in when)


def test_a_report_first_made_in_a_step_is_refused():
    layer = Report([])
    model = kje.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", loss="mse")
    fit(model, X, Y)
    layer.when = [True]
    before = model.get_weights()
    model.make_train_function(force=True)
    with pytest.raises(ValueError, match="must be known when training begins"):
        fit(model, X, Y)
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", [None, "", 1])
def test_a_report_without_a_name_is_refused(name):
    with pytest.raises(TypeError, match="needs a name for the logs"):
        Report([]).add_metric(X, name=name)


class Batches(keras.utils.PyDataset):
    """Batches of inputs alone, in what `make` makes of them."""

    def __init__(self, make, **kwargs):
        super().__init__(**kwargs)
        self.make = make

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.make(X[5 * index : 5 * index + 5])


def generator():
    while True:
        yield from ((X[i : i + 5],) for i in range(0, 20, 5))


def torch_loader():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    data = torch.utils.data.TensorDataset(torch.from_numpy(X))
    return torch.utils.data.DataLoader(data, batch_size=5)


def tf_dataset():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow not installed")
    return tf.data.Dataset.from_tensor_slices((X,)).batch(5)


@pytest.mark.parametrize(
    "make",
    [
        generator,
        lambda: Batches(lambda x: (x,)),
        lambda: Batches(lambda x: x),
        lambda: Batches(lambda x: (x, None)),
        torch_loader,
        tf_dataset,
    ],
)
def test_labels_may_be_absent_from_any_data(make):
    histories = []
    for data in (X, make()):
        keras.utils.set_random_seed(1)
        model = Pair()
        model.compile("sgd", loss=Parts(), metrics=[spread])
        size = {"batch_size": 5} if data is X else {"steps_per_epoch": 4}
        histories.append(fit(model, data, shuffle=False, **size))
    assert histories[0] == histories[1]
    model.compile("sgd", loss=Joint())
    with pytest.raises(ValueError, match="there are no labels"):
        fit(model, make(), shuffle=False)


def test_recompiling_forgets_losses_metrics_and_reports():
    model = heads(kje.Model)
    labels = {"a": Y, "b": Y}
    whole = {
        "loss": [_sum_of_heads, kje.losses.GlobalL2(0.1)],
        "metrics": [_sum_of_heads],
    }
    names = ["loss", "_sum_of_heads", "_sum_of_heads_loss", "global_l2_loss"]
    stock = {"loss": {"a": "mse", "b": "mae"}, "metrics": {"a": ["mae"]}}
    for options, expected in (
        (whole, names),
        (stock, ["a_loss", "a_mae", "b_loss", "loss"]),
        (whole, names),
        ({}, ["loss"]),  # zero, as in Keras
    ):
        model.compile("sgd", **options)
        logs = model.evaluate(X, labels, verbose=0, return_dict=True)
        assert sorted(logs) == sorted(expected)


class Own(kje.Model):
    """Steps of its own, written as Keras documents them."""

    def call(self, x):
        self.add_metric(x, name="mean")
        return kje.layers.Dense(1)(x)

    def train_step(self, state, data):
        trainable, fixed, optimizer, metrics = state
        x, y = data
        evaluate = jax.value_and_grad(
            self.compute_loss_and_updates, has_aux=True
        )
        (loss, aux), gradients = evaluate(
            *(trainable, fixed, metrics, x, y, None), True, optimizer
        )
        _, _, fixed, metrics = aux
        trainable, optimizer = self.optimizer.stateless_apply(
            optimizer, gradients, trainable
        )
        return {"mine": loss}, (trainable, fixed, optimizer, metrics)


def test_a_train_step_of_ones_own_has_the_losses():
    def norm(parameters):
        return ops.sum(parameters["own/dense/kernel"] ** 2)

    model = Own()
    model.compile(keras.optimizers.SGD(0.0), loss=["mse", norm])
    logs = fit(model, X, Y, batch_size=20)
    error = np.mean((model.predict(X, verbose=0) - Y) ** 2)
    kernel = np.sum(np.square(model.dense.kernel))
    assert list(logs) == ["mine"]
    np.testing.assert_allclose(logs["mine"], error + kernel, rtol=1e-5)
