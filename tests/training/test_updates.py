"""`compile(updates=)` trains as a loop that one would write by hand."""

import keras_jax_ext as kje
from keras_jax_ext import layers
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import TRAIN

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from wgan import (
    GAN,
    STEPS,
    by_hand,
    compiled,
    critic_loss,
    generator_loss,
    pictures,
    updates,
)

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def weights(model):
    return [np.array(v) for v in model.trainable_variables]


def assert_near(left, right, **tolerance):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}], ids=str)
def test_a_gan_trains_as_in_a_loop_by_hand(options):
    rows, epochs = (40, 4) if not options else (20, 1)
    x, gan = pictures(rows), compiled(**options)
    expected, losses = by_hand(gan, x, 16, epochs)
    history = gan.fit(
        x, batch_size=16, epochs=epochs, shuffle=False, verbose=0
    ).history
    assert_near(weights(gan), expected, atol=1e-5)
    sizes = np.array([min(16, rows - i) for i in range(0, rows, 16)])
    losses = losses.reshape(epochs, len(sizes), STEPS + 1)
    each = np.average(losses, axis=1, weights=sizes)
    np.testing.assert_allclose(
        history["generator_loss"], each[:, -1], atol=1e-5
    )
    critic = each[:, :-1].mean(axis=1)
    parts = [history[f"critic_loss/{p}"] for p in ("distance", "penalty")]
    np.testing.assert_allclose(np.sum(parts, axis=0), critic, atol=1e-5)
    np.testing.assert_allclose(history["loss"], critic + each[:, -1], atol=1e-5)
    assert int(gan.optimizer.iterations) == epochs * len(sizes)


def test_batches_one_by_one_are_those_of_fit():
    x, gan, other = pictures(), compiled(), compiled()
    gan.fit(x, batch_size=20, shuffle=False, verbose=0)
    for i in (0, 20):
        logs = other.train_on_batch(x[i : i + 20], return_dict=True)
    assert_near(weights(gan), weights(other), atol=1e-6)
    assert set(logs) == set(gan.history.history)


class Stock(keras.Model):
    """The same GAN with a `train_step`, as one writes it for stock Keras."""

    def __init__(self, gan, seed):
        super().__init__()
        self.generator, self.critic = gan.generator, gan.critic
        self.seed, self.built = seed, True
        self.drawn = self.add_weight(
            shape=(), dtype="int32", trainable=False, initializer="zeros"
        )
        self.optimizers = [keras.optimizers.Adam(1e-3) for _ in range(2)]
        self.optimizers[0].build(self.critic.trainable_variables)
        self.optimizers[1].build(self.generator.trainable_variables)
        size = len(self.generator.trainable_variables)
        self.places = [slice(size, None), slice(size)]

    def train_step(self, state, data):
        trainable, fixed, slots, metrics = state
        x = keras.utils.unpack_x_y_sample_weight(data)[0]
        trainable, (drawn,) = list(trainable), fixed
        lengths = [len(o.variables) for o in self.optimizers]
        slots = [slots[: lengths[0]], slots[lengths[0] :]]
        for k in range(STEPS + 1):
            which = int(k == STEPS)
            loss = (critic_loss, generator_loss)[which]

            def compute(own, which=which, loss=loss, drawn=drawn):
                values = list(trainable)
                values[self.places[which]] = own
                pairs = zip(self.trainable_variables, values, strict=True)
                with keras.StatelessScope(list(pairs)):
                    key = jax.random.key(self.seed)
                    value = loss(self, x, jax.random.fold_in(key, drawn))
                return sum(value.values()) if which == 0 else value

            own = trainable[self.places[which]]
            gradients = jax.grad(compute)(own)
            own, slots[which] = self.optimizers[which].stateless_apply(
                slots[which], gradients, own
            )
            trainable[self.places[which]] = own
            drawn = drawn + 1
        return {}, (trainable, [drawn], slots[0] + slots[1], metrics)


class Both:
    """The optimizer that `Stock` shows to Keras's trainer."""

    built = True

    def __init__(self, each):
        self.variables = [v for one in each for v in one.variables]


