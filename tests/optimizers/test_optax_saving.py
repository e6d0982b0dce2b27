"""Files: state and transformation come back, and nothing in them runs."""

import copy
import json
import pickle
import zipfile

import keras_jax_ext as kje
from keras_jax_ext import optax, optimizers
from keras_jax_ext._optax import saving

import jax
import keras
import numpy as np
import optax as raw
import pytest

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


@keras.saving.register_keras_serializable("tests")
def halving(count):
    return 0.1 / (1 + count)


def stock(optimizer):
    """A stock model: loading kje models is tested where they are made."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="d")], name="m"
    )
    model.compile(optimizer, "mse")
    return model


MADE = {
    "adam": lambda: optax.adam(0.1),
    "nested": lambda: optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            optax.cosine_decay_schedule(0.1, 9),
            mask=optimizers.mask_by_path("*/kernel"),
        ),
    ),
    "called_twice": lambda: optax.inject_hyperparams(optax.sgd)(
        learning_rate=0.1
    ),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(0.1), 2),
    "partition": lambda: optax.partition(
        {"a": optax.adam(0.1), "b": optax.set_to_zero()},
        optimizers.label_by_path({"*/kernel": "a"}, default="b"),
    ),
    "partial": lambda: optax.nadamw(0.1, mu_dtype=np.dtype("bfloat16")),
    "registered": lambda: optax.sgd(halving),
    "keras_schedule": lambda: optax.sgd(
        keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    ),
    "typed_key": lambda: optax.noisy_sgd(0.1, key=jax.random.key(7)),
    "function": lambda: optimizers.OptaxOptimizer(
        raw.adam, learning_rate=0.1, b1=0.8
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_a_loaded_model_goes_on_bit_for_bit(name, tmp_path):
    model = stock(optimizers.get(MADE[name]()))
    model.fit(X, Y[:, [0, 0]], batch_size=8, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert isinstance(loaded.optimizer, optimizers.OptaxOptimizer)
    for each in (model, loaded):
        each.fit(X, Y[:, [0, 0]], epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(
        [*model.variables, *model.optimizer.variables],
        [*loaded.variables, *loaded.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_transformation_of_raw_optax_is_asked_for(tmp_path):
    model = stock(optimizers.OptaxOptimizer(raw.adam(0.1)))
    model.fit(X, Y[:, [0, 0]], verbose=0)
    path = tmp_path / "m.keras"
    model.save(path)
    with pytest.raises(ValueError, match=r'custom_objects=\{"optax_tx"'):
        keras.saving.load_model(path)
    loaded = keras.saving.load_model(
        path, custom_objects={"optax_tx": raw.adam(0.1)}
    )
    np.testing.assert_array_equal(
        loaded.optimizer.variables[2], model.optimizer.variables[2]
    )


def test_weights_keep_the_order_of_slots_when_names_pass_nine(tmp_path):
    def model():
        made = keras.Sequential([keras.Input((2,))])
        for _ in range(3):
            made.add(keras.layers.Dense(2))
        made.compile(
            optimizers.OptaxOptimizer(raw.flatten(raw.adam(0.1))), "mse"
        )
        return made

    first = model()  # dense, dense_1, dense_2
    first.fit(X[:, :2], X[:, :2], epochs=2, verbose=0)
    first.save_weights(tmp_path / "a.weights.h5")
    for _ in range(5):
        keras.layers.Dense(1)
    second = model()  # dense_8, dense_9, dense_10
    names = [layer.name for layer in second.layers]
    assert names != sorted(names)
    second.build_from_config({"input_shape": (None, 2)})
    second.optimizer.build(second.trainable_variables)
    second.load_weights(tmp_path / "a.weights.h5")
    for each in (first, second):
        each.fit(X[:, :2], X[:, :2], epochs=1, shuffle=False, verbose=0)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_goes_on_from_a_backup(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def fit(model, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        callbacks = [backup, *callbacks] if callbacks else []
        model.fit(
            X,
            Y[:, [0, 0]],
            epochs=4,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
        return model.get_weights()

    def make():
        return stock(optimizers.OptaxOptimizer(raw.adam(0.1)))

    whole = fit(make())
    with pytest.raises(KeyboardInterrupt):
        fit(make(), Stop())
    resumed = fit(make(), keras.callbacks.Callback())
    np.testing.assert_array_equal(whole[0], resumed[0])


@pytest.mark.parametrize(
    "config",
    [
        {"call": {"optax": "os.system"}, "args": ["true"]},
        {"call": {"optax": "_src.alias.adam"}, "args": [0.1]},
        {"call": {"optax": "contrib._sam.sam"}, "args": []},
        {"call": {"optax": "tree_utils.tree_map_params"}, "args": []},
        {"call": {"registered": "tests>halving"}, "args": [1]},
        {
            "call": {
                "call": {"optax": "inject_hyperparams"},
                "args": [{"registered": "tests>halving"}],
            },
            "args": [1],
        },
        {
            "call": {
                "call": {"optax": "join_schedules"},
                "args": [[{"registered": "tests>halving"}], []],
            },
            "args": [1],
        },
        {"optax": "__class__"},
        {"optax": ["adam"]},
        {"call": None},
        {"unknown": 1},
        {"object": {"module": "os", "class_name": "system", "config": {}}},
        {"object": {"class_name": "function", "config": "tests>halving"}},
        {
            "object": {
                "class_name": "__lambda__",
                "registered_name": "tests>Registered",
                "config": {"value": "AAAA"},
            }
        },
        {"registered": "tests>Registered"},
        {
            "call": {
                "call": {"optax": "inject_hyperparams"},
                "args": [],
                "kwargs": {
                    "hyperparam_dtype": {"optax": "adam"},
                    "inner_factory": {"registered": "tests>halving"},
                },
            },
            "kwargs": {"path": "/home/user"},
        },
        {
            "call": {
                "call": {"optax": "inject_hyperparams"},
                "args": [{"optax": "inject_hyperparams"}],
            },
            "args": [{"registered": "tests>halving"}],
        },
        {
            "call": {"optax": "scale_by_factored_rms"},
            "kwargs": {
                "decay_rate": "/home/user",
                "decay_rate_fn": {"registered": "tests>halving"},
            },
        },
        {
            "call": {
                "call": {"optax": "inject_hyperparams"},
                "args": [{"optax": "scale_by_factored_rms"}],
                "kwargs": {"static_args": {"tuple": ["decay_rate_fn"]}},
            },
            "kwargs": {
                "decay_rate": "/home/user",
                "decay_rate_fn": {"registered": "tests>halving"},
            },
        },
        {
            "call": {"optax": "microbatching.Accumulator"},
            "args": [{"registered": "tests>halving"}] * 4,
        },
        {
            "call": {"optax": "chain"},
            "args": [{"dict": [["init", {"registered": "tests>halving"}]]}],
        },
        {
            "call": {"optax": "schedules.inject_stateful_hyperparams"},
            "args": [{"registered": "tests>halving"}],
        },
    ],
    ids=str,
)
def test_a_file_cannot_have_anything_else_called(config):
    """At any depth, beside what is allowed."""
    clip = {"call": {"optax": "clip"}, "args": [1.0], "kwargs": {}}
    deep = {"call": {"optax": "chain"}, "args": [clip, config], "kwargs": {}}
    for each in (config, [config], {"tuple": [config]}, deep):
        with pytest.raises(ValueError, match="from public names of optax"):
            saving.decode(each)


@keras.saving.register_keras_serializable("tests")
class Registered:
    """A class is called as a function is."""

    def get_config(self):
        return {}


CALLED: list = []


@keras.saving.register_keras_serializable("tests")
def noting(*args, **kwargs):
    CALLED.append((args, kwargs))
    return raw.sgd(0.1)


NOTING = {"registered": "tests>noting"}
HOSTILE = {
    "os": {
        "transformation": {"call": {"optax": "os.system"}, "args": ["true"]}
    },
    "private": {
        "transformation": {"call": {"optax": "_src.alias.sgd"}, "args": [0.1]}
    },
    "registered_call": {"transformation": {"call": NOTING, "args": ["rm"]}},
    "registered_maker": {
        "transformation": NOTING,
        "arguments": {"dict": [["path", "rm"]]},
    },
    "injected": {
        "transformation": {
            "call": {
                "call": {"optax": "inject_hyperparams"},
                "args": [{"optax": "microbatching.micro_vmap"}, ["fun"]],
            },
            "kwargs": {"fun": NOTING, "in_axes": 0, "microbatch_size": 1},
        }
    },
    "injected_by_name": {
        "transformation": {
            "call": {
                "call": {"optax": "inject_hyperparams"},
                "args": [],
                "kwargs": {
                    "hyperparam_dtype": {"optax": "adam"},
                    "inner_factory": NOTING,
                },
            },
            "kwargs": {"path": "rm"},
        }
    },
    "in_place_of_the_transformation": {
        "transformation": {"optax": "sgd"},
        "arguments": {"dict": [["transformation", NOTING], ["path", "rm"]]},
    },
    "given_an_argument": {
        "transformation": {"optax": "scale_by_factored_rms"},
        "arguments": {
            "dict": [["decay_rate_fn", NOTING], ["decay_rate", "rm"]]
        },
    },
    "class": {
        "transformation": {"optax": "sgd"},
        "learning_rate": {
            "object": {
                "module": "keras.optimizers.schedules",
                "class_name": "serialize",
                "registered_name": "tests>halving",
                "config": {},
            }
        },
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_runs(name, tmp_path):
    model = stock(optimizers.OptaxOptimizer(optax.sgd(0.1)))
    model.build((None, 3))
    model.save(tmp_path / "good.keras")
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(tmp_path / "good.keras") as good:
        config = json.loads(good.read("config.json"))
        optimizer = config["compile_config"]["optimizer"]
        optimizer["config"].update(HOSTILE[name])
        with zipfile.ZipFile(path, "w") as bad:
            for entry in good.namelist():
                data = good.read(entry)
                if entry == "config.json":
                    data = json.dumps(config)
                bad.writestr(entry, data)
    CALLED.clear()
    with pytest.raises(ValueError, match="rebuilt from public names of optax"):
        keras.saving.load_model(path, safe_mode=False)
    assert CALLED == []


def test_a_maker_of_ones_own_is_not_saved_but_asked_for(tmp_path):
    optimizer = optimizers.OptaxOptimizer(noting)
    assert optimizer.get_config()["transformation"] is None
    stock(optimizer).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r'custom_objects=\{"optax_tx"'):
        keras.saving.load_model(tmp_path / "m.keras")


def test_an_unregistered_function_is_named_when_loading():
    with pytest.raises(ValueError, match="is not registered"):
        saving.decode({"registered": "tests>nobody"})


@pytest.mark.parametrize(
    "config",
    [
        {"call": {"optax": "sgd"}, "args": None},
        {"call": {"optax": "sgd"}, "args": [], "kwargs": []},
        {"call": {"optax": "sgd"}, "kwargs": {"momentumm": 0.1}},
        {"array": [1.0]},
        {"array": [1.0], "dtype": "float33"},
        {"dict": [["a"], 1]},
        {"tuple": None},
        {"dtype": 7},
        {"key": [0, 1]},
        {"object": None},
        {"object": {}},
    ],
    ids=str,
)
def test_a_damaged_entry_is_named(config):
    with pytest.raises(ValueError, match=r"is damaged.*Received: \{"):
        saving.decode(config)


@pytest.mark.parametrize(
    "change",
    [
        {"transformation": ...},
        {"learning_rate": ...},
        {"arguments": ...},
        {"arguments": None},
        {"arguments": {"dict": [["b1"]]}},
        {"arguments": {"dict": [[1, 2]]}},
        {"arguments": [["b1", 0.5]]},
    ],
    ids=str,
)
def test_a_damaged_optimizer_is_named(change):
    optimizer = optimizers.OptaxOptimizer(raw.sgd, learning_rate=0.1)
    config = optimizer.get_config() | change
    config = {k: v for k, v in config.items() if v is not ...}
    with pytest.raises(ValueError, match=r"(lacks|arguments of) .*Received"):
        optimizers.OptaxOptimizer.from_config(config)


def test_a_registered_function_stands_where_optax_gives_it_a_count():
    made = optax.inject_hyperparams(optax.adam)(0.1, b1=halving)
    config = saving.encode(made)
    assert saving.encode(saving.decode(config)) == config
    given = {"decay_rate": 0.8, "decay_rate_fn": halving}
    with pytest.raises(saving.CannotSaveError, match="as `decay_rate_fn`"):
        saving.encode(optax.scale_by_factored_rms(**given))
    optimizer = optimizers.OptaxOptimizer(raw.scale_by_factored_rms, **given)
    assert optimizer.get_config()["transformation"] is None


def test_what_cannot_be_saved_says_why():
    optimizer = optimizers.OptaxOptimizer(optax.sgd(lambda count: 0.1))
    config = json.loads(json.dumps(optimizer.get_config()))
    assert config["transformation"] is None
    with pytest.raises(ValueError, match=r"Received: This part.*<lambda>"):
        optimizers.OptaxOptimizer.from_config(config)


def test_the_recorded_namespace_is_optax():
    assert "adam" in dir(optax)
    assert optax.GradientTransformation is raw.GradientTransformation
    assert isinstance(optax.contrib.sam, type(raw.contrib.sam))
    with pytest.raises(AttributeError, match="nothing_like_it"):
        optax.nothing_like_it  # noqa: B018
    assert kje.optax is optax


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.chain(optax.clip(1.0), optax.adam(np.float32(0.1))),
        lambda: optax.contrib.muon(
            0.1,
            muon_weight_dimension_numbers=raw.contrib.MuonDimensionNumbers(),
        ),
        lambda: optax.monitor({"norm": raw.tree.norm}),
        lambda: optax.join_schedules(
            [optax.constant_schedule(0.1), optax.linear_schedule(1, 0, 9)], [5]
        ),
        lambda: optax.masked(optax.sgd(0.1), {"a": True, "b": (None, False)}),
    ],
)
def test_a_recipe_is_json_and_comes_back(make):
    config = saving.encode(make())
    assert json.loads(json.dumps(config)) == config
    assert saving.encode(saving.decode(config)) == config


@pytest.mark.parametrize(
    "name", ["adam", "nadam", "contrib.sam", "schedules.cosine_decay_schedule"]
)
def test_a_function_of_optax_is_pickled_by_its_name(name):
    found = optax
    for part in name.split("."):
        found = getattr(found, part)
    assert pickle.loads(pickle.dumps(found)) is found
    assert copy.deepcopy(found) is found


TRANSFORMATIONS = [name for name in MADE if name not in ("multi_steps",)]


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_model_and_its_transformation_are_pickled(name):
    made = MADE[name]()
    if not isinstance(made, optimizers.OptaxOptimizer):
        again = pickle.loads(pickle.dumps(made))
        assert saving.encode(again) == saving.encode(made)
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2)(inputs)
    for make in (kje.Model, lambda *a: kje.extend(keras.Model(*a))):
        model = make(inputs, outputs)
        model.compile(optimizers.get(made), "mse")
        model.fit(X, Y[:, [0, 0]], verbose=0)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(
            again.optimizer.variables[-1], model.optimizer.variables[-1]
        )


@pytest.mark.parametrize("extended", [False, True])
def test_a_model_that_could_not_be_unpickled_is_not_pickled(extended):
    inputs = keras.Input((3,))
    model = keras.Model if extended else kje.Model
    model = model(inputs, keras.layers.Dense(2)(inputs))
    if extended:
        kje.extend(model)
    model.compile(raw.adam(0.1), "mse")
    with pytest.raises(pickle.PicklingError, match=r"Received: This part .*c"):
        pickle.dumps(model)
