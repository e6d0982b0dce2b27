"""Losses of the whole output: parts, weights, masks, names, files, errors."""

import dataclasses
from typing import NamedTuple

import keras_jax_ext as kje
from keras_jax_ext.losses import GlobalL1, GlobalL1L2, GlobalL2, Loss, on

import jax
import keras
import numpy as np
import pytest
from keras import ops

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(12, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
OUTPUT = {"a": X, "b": (2 * X, {"deep": Y})}
register = keras.saving.register_keras_serializable("test_losses")


def fit(model, *args, **kwargs):
    return model.fit(*args, verbose=0, **kwargs).history


def total(y_pred):
    """A value for each sample, of whatever it is given."""
    return sum(ops.sum(leaf, axis=-1) for leaf in keras.tree.flatten(y_pred))


def difference(y_true, y_pred):
    return ops.sum((y_pred - y_true) ** 2, axis=-1)


class Two(NamedTuple):
    a: object
    b: object


@dataclasses.dataclass(frozen=True)
class Data:
    a: object
    b: object

    def __post_init__(self):
        """What a trace cannot know is not asked again."""
        assert self.a.shape == self.b.shape


class Pair(kje.Model):
    """Two outputs, in the structure that `make` makes of them."""

    def __init__(self, make=lambda a, b: {"a": a, "b": b}):
        super().__init__()
        self.make = make

    def call(self, x):
        a = kje.layers.Dense(1, name="a")(x)
        return self.make(a, kje.layers.Dense(1, name="b")(x))


# on=


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, X.sum() + 2 * X.sum() + Y.sum()),
        ("a", X.sum()),
        (["a"], X.sum()),
        (["b", 0], 2 * X.sum()),
        (["b", 1, "deep"], Y.sum()),
        (("b", 1), Y.sum()),
    ],
)
def test_on_leads_to_a_part(path, expected):
    loss = Loss(total, on=path, reduction="sum")
    np.testing.assert_allclose(loss(None, OUTPUT), expected, rtol=1e-5)


@pytest.mark.parametrize("output", [Two(X, -X), Data(X, -X)])
def test_on_leads_to_fields(output):
    for key, sign in (("a", 1), ("b", -1)):
        value = Loss(total, on=key, reduction="sum")(None, output)
        np.testing.assert_allclose(value, sign * X.sum(), rtol=1e-5)


def test_on_leaves_labels_that_are_no_structure():
    # Elegy took row 0 of the labels here.
    loss = Loss(difference, on=0)
    expected = np.mean(np.sum((2 * X - X) ** 2, axis=-1))
    np.testing.assert_allclose(loss(X, (2 * X, Y)), expected, rtol=1e-5)
    np.testing.assert_allclose(loss((X, Y), (2 * X, Y)), expected, rtol=1e-5)


def test_on_works_in_a_subclass_of_ones_own():
    class Mine(Loss):
        def call(self, y_true, y_pred):
            return difference(y_true, y_pred)

    model = Pair()
    model.compile("sgd", loss=[Mine(on="a"), Mine(on="b", name="other")])
    logs = fit(model, X, {"a": Y, "b": -Y}, batch_size=12)
    assert list(logs) == ["loss", "mine_loss", "other_loss"]


@pytest.mark.parametrize(
    ("path", "output", "message"),
    [
        ("c", OUTPUT, r"'c' is not among \['a', 'b'\]"),
        (["b", 2], OUTPUT, r"2 is not among \[0, 1\]"),
        ("c", Two(X, X), r"'c' is not among \['a', 'b', 0, 1\]"),
        ("c", Data(X, X), r"'c' is not among \['a', 'b'\]"),
        (["a", 0], OUTPUT, "0 in one tensor, which has no parts"),
    ],
)
def test_a_missing_part_lists_those_there_are(path, output, message):
    with pytest.raises(KeyError, match=message):
        Loss(total, on=path)(None, output)


# What is returned