def test_a_gan_trains_as_with_a_stock_train_step():
    x, gan = pictures(), compiled(lambda: keras.optimizers.Adam(1e-3))
    other = compiled()
    stock = Stock(other, int(gan.optimizer.seed[0]))
    stock.compile()
    stock.optimizer = Both(stock.optimizers)
    stock.optimizer.finalize_variable_values = lambda variables: None
    for model in (gan, stock):
        model.fit(x, batch_size=16, epochs=3, shuffle=False, verbose=0)
    assert_near(weights(gan), weights(stock), atol=1e-5)


def test_all_steps_run_in_one_program_and_one_trace():
    traces = []

    def counted(model, x, rng):
        traces.append(x.shape)
        return generator_loss(model, x, rng)

    gan = GAN()
    critic, _ = updates()
    gan.compile(updates=[critic, kje.Update(counted, "generator/*", "adam")])
    gan.fit(pictures(32), batch_size=16, epochs=3, verbose=0)
    # Once to build the losses, once for the step.
    assert len(traces) == 2
    program = memo(gan).programs[TRAIN]
    gan.fit(pictures(32), batch_size=16, epochs=2, verbose=0)
    assert len(traces) == 2
    assert memo(gan).programs[TRAIN] is program


class Pair(kje.Model):
    """Two numbers, and what was assigned by the losses."""

    def __init__(self):
        super().__init__()
        self.a = layers.Dense(1, use_bias=False, kernel_initializer="ones")
        self.b = layers.Dense(1, use_bias=False, kernel_initializer="ones")
        self.a.build((None, 1))
        self.b.build((None, 1))


def of_a(model, x):
    return jnp.sum(model.a.kernel * model.b.kernel * x)


def of_b(model, x):
    return jnp.sum(model.a.kernel * model.b.kernel * x) * 2


ONE = np.ones((1, 1), "float32")


@pytest.mark.parametrize("first", ["a", "b"])
def test_an_update_sees_the_weights_that_the_last_one_left(first):
    model = Pair()
    both = [
        kje.Update(of_a, "a/*", keras.optimizers.SGD(0.5)),
        kje.Update(of_b, "b/*", optax.sgd(0.25)),
    ]
    model.compile(updates=both if first == "a" else both[::-1])
    history = model.fit(ONE, verbose=0).history
    a, b, seen = 1.0, 1.0, {}
    for name in "ab" if first == "a" else "ba":
        seen[name] = a * b * (2 if name == "b" else 1)
        if name == "a":
            a -= 0.5 * b
        else:
            b -= 0.25 * 2 * a
    assert [float(v.value.item()) for v in model.variables] == [a, b]
    assert history["of_a_loss"] == [seen["a"]]
    assert history["of_b_loss"] == [seen["b"]]
    assert history["loss"] == [seen["a"] + seen["b"]]


def test_repeats_are_as_many_updates_and_the_log_is_their_mean():
    model = Pair()
    rate = 0.1

    def loss(model):
        return jnp.sum(model.a.kernel**2)

    model.compile(updates=[kje.Update(loss, "a/*", optax.sgd(rate), repeats=3)])
    with pytest.warns(UserWarning, match=r"Received: \['dense.*kernel'\] in"):
        history = model.fit(ONE, verbose=0).history
    values = [(1 - 2 * rate) ** k for k in range(4)]
    np.testing.assert_allclose(model.a.kernel, values[3], rtol=1e-6)
    np.testing.assert_allclose(model.b.kernel, 1)
    expected = np.mean([v**2 for v in values[:3]])
    np.testing.assert_allclose(history["loss_loss"], [expected], rtol=1e-6)


class Noisy(kje.Model):
    """Seeds, and statistics, in both networks."""

    def __init__(self):
        super().__init__()
        self.left = kje.Sequential(
            [
                keras.Input((3,)),
                keras.layers.BatchNormalization(momentum=0.5),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(1),
            ]
        )
        self.right = layers.Dense(1)

    def call(self, x):
        return self.right(self.left(x))


