"""`PerExample`: its noise, its files, what it holds, what it refuses."""

import keras_jax_ext as kje
from keras_jax_ext.optimizers import OptaxOptimizer, PerExample

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:.seed. is deprecated")
X = np.random.default_rng(0).normal(size=(24, 5)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
CLIP, RATE, HUGE = 0.5, 0.1, 1e6


def network(cls=kje.Sequential):
    keras.utils.set_random_seed(1)
    return cls(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )


def trained(optimizer, epochs=2, model=None):
    model = network() if model is None else model
    model.compile(optimizer, "mse")
    fit(model, epochs)
    return model


def fit(model, epochs=2, **options):
    given = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, **given).history


def assert_same(model, other, tolerance=1e-6):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def differ(model, other):
    return any(
        np.abs(a - b).max() > 1e-3
        for a, b in zip(model.get_weights(), other.get_weights(), strict=True)
    )


# The noise.


def noise_of(steps, batch=4, clip=2.0, multiplier=3.0, rows=60, columns=50):
    """What each step adds to the weights of a model without gradients."""
    keras.utils.set_random_seed(0)
    model = kje.Sequential(
        [keras.Input((rows,)), keras.layers.Dense(columns, use_bias=False)]
    )
    optimizer = PerExample(optax.sgd(1.0), clip, multiplier, seed=5)
    model.compile(optimizer, lambda x, apply: 0.0 * jnp.mean(apply(x)))
    x, found = np.zeros((batch, rows), "float32"), []
    for _ in range(steps):
        before = model.get_weights()[0]
        model.fit(x, batch_size=batch, verbose=0)
        found.append((before - model.get_weights()[0]).ravel())
    return np.array(found) * batch / (clip * multiplier)


def test_noise_is_normal_with_the_promised_deviation():
    drawn = noise_of(steps=4)
    count = drawn.size  # 12,000: bounds of five standard errors
    assert abs(drawn.mean()) < 5 / np.sqrt(count)
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / count)
    assert abs((drawn**4).mean() - 3) < 5 * np.sqrt(96 / count)
    together = np.corrcoef(drawn) - np.eye(4)
    assert np.abs(together).max() < 5 / np.sqrt(drawn.shape[1])


def test_a_smaller_batch_divides_the_same_noise_by_fewer():
    # As optax: the noise of the sum does not depend on the examples.
    whole, half = noise_of(1, batch=4), noise_of(1, batch=2)
    np.testing.assert_allclose(whole, half, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [None, 3])
def test_the_noise_is_that_of_dpsgd(size):
    ours = PerExample(optax.sgd(RATE), CLIP, 1.5, seed=3, microbatch_size=size)
    theirs = optax.contrib.dpsgd(RATE, CLIP, 1.5, seed=3)
    assert_same(trained(ours), trained(theirs))


def test_a_seed_repeats_the_noise_and_another_does_not():
    def run(seed):
        return trained(PerExample("sgd", CLIP, 1.0, seed=seed))

    first = run(1)
    assert_same(first, run(1))
    assert differ(first, run(2))


def test_without_a_seed_the_global_one_counts():
    def run(seed):
        keras.utils.set_random_seed(seed)
        return trained(PerExample("sgd", CLIP, 1.0))

    first = run(1)
    assert_same(first, run(1))
    assert differ(first, run(2))


def test_a_second_fit_goes_on_with_new_noise():
    model = trained(PerExample(optax.sgd(RATE), CLIP, 1.0, seed=1), epochs=4)
    other = trained(PerExample(optax.sgd(RATE), CLIP, 1.0, seed=1), epochs=1)
    fit(other, 3)
    assert_same(model, other)


# Files.


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: keras.optimizers.Adam(RATE), {}),
        (lambda: kje.optax.adam(RATE), {}),
        (lambda: optax.adam(RATE), {"optax_tx": optax.adam(RATE)}),
    ],
    ids=["keras", "kje.optax", "optax"],
)
def test_a_saved_model_goes_on_as_the_first(make, known, tmp_path):
    def run(epochs):
        optimizer = PerExample(make(), CLIP, 1.0, seed=1, microbatch_size=3)
        return trained(optimizer, epochs)

    whole, begun = run(4), run(2)
    begun.save(tmp_path / "model.keras")
    model = keras.models.load_model(
        tmp_path / "model.keras", custom_objects=known
    )
    assert isinstance(model.optimizer, PerExample)
    fit(model)
    assert_same(model, whole)


def test_the_config_has_every_argument():
    optimizer = PerExample("sgd", CLIP, 1.0, seed=7, microbatch_size=2)
    again = PerExample.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()


# The optimizer within.


def halves():
    """An optimizer of optax for kernels, another for biases."""
    labels = kje.optimizers.label_by_path(
        {"*/kernel": "kernel"}, default="other"
    )
    parts = {"kernel": optax.sgd(RATE), "other": optax.adam(RATE)}
    return optax.partition(parts, labels)


def by_layer(make=lambda optimizer: optimizer):
    known = keras.optimizers.OptimizerMap(make(keras.optimizers.SGD(RATE)))
    known["dense/.*"] = keras.optimizers.Adam(RATE)
    return keras.optimizers.MultiOptimizer(known)