def test_parts_may_be_nested_and_of_any_rank():
    def parts(y_pred):
        return {"a": ops.mean(y_pred), "b": {"c": y_pred, "d": y_pred[:, 0]}}

    values = Loss(parts).parts({"y_pred": X})
    assert list(values) == ["a", "b/c", "b/d"]
    expected = [X.mean(), X.mean(), X[:, 0].mean()]
    np.testing.assert_allclose(list(values.values()), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum", lambda v, w: (v * w).sum()),
        ("mean", lambda v, w: (v * w).mean()),
        ("sum_over_batch_size", lambda v, w: (v * w).mean()),
        ("mean_with_sample_weight", lambda v, w: (v * w).sum() / w.sum()),
    ],
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_weights_reduce_values_of_any_rank(reduction, expected, rank):
    values = RANDOM.normal(size=(12, 3, 2)).astype("float32")
    values = values.reshape(12, *{1: (6,), 2: (3, 2), 3: (3, 2)}[rank])
    values = values[:, 0] if rank == 1 else values
    weights = np.linspace(0.5, 2, 12).astype("float32")
    loss = Loss(lambda y_pred: y_pred, reduction=reduction)
    spread = weights.reshape(12, *(1,) * (values.ndim - 1))
    spread = np.broadcast_to(spread, values.shape)
    for given in (weights, weights[:, None]):
        np.testing.assert_allclose(
            loss(None, values, given), expected(values, spread), rtol=1e-5
        )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(5), r"shape \(5,\) and values of shape \(12, 3\)"),
        (np.ones((12, 2)), "must have the leading axes"),
        ({"a": np.ones(12)}, "Choose a part with `on`"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        Loss(lambda y_pred: y_pred)(None, X, weights)


def test_one_array_of_weights_is_for_all_outputs():
    # Keras repeats it for each label, and would give the loss a dict.
    model = Pair()
    model.compile(keras.optimizers.SGD(0.0), loss=together)
    weights = np.linspace(0.1, 2, 12).astype("float32")
    labels = {"a": Y, "b": -Y}
    data = {"y": labels, "sample_weight": weights}
    first = model.evaluate(X, **data, verbose=0)
    logs = fit(model, X, **data, validation_data=(X, labels, weights))
    np.testing.assert_allclose(logs["val_loss"], first, rtol=1e-6)
    outputs = model.predict(X, verbose=0)
    errors = sum(outputs[n] - labels[n] for n in labels)[:, 0] ** 2
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(
            logs[name], np.mean(errors * weights), rtol=1e-5
        )
    data["sample_weight"] = {"a": weights, "b": 2 * weights}
    for method in (fit, lambda m, *a, **k: m.evaluate(*a, verbose=0, **k)):
        with pytest.raises(ValueError, match="takes one array of weights"):
            method(model, X, **data)


def together(y_true, y_pred, training):
    return ops.sum(sum(y_pred[n] - y_true[n] for n in y_true) ** 2, axis=-1)


def test_weights_of_a_scalar_are_refused_but_not_of_a_penalty():
    with pytest.raises(ValueError, match=r"'scalar', part 'b'"):
        Loss(lambda y_pred: {"b": ops.mean(y_pred)}, name="scalar")(
            None, X, np.ones(12)
        )
    penalty = Loss(lambda parameters: ops.sum(parameters["w"]))
    value = penalty(None, X, np.ones(12), parameters={"w": X})
    np.testing.assert_allclose(value, X.sum(), rtol=1e-5)


@pytest.mark.parametrize("returned", [None, [X, X], (), {}])
def test_a_loss_that_returns_no_tensor_is_refused(returned):
    with pytest.raises(TypeError, match="The loss 'nothing' must return"):
        Loss(lambda y_pred: returned, name="nothing")(None, X)


@pytest.mark.parametrize("reduction", [None, "none"])
def test_a_loss_that_is_not_reduced_is_refused(reduction):
    with pytest.raises(ValueError, match="Training needs one number"):
        Loss(total, reduction=reduction)(None, X)


# Names and groups


def test_groups_name_their_losses_and_repeats_are_numbered():
    spec = [total, [total, {"group": total, "two": [total, {"in": total}]}]]
    model = Pair()
    model.compile("sgd", loss=spec)
    logs = fit(model, X)
    names = ["group/total_loss", "total_loss", "total_loss_1"]
    names += ["two/in/total_loss", "two/total_loss"]
    assert sorted(logs) == sorted(["loss", *names])
    np.testing.assert_allclose(
        logs["loss"], sum(logs[name][0] for name in names), rtol=1e-5
    )


def test_the_name_of_the_mixture_loss_is_that_of_its_class():
    class MixtureNLL(Loss):
        def call(self, y_pred):
            return {"part": total(y_pred)}

    model = Pair()
    model.compile("sgd", loss=MixtureNLL())
    assert sorted(fit(model, X)) == ["loss", "mixture_nll_loss/part"]


# States, parameters, training


class Normal(kje.Model):
    """A model with a state that training moves."""

    def call(self, x):
        x = kje.layers.BatchNormalization(name="norm")(x)
        return kje.layers.Dense(1, name="head")(x)


def test_parameters_states_and_training_come_by_name():
    seen = []

    def loss(parameters, states, training):
        seen.append((sorted(parameters), sorted(states), training))
        return ops.sum(states["normal/norm/moving_mean"])

    model = Normal()
    model.compile("sgd", loss=[loss, "mse"])
    history = fit(model, X, Y, batch_size=12, validation_data=(X, Y))
    parameters = ["normal/head/bias", "normal/head/kernel"]
    parameters += ["normal/norm/beta", "normal/norm/gamma"]
    states = ["normal/norm/moving_mean", "normal/norm/moving_variance"]
    assert {t for _, _, t in seen} == {True, False}
    assert all(p == parameters and s == states for p, s, _ in seen)
    # The states of the step, which evaluation sees as training left them.
    moved = np.sum(model.norm.moving_mean)
    np.testing.assert_allclose(history["val_loss_loss"], moved, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (GlobalL1(0.5), lambda w: 0.5 * np.abs(w).sum()),
        (GlobalL2(0.5), lambda w: 0.5 * (w**2).sum()),
        (
            GlobalL1L2(0.5, 2.0),
            lambda w: 0.5 * np.abs(w).sum() + 2 * (w**2).sum(),
        ),
    ],
)
def test_a_global_penalty_is_over_the_trainable_variables(loss, expected):
    model = Normal()
    model.compile(keras.optimizers.SGD(0.0), loss=["mse", loss])
    logs = fit(model, X, Y)
    weights = [np.ravel(v) for v in model.trainable_variables]
    name = f"{loss.name}_loss"
    np.testing.assert_allclose(
        logs[name], expected(np.concatenate(weights)), rtol=1e-5
    )
    model.norm.trainable = False
    model.compile(keras.optimizers.SGD(0.0), loss=["mse", loss])
    kept = np.concatenate([np.ravel(v) for v in model.trainable_variables])
    assert kept.size == 4
    np.testing.assert_allclose(
        fit(model, X, Y)[name], expected(kept), rtol=1e-5
    )


