"""A stream reads what is wanted, on the thread that wants it."""

import threading
import time

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext._loop.batches import Single, Stacked
from keras_jax_ext._loop.stream import STREAM_BATCHES, Stream

import numpy as np
import pytest


def batches(count, size=4):
    """Batches of rows that hold the number of their batch."""
    for i in range(count):
        yield (np.full((size, 2), i, "float32"), None)


def read(stream, limit=100, steps=None):
    """The numbers of the batches of all spans, and the spans."""
    stream.allow(steps)
    numbers, spans = [], []
    while True:
        try:
            span = stream.take(limit)
        except StopIteration:
            return numbers, spans
        spans.append(span)
        for i in range(span.start, span.start + span.steps):
            numbers.append(int(span.data.batch(i)[0][0, 0]))


@pytest.mark.parametrize("count", [1, STREAM_BATCHES, 2 * STREAM_BATCHES + 3])
@pytest.mark.parametrize("limit", [1, 5, 100])
def test_every_batch_is_handed_out_once_and_in_order(count, limit):
    stream = Stream(batches(count))
    numbers, spans = read(stream, limit)
    assert numbers == list(range(count))
    assert max(span.steps for span in spans) <= limit


def test_a_source_may_fill_the_same_array_again():
    def source():
        rows = np.empty((4, 2), "float32")
        for i in range(3 * STREAM_BATCHES):
            rows[:] = i
            yield (rows,)

    stream = Stream(source())
    assert read(stream)[0] == list(range(3 * STREAM_BATCHES))


def test_batches_that_come_soon_come_together():
    _, spans = read(Stream(batches(40)))
    assert all(isinstance(span.data, Stacked) for span in spans)
    assert sum(span.steps for span in spans) == 40
    assert max(span.steps for span in spans) == STREAM_BATCHES


def test_slow_and_fast_batches_have_one_shape():
    def source():
        for i, batch in enumerate(batches(6)):
            if i < 2:
                time.sleep(0.02)
            yield batch

    _, spans = read(Stream(source()))
    assert spans[0].steps == 1
    assert {span.data.arrays[0].shape for span in spans} == {
        (STREAM_BATCHES, 4, 2)
    }


def test_a_batch_of_another_shape_begins_another_span():
    source = [*batches(3), *batches(2, size=5), *batches(2)]
    _, spans = read(Stream(source))
    shapes = [
        span.data.batch(span.start)[0].shape[0]
        for span in spans
        for _ in range(span.steps)
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
    assert len(drawn) == 7
    assert read(stream, steps=20)[0] == list(range(7, 27))
    assert len(drawn) == 27


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_is_read_than_is_taken(limit):
    drawn = []

    def source():
        for batch in batches(100):
            drawn.append(threading.current_thread())
            yield batch

    stream, taken = Stream(source(), most=limit), 0
    stream.allow(None)
    for _ in range(5):
        taken += stream.take(limit).steps
        assert len(drawn) == taken
    assert set(drawn) == {threading.current_thread()}


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


def test_a_batch_that_cannot_be_stacked_goes_alone():
    sparse = pytest.importorskip("jax.experimental.sparse")
    matrix = sparse.BCOO.fromdense(np.eye(3, dtype="float32"))
    stream = Stream([(matrix,)] * 2)
    stream.allow(2)
    for _ in range(2):
        span = stream.take(9)
        assert isinstance(span.data, Single)
        assert span.steps == 1


def test_what_goes_alone_is_copied_too():
    sparse = pytest.importorskip("scipy.sparse")
    bcoo = pytest.importorskip("jax.experimental.sparse")
    matrix = sparse.coo_matrix(np.eye(3, dtype="float32"))

    def source():
        y = np.empty((3, 1), "float32")
        for i in range(4):
            matrix.data[:] = y[:] = i
            yield matrix, y

    # As Keras converts them.
    from_scipy = bcoo.BCOO.from_scipy_sparse
    stream = Stream((from_scipy(x), y) for x, y in source())
    stream.allow(4)
    seen = [stream.take(1).data.batch(0) for _ in range(4)]
    assert [float(y[0, 0]) for _, y in seen] == [0, 1, 2, 3]
    assert [float(x.todense()[0, 0]) for x, _ in seen] == [0, 1, 2, 3]
