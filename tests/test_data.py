"""`kje.data.Dataset`: each method gives the elements of `tf.data`."""

import random
import re

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import pytest

grain = pytest.importorskip("grain")
Dataset = kje.data.Dataset
X = np.arange(20.0, dtype="float32").reshape(10, 2)
Y = np.arange(10)


def listed(dataset):
    """The elements as plain lists."""
    return [jax.tree.map(lambda a: np.asarray(a).tolist(), e) for e in dataset]


NUMBERS = Dataset.range(7)
PAIRS = Dataset.from_tensor_slices((X, Y))


@pytest.mark.parametrize(
    ("dataset", "elements"),
    [
        (NUMBERS, [0, 1, 2, 3, 4, 5, 6]),
        (Dataset.range(2, 9, 3), [2, 5, 8]),
        (Dataset.from_tensor_slices([1, 2]), [1, 2]),
        (Dataset.from_tensors([1, 2]), [[1, 2]]),
        (NUMBERS.batch(3), [[0, 1, 2], [3, 4, 5], [6]]),
        (NUMBERS.batch(3, drop_remainder=True), [[0, 1, 2], [3, 4, 5]]),
        (NUMBERS.batch(3).unbatch(), [0, 1, 2, 3, 4, 5, 6]),
        (NUMBERS.repeat(2).batch(5), [[0, 1, 2, 3, 4], [5, 6, 0, 1, 2],
                                      [3, 4, 5, 6]]),
        (NUMBERS.batch(5).repeat(2), [[0, 1, 2, 3, 4], [5, 6],
                                      [0, 1, 2, 3, 4], [5, 6]]),
        (NUMBERS.repeat().take(9), [0, 1, 2, 3, 4, 5, 6, 0, 1]),
        (NUMBERS.skip(4), [4, 5, 6]),
        (NUMBERS.take(-1).skip(6), [6]),
        (NUMBERS.map(lambda x: x * 2).take(2), [0, 2]),
        (NUMBERS.filter(lambda x: x % 2 == 1), [1, 3, 5]),
        (NUMBERS.take(2).concatenate(NUMBERS.skip(6)), [0, 1, 6]),
        (NUMBERS.skip(5).enumerate(1), [(1, 5), (2, 6)]),
        (Dataset.zip((NUMBERS, NUMBERS.skip(5))), [(0, 5), (1, 6)]),
        (Dataset.zip(NUMBERS.take(1), NUMBERS), [(0, 0)]),
        (NUMBERS.take(2).cache().prefetch(1), [0, 1]),
        (NUMBERS.take(3).apply(lambda d: d.batch(2)), [[0, 1], [2]]),
        (
            NUMBERS.window(3, shift=2, drop_remainder=True).flat_map(
                lambda w: w.batch(3)
            ),
            [[0, 1, 2], [2, 3, 4], [4, 5, 6]],
        ),
        (
            NUMBERS.window(3).flat_map(lambda w: w.batch(3)),
            [[0, 1, 2], [3, 4, 5], [6]],
        ),
        (
            NUMBERS.window(2, shift=3, stride=2).flat_map(
                lambda w: w.batch(2)
            ),
            [[0, 2], [3, 5], [6]],
        ),
        (
            Dataset.from_generator(lambda: iter([[1], [2, 3]])).padded_batch(2),
            [[[1, 0], [2, 3]]],
        ),
        (
            Dataset.from_generator(
                lambda: iter([[1], [2, 3], [4]])
            ).padded_batch(2, padding_values=9, drop_remainder=True),
            [[[1, 9], [2, 3]]],
        ),
        (NUMBERS.take(0).repeat().take(3), []),
        (
            NUMBERS.take(3).enumerate().window(2).flat_map(
                lambda i, n: Dataset.zip((i.batch(2), n.batch(2)))
            ),
            [([0, 1], [0, 1]), ([2], [2])],
        ),
        (
            Dataset.from_tensor_slices({"a": [1, 2]}).window(2).flat_map(
                lambda w: w["a"].batch(2)
            ),
            [[1, 2]],
        ),
        (NUMBERS.with_options(None).take(1), [0]),
        (
            Dataset.from_generator(
                lambda: iter([([1], 5), ([2, 3], 6)])
            ).padded_batch(2, ([3], []), (-1, 0)),
            [([[1, -1, -1], [2, 3, -1]], [5, 6])],
        ),
        (
            Dataset.from_generator(lambda: iter([[1.0], []])).padded_batch(
                2, [None], padding_values=9.0
            ),
            [[[1.0], [9.0]]],
        ),
        (NUMBERS.shard(3, 1), [1, 4]),
        (NUMBERS.take_while(lambda n: n < 3), [0, 1, 2]),
        (
            NUMBERS.take(3).interleave(
                lambda n: Dataset.range(n + 1).map(lambda m: 10 * n + m),
                cycle_length=2,
                block_length=2,
            ),
            [0, 10, 11, 20, 21, 22],
        ),
        (
            NUMBERS.take(3).interleave(
                lambda n: Dataset.from_tensors(n).repeat(2), 2
            ),
            [0, 1, 0, 1, 2, 2],
        ),
        (PAIRS.take(2), [([0, 1], 0), ([2, 3], 1)]),
        (PAIRS.map(lambda x, y: (x + 1, y)).take(1), [([1, 2], 0)]),
        (
            Dataset.from_tensor_slices({"a": [1, 2], "b": [3, 4]}).skip(1),
            [{"a": 2, "b": 4}],
        ),
    ],
)  # fmt: skip
def test_a_method_gives_these_elements(dataset, elements):
    assert listed(dataset) == elements
    assert listed(dataset) == elements  # again, from the beginning


