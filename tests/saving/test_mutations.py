"""Hundreds of damaged files: an equal model, or a clear error."""

import io
import json
import random
import re
import struct
import warnings
import zipfile

import keras_jax_ext as kje
from keras_jax_ext import layers, optax
from keras_jax_ext._disk import archive

import h5py
import keras
import numpy as np
import pytest
from contents import same, values
from json_places import VALUES, places

X = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
Y = X[:, :1]
CONFIG, ARRAYS = "config.json", "model.weights.h5"
register = keras.saving.register_keras_serializable("test_mutations")

# What Python says by itself, of values that nobody has checked...
BARE = re.compile(
    r"unhashable type|argument of type|has no attribute|is not subscriptable"
    r"|object is not (callable|iterable)|indices must be|unsupported operand"
    r"|must be real number|not supported between|unexpected keyword"
    r"|positional argument|not enough values|^'?\w*'?$"
)
# ... is clear where it says of what.
EXPLAINED = re.compile(r"damaged|[Rr]eceived|could not be|Could not locate")
# Raised before any code of ours runs.
OF_KERAS = (
    (zipfile.BadZipFile, ""),
    (KeyError, "Unable to synchronously"),  # HDF5
    (RuntimeError, "Unable to synchronously"),
    (KeyError, "no item named 'config.json'"),
    (TypeError, "unhashable type"),  # the model's own `registered_name`
)


@register
class Net(kje.Model):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, x):
        return layers.Dense(self.units, name="head")(x)


@register
class Scaled(kje.losses.Loss):
    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        if type(scale) is not float:
            raise TypeError(f"A scale is a float. Received: scale={scale!r}.")
        self.scale = scale

    def call(self, y_true, y_pred):
        return self.scale * (y_true - y_pred) ** 2

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def trained(seed=0):
    keras.utils.set_random_seed(seed)
    model = Net()
    model.compile(optax.adam(1e-2), Scaled(2.0))
    model.fit(X, Y, verbose=0)
    return model


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def packed(entries, compression=zipfile.ZIP_STORED):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return memory.getvalue()