@pytest.mark.parametrize("given", [False, True])
def test_statistics_and_seeds_are_carried_on_by_every_run(given):
    def mean_loss(model, x, training):
        mode = {"training": training} if given else {}
        return jnp.mean(model.left(x, **mode) ** 2)

    model = Noisy()
    model(X)
    model.right.trainable = False
    model.compile(updates=[kje.Update(mean_loss, "left/*", "sgd", repeats=3)])
    normalization, dropout, _ = model.left.layers
    seed = np.array(dropout.seed_generator.state.value)
    before = np.array(normalization.moving_mean.value)
    model.fit(X[:10], batch_size=10, epochs=2, shuffle=False, verbose=0)
    for _ in range(6):
        before = 0.5 * before + 0.5 * X[:10].mean(axis=0)
    np.testing.assert_allclose(normalization.moving_mean, before, rtol=1e-5)
    np.testing.assert_array_equal(
        dropout.seed_generator.state.value, seed + np.uint32([0, 6])
    )


def test_a_loss_of_outputs_trains_as_compile_with_that_loss():
    def make(**options):
        keras.utils.set_random_seed(2)
        model = kje.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, "relu", kernel_regularizer="l2"),
                keras.layers.ActivityRegularization(l2=0.1),
                keras.layers.Dropout(0.3),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(metrics=["mae"], **options)
        return model

    loss = kje.losses.Loss(lambda y_true, y_pred: (y_true - y_pred) ** 2)
    one = make(optimizer=keras.optimizers.Adam(0.01), loss=loss)
    other = make(
        updates=[kje.Update(loss, "*", keras.optimizers.Adam(0.01), name="own")]
    )
    options = {
        "batch_size": 8,
        "epochs": 3,
        "verbose": 0,
        "shuffle": False,
        "sample_weight": np.linspace(0, 1, 20, dtype="float32"),
        "validation_data": (X, Y),
    }
    left, right = (m.fit(X, Y, **options).history for m in (one, other))
    assert_near(
        [v.value for v in one.variables],
        [v.value for v in other.variables],
        atol=1e-6,
    )
    for name, values in left.items():
        np.testing.assert_allclose(values, right[name], rtol=1e-5, atol=1e-6)
    assert set(right) - set(left) == {"own_loss", "val_own_loss"}
    assert_near(
        [one.predict(X, verbose=0)], [other.predict(X, verbose=0)], atol=1e-6
    )


def test_evaluation_computes_the_losses_and_changes_nothing():
    x, gan = pictures(), compiled()
    gan.fit(x, batch_size=16, verbose=0)
    before = [np.array(v) for v in (*gan.variables, *gan.optimizer.variables)]
    first, second = (
        gan.evaluate(x, batch_size=16, verbose=0, return_dict=True)
        for _ in range(2)
    )
    after = [*gan.variables, *gan.optimizer.variables]
    assert_near(before, after, rtol=0)
    assert first == second
    parts = [v for k, v in first.items() if k != "loss"]
    np.testing.assert_allclose(sum(parts), first["loss"], rtol=1e-5)
    # Each batch draws its own numbers.
    twice = np.concatenate([x[:16], x[:16]])
    one = gan.evaluate(x[:16], batch_size=16, verbose=0, return_dict=True)
    both = gan.evaluate(twice, batch_size=16, verbose=0, return_dict=True)
    assert one["generator_loss"] != both["generator_loss"]


def test_validation_leaves_training_alone():
    x, gan, other = pictures(), compiled(), compiled()
    gan.fit(x, batch_size=16, epochs=2, verbose=0, shuffle=False)
    history = other.fit(
        x,
        batch_size=16,
        epochs=2,
        verbose=0,
        shuffle=False,
        validation_data=(x,),
    ).history
    assert_near(weights(gan), weights(other), atol=1e-6)
    assert {"val_generator_loss", "val_loss"} <= set(history)