@pytest.mark.parametrize(
    "make",
    [
        lambda: "sgd",
        lambda: optax.adam(RATE),
        lambda: OptaxOptimizer(optax.sgd(RATE), use_ema=True),
        lambda: OptaxOptimizer(optax.sgd(RATE), clipnorm=0.1),
        lambda: keras.optimizers.SGD(RATE, gradient_accumulation_steps=3),
        lambda: keras.optimizers.AdamW(RATE, use_ema=True),
        lambda: optax.contrib.schedule_free_sgd(RATE),
        halves,
        by_layer,
    ],
)
def test_without_clipping_it_is_the_optimizer_within(make):
    ours = trained(PerExample(make(), HUGE))
    plain = trained(make())
    assert_same(ours, plain, 1e-5)
    assert ours.evaluate(X, Y, verbose=0) == pytest.approx(
        plain.evaluate(X, Y, verbose=0), rel=1e-4
    )


def test_callbacks_set_the_learning_rate():
    def rate(epoch, rate):
        return 0.0 if epoch else rate

    model = network()
    model.compile(PerExample("sgd", CLIP), "mse")
    schedule = keras.callbacks.LearningRateScheduler(rate)
    history = fit(model, 3, callbacks=[schedule])
    assert history["loss"][1] == pytest.approx(history["loss"][2], rel=1e-6)
    assert int(model.optimizer.iterations) == 9


# What is refused, with the model as it was.


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"l2_norm_clip": 0.0}, "l2_norm_clip=0.0"),
        ({"l2_norm_clip": float("nan")}, "l2_norm_clip=nan"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0"),
        ({"microbatch_size": 0}, "microbatch_size=0"),
        ({"microbatch_size": 2.5}, "microbatch_size=2.5"),
    ],
)
def test_numbers_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        PerExample("sgd", **{"l2_norm_clip": 1.0, **options})


def dpsgd():
    return optax.contrib.dpsgd(RATE, CLIP, 1.0, seed=0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PerExample(optax.lbfgs(), CLIP), "is given the loss"),
        (lambda: PerExample(dpsgd(), CLIP), "another optimizer"),
        (
            lambda: PerExample(PerExample("sgd", CLIP), CLIP),
            "another optimizer around or within",
        ),
        (
            lambda: keras.optimizers.LossScaleOptimizer(
                PerExample("sgd", CLIP)
            ),
            "a scaled loss",
        ),
        (
            lambda: keras.optimizers.LossScaleOptimizer(
                OptaxOptimizer(dpsgd())
            ),
            "a scaled loss",
        ),
        (
            lambda: PerExample(
                keras.optimizers.SGD(loss_scale_factor=2.0), CLIP
            ),
            "a scaled loss",
        ),
        (lambda: OptaxOptimizer(dpsgd(), clipnorm=1.0), "`clipnorm`"),
        (
            lambda: OptaxOptimizer(dpsgd(), gradient_accumulation_steps=2),
            "`gradient_accumulation_steps`",
        ),
        (
            lambda: optax.chain(optax.scale_by_adam(), dpsgd()),
            "must keep the structure, shapes",
        ),
    ],
)
def test_what_cannot_be_clipped_is_refused(make, match):
    model = network()
    before = model.get_weights()
    model.compile(make(), "mse")
    with pytest.raises(ValueError, match=match):
        fit(model)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_float16_is_refused_with_the_fix():
    keras.config.set_dtype_policy("mixed_float16")
    model = network()
    model.compile(PerExample("sgd", CLIP), "mse")
    with pytest.raises(ValueError, match=r"mixed_bfloat16.*auto_scale_loss"):
        fit(model)


def test_bfloat16_trains():
    keras.config.set_dtype_policy("mixed_bfloat16")
    losses = fit(trained(PerExample("adam", 1.0)), 5)["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "make", [lambda: PerExample("sgd", CLIP), lambda: OptaxOptimizer(dpsgd())]
)
def test_a_stock_model_is_refused(make):
    model = network(keras.Sequential)
    model.compile(make(), "mse")
    with pytest.raises(ValueError, match=r"only the train step of a kje model"):
        fit(model)


@pytest.mark.parametrize(
    "make", [lambda: PerExample("sgd", CLIP), lambda: OptaxOptimizer(dpsgd())]
)
def test_a_train_step_of_ones_own_that_applies_a_batch_is_refused(make):
    class Own(kje.Sequential):
        def train_step(self, state, data):
            return keras.Model.train_step(self, state, data)

    model = network(Own)
    before = model.get_weights()
    model.compile(make(), "mse")
    with pytest.raises(ValueError, match="keep its `train_step`"):
        fit(model)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda o: PerExample(o, CLIP), "another optimizer around"),
        (lambda o: OptaxOptimizer(dpsgd()), "one optimizer of several"),
    ],
)
def test_one_of_several_optimizers_is_refused(make, match):
    model = network()
    model.compile(by_layer(make), "mse")
    with pytest.raises(ValueError, match=match):
        fit(model)


def test_the_noise_does_not_depend_on_the_keys_of_jax():
    model = network()
    with jax.default_prng_impl("rbg"):
        trained(PerExample("sgd", CLIP, 1.0, seed=1), model=model)
    assert_same(model, trained(PerExample("sgd", CLIP, 1.0, seed=1)))
