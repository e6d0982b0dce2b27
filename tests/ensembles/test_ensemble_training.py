"""Each member of an ensemble is the model that would have trained alone."""

import keras_jax_ext as kje
from keras_jax_ext._keras import ArrayDataAdapter
from keras_jax_ext.optimizers import OptaxOptimizer

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from solo import (
    BATCH,
    RANDOM,
    Net,
    Plain,
    X,
    Y,
    alone,
    assert_same_logs,
    assert_same_model,
    assert_same_optimizer,
    ensemble,
    fit,
    functional,
    sequential,
)

# Keras 3.16 shuffles by the number of the epoch.
OWN_ORDER_IS_OF_THE_SEED = not hasattr(ArrayDataAdapter(X), "_epoch")
RATES = [1e-1, 1e-2, 1e-4]


def assert_as_alone(make, build=Plain, tolerance=1e-6, given=None, **options):
    """Train an ensemble, and its last member alone; both are equal."""
    given = given or {}
    together = ensemble(build, 2, make(), **options)
    history = fit(together, **given)
    model = alone(1, build, make(), **options)
    assert_same_logs(fit(model, **given), history, 1, tolerance)
    taken = together.member(1)
    assert_same_model(taken, model, tolerance)
    assert_same_optimizer(taken, model, tolerance)
    return together, model


@pytest.mark.parametrize(
    "make",
    [
        lambda: "sgd",
        lambda: keras.optimizers.Adam(1e-2, clipnorm=1.0),
        lambda: keras.optimizers.SGD(1e-2, momentum=0.9, use_ema=True),
        lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2),
        lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(1e-2, 2, 0.9)
        ),
        lambda: optax.adam(1e-2),
        lambda: OptaxOptimizer(optax.adam, learning_rate=1e-2),
    ],
    ids=[
        "sgd",
        "clipped",
        "averaged",
        "accumulated",
        "scheduled",
        "optax",
        "injected",
    ],
)
def test_a_member_trains_as_alone(make):
    assert_as_alone(make)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.contrib.schedule_free_adamw(1e-2),
        lambda: optax.lookahead(optax.sgd(1e-1), 5, 0.5),
    ],
    ids=["schedule-free", "lookahead"],
)
def test_a_member_is_evaluated_as_alone(make):
    together, model = assert_as_alone(make)
    given = {"x": X, "verbose": 0}
    np.testing.assert_allclose(
        together.predict(**given)[1], model.predict(**given), 1e-5, 1e-6
    )


@pytest.mark.parametrize("build", [Net, functional])
def test_random_numbers_and_statistics_are_those_of_the_member(build):
    given = {"validation_data": (X[:20], Y[:20])}
    assert_as_alone(lambda: "adam", build, metrics=["mae"], given=given)


def test_a_line_search_is_that_of_each_member():
    assert_as_alone(
        optax.lbfgs,
        tolerance=1e-4,
        given={"batch_size": 70, "shuffle": False},
    )


def test_a_stock_model_that_learns_its_shapes_from_the_data():
    assert_as_alone(lambda: "adam", sequential)


@pytest.mark.parametrize("n", [1, 3])
def test_the_usual_logs_are_means(n):
    history = fit(ensemble(Plain, n))
    assert history.members["loss"].shape == (3, n)
    np.testing.assert_allclose(
        history.history["loss"], history.members["loss"].mean(1), 1e-6
    )


def test_a_build_that_is_given_the_seed():
    seeds = []

    def build(seed):
        seeds.append(seed)
        return functional()

    together = kje.Ensemble(build, 2, seeds=[7, 5])
    assert seeds == [7, 5]
    assert_same_model(together.member(1), alone(5, functional))


class WholeLoss(kje.losses.Loss):
    """Asks for what only a step of ours gives."""

    def call(self, x, y_true, y_pred, parameters, apply, sample_weight):
        penalty = sum(jnp.sum(v**2) for v in parameters.values())
        error = sample_weight * (y_true - y_pred)[:, 0] ** 2
        return {
            "error": jnp.mean(error),
            "penalty": 1e-3 * penalty,
            "slope": 1e-3 * jnp.mean(apply(2 * x) ** 2),
        }


def bias(x, y_pred):
    return jnp.mean(y_pred) - jnp.mean(x)