def test_parts_that_layers_report_are_logged():
    class Reporting(kje.Layer):
        def call(self, x, training=False):
            if training:
                self.add_metric(jnp.sum(x), "training_only")
            self.add_metric(jnp.sum(x), "size")
            return x

    class Model(kje.Model):
        def __init__(self):
            super().__init__()
            self.net = kje.Sequential(
                [keras.Input((3,)), Reporting(), keras.layers.Dense(1)]
            )

    def size_loss(model, x):
        return jnp.mean(model.net(x) ** 2)

    model = Model()
    model.net(X, training=True)
    model.compile(updates=[kje.Update(size_loss, "net/*", "sgd", repeats=2)])
    logs = model.fit(X, batch_size=20, verbose=0, validation_data=(X,)).history
    for name in ("size", "training_only", "val_size"):
        np.testing.assert_allclose(logs[name], X.sum(), rtol=1e-4)
    assert "val_training_only" not in logs


def test_metrics_of_named_values():
    def share(x, y_true, parameters):
        return jnp.mean(y_true) * len(parameters)

    def net_loss(model, x, y_true):
        return (model.right(model.left(x)) - y_true) ** 2

    model = Noisy()
    model.compile(
        updates=[kje.Update(net_loss, "*", "sgd")],
        metrics=[kje.metrics.Function(share)],
    )
    logs = model.fit(X, Y, batch_size=20, verbose=0).history
    expected = Y.mean() * len(model.trainable_variables)
    np.testing.assert_allclose(logs["share"], [expected], rtol=1e-5)


def test_the_names_of_logs():
    def first(model):
        return jnp.sum(model.a.kernel.value)

    model = Pair()
    model.compile(
        updates=[
            kje.Update(first, "a/*", "sgd"),
            kje.Update(kje.losses.Loss(first), "b/*", "sgd", name="other"),
        ]
    )
    logs = model.fit(ONE, verbose=0).history
    assert sorted(logs) == ["first_loss", "loss", "other_loss"]


class Inline(kje.Model):
    """Networks that are declared in `call`, and built at the first `fit`."""

    def call(self, x):
        return layers.Dense(1, name="head")(layers.Dense(4, name="stem")(x))


def squared(y_true, y_pred):
    return jnp.mean((y_true - y_pred) ** 2)


def test_an_inline_model_is_built_at_the_first_fit():
    model = Inline()
    model.compile(
        updates=[
            kje.Update(squared, "stem/*", optax.sgd(0.1), name="stem"),
            kje.Update(squared, "inline/head/*", "sgd", name="head"),
        ]
    )
    history = model.fit(X, Y, epochs=3, verbose=0).history
    assert history["head_loss"][-1] < history["head_loss"][0]


def test_layers_of_call_beside_networks_that_are_built():
    class Mixed(kje.Model):
        def __init__(self):
            super().__init__()
            self.stem = kje.Sequential([keras.Input((3,)), layers.Dense(4)])

        def call(self, x):
            return layers.Dense(1, name="head")(self.stem(x))

    model = Mixed()
    model.compile(
        updates=[
            kje.Update(squared, "head/*", optax.sgd(0.1), name="head"),
            kje.Update(squared, "stem/*", optax.sgd(0.1), name="stem"),
        ]
    )
    history = model.fit(X, Y, epochs=3, verbose=0).history
    assert history["head_loss"][-1] < history["head_loss"][0]


def test_networks_in_a_list_and_without_shapes_are_built_by_the_losses():
    class Twins(kje.Model):
        def __init__(self):
            super().__init__()
            self.critics = [Inline(), Inline()]

    def twin_loss(model, x, y_true):
        return sum(jnp.mean((c(x) - y_true) ** 2) for c in model.critics)

    model = Twins()
    model.compile(
        updates=[
            kje.Update(twin_loss, "critics/0/*", optax.adam(0.1), name="one"),
            kje.Update(
                twin_loss,
                ["critics/1/head/*", "critics/1/stem/kernel"],
                optax.adam(0.1),
                name="other",
            ),
        ]
    )
    with pytest.warns(UserWarning, match=r"stem/bias'\] in no update"):
        history = model.fit(X, Y, epochs=3, verbose=0).history
    assert history["other_loss"][-1] < history["one_loss"][0]
    np.testing.assert_array_equal(model.critics[1].stem.bias, np.zeros(4))


def test_a_stock_model_that_is_extended():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = keras.layers.Dense(1)

        def call(self, x):
            return self.net(x)

    model = kje.extend(Plain())
    model.compile(updates=[kje.Update(squared, "net/*", optax.sgd(0.1))])
    history = model.fit(X, Y, epochs=3, verbose=0).history
    assert history["squared_loss"][-1] < history["squared_loss"][0]