def test_the_class_weights_reach_every_loss_that_asks_for_them():
    def loss(y_true, y_pred, class_weight):
        each = ops.take(ops.array(list(class_weight.values())), y_true[:, 0])
        return each * ops.sum(y_pred["a"], axis=-1)

    labels = (Y > 0).astype("int32")
    weights = {0: 3.0, 1: 0.5}
    model = Pair()
    model.compile(keras.optimizers.SGD(0.0), loss=loss)
    (value,) = fit(model, X, labels, 12, 1, class_weight=weights)["loss"]
    with pytest.raises(AttributeError, match="'NoneType' object"):
        fit(model, X, labels)  # not the weights of the last time
    a = model.predict(X, verbose=0)["a"][:, 0]
    each = np.where(labels[:, 0], 0.5, 3.0)
    np.testing.assert_allclose(value, np.mean(each * a), rtol=1e-5)
    model.compile("sgd", loss=[loss, difference])
    with pytest.raises(ValueError, match="Ask for it in each, or in none"):
        fit(model, X, labels, class_weight=weights)


# Dtypes, structures, penalties of layers


def test_only_floating_tensors_are_cast():
    seen = {}

    def loss(x, y_true, y_pred):
        seen.update(x=x["a"], y_true=y_true, y_pred=y_pred)
        return ops.mean(y_pred**2, axis=-1)

    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = {"a": keras.Input((3,), name="a")}
    model = kje.Model(inputs, keras.layers.Dense(1)(inputs["a"]))
    model.compile("sgd", loss=loss)
    fit(model, {"a": X.astype("float16")}, (Y > 0).astype("int32"))
    dtypes = {name: str(value.dtype) for name, value in seen.items()}
    assert dtypes == {"x": "float32", "y_true": "int32", "y_pred": "float32"}