def test_elements_are_on_the_device_and_numbers_have_32_bits():
    x, y = next(iter(Dataset.from_tensor_slices((X.astype("float64"), Y))))
    assert isinstance(x, jax.Array)
    assert (x.dtype, y.dtype) == ("float32", "int32")


def test_shuffle_gives_every_element_in_another_order_each_time():
    data = NUMBERS.shuffle(3)
    first, second = listed(data), listed(data)
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    # An element cannot come before the buffer reaches it.
    assert all(first.index(n) >= n - 2 for n in range(7))


def test_shuffle_can_keep_its_order():
    data = NUMBERS.shuffle(7, seed=3, reshuffle_each_iteration=False)
    assert listed(data) == listed(data)
    same = NUMBERS.shuffle(7, seed=3, reshuffle_each_iteration=False)
    assert listed(same) == listed(data)


def test_shuffle_draws_no_random_number_of_the_script():
    keras.utils.set_random_seed(1)
    first = random.random(), np.random.rand()
    keras.utils.set_random_seed(1)
    listed(NUMBERS.shuffle(7))
    assert (random.random(), np.random.rand()) == first


def test_a_function_of_map_is_compiled():
    calls = []
    data = NUMBERS.map(lambda x: (calls.append(1), x + 1)[1])
    assert listed(data) == [1, 2, 3, 4, 5, 6, 7]
    assert len(calls) == 2  # once to see what it reads, once traced


def test_what_cannot_be_traced_is_run():
    data = NUMBERS.map(lambda x: int(x) + 1)
    assert listed(data) == [1, 2, 3, 4, 5, 6, 7]
    words = Dataset.from_tensor_slices(np.array(["a", "bc"]))
    assert listed(words.map(lambda w: len(str(w)))) == [1, 2]


