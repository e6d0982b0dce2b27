"""A damaged file is an error, or the weights are those that were saved."""

import io
import json
import warnings
import zipfile

import keras_jax_ext as kje
from keras_jax_ext import layers, optax

import h5py
import keras
import numpy as np
import pytest
from contents import same, values

X = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
ARRAYS = "model.weights.h5"
register = keras.saving.register_keras_serializable("test_damaged")


@register
class Block(kje.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, x):
        return layers.Dense(self.units, name="inner")(x)


@register
class Inline(kje.Model):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, x):
        return layers.Dense(1, name="head")(Block(self.units)(x))


@register
class Subclassed(kje.Model):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.block = keras.layers.Dense(units, name="inner")
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.block(x))


def functional(units=2):
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(units, name="inner")(inputs)
    return kje.Model(inputs, keras.layers.Dense(1)(hidden))


def sequential(units=2):
    """A stock container: ours is below the root of the file."""
    return keras.Sequential([keras.Input((3,)), Block(units), Block(1)])


KINDS = {
    "inline": Inline,
    "subclassed": Subclassed,
    "functional": functional,
    "stock": sequential,
}


def trained(kind="inline", optimizer="adam", units=2):
    model = KINDS[kind](units)
    model.compile(optimizer, "mse")
    model.fit(X, X[:, :1], verbose=0)
    return model