def test_losses_and_metrics_over_the_whole_output():
    weights = RANDOM.uniform(size=70).astype("float32")
    together, _ = assert_as_alone(
        lambda: "adam",
        loss=WholeLoss(),
        metrics=[bias],
        given={"sample_weight": weights},
    )
    assert "whole_loss/penalty" in together.history.members


class Classifier(kje.Model):
    """For the weights of classes."""

    def call(self, x):
        return kje.layers.Dense(2, activation="softmax")(x)


def test_weights_of_classes():
    labels = (X[:, 0] > 0).astype("int32")
    loss = "sparse_categorical_crossentropy"
    given = {"y": labels, "class_weight": {0: 1.0, 1: 5.0}}
    assert_as_alone(
        lambda: "adam",
        build=Classifier,
        loss=loss,
        metrics=["accuracy"],
        given=given,
    )

    def asking(y_true, y_pred, class_weight):
        factor = 1.0 if class_weight is None else class_weight[1]
        return factor * jnp.mean((y_pred[:, 1] - y_true) ** 2)

    assert_as_alone(lambda: "adam", build=Classifier, loss=asking, given=given)


def test_the_data_of_validation_may_be_split_off():
    assert_as_alone(lambda: "adam", given={"validation_split": 0.2})


def test_a_generator():
    def batches():
        for i in range(9):
            yield X[7 * i : 7 * i + 7], Y[7 * i : 7 * i + 7]

    together, model = ensemble(Plain), alone(2, Plain)
    options = {"steps_per_epoch": 3, "epochs": 3, "verbose": 0}
    options["shuffle"] = False
    history = together.fit(batches(), **options)
    assert_same_logs(model.fit(batches(), **options), history, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: OptaxOptimizer(optax.adam, learning_rate=rate),
        keras.optimizers.Adam,
    ],
    ids=["optax", "keras"],
)
def test_a_sweep_of_learning_rates(make):
    together = ensemble(Plain, optimizer=lambda i: make(RATES[i]))
    history = fit(together)
    np.testing.assert_allclose(together.optimizer.learning_rates, RATES)
    for i in (0, 2):
        model = alone(i, Plain, make(RATES[i]))
        assert_same_logs(fit(model), history, i)
        taken = together.member(i)
        assert_same_model(taken, model)
        assert_same_optimizer(taken, model, 1e-5)


def test_a_member_that_was_taken_out_trains_on():
    together = ensemble(n=2, metrics=["mae"])
    fit(together)
    model = alone(1, metrics=["mae"])
    fit(model)
    taken, before = together.member(1), together.get_weights()
    history, expected = (fit(m, shuffle=False).history for m in (taken, model))
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, 1e-5)
    assert_same_model(taken, model)
    # It shares nothing with the ensemble.
    for kept, value in zip(before, together.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, value)


@pytest.mark.skipif(
    not OWN_ORDER_IS_OF_THE_SEED, reason="Keras 3.16: one order for all seeds"
)
@pytest.mark.parametrize("build", [Plain, functional])
def test_the_order_of_a_member_is_that_of_its_seed(build):
    together = ensemble(build)
    options = {"batch_size": BATCH, "verbose": 0}
    histories = [
        together.fit(X, Y, epochs=n, shuffle="member", **options)
        for n in (2, 1)
    ]
    keras.utils.set_random_seed(2)
    model = kje.extend(build())
    model.compile("adam", "mse")
    for n, history in zip((2, 1), histories, strict=True):
        assert_same_logs(model.fit(X, Y, epochs=n, **options), history, 2)
    assert_same_model(together.member(2), model)


def test_orders_of_their_own_differ():
    def build():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    same = kje.Ensemble(build, 2, seeds=[4, 4])
    other = kje.Ensemble(build, 2, seeds=[4, 5])
    for each in (same, other):
        for weight in each.weights:
            weight.assign(jnp.zeros_like(weight.value))
        each.compile("sgd", "mse")
        fit(each, shuffle="member")
    kernel = same.weights[0].numpy()
    np.testing.assert_array_equal(kernel[0], kernel[1])
    assert not np.allclose(*other.weights[0].numpy())


