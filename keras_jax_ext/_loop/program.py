"""One step made many: a loop in one XLA program, over data on the device.

A step is `step(state, batch) -> (outputs, state)`.
"""

from collections.abc import Callable, Hashable
from typing import Any

from keras_jax_ext._loop import device
from keras_jax_ext._loop.batches import Span
from keras_jax_ext._xla import cpu
from keras_jax_ext._xla.faults import calls_python, checks_values
from keras_jax_ext._xla.options import compiler_options

import jax
from jax import lax

Step = Callable[[Any, Any], tuple[Any, Any]]

# The most steps whose outputs one execution keeps, and their bytes.
KEPT_STEPS, KEPT_BYTES = 64, 256 * 2**20
# A run of this many steps is worth a compilation for its length of data alone.
MANY_STEPS = 10_000


def _zeros_like(shapes):
    """Arrays of the given shapes, which the first step overwrites."""
    return jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), shapes)


def _like(tree, reference):
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


def _keep_last(_, outputs, index):
    """Keep the outputs of the last step only."""
    del index
    return outputs


def _keep_all(kept, outputs, index):
    """Keep the outputs of every step, in one array."""
    return jax.tree.map(
        lambda a, b: lax.dynamic_update_index_in_dim(a, b, index, 0),
        kept,
        outputs,
    )


def jitted(step: Step) -> Step:
    """Wrap a step so that its shapes and the loop share one trace.

    JAX caches traces by the equality of functions, and a bound method is equal
    to itself across calls of `compile`: without a new function each time, JAX
    would use the old trace.

    Args:
        step: Function.

    Returns:
        A function of the same arguments.
    """

    @jax.jit
    def own(state, batch):
        return step(state, batch)

    return own


