"""Metrics of the whole output: functions, classes of one's own, `on`."""

import keras_jax_ext as kje
from keras_jax_ext.metrics import Function, Metric, on

import keras
import numpy as np
import pytest
from keras import ops

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(12, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
LABELS = {"a": Y, "b": -Y}
WEIGHTS = np.linspace(0.1, 2, 12).astype("float32")
register = keras.saving.register_keras_serializable("test_metrics")


def heads(cls=kje.Model):
    inputs = keras.Input((3,))
    dense = keras.layers.Dense
    return cls(inputs, {n: dense(1, name=n)(inputs) for n in ("a", "b")})


def logs_of(metrics, model=None, **options):
    """The logs of one epoch that changes nothing, and the outputs."""
    model = model or heads()
    model.compile(
        keras.optimizers.SGD(0.0),
        {"a": "mse", "b": "mae"},
        metrics=metrics,
        weighted_metrics=options.pop("weighted_metrics", None),
    )
    history = model.fit(
        X, LABELS, verbose=0, batch_size=5, shuffle=False, **options
    ).history
    return {k: v[0] for k, v in history.items()}, model.predict(X, verbose=0)


@register
class Largest(Metric):
    """Remembers the largest distance of two outputs."""

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.largest = self.add_weight(name="largest", initializer="zeros")

    def update_state(self, x, y_pred, training):
        assert training in (True, False)
        distance = ops.max(ops.abs(y_pred["a"] - y_pred["b"]))
        self.largest.assign(ops.maximum(self.largest, distance))

    def result(self):
        return self.scale * self.largest

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@register
def gap(y_pred):
    return y_pred["a"] - y_pred["b"]


@register
def parts(x, y_pred):
    return {"a": y_pred["a"], "both": {"sum": ops.mean(x)}}


def test_a_metric_of_ones_own_sees_what_it_asks_for():
    specs = [Largest(), Largest(2.0), Largest(name="mine")]
    logs, output = logs_of(
        specs, validation_data=(X[:4], {"a": Y[:4], "b": Y[:4]})
    )
    distances = np.abs(output["a"] - output["b"])
    for prefix, expected in (("", distances), ("val_", distances[:4])):
        for name, scale in (("largest", 1), ("largest_1", 2), ("mine", 1)):
            np.testing.assert_allclose(
                logs[prefix + name], scale * expected.max(), rtol=1e-5
            )


def test_a_function_is_averaged_over_the_samples():
    # Three batches, the last one smaller.
    logs, output = logs_of([gap, lambda y_pred: ops.mean(gap(y_pred))])
    expected = np.mean(output["a"] - output["b"])
    np.testing.assert_allclose(logs["gap"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["<lambda>"], expected, rtol=1e-5)


def test_a_function_may_return_named_parts():
    model = heads()
    logs, output = logs_of([parts], model, validation_data=(X, LABELS))
    for prefix in ("", "val_"):
        np.testing.assert_allclose(
            [logs[f"{prefix}parts/a"], logs[f"{prefix}parts/both/sum"]],
            [output["a"].mean(), X.mean()],
            rtol=1e-4,
        )
    evaluated = model.evaluate(X, LABELS, verbose=0, return_dict=True)
    assert f"{evaluated['parts/a']:.4f}" == f"{output['a'].mean():.4f}"
    assert len(model.evaluate(X, LABELS, verbose=0)) == 5


def test_weighted_metrics_apply_the_sample_weights():
    specs = [gap, on("mae", "a")]
    logs, output = logs_of(
        specs, weighted_metrics=specs_again(specs), sample_weight=WEIGHTS
    )
    distance = (output["a"] - output["b"])[:, 0]
    error = np.abs(output["a"] - Y)[:, 0]
    for name, values in (("gap", distance), ("a_mae", error)):
        np.testing.assert_allclose(logs[name], values.mean(), rtol=1e-5)
        np.testing.assert_allclose(
            logs[f"{name}_1"],
            (values * WEIGHTS).sum() / WEIGHTS.sum(),
            rtol=1e-5,
        )


def test_weights_may_have_an_axis_more_but_not_be_many():
    logs = [
        logs_of(
            None,
            heads_of_seed_1(),
            weighted_metrics=[lambda y_pred: gap(y_pred)[:, 0]],
            sample_weight=weights,
        )[0]["<lambda>"]
        for weights in (WEIGHTS, WEIGHTS[:, None])
    ]
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="dict for the metric 'gap'"):
        logs_of(
            None,
            weighted_metrics=[gap],
            sample_weight={"a": WEIGHTS, "b": WEIGHTS},
        )


def heads_of_seed_1():
    keras.utils.set_random_seed(1)
    return heads()


def specs_again(specs):
    config = keras.saving.serialize_keras_object(specs)
    return keras.saving.deserialize_keras_object(config)


def test_weights_of_outputs_reach_the_metric_on_each():
    weights = {"a": WEIGHTS, "b": WEIGHTS[::-1]}
    logs, output = logs_of(
        None,
        weighted_metrics=[on("mae", "a"), on("mae", "b")],
        sample_weight=weights,
    )
    for name, weight in weights.items():
        error = np.abs(output[name] - LABELS[name])[:, 0]
        np.testing.assert_allclose(
            logs[f"{name}_mae"],
            (error * weight).sum() / weight.sum(),
            rtol=1e-5,
        )


def test_on_logs_what_keras_logs_for_an_output():
    stock = {"a": ["mae", keras.metrics.MeanSquaredError("mine")], "b": "mae"}
    ours = [
        on("mae", "a"),
        on(keras.metrics.MeanSquaredError("mine"), "a"),
        on("mae", "b"),
    ]
    results = []
    for cls, metrics in ((keras.Model, stock), (kje.Model, ours)):
        keras.utils.set_random_seed(1)
        results.append(logs_of(metrics, heads(cls))[0])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("labels", "units", "name"),
    [
        (RANDOM.integers(0, 3, 12), 3, "accuracy"),
        (keras.utils.to_categorical(RANDOM.integers(0, 3, 12)), 3, "accuracy"),
        (RANDOM.integers(0, 2, (12, 1)), 1, "accuracy"),
    ],
)
def test_accuracy_is_the_one_that_fits_the_labels(labels, units, name):
    values = []
    for metric in (name, on(name, 1)):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,))
        dense = keras.layers.Dense(units, activation="sigmoid")(inputs)
        whole = [dense] if metric == name else [inputs, dense]
        model = kje.Model(inputs, whole if len(whole) > 1 else dense)
        loss = kje.losses.Loss(lambda x: ops.sum(x, axis=-1))
        model.compile("sgd", loss=loss, metrics=[metric])
        y = labels if metric == name else (X, labels)
        values.append(model.evaluate(X, y, verbose=0)[1])
    assert values[0] == values[1]


