"""One step made many: a loop in one XLA program, over data on the device.

JAX only. A step is `step(state, batch) -> (outputs, state)`.
"""

import functools
from typing import Any

from keras_jax_ext._loop.batches import Rows
from keras_jax_ext._xla import cpu
from keras_jax_ext._xla.faults import calls_python, checks_values

import jax
from jax import lax

# Steps whose outputs one execution keeps, and their bytes, at most.
CAPACITY = 64
CAPACITY_BYTES = 256 * 2**20
# Steps that are worth to compile again, for the length of the data alone.
LONG = 10_000


def zeros_like(shapes):
    """Arrays of the given shapes, to be overwritten by the first step."""
    return jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), shapes)


def like(tree, reference):
    """`tree`'s leaves in the structure and types of `reference`."""
    leaves, expected = jax.tree.leaves(tree), jax.tree.leaves(reference)
    if len(leaves) != len(expected):
        raise ValueError(
            "A step must return as many state arrays as it receives. "
            f"Received: {len(leaves)} arrays for {len(expected)}. Return "
            "every variable of the state, changed or not."
        )
    cast = [a.astype(b.dtype) for a, b in zip(leaves, expected, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(reference), cast)


def keep_last(_, outputs, index):
    """Keep the outputs of the last step only."""
    del index
    return outputs


def keep_all(kept, outputs, index):
    """Keep the outputs of every step, in one array."""
    return jax.tree.map(
        lambda a, b: lax.dynamic_update_index_in_dim(a, b, index, 0),
        kept,
        outputs,
    )


def jitted(step):
    """A step that is traced once, for its shapes and for the loop.

    It is a function of its own: JAX takes equal ones for the same, and a
    model's method is equal to itself as it was before another `compile`.
    """

    @functools.partial(jax.jit, inline=True)
    def own(state, batch):
        return step(state, batch)

    return own


def fuse(step, place):
    """Build `run(state, data, start, count, rest, capacity)`.

    The number of steps is an argument of the program, not a constant of it,
    so that one program serves any number.

    Args:
        step: What `jitted` returned.
        place: Function of a batch, applied before the step: constrains it to
            the devices that share it.

    Returns:
        Function returning `(outputs, outputs of the rest, state)`. With
        `capacity=None`, `outputs` are the last step's; with an integer they
        are every step's, on a new first axis of that length.
    """
    inner = step
    if jax.default_backend() == "cpu":
        inner = cpu.rewritten(step)

    def shapes(state, batch):
        return jax.eval_shape(step, state, batch)[0]

    def run(state, data, start, count, rest, capacity):
        def read(i):
            return place(data.batch(start + i))

        outputs = shapes(state, jax.eval_shape(read, 0))
        if capacity is not None:
            outputs = jax.tree.map(
                lambda s: s.update(shape=(capacity, *s.shape)), outputs
            )
        keep = keep_last if capacity is None else keep_all

        def one(i, batch, carry):
            kept, state = carry
            outputs, new_state = inner(state, batch)
            return keep(kept, outputs, i), like(new_state, state)

        def loop(read, count, carry):
            return lax.fori_loop(
                0, count, lambda i, carry: one(i, read(i), carry), carry
            )

        def from_block(b, carry):
            first = b * data.width
            block = data.block(start + first)
            steps = jax.numpy.minimum(data.width, count - first)
            return loop(lambda i: place(block.batch(i)), steps, carry)

        carry = zeros_like(outputs), state
        if isinstance(data, Rows) and data.width > 1:
            # Of large arrays XLA gathers rows on several threads, which takes
            # longer than a small step: gather for several steps at once.
            blocks = -(-count // data.width)
            kept, state = lax.fori_loop(0, blocks, from_block, carry)
        else:
            kept, state = loop(read, count, carry)
        batch = data.rest(start + count)
        if batch is None:
            return kept, None, state
        batch = place(batch)

        def end(state):
            outputs, new_state = inner(state, batch)
            return outputs, like(new_state, state)

        def skip(state):
            return zeros_like(shapes(state, batch)), state

        return kept, *lax.cond(rest, end, skip, state)

    return run


class Program:
    """A fused step, compiled for each kind of data that it meets.

    State buffers are donated, so that no second copy of the weights exists;
    except by a program that calls Python, whose failure at run time would
    otherwise leave nothing to return to.

    Args:
        step: Function, `step(state, batch) -> (outputs, state)`.
        place: Function of a batch; see `fuse`.
        shardings: Structure of the state's shardings, or `None`.
        keeps: Boolean, whether the outputs of every step are returned, on a
            new first axis, and not the last step's alone.
    """

    def __init__(self, step, *, place, shardings=None, keeps=False):
        self._step = jitted(step)
        self._run = fuse(self._step, place)
        options: dict[str, Any] = {"static_argnums": 5}
        if shardings is not None:
            options["out_shardings"] = (None, None, shardings)
        elif jax.default_backend() == "cpu":
            options["compiler_options"] = cpu.compiler_options()
        self._keeping = jax.jit(self._run, **options)
        self._donating = jax.jit(self._run, donate_argnums=0, **options)
        self._calls_python: bool | None = None
        self._capacities: dict[Any, int] | None = {} if keeps else None
        self._lengths: dict[Any, set[Any]] = {}

    def takes(self, batch, length, steps):
        """Whether data of a length are worth a program of their own.

        Args:
            batch: Hashable, what the shapes of batches are.
            length: Hashable, what the program depends on beside.
            steps: Integer, how many are to be run.
        """
        met = self._lengths.setdefault(batch, set())
        if met and length not in met and steps < LONG:
            return False
        met.add(length)
        return True

    @property
    def can_fail(self):
        """Whether an execution may raise after it began."""
        # The debug modes run a failed program again, from its arguments.
        return self._calls_python or checks_values()

    def capacity(self, state, piece):
        """The most steps of a piece that one call takes, `None` for all.

        Args:
            state: Structure of arrays.
            piece: `Piece`.
        """
        if self._capacities is None:
            return None
        key = tuple(a.shape for a in jax.tree.leaves(piece.data))
        if key not in self._capacities:
            batch = jax.eval_shape(lambda data: data.batch(0), piece.data)
            outputs, _ = jax.eval_shape(self._step, state, batch)
            taken = sum(
                a.size * a.dtype.itemsize for a in jax.tree.leaves(outputs)
            )
            most = CAPACITY_BYTES // max(taken, 1)
            self._capacities[key] = max(1, min(CAPACITY, most, piece.data.most))
        return self._capacities[key]

    def __call__(self, state, piece):
        """Run the steps of a piece.

        Args:
            state: Structure of arrays.
            piece: `Piece`, of `capacity` steps at most.

        Returns:
            `(outputs, outputs of the rest, state)`, see `fuse`.
        """
        data, start, steps, rest = piece
        capacity = self.capacity(state, piece)
        args = (state, data, start, steps - rest, rest, capacity)
        if self._calls_python is None:
            traced = jax.make_jaxpr(self._run, static_argnums=5)(*args)
            self._calls_python = calls_python(traced.jaxpr)
        run = self._keeping if self.can_fail else self._donating
        return run(*args)


class Pace:
    """How long a step takes, learned from executions."""

    def __init__(self):
        self._seconds = float("inf")
        self._most = 1

    def learn(self, steps, seconds):
        """Note that `steps` steps took `seconds`."""
        self._seconds = max(seconds, 1e-9) / steps
        self._most = max(self._most, steps)

    def steps(self, seconds):
        """The number of steps to last about `seconds`."""
        # A lucky measurement must not make the next execution last minutes.
        return max(1, min(int(seconds / self._seconds), 16 * self._most))