def changed(path, new, *, config=None, arrays=None):
    """A copy of a `.keras` file, its JSON or its HDF5 file changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as out:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json" and config:
                whole = json.loads(data)
                config(whole)
                data = json.dumps(whole).encode()
            elif name == ARRAYS and arrays:
                buffer = io.BytesIO(data)
                with h5py.File(buffer, "r+") as file:
                    arrays(file)
                data = buffer.getvalue()
            out.writestr(name, data)
    return new


def without_checksum(change):
    """As a file that an older version, or stock Keras, wrote."""

    def both(file):
        file.attrs.pop("keras_jax_ext_checksum", None)
        change(file)

    return both


CONFIGS = {
    "no build_config": lambda c: c.pop("build_config"),
    "no call": lambda c: c.update(build_config={}),
    "another key": lambda c: c.update(
        build_config={"kall": c["build_config"]["call"]}
    ),
    "no args": lambda c: c["build_config"]["call"].pop("args"),
    "no kwargs": lambda c: c["build_config"]["call"].pop("kwargs"),
    "null": lambda c: c["build_config"].update(call=None),
    "text": lambda c: c["build_config"].update(call="x"),
    "no tensors": lambda c: c["build_config"]["call"].update(args=[]),
    "not a tensor": lambda c: c["build_config"]["call"]["args"][0].update(
        class_name="__keras_tenser__"
    ),
    "another width": lambda c: c["build_config"]["call"]["args"][0][
        "config"
    ].update(shape=[4, 7]),
    "another rank": lambda c: c["build_config"]["call"]["args"][0][
        "config"
    ].update(shape=[3]),
    "another dtype": lambda c: c["build_config"]["call"]["args"][0][
        "config"
    ].update(dtype="float33"),
    "another argument": lambda c: c["config"].update(units=5),
    "another optimizer": lambda c: c["compile_config"]["optimizer"].update(
        class_name="SGD",
        config={"learning_rate": 0.1, "momentum": 0.5},
    ),
    "another policy": lambda c: c["config"]["dtype"].update(
        class_name="DTypeP"
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_config_is_an_error(name, tmp_path):
    trained().save(tmp_path / "good.keras")
    path = changed(
        tmp_path / "good.keras", tmp_path / "bad.keras", config=CONFIGS[name]
    )
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(
            ValueError, match=r"[Rr]eceived|Invalid|not valid|float33"
        ),
    ):
        keras.saving.load_model(path)


def test_the_error_says_why_nothing_was_built(tmp_path):
    trained().save(tmp_path / "good.keras")
    path = changed(
        tmp_path / "good.keras",
        tmp_path / "bad.keras",
        config=CONFIGS["no tensors"],
    )
    message = (
        r"2 arrays at 'block/inner', where .*could not be built: TypeError"
    )
    with pytest.raises(ValueError, match=message):
        keras.saving.load_model(path)


def rename(file, old, new):
    file.move(old, new)


GROUPS = {
    "a layer renamed": lambda f: rename(f, "head", "hexd"),
    "a layer removed": lambda f: f.pop("head"),
    "a layer added": lambda f: f.create_dataset("more/vars/0", data=[1.0]),
    "a nested layer renamed": lambda f: rename(f, "block/inner", "block/inne"),
    "arrays renamed": lambda f: rename(f, "head/vars", "head/wars"),
    "an array renamed": lambda f: rename(f, "head/vars/0", "head/vars/q"),
    "an array removed": lambda f: f.pop("head/vars/1"),
    "an array added": lambda f: f.create_dataset("head/vars/2", data=[1.0]),
    "the optimizer renamed": lambda f: rename(f, "optimizer", "optimizes"),
    "the optimizer removed": lambda f: f.pop("optimizer"),
    "a slot removed": lambda f: f.pop("optimizer/vars/3"),
    "a slot renamed": lambda f: rename(
        f, "optimizer/vars/3", "optimizer/vars/s"
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_every_array_has_a_taker(name, tmp_path):
    trained().save(tmp_path / "good.keras")
    path = changed(
        tmp_path / "good.keras",
        tmp_path / "bad.keras",
        arrays=without_checksum(GROUPS[name]),
    )
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(
            ValueError, match="The arrays of a file must match those"
        ),
    ):
        keras.saving.load_model(path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_without_a_taker_below_any_container(kind, tmp_path):
    model = trained(kind)
    model.save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        file.attrs.pop("keras_jax_ext_checksum", None)
        place = "layers/block/more/vars/0" if kind == "stock" else "more/vars/0"
        file.create_dataset(place, data=[1.0])
    before = values(model)
    with pytest.raises(ValueError, match=r"1 arrays at '.*more', where"):
        model.load_weights(tmp_path / "a.weights.h5")
    assert same(values(model), before)


@pytest.mark.parametrize("how", ["load_weights", "load_model"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_width_name_the_layer(kind, how, tmp_path):
    trained(kind).save(tmp_path / "a.keras")
    other = trained(kind, units=5)
    before = values(other)
    message = (
        r"shape \(3, 2\) for 'kernel' of layer '.*inner' \(Dense\), which has "
        r"shape \(3, 5\)"
    )
    if how == "load_weights":
        with (
            warnings.catch_warnings(action="ignore"),
            pytest.raises(ValueError, match=message),
        ):
            other.load_weights(tmp_path / "a.keras")
        assert kind == "stock" or same(values(other), before)
        return
    other.save(tmp_path / "b.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as a:
        arrays = a.read(ARRAYS)
    with (
        zipfile.ZipFile(tmp_path / "b.keras") as b,
        zipfile.ZipFile(tmp_path / "c.keras", "w") as c,
    ):
        for name in b.namelist():
            c.writestr(name, arrays if name == ARRAYS else b.read(name))
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(ValueError, match=message),
    ):
        keras.saving.load_model(tmp_path / "c.keras")


def test_what_fits_is_read_where_mismatches_are_skipped(tmp_path):
    def model(units):
        return kje.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4), Block(units)]
        )

    one, other = model(2), model(5)
    one.save_weights(tmp_path / "a.weights.h5")
    with pytest.warns(UserWarning, match=r"shape \(4, 2\) for 'kernel'"):
        other.load_weights(tmp_path / "a.weights.h5", skip_mismatch=True)
    assert np.array_equal(other.weights[0], one.weights[0])
    assert other.weights[2].shape == (4, 5)


def test_a_model_may_leave_the_state_of_an_optimizer(tmp_path):
    model = trained()
    model.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras", compile=False)
    other = Inline()
    other(X)
    other.load_weights(tmp_path / "a.keras")
    for each in (loaded, other):
        assert same(values(each), values(model)[: len(model.variables)])
    other.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="Skipping variable loading for opt"):
        other.load_weights(tmp_path / "a.keras")


def test_layers_may_be_left_out_as_in_keras(tmp_path):
    model, other = trained("functional"), functional(units=5)
    model.save_weights(tmp_path / "a.weights.h5")
    kept = np.array(other.layers[1].kernel)
    other.load_weights(
        tmp_path / "a.weights.h5", objects_to_skip=other.layers[1:]
    )
    assert np.array_equal(other.layers[1].kernel, kept)


class Twice(kje.Model):
    """Its layer has two names, and is written by the first."""

    def __init__(self):
        super().__init__()
        self.a_block = Block(2)

    @property
    def block(self):
        return self.a_block

    def call(self, x):
        return self.block(x)


class Once(kje.Model):
    def call(self, x):
        return Block(2)(x)


def test_a_layer_is_found_by_its_other_name(tmp_path):
    one, other = Once(), Twice()
    assert other(X).shape == one(X).shape
    one.save_weights(tmp_path / "a.weights.h5")
    with warnings.catch_warnings(action="ignore"):
        other.load_weights(tmp_path / "a.weights.h5")
    assert same(values(other), values(one))


@register
class Resizing(keras.layers.Dense):
    """Its user reads arrays of another shape."""

    def load_own_variables(self, store):
        self.kernel.assign(np.resize(store["0"], self.kernel.shape))


def test_a_layer_may_read_arrays_in_its_own_way(tmp_path):
    def model(units):
        return kje.Sequential([keras.Input((3,)), Resizing(units)])

    one, other = model(2), model(4)
    one.save_weights(tmp_path / "a.weights.h5")
    other.load_weights(tmp_path / "a.weights.h5")
    assert other.weights[0][0, 0] == one.weights[0][0, 0]


def test_a_file_in_shards_is_checked(tmp_path):
    model = trained()
    model.save_weights(tmp_path / "a.weights.json", max_shard_size=1e-7)
    other = trained()
    other.load_weights(tmp_path / "a.weights.json")
    assert same(other.get_weights(), model.get_weights())
    with pytest.raises(ValueError, match="arrays at 'block/inner', where"):
        trained("subclassed").load_weights(tmp_path / "a.weights.json")


def flipped(data, rng):
    data, bit = bytearray(data), rng.integers(8 * len(data))
    data[bit // 8] ^= 1 << (bit % 8)
    return bytes(data)


def flipped_inside(name):
    """One bit of an entry of the archive, whose own checksum is made anew."""

    def flip(data, rng):
        out = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            zipfile.ZipFile(out, "w") as new,
        ):
            for entry in old.namelist():
                part = old.read(entry)
                new.writestr(
                    entry, flipped(part, rng) if entry == name else part
                )
        return out.getvalue()

    return flip


FLIPS = {
    "archive": flipped,
    "json": flipped_inside("config.json"),
    "arrays": flipped_inside(ARRAYS),
}


@pytest.mark.parametrize("optimizer", ["adam", optax.adam(0.1)], ids=type)
@pytest.mark.parametrize("where", FLIPS)
def test_no_flipped_bit_passes_in_silence(where, optimizer, tmp_path):
    model, rng = trained(optimizer=optimizer), np.random.default_rng(0)
    model.save(tmp_path / "good.keras")
    data, wanted = (tmp_path / "good.keras").read_bytes(), values(model)
    loaded = 0
    for number in range(100):
        path = tmp_path / f"{number}.keras"
        path.write_bytes(FLIPS[where](data, rng))
        try:
            with warnings.catch_warnings(action="ignore"):
                other = keras.saving.load_model(path)
        except Exception:
            continue
        loaded += 1
        # The key `compile_config` may be the one: the model says that it
        # is not compiled.
        assert same(values(other), wanted[: len(values(other))])
        assert not other.compiled or len(values(other)) == len(wanted)
    assert loaded


def test_no_flipped_bit_in_a_file_of_weights_passes_in_silence(tmp_path):
    model, rng = trained(), np.random.default_rng(0)
    model.save_weights(tmp_path / "good.weights.h5")
    data, wanted = (tmp_path / "good.weights.h5").read_bytes(), values(model)
    other, loaded = trained(), 0
    for number in range(200):
        path = tmp_path / f"{number}.weights.h5"
        path.write_bytes(flipped(data, rng))
        try:
            with warnings.catch_warnings(action="ignore"):
                other.load_weights(path)
        except Exception:
            continue
        loaded += 1
        assert same(values(other), wanted)
    assert loaded


def test_a_file_is_signed_and_stock_keras_reads_it(tmp_path):
    model = trained("functional")
    model.save_weights(tmp_path / "a.weights.h5")
    stock = keras.Model(model.inputs, model.outputs)
    stock.load_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        array = file["layers/dense/vars/0"]
        array[0, 0] += 1
    with pytest.raises(ValueError, match="file of weights is damaged"):
        model.load_weights(tmp_path / "a.weights.h5")


def mean(y_pred):
    return keras.ops.mean(y_pred)


OWN = {
    "loss": lambda: kje.losses.Loss(register(mean)),
    "loss on": lambda: kje.losses.on(keras.losses.MeanAbsoluteError(), 0),
    "metric": lambda: kje.metrics.Function(register(mean)),
    "metric on": lambda: kje.metrics.on("mae", 0),
    "specs": lambda: kje._training.specs.Kept({"loss": "mse"}),
}
ENTRIES = [
    ("loss", {"fn": {}}),
    ("loss", {"fn": {"class_name": "float32", "config": {}}}),
    ("loss on", {"loss": {"name": "mse"}}),
    ("metric", {"fn": None}),
    ("metric", {"fn": ...}),
    ("metric", {"fn": {"name": "mean"}}),
    ("metric on", {"metric": ...}),
    ("metric on", {"metric": {"name": "mae"}}),
    ("metric on", {"metric": 3}),
    ("specs", {"specs": ...}),
    ("specs", {"specs": None}),
    ("specs", {"specs": ["mse"]}),
    ("specs", {"specs": {"optimizer": "sgd"}}),
]


@pytest.mark.parametrize(("name", "change"), ENTRIES, ids=str)
def test_a_damaged_entry_of_ours_is_named(name, change):
    made = OWN[name]()
    config = made.get_config() | change
    config = {k: v for k, v in config.items() if v is not ...}
    with pytest.raises(
        (TypeError, ValueError), match=rf"{next(iter(change))}|float32"
    ):
        type(made).from_config(config)


@pytest.mark.parametrize("config", [[], "adam", 3, ["adam"]])
def test_a_damaged_compile_config_is_named(config):
    with pytest.raises(ValueError, match="'compile_config' of a model in a f"):
        Inline().compile_from_config(config)