def test_a_batch_may_be_trained_alone():
    together, model = ensemble(n=2), alone(1)
    for _ in range(2):
        loss = together.train_on_batch(X[:8], Y[:8])
        model.train_on_batch(X[:8], Y[:8])
    assert isinstance(loss, float)
    assert_same_model(together.member(1), model)
    assert set(together.test_on_batch(X, Y, return_dict=True)) == {"loss"}
    np.testing.assert_allclose(
        together.predict_on_batch(X[:8])[1],
        model.predict_on_batch(X[:8]),
        1e-5,
        1e-6,
    )


def test_evaluation_gives_means_and_members():
    together = ensemble(Plain, metrics=["mae"])
    fit(together)
    each = together.evaluate(X, Y, verbose=0, members=True)
    means = together.evaluate(X, Y, verbose=0, return_dict=True)
    assert together.evaluate(X, Y, verbose=0) == [*means.values()]
    for name in ("loss", "mae"):
        assert each[name].shape == (3,)
        np.testing.assert_allclose(each[name].mean(), means[name], 1e-6)
    alone_2 = together.member(2).evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(each["mae"][2], alone_2["mae"], 1e-5)


class TwoOutputs(kje.Model):
    def call(self, x):
        return {"a": kje.layers.Dense(1)(x), "b": kje.layers.Dense(2)(x)}


def test_predictions_have_the_members_first():
    together = kje.Ensemble(TwoOutputs, 3)
    outputs = together.predict(X, batch_size=BATCH, verbose=0)
    assert outputs["b"].shape == (3, 70, 2)
    expected = together.member(1)(X)["b"]
    np.testing.assert_allclose(outputs["b"][1], expected, 1e-5, 1e-6)
    np.testing.assert_allclose(together(X)["b"][1], expected, 1e-5, 1e-6)


def test_a_call_in_training_changes_the_state():
    together = kje.Ensemble(Net, 2)
    together(X)
    before = [v.numpy() for v in together.non_trainable_variables]
    together(X, training=True)
    after = [v.numpy() for v in together.non_trainable_variables]
    assert not any(map(np.array_equal, before, after))


def test_keras_own_loop_trains_alike():
    slow, fast = ensemble(Plain, 2, run_eagerly=True), ensemble(Plain, 2)
    given = {"validation_data": (X, Y), "batch_size": 35}
    histories = [fit(each, **given) for each in (slow, fast)]
    assert histories[0].members.keys() == histories[1].members.keys()
    for name, values in histories[0].members.items():
        np.testing.assert_allclose(
            values, histories[1].members[name], 1e-5, 1e-6
        )


def test_a_train_step_of_the_member_is_run():
    class Doubled(kje.Model):
        def call(self, x):
            return kje.layers.Dense(1)(x)

        def train_step(self, state, data):
            x, y = data[:2]
            logs, state = super().train_step(state, (x, 2 * y))
            return {"doubled": logs["loss"]}, state

    together, model = ensemble(Doubled, 2), alone(1, Doubled)
    history = fit(together)
    expected = fit(model)
    np.testing.assert_allclose(
        expected.history["doubled"], history.members["doubled"][:, 1], 1e-6
    )


def test_one_trace_and_one_program():
    traces = []

    class Counted(kje.Model):
        def call(self, x, training=None):
            traces.append(training)
            return kje.layers.Dense(1)(x)

    together = ensemble(Counted, 4)
    fit(together, batch_size=14)
    assert traces.count(True) <= 10
    before = len(traces)
    fit(together, batch_size=14)
    fit(together, batch_size=14, epochs=1)
    assert len(traces) == before


def test_the_random_streams_of_the_process_stay():
    keras.utils.set_random_seed(3)
    expected = np.random.uniform(), keras.random.uniform(()).item()
    keras.utils.set_random_seed(3)
    made = ensemble(Net, 2)
    made(X[:1])
    made.member(0)
    assert (np.random.uniform(), keras.random.uniform(()).item()) == expected


def test_an_ensemble_is_frozen_and_freed():
    together = ensemble(functional, 2)
    together.trainable = False
    assert not together.trainable_variables
    assert len(together.non_trainable_variables) == len(together.variables)
    together.trainable = True
    fit(together, epochs=1)


def test_paths_do_not_depend_on_what_was_built_before():
    functional()
    together = kje.Ensemble(functional, 2)
    paths = [variable.path for variable in together.weights]
    assert paths[:2] == ["dense/kernel", "dense/bias"]
    assert [v.path for v in together.member(1).weights] == paths