def flipped(data, rng):
    changed, bit = bytearray(data), rng.randrange(8 * len(data))
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def cut(data, times):
    return [data[: len(data) * i // times] for i in range(times)]


def damaged_archives(data, rng):
    """An archive cut, flipped, with entries missing, added and exchanged."""
    entries = members(data)
    for part in cut(data, 10):
        yield "cut", part
    for _ in range(30):
        yield "flipped", flipped(data, rng)
    for name, content in entries.items():
        for part in cut(content, 4):
            yield f"{name} cut", packed({**entries, name: part})
        for _ in range(6):
            changed = {**entries, name: flipped(content, rng)}
            yield f"{name} flipped", packed(changed)
        rest = {n: c for n, c in entries.items() if n != name}
        yield f"{name} missing", packed(rest)
        yield f"{name} last", packed({**rest, name: content})
        for other in entries:
            changed = {**entries, name: entries[other]}
            yield f"{name} is {other}", packed(changed)
        yield f"{name} zeros", packed({**entries, name: bytes(len(content))})
        bomb = packed({**entries, name: bytes(1 << 22)}, zipfile.ZIP_DEFLATED)
        yield f"{name} bomb", bomb
        yield f"{name} claims", claiming(packed(entries), name, 1 << 31)
    for name in ("assets/x", "../x", "/x", "more.json"):
        yield f"{name} added", packed({**entries, name: b"x"})
    yield "compressed", packed(entries, zipfile.ZIP_DEFLATED)


def claiming(data, name, size):
    """An archive whose directory gives another size for an entry."""
    changed, at = bytearray(data), -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        if data[at + 46 :].startswith(name.encode()):
            struct.pack_into("<I", changed, at + 24, size)
    return bytes(changed)


def damaged_json(text, rng, each):
    """A document whose values have other types, keys other names, or none."""
    for path in places(json.loads(text)):
        old = json.loads(text)
        for key in path:
            old = old[key]
        numbers = int, float
        others = [
            v
            for v in VALUES
            if type(v) is not type(old) and {type(v), type(old)} != {*numbers}
        ]
        for value in [*rng.sample(others, each), "renamed", "removed"]:
            tree = json.loads(text)
            holder = tree
            for key in path[:-1]:
                holder = holder[key]
            if value not in ("renamed", "removed"):
                holder[path[-1]] = value
            else:
                held = holder.pop(path[-1])
                if value == "renamed" and isinstance(holder, dict):
                    holder[f"{path[-1]}x"] = held
            at = "/".join(map(str, path))
            yield f"{at}: {value!r}", json.dumps(tree).encode()


def faults(files, load):
    """What is wrong with what each file gave, and how many were taken.

    Args:
        files: Iterable of pairs of a description and bytes.
        load: Function of bytes; returns whether what it read is equal.
    """
    found, taken, number = [], 0, 0
    for name, content in files:
        number += 1
        try:
            with warnings.catch_warnings(action="ignore"):
                equal = load(content)
        except Exception as error:
            text, kind = str(error), type(error)
            bare = BARE.search(text) and not EXPLAINED.search(text)
            own = any(kind is k and t in text for k, t in OF_KERAS)
            allowed = isinstance(error, (ValueError, OSError, TypeError))
            if not own and (bare or not allowed):
                found.append((name, kind.__name__, text[:200]))
        else:
            taken += 1
            if not equal:
                found.append((name, "is another", ""))
    return found, taken, number


def without_names(config):
    """A config without automatic names; of nothing there are several kinds."""
    if isinstance(config, dict):
        return {k: without_names(v) for k, v in config.items() if k != "name"}
    return config or None


def test_a_model_is_equal_or_refused(tmp_path):
    model, rng = trained(), random.Random(0)
    model.save(tmp_path / "good.keras")
    data = (tmp_path / "good.keras").read_bytes()
    wanted, settings = values(model), without_names(model.get_compile_config())
    entries, path = members(data), tmp_path / "bad.keras"

    def load(content):
        path.write_bytes(content)
        loaded = keras.saving.load_model(path)
        if not loaded.compiled:
            # It lacks the key `compile_config`, as if it never had one.
            return same(values(loaded), wanted[:2])
        told = without_names(loaded.get_compile_config())
        return same(values(loaded), wanted) and told == settings

    documents = damaged_json(entries[CONFIG], rng, 1)
    texts = [(n, packed({**entries, CONFIG: t})) for n, t in documents]
    files = [*damaged_archives(data, rng), *texts]
    found, taken, number = faults(files, load)
    assert found == []
    assert number > 200
    assert 50 < taken < number - 100


def replaced(name, make):
    def change(file):
        old = file[name][()]
        del file[name]
        made = make(old)
        if made is not None:
            file[name] = made

    return change


def group_in_place(file):
    del file["head/vars/0"]
    file.create_group("head/vars/0")


def array_in_place(file):
    del file["head"]
    file["head"] = np.zeros(3)


def bomb(file):
    """A gigabyte in no bytes."""
    file.create_dataset(
        "more/vars/0",
        (1 << 10, 1 << 20),
        chunks=(1 << 10, 1 << 10),
        compression="gzip",
        dtype="uint8",
    )


def virtual(file):
    del file["head/vars/0"]
    layout = h5py.VirtualLayout((3, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3, 2))
    file.create_virtual_dataset("head/vars/0", layout)


KERNEL = "head/vars/0"
CHANGES = {
    "removed": replaced(KERNEL, lambda old: None),
    "another shape": replaced(KERNEL, lambda old: old.reshape(2, 3)),
    "flat": replaced(KERNEL, lambda old: old.ravel()),
    "text": replaced(KERNEL, lambda old: np.full((3, 2), b"x")),
    "complex": replaced(KERNEL, lambda old: old + 1j),
    "empty": replaced(KERNEL, lambda old: h5py.Empty("f4")),
    "external": replaced(KERNEL, lambda old: h5py.ExternalLink("a.h5", "/x")),
    "soft": replaced(KERNEL, lambda old: h5py.SoftLink("/head/vars/1")),
    "group": group_in_place,
    "array": array_in_place,
    "bomb": bomb,
    "virtual": virtual,
    "loop": lambda file: file["head"].__setitem__("x", file["head"]),
    "swapped": lambda file: [
        file.move("head/vars/0", "x"),
        file.move("head/vars/1", "head/vars/0"),
        file.move("x", "head/vars/1"),
    ],
    "checksum": lambda file: file.attrs.__setitem__(
        "keras_jax_ext_checksum", "x"
    ),
}


def damaged_arrays(data, rng):
    """A file of weights cut, flipped, and its entries changed."""
    for part in cut(data, 40):
        yield "cut", part
    for _ in range(150):
        yield "flipped", flipped(data, rng)
    for name, change in CHANGES.items():
        for signed in (True, False):
            if name == "loop" and signed:
                continue  # the same arrays
            memory = io.BytesIO(data)
            with h5py.File(memory, "r+") as file:
                if not signed:
                    del file.attrs["keras_jax_ext_checksum"]
                change(file)
            if name != "checksum" or signed:
                yield f"{name}, signed {signed}", memory.getvalue()


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("skip", [False, True], ids=["all", "skipping"])
def test_weights_are_those_of_the_file_or_as_they_were(ending, skip, tmp_path):
    model, other, rng = trained(), trained(seed=1), random.Random(0)
    model.save(tmp_path / "good.keras")
    model.save_weights(tmp_path / "good.weights.h5")
    data = (tmp_path / f"good{ending}").read_bytes()
    wanted, before = values(model), values(other)
    path = tmp_path / f"bad{ending}"
    variables = [*other.variables, *other.optimizer.variables]

    def load(content):
        path.write_bytes(content)
        try:
            other.load_weights(path, skip_mismatch=skip)
        except BaseException:
            # The same variables: a failure inside would show here.
            assert same(values(other), before)
            raise
        read = values(other)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return same(read, wanted)

    if ending == ".keras":
        files = [*damaged_archives(data, rng)]
    else:
        files = [
            (name, content)
            for name, content in damaged_arrays(data, rng)
            # Without a checksum what does not fit is skipped, as asked for.
            if not (skip and "signed False" in name)
        ]
    found, taken, number = faults(files, load)
    assert found == []
    assert number > 90
    assert 20 < taken < number - 20


def in_layer(change):
    """Change the kernel's entry in the group of the second layer."""

    def both(file):
        group = file["model_weights/b"]
        change(group, group.attrs["weight_names"][0])

    return both


LEGACY = {
    "another shape": in_layer(lambda g, k: replaced(k, lambda v: v.T)(g)),
    "text": in_layer(
        lambda g, k: replaced(k, lambda v: np.full(v.shape, b"x"))(g)
    ),
    "a weight missing": in_layer(lambda g, k: g.__delitem__(k)),
    "other names": in_layer(
        lambda g, k: g.attrs.modify("weight_names", [b"x", b"y"])
    ),
    "a layer missing": lambda f: f.__delitem__("model_weights/b"),
}


def legacy(units=4):
    keras.utils.set_random_seed(units)
    return kje.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="a"),
            keras.layers.Dense(units, name="b"),
        ]
    )