def fuse(step: Step, place: Callable[..., Any]) -> Callable[..., Any]:
    """Build `run(state, data, start, count, has_tail, kept_steps)`.

    The number of steps is an argument of the program, not a constant of it,
    so that one program serves any number.

    Args:
        step: The result of `jitted`.
        place: Function of a batch that constrains it to the devices which
            share it, and of the axes before that of its rows. It is applied
            before the step, and to outputs that are kept.

    Returns:
        Function returning `(outputs, outputs of the tail, state)`. With
        `kept_steps=None`, `outputs` are the last step's; with an integer they
        are every step's, on a new first axis of that length.
    """
    inner = cpu.rewritten(step) if device.is_cpu() else step

    def shapes(state, batch):
        return jax.eval_shape(step, state, batch)[0]

    def run(state, data, start, count, has_tail, kept_steps):
        def read(i):
            return place(data.batch(start + i))

        outputs = shapes(state, jax.eval_shape(read, 0))
        if kept_steps is not None:
            outputs = jax.tree.map(
                lambda s: s.update(shape=(kept_steps, *s.shape)), outputs
            )
        keep = _keep_last if kept_steps is None else _keep_all

        def one(i, batch, carry):
            kept, state = carry
            outputs, new_state = inner(state, batch)
            return keep(kept, outputs, i), _like(new_state, state)

        def loop(read, count, carry):
            return lax.fori_loop(
                0, count, lambda i, carry: one(i, read(i), carry), carry
            )

        def from_block(b, carry):
            first = b * data.width
            block = data.block(start + first)
            steps = jax.numpy.minimum(data.width, count - first)
            return loop(lambda i: place(block.batch(i)), steps, carry)

        carry = _zeros_like(outputs), state
        if data.width > 1:
            # XLA gathers rows of large arrays on several threads, which takes
            # longer than a small step: gather for several steps at once.
            blocks = -(-count // data.width)
            kept, state = lax.fori_loop(0, blocks, from_block, carry)
        else:
            kept, state = loop(read, count, carry)
        if kept_steps is not None:
            kept = place(kept, 1)
        batch = data.tail(start + count)
        if batch is None:
            return kept, None, state
        batch = place(batch)

        def last(state):
            outputs, new_state = inner(state, batch)
            return outputs, _like(new_state, state)

        def skip(state):
            return _zeros_like(shapes(state, batch)), state

        of_tail, state = lax.cond(has_tail, last, skip, state)
        if kept_steps is not None:
            of_tail = place(of_tail)
        return kept, of_tail, state

    return run


class Program:
    """A fused step, compiled for each kind of data that it meets.

    State buffers are donated, so that no second copy of the weights exists.
    A program that calls Python, or waits for other processes, may fail while it
    runs, and would leave no weights to return to: it does not donate.

    Args:
        step: Function, `step(state, batch) -> (outputs, state)`.
        place: Function of a batch; see `fuse`.
        shardings: Structure of the state's shardings, or `None`.
        keeps: Boolean, whether the outputs of every step are returned, on a
            new first axis, or the last step's alone.
        can_lose: Boolean, whether it may fail because another process does.
    """

    def __init__(
        self,
        step: Step,
        *,
        place: Callable[..., Any],
        shardings: Any = None,
        keeps: bool = False,
        can_lose: bool = False,
    ) -> None:
        self._step = jitted(step)
        self._run = fuse(self._step, place)
        options: dict[str, Any] = {"static_argnums": 5}
        if shardings is not None:
            options["out_shardings"] = (None, None, shardings)
        else:
            options["compiler_options"] = compiler_options(device.backend())
        self._keeping = jax.jit(self._run, **options)
        self._donating = jax.jit(self._run, donate_argnums=0, **options)
        self._calls_python: bool | None = None
        self._can_lose = can_lose
        self._kept_steps: dict[Any, int] | None = {} if keeps else None
        self._lengths: dict[Hashable, set[Hashable]] = {}

    def takes(self, batch: Hashable, length: Hashable, steps: int) -> bool:
        """Whether data of a length are worth a program of their own.

        Args:
            batch: Hashable for the shapes of batches.
            length: Hashable for all else that the program depends on.
            steps: Integer, how many are to be run.
        """
        met = self._lengths.setdefault(batch, set())
        if met and length not in met and steps < MANY_STEPS:
            return False
        met.add(length)
        return True

    @property
    def can_fail(self) -> bool:
        """Whether an execution may raise after it began."""
        return self.runs_code or self._can_lose

    @property
    def runs_code(self) -> bool:
        """Whether an execution may call code of the user."""
        # JAX's debug modes run a failed program again, from its arguments.
        return bool(self._calls_python) or checks_values()

    def kept_steps(self, state: Any, span: Span) -> int | None:
        """The most steps of a span that one call takes, `None` for all.

        Args:
            state: Structure of arrays.
            span: `Span`.
        """
        if self._kept_steps is None:
            return None
        key = tuple(a.shape for a in jax.tree.leaves(span.data))
        if key not in self._kept_steps:
            batch = jax.eval_shape(lambda data: data.batch(0), span.data)
            outputs, _ = jax.eval_shape(self._step, state, batch)
            taken = sum(
                a.size * a.dtype.itemsize for a in jax.tree.leaves(outputs)
            )
            most = min(KEPT_STEPS, KEPT_BYTES // max(taken, 1))
            self._kept_steps[key] = max(1, min(most, span.data.capacity))
        return self._kept_steps[key]

    def __call__(self, state: Any, span: Span) -> tuple[Any, Any, Any]:
        """Run the steps of a span.

        Args:
            state: Structure of arrays.
            span: `Span`, of at most `kept_steps` steps.

        Returns:
            `(outputs, outputs of the tail, state)`, see `fuse`.
        """
        data, start, steps, tail = span
        kept = self.kept_steps(state, span)
        args = (state, data, start, steps - tail, tail, kept)
        if self._calls_python is None:
            traced = self._donating.trace(*args)
            self._calls_python = calls_python(traced.jaxpr.jaxpr)
        run = self._keeping if self.can_fail else self._donating
        return run(*args)