@pytest.mark.parametrize("make", [Two, Data, lambda a, b: [a, {"b": (b,)}]])
def test_any_structure_of_outputs_trains_evaluates_and_predicts(make):
    keras.utils.set_random_seed(1)
    model = Pair(make)
    model.compile("sgd", loss=total, metrics=[total])
    history = fit(model, X, validation_data=(X,))
    evaluated = model.evaluate(X, verbose=0, batch_size=5)
    np.testing.assert_allclose(evaluated, history["val_loss"] * 2, rtol=1e-5)
    predicted = model.predict(X, verbose=0, batch_size=5)
    called = model(X)
    assert type(predicted) is type(called)
    for left, right in zip(
        jax.tree.leaves(predicted), jax.tree.leaves(called), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_penalties_of_layers_count_once():
    model = kje.Sequential(
        [
            keras.layers.Dense(
                2, kernel_regularizer="l2", activity_regularizer="l1"
            ),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), loss=[total, GlobalL2(0.0)])
    logs = fit(model, X)
    outputs = model.predict(X, verbose=0)
    kernel = np.array(model.layers[0].kernel)
    penalty = 0.01 * (kernel**2).sum() + 0.01 * np.abs(outputs).sum() / 12
    np.testing.assert_allclose(
        logs["loss"], logs["total_loss"][0] + penalty, rtol=1e-5
    )


def test_the_loss_is_the_same_when_run_eagerly_and_in_executions_of_many():
    histories = []
    for options in ({}, {"run_eagerly": True}, {"steps_per_execution": 3}):
        keras.utils.set_random_seed(1)
        model = Pair()
        spec = [Loss(total, weight=0.5), GlobalL2(0.1)]
        model.compile("sgd", loss=spec, metrics=[total], **options)
        histories.append(fit(model, X, batch_size=4, validation_data=(X,)))
    for other in histories[1:]:
        assert list(other) == list(histories[0])
        for name, values in other.items():
            np.testing.assert_allclose(values, histories[0][name], rtol=1e-5)


def test_the_stock_part_is_logged_without_its_weight():
    model = kje.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss=["mse", GlobalL2(0.1)], loss_weights=[3.0])
    logs = fit(model, X, Y, batch_size=12)
    np.testing.assert_allclose(
        logs["loss"], 3 * logs["mse_loss"][0] + logs["global_l2_loss"][0], 1e-5
    )


# Stock models


def stock(outputs=1):
    inputs = keras.Input((3,))
    layers = [keras.layers.Dense(1)(inputs) for _ in range(outputs)]
    return keras.Model(inputs, layers if outputs > 1 else layers[0])


def test_a_stock_model_takes_a_loss_of_labels_and_one_output():
    losses = []
    for loss in ("mse", Loss(difference, weight=0.5, name="half")):
        keras.utils.set_random_seed(1)
        model = stock()
        model.compile("sgd", loss=loss)
        losses.append(model.evaluate(X, Y, verbose=0))
    np.testing.assert_allclose(losses[1], 0.5 * losses[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "outputs", "message"),
    [
        (Loss(lambda x, y_pred: y_pred - x), 1, "asks for `x`, and only"),
        (GlobalL2(), 1, "asks for `parameters`, and only"),
        (Loss(lambda y_pred: y_pred), 2, "a loss once for each output"),
    ],
)
def test_a_stock_model_that_cannot_take_it_says_so(loss, outputs, message):
    model = stock(outputs)
    model.compile("sgd", loss=loss)
    with pytest.raises(ValueError, match=message):
        fit(model, X, [Y] * outputs if outputs > 1 else Y)