def test_a_line_search_is_given_its_loss():
    def make(**options):
        keras.utils.set_random_seed(3)
        model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(**options)
        return model.fit(
            X, Y, batch_size=20, epochs=5, verbose=0, shuffle=False
        ).history["loss"]

    loss = kje.losses.Loss(squared)
    one = make(optimizer=optax.lbfgs(), loss=loss)
    other = make(updates=[kje.Update(loss, "*", optax.lbfgs())])
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert other[-1] < 1e-3 * other[0]
    repeated = make(updates=[kje.Update(loss, "*", optax.lbfgs(), repeats=2)])
    assert repeated[1] < other[1]


def test_weights_to_evaluate_with_are_found():
    model = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = optax.contrib.schedule_free_sgd(0.1)
    model.compile(updates=[kje.Update(squared, "*", optimizer)])
    model.fit(X, Y, epochs=2, verbose=0)
    trained = weights(model)
    with kje.optimizers.evaluation_weights(model):
        assert not np.allclose(model.weights[0], trained[0])
    assert_near(trained, weights(model), rtol=0)


def test_steps_per_execution_and_streams():
    x, gan, other = pictures(), compiled(), compiled(steps_per_execution=2)
    gan.fit(x, batch_size=10, shuffle=False, verbose=0)
    batches = ((x[i : i + 10],) for i in range(0, 40, 10))
    other.fit(batches, steps_per_epoch=4, shuffle=False, verbose=0)
    assert_near(weights(gan), weights(other), atol=1e-6)


def test_a_failing_step_keeps_the_weights():
    class BoomError(RuntimeError):
        pass

    def failing(model, x, rng, training):
        if training:
            raise BoomError
        return generator_loss(model, x, rng)

    gan = GAN()
    critic, _ = updates()
    gan.compile(updates=[critic, kje.Update(failing, "generator/*", "sgd")])
    before = weights(gan)
    with pytest.raises(BoomError):
        gan.fit(pictures(), verbose=0)
    assert_near(before, weights(gan), rtol=0)
    assert int(gan.optimizer.iterations) == 0
    assert list(gan.optimizer.seed.value)[1] == 0


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    gan = compiled()
    history = gan.fit(pictures(), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert {v.dtype for v in gan.trainable_variables} == {"float32"}


def data_of(key):
    return tuple(np.array(jax.random.key_data(key)))


def test_codes_are_reproducible_by_the_seed():
    kept = []

    def noted(model, x, rng):
        jax.debug.callback(
            lambda k: kept.append(np.array(k)), jax.random.key_data(rng)
        )
        return generator_loss(model, x, rng)

    gan = GAN()
    keras.utils.set_random_seed(1)
    critic, _ = updates()
    gan.compile(updates=[critic, kje.Update(noted, "generator/*", "sgd")])
    seed = int(gan.optimizer.seed[0])
    gan.fit(pictures(20), batch_size=10, verbose=0)
    jax.effects_barrier()
    keys = {
        data_of(jax.random.fold_in(jax.random.key(seed), n))
        for n in (STEPS, 2 * STEPS + 1)
    }
    assert set(map(tuple, kept)) == keys


def test_dropout_within_a_derivative_draws_on():
    class Model(kje.Model):
        def __init__(self):
            super().__init__()
            self.net = keras.Sequential(
                [
                    keras.Input((3,)),
                    keras.layers.Dropout(0.5),
                    keras.layers.Dense(1),
                ]
            )

    def slope(model, x):
        slopes = jax.grad(lambda z: jnp.sum(model.net(z)))(x)
        return jnp.mean((slopes - 1) ** 2)

    model = Model()
    model.compile(updates=[kje.Update(slope, "*kernel", "sgd")])
    model.net.layers[1].bias.trainable = False
    seed = model.net.layers[0].seed_generator.state
    before = np.array(seed.value)
    model.fit(X, batch_size=10, verbose=0)
    np.testing.assert_array_equal(seed.value, before + np.uint32([0, 2]))