@pytest.mark.parametrize("name", [*LEGACY, "cut"])
@pytest.mark.parametrize("by_name", [None, True])
def test_a_file_of_stock_format_is_read_whole_or_not(name, by_name, tmp_path):
    path, other = tmp_path / "a.h5", legacy(5)
    legacy(5).save(path)
    other.layers[0].kernel.assign_add(np.ones((3, 4)))
    before = values_of(other)
    if name == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        with h5py.File(path, "r+") as file:
            LEGACY[name](file)
    with pytest.raises(
        (ValueError, OSError), match=r"damaged|mismatch|truncated|convert"
    ):
        other.load_weights(path, by_name=by_name)
    assert same(values_of(other), before)


def values_of(model):
    return [np.asarray(v) for v in model.variables]


def test_by_name_and_skip_mismatch_read_what_fits(tmp_path):
    one, other = legacy(4), legacy(5)
    one.save(tmp_path / "a.h5")
    with pytest.warns(UserWarning, match="mismatch in shape"):
        other.load_weights(tmp_path / "a.h5", by_name=True, skip_mismatch=True)
    np.testing.assert_array_equal(other.layers[0].kernel, one.layers[0].kernel)
    assert other.layers[1].kernel.shape == (4, 5)


def test_a_backup_is_equal_or_refused(tmp_path):
    path, rng = tmp_path / "backup.zip", random.Random(0)
    arrays = {"a/0": np.arange(6.0).reshape(2, 3), "b/0": np.ones((), "int32")}
    document = {"epoch": 3, "callbacks": [None, {"dict": {"wait": 1}}]}
    archive.write(path, arrays, document)
    data = path.read_bytes()

    def load(content):
        path.write_bytes(content)
        read, told = archive.read(path)
        equal = same([*read.values()], [*arrays.values()])
        return equal and [*read] == [*arrays] and told == document

    entries = members(data)
    documents = damaged_json(entries["document.json"], rng, 2)
    texts = [
        (name, packed({**entries, "document.json": text}))
        for name, text in documents
    ]
    flips = [("flipped", flipped(data, rng)) for _ in range(200)]
    files = [*damaged_archives(data, rng), *texts, *flips]
    found, taken, number = faults(files, load)
    assert found == []
    assert number > 300
    assert 10 < taken < number - 200


def test_a_handle_of_a_refused_file_does_not_outlive_it(tmp_path):
    # HDF5 took what it knew of the open file for what was in the new one.
    model, path = trained(), tmp_path / "a.weights.h5"
    model.save_weights(path)
    good = path.read_bytes()
    with h5py.File(path, "r+") as file:
        array_in_place(file)
    with pytest.raises(ValueError, match=r"damaged|expected Group"):
        model.load_weights(path)
    path.write_bytes(good)
    model.load_weights(path)