def test_an_error_of_a_function_is_shown():
    data = NUMBERS.map(lambda x: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        listed(data)


def test_a_generator_is_asked_anew_and_its_types_are_kept():
    def rows(n):
        for i in range(n):
            yield i, [i, i]

    data = Dataset.from_generator(rows, ("float32", "int32"), args=(2,))
    assert listed(data) == listed(data) == [(0, [0, 0]), (1, [1, 1])]
    assert next(iter(data))[0].dtype == "float32"


def test_sizes_are_known_where_they_can_be():
    assert len(NUMBERS.batch(3)) == 3
    assert NUMBERS.repeat(2).cardinality() == 14
    assert NUMBERS.repeat().cardinality() == -1
    assert NUMBERS.filter(lambda x: x > 1).cardinality() == -2
    with pytest.raises(TypeError, match="Count its elements"):
        len(NUMBERS.repeat())


@pytest.mark.parametrize(
    ("dataset", "size"),
    [
        (NUMBERS.take(3), 3),
        (NUMBERS.take(9), 7),
        (NUMBERS.skip(5), 2),
        (NUMBERS.skip(9), 0),
        (NUMBERS.concatenate(NUMBERS), 14),
        (Dataset.zip((NUMBERS, NUMBERS.take(2))), 2),
        (NUMBERS.batch(3, drop_remainder=True), 2),
        (NUMBERS.enumerate(), 7),
        (NUMBERS.shuffle(3), 7),
        (NUMBERS.repeat().take(5), 5),
    ],
)
def test_a_size_is_the_number_of_elements(dataset, size):
    assert len(dataset) == len(listed(dataset)) == size


def test_a_dataset_without_end_is_true():
    assert NUMBERS.repeat()


def test_elements_are_kept_by_a_cache():
    passes = []
    data = Dataset.from_generator(lambda: passes.append(1) or iter([1, 2]))
    data = data.cache()
    next(iter(data))  # a part of a pass is not kept
    assert [listed(data) for _ in range(3)] == [[1, 2]] * 3
    assert len(passes) == 2


def test_transformations_of_grain_are_taken():
    class Odd(grain.transforms.Filter):
        def filter(self, element):
            return int(element) % 2 == 1

    class Next(grain.transforms.Map):
        def map(self, element):
            return element + 1

    assert listed(NUMBERS.map(Next())) == [1, 2, 3, 4, 5, 6, 7]
    assert listed(NUMBERS.filter(Odd())) == [1, 3, 5]
    assert listed(NUMBERS.apply([Odd(), Next()])) == [2, 4, 6]


def test_a_signature_gives_the_types():
    kinds = (keras.KerasTensor((), "float32"), keras.KerasTensor((), "int32"))
    rows = Dataset.from_generator(
        lambda: iter([(1, 2)]), output_signature=kinds
    )
    ((x, n),) = rows
    assert (x.dtype, n.dtype) == ("float32", "int32")
    # Types of another structure say nothing.
    ((x, n),) = Dataset.from_generator(lambda: iter([(1, 2.5)]), "float32")
    assert (x.dtype, n.dtype) == ("int32", "float32")


def test_a_function_that_cannot_be_traced_is_tried_once():
    calls = []
    data = NUMBERS.map(lambda x: (calls.append(1), int(x))[1])
    assert listed(data) == [0, 1, 2, 3, 4, 5, 6]
    assert len(calls) == 9  # one that finds what is read, one that is traced


def test_slices_have_the_same_number_of_rows():
    message = re.escape("Received: [3, 10] rows")
    with pytest.raises(ValueError, match=message):
        Dataset.from_tensor_slices((X, Y[:3]))


def test_the_rest_of_what_ends_a_chain():
    assert int(NUMBERS.reduce(0, lambda total, x: total + x)) == 21
    assert [int(n) for n in NUMBERS.take(2).as_numpy_iterator()] == [0, 1]
    assert int(NUMBERS.skip(6).get_single_element()) == 6


def test_a_notebook_without_ipython_reads_it(monkeypatch):
    monkeypatch.setattr("builtins.get_ipython", lambda: None, raising=False)
    assert listed(NUMBERS.batch(4)) == [[0, 1, 2, 3], [4, 5, 6]]


def test_it_is_a_dataset_of_grain():
    assert isinstance(PAIRS, grain.IterDataset)
    pass_ = iter(NUMBERS)
    next(pass_)
    state = pass_.get_state()
    rest = listed(pass_)
    pass_.set_state(state)
    assert listed(pass_) == rest


@pytest.mark.parametrize("package", [keras, kje])
@pytest.mark.filterwarnings("ignore:(.|\\n)*grain dataset:UserWarning")
@pytest.mark.filterwarnings("ignore:(.|\\n)*ran out of data:UserWarning")
def test_fit_trains_as_with_arrays(package):
    def model():
        found = package.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        found.set_weights([np.ones((2, 1)), np.zeros(1)])
        found.compile(keras.optimizers.SGD(1e-3), "mse")
        return found

    ours, stock = model(), model()
    target = X.sum(1, keepdims=True) + 1
    data = Dataset.from_tensor_slices((X, target)).batch(4)
    first = ours.fit(data, epochs=2, verbose=0).history["loss"]
    second = stock.fit(
        X, target, batch_size=4, epochs=2, shuffle=False, verbose=0
    ).history["loss"]
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert ours.predict(data.map(lambda x, y: x), verbose=0).shape == (10, 1)


def test_images_of_a_folder_are_read_without_tensorflow(tmp_path):
    for name, value in (("cats", 0), ("dogs", 255)):
        (tmp_path / name).mkdir()
        for i in range(3):
            image = np.full((5, 4, 3), value, "uint8")
            path = tmp_path / name / f"{i}.png"
            keras.utils.save_img(path, image, scale=False)
    data = kje.data.image_dataset_from_directory(
        tmp_path, image_size=(4, 4), batch_size=4, verbose=False
    )
    assert data.class_names == ["cats", "dogs"]
    for _ in range(2):
        images, labels = zip(*data.map(lambda x, y: (x / 255, y)), strict=True)
        assert [x.shape for x in images] == [(4, 4, 4, 3), (2, 4, 4, 3)]
        np.testing.assert_array_equal(
            np.concatenate([x[:, 0, 0, 0] for x in images]),
            np.concatenate(labels),
        )
    both = kje.data.image_dataset_from_directory(
        tmp_path,
        image_size=(4, 4),
        batch_size=None,
        validation_split=0.5,
        subset="both",
        seed=1,
        verbose=False,
    )
    assert [len(list(each)) for each in both] == [3, 3]


def generated(*rows):
    return Dataset.from_generator(lambda: iter(rows))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NUMBERS.batch(0), ValueError, "Received: batch_size=0"),
        (lambda: NUMBERS.batch(-1), ValueError, "at least 1. Received"),
        (lambda: NUMBERS.batch(2.5), ValueError, "is an integer"),
        (lambda: NUMBERS.padded_batch(0), ValueError, "batch_size=0"),
        (lambda: list(generated([1, 2]).padded_batch(1, [1])), ValueError,
         r"padded_shapes=\[1\], and an element of shape \(2,\)"),
        (lambda: NUMBERS.shard(0, 0), ValueError, "num_shards=0"),
        (lambda: list(NUMBERS.interleave(lambda n: 3)), TypeError, "type int"),
        (lambda: NUMBERS.shuffle(0), ValueError, "buffer_size=0"),
        (lambda: NUMBERS.skip(-1), ValueError, "count=-1"),
        (lambda: NUMBERS.window(0), ValueError, "Received: size=0"),
        (lambda: NUMBERS.window(2, -1), ValueError, "Received: shift=-1"),
        (lambda: NUMBERS.window(2, stride=0), ValueError, "stride=0"),
        (lambda: Dataset.zip(), ValueError, "Give at least one"),
        (lambda: Dataset.zip([NUMBERS]), TypeError, "`zip` puts datasets"),
        (lambda: NUMBERS.concatenate([1]), TypeError, "of type list"),
        (lambda: list(NUMBERS.flat_map(lambda x: 3)), TypeError, "of type int"),
        (lambda: Dataset.from_generator([1]), TypeError, r"generator=\[1\]"),
        (lambda: Dataset.from_tensor_slices([[1, 2], [3]]), ValueError,
         r"Received: \[\[1, 2\], \[3\]\]. Pad them"),
        (lambda: Dataset.from_tensor_slices(3.0), ValueError, "from_tensors"),
        (lambda: Dataset.from_tensor_slices(()), ValueError, "from_tensors"),
        (lambda: list(generated([1], [2, 3]).batch(2)), ValueError,
         r"shapes \[\(1,\), \(2,\)\]. Use `padded_batch`"),
        (NUMBERS.get_single_element, ValueError, "Received: more"),
        (NUMBERS.skip(9).get_single_element, ValueError, "Received: none"),
        (lambda: len(generated(1)), TypeError, "Count its elements"),
    ],
)  # fmt: skip
def test_what_makes_no_dataset_is_an_error(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_generator_without_types_keeps_those_of_its_elements():
    assert listed(generated(1, 2.5)) == [1, 2.5]
    assert [e.dtype for e in generated(1, 2.5)] == ["int32", "float32"]


def test_no_rows_are_no_batches():
    assert listed(Dataset.from_tensor_slices(X[:0]).batch(2)) == []


def test_a_map_draws_anew_for_each_element():
    noise = keras.random.SeedGenerator(0)
    layer = keras.layers.Dropout(0.5, seed=1)

    def augmented(x):
        return x + keras.random.normal((), seed=noise), layer(
            keras.ops.ones(64), training=True
        )

    pairs = Dataset.from_tensor_slices(np.zeros(4, "float32")).map(augmented)
    seen = [*pairs, *pairs]
    assert len({float(x) for x, _ in seen}) == 8
    assert len({np.asarray(y).tobytes() for _, y in seen}) == 8


def test_a_map_reads_variables_as_they_are():
    factor = keras.Variable(2.0)
    rows = Dataset.from_tensor_slices(np.ones(2, "float32"))
    scaled = rows.map(lambda x: x * factor)
    assert [float(x) for x in scaled] == [2.0, 2.0]
    factor.assign(3.0)
    assert [float(x) for x in scaled] == [3.0, 3.0]