def test_names_never_hide_one_another():
    logs, output = logs_of(
        [on("mae", "a"), on("mse", "a", name="a_mae"), gap, gap]
    )
    assert {"a_mae", "a_mae_1", "gap", "gap_1"} <= set(logs)
    error = output["a"] - Y
    np.testing.assert_allclose(logs["a_mae"], np.abs(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["a_mae_1"], (error**2).mean(), rtol=1e-5)


def test_a_name_of_keras_is_not_hidden():
    inputs = keras.Input((3,))
    model = kje.Model(inputs, keras.layers.Dense(1)(inputs))
    constant = Function(lambda x: ops.ones(len(x)), name="mae")
    model.compile("sgd", "mse", metrics=["mae", constant])
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert logs["mae_1"] == 1
    assert logs["mae"] != 1


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ([lambda y_prd: 0], ValueError, "Did you mean `y_pred`"),
        ({"a": [gap]}, ValueError, "given in a list"),
        ([{"a": [gap]}], ValueError, "stand at the top of the list"),
        ([on("mae", "c")], KeyError, r"'c' is not among \['a', 'b'\]"),
        ([lambda y_pred: None], TypeError, "Did you forget `return`"),
        (
            [lambda y_true, y_pred: 0.0],
            ValueError,
            r"write keras_jax_ext\.metrics\.Function\(fn\)",
        ),
    ],
)
def test_a_bad_metric_is_refused_before_the_first_step(metrics, error, message):
    model = heads()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        logs_of(metrics, model)
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_metric_that_changes_its_parts_is_refused():
    def moody(y_pred, training):
        return {"train": 0.0} if training else {"test": 0.0}

    with pytest.raises(ValueError, match="the same parts at every step"):
        logs_of([moody])


@pytest.mark.parametrize(
    "metric",
    [
        Largest(2.0, name="mine"),
        Function(gap, weighted=True),
        on("mae", ["a"]),
        on(keras.metrics.TopKCategoricalAccuracy(2), "b", name="top"),
    ],
)
def test_a_metric_survives_its_config(metric):
    config = keras.saving.serialize_keras_object(metric)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(metric)
    assert copy.name == metric.name
    assert keras.saving.serialize_keras_object(copy) == config