# Bad arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Loss(), r"Loss\(\) with neither. Write `Loss\(fn\)`"),
        (lambda: Loss("mse"), "takes a function.*fn='mse'"),
        (lambda: Loss(total, weight="1"), "`weight` is a number.*weight='1'"),
        (lambda: Loss(total, weight=True), "`weight` is a number"),
        (lambda: Loss(total, on=1.5), "`on` is a key.*on=1.5"),
        (lambda: on(Loss(total), "a"), "ours have an argument `on`.*on='a'"),
    ],
)
def test_a_bad_argument_is_refused_when_the_loss_is_made(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_an_unknown_loss_or_reduction_is_refused_at_once():
    with pytest.raises(ValueError, match="no_such_loss"):
        on("no_such_loss", "a")
    with pytest.raises(ValueError, match="`reduction`"):
        Loss(total, reduction="average")


# Files


@register
def registered(y_true, y_pred, training):
    return difference(y_true["a"], y_pred["a"])


@register
class Registered(Loss):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, x, y_pred):
        return self.scale * ops.mean((y_pred["a"] + x) ** 2, axis=-1)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@pytest.mark.parametrize(
    "loss",
    [
        Loss(registered, weight=2.0, reduction="sum", name="other"),
        Registered(3.0, weight=0.5),
        on(keras.losses.MeanSquaredError("sum"), "a", weight=0.5),
        on("mse", ["b"], name="b"),
        GlobalL1(0.1, weight=2),
        GlobalL2(0.1),
        GlobalL1L2(0.1, 0.2, name="both"),
    ],
)
def test_a_loss_survives_its_config(loss):
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(loss)
    assert keras.saving.serialize_keras_object(copy) == config
    given = {"x": X, "y_true": {"a": Y, "b": Y}, "y_pred": {"a": X, "b": -Y}}
    given["parameters"] = {"w": X}
    given["training"] = False
    if loss.on == "a":
        given["y_pred"]["a"] = Y * 2
    np.testing.assert_array_equal(copy(**given), loss(**given))
    assert copy(**given) != 0


def test_all_of_compile_survives_a_clone_and_a_file(tmp_path):
    inputs = keras.Input((3,))
    outputs = {n: keras.layers.Dense(1, name=n)(inputs) for n in ("a", "b")}
    model = kje.Model(inputs, outputs)
    labels = {"a": Y, "b": -Y}
    model.compile(
        "sgd",
        loss={"one": registered, "two": [Registered(2.0), on("mae", "b")]},
        metrics=[kje.metrics.on("mae", "b")],
        weighted_metrics=[registered],
    )
    fit(model, X, labels)
    expected = model.evaluate(X, labels, verbose=0, return_dict=True)
    names = ["b_mae", "loss", "one/registered_loss"]
    names += ["registered", "two/b_loss", "two/registered_loss"]
    assert sorted(expected) == names
    cloned = keras.models.clone_model(model)
    cloned.compile_from_config(model.get_compile_config())
    cloned.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for other in (cloned, loaded):
        found = other.evaluate(X, labels, verbose=0, return_dict=True)
        assert found == expected
    assert loaded.optimizer.iterations == 1


def test_an_extended_model_is_whole_again_after_its_file(tmp_path):
    model = kje.extend(stock(2))
    model.compile("adam", loss=[total_of_both, GlobalL2(0.1)])
    fit(model, X)
    expected = model.evaluate(X, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"extend\(model\): it is compiled"):
        fit(loaded, X, [Y, Y])
    kje.extend(loaded)
    assert loaded.evaluate(X, verbose=0, return_dict=True) == expected
    assert loaded.optimizer.iterations == 1
    for left, right in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(left, right)


@register
def total_of_both(y_pred):
    return total(y_pred) ** 2
