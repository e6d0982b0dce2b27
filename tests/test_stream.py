"""A stream reads ahead, no further than it may, and ends with its reader."""

import time

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext._pieces import Single, Stacked
from keras_jax_ext._stream import GROUP, Stream

import numpy as np
import pytest
from processes import reading_threads


def batches(count, size=4):
    """Batches of rows that hold the number of their batch."""
    for i in range(count):
        yield (np.full((size, 2), i, "float32"), None)


def read(stream, limit=100, steps=None):
    """The numbers of the batches of all pieces, and the pieces."""
    stream.allow(steps)
    numbers, pieces = [], []
    while True:
        try:
            piece = stream.take(limit)
        except StopIteration:
            return numbers, pieces
        pieces.append(piece)
        for i in range(piece.start, piece.start + piece.steps):
            numbers.append(int(piece.data.batch(i)[0][0, 0]))


@pytest.mark.parametrize("count", [1, GROUP, 2 * GROUP + 3])
@pytest.mark.parametrize("limit", [1, 5, 100])
def test_every_batch_is_handed_out_once_and_in_order(count, limit):
    stream = Stream(batches(count))
    numbers, pieces = read(stream, limit)
    assert numbers == list(range(count))
    assert max(piece.steps for piece in pieces) <= limit
    stream.close()
    assert reading_threads() == []


def test_a_source_may_fill_the_same_array_again():
    def source():
        rows = np.empty((4, 2), "float32")
        for i in range(3 * GROUP):
            rows[:] = i
            yield (rows,)

    stream = Stream(source())
    assert read(stream)[0] == list(range(3 * GROUP))
    stream.close()


def test_batches_that_are_waiting_come_together():
    stream = Stream(batches(40))
    stream.allow(40)
    first = stream.take(100)
    time.sleep(0.2)
    second = stream.take(100)
    assert isinstance(second.data, Stacked)
    assert second.steps == GROUP
    assert first.steps + second.steps > GROUP
    stream.close()


def test_a_batch_of_another_shape_begins_another_piece():
    source = [*batches(3), *batches(2, size=5), *batches(2)]
    _, pieces = read(Stream(source))
    shapes = [
        piece.data.batch(piece.start)[0].shape[0]
        for piece in pieces
        for _ in range(piece.steps)
    ]
    assert shapes == [4, 4, 4, 5, 5, 4, 4]


def test_no_more_is_read_than_allowed():
    drawn = []

    def source():
        for batch in batches(100):
            drawn.append(batch)
            yield batch

    stream = Stream(source())
    assert read(stream, steps=7)[0] == list(range(7))
    time.sleep(0.1)
    assert len(drawn) == 7
    assert read(stream, steps=20)[0] == list(range(7, 27))
    assert len(drawn) == 27
    stream.close()


def test_what_waits_for_the_reader_is_bounded():
    drawn = []

    def source():
        for batch in batches(1000):
            drawn.append(batch)
            yield batch

    stream = Stream(source())
    stream.allow(None)
    taken = stream.take(1).steps
    time.sleep(0.3)
    # Two super-batches wait, one is made, and the rest of the first is left.
    assert len(drawn) <= taken + 4 * GROUP
    stream.close()
    assert reading_threads() == []


def test_an_error_of_the_source_comes_after_the_batches_before_it():
    def source():
        yield from batches(3)
        raise OSError("disk")

    stream = Stream(source())
    stream.allow(None)
    steps = 0
    while steps < 3:
        steps += stream.take(100).steps
    with pytest.raises(OSError, match="disk") as caught:
        stream.take(100)
    assert caught.traceback[-1].name == "source"
    stream.close()


def test_a_batch_that_cannot_be_stacked_goes_alone():
    sparse = pytest.importorskip("jax.experimental.sparse")
    matrix = sparse.BCOO.fromdense(np.eye(3, dtype="float32"))
    stream = Stream([(matrix,)] * 2)
    stream.allow(2)
    for _ in range(2):
        piece = stream.take(9)
        assert isinstance(piece.data, Single)
        assert piece.steps == 1
    stream.close()


def test_close_ends_a_thread_that_waits_for_leave():
    stream = Stream(batches(9))
    stream.allow(2)
    stream.take(9)
    assert reading_threads()
    stream.close()
    assert reading_threads() == []
