"""One step made many: a loop in one XLA program, over data on the device.

A step is `step(state, batch) -> (outputs, state)`.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from keras_jax_ext._loop import device
from keras_jax_ext._loop.batches import Span
from keras_jax_ext._xla import cpu
from keras_jax_ext._xla.compilation import Compilation, uncollected
from keras_jax_ext._xla.faults import calls_python, checks_values
from keras_jax_ext._xla.options import compiler_options

import jax
from jax import lax

Step = Callable[[Any, Any], tuple[Any, Any]]

# The most bytes of outputs that one execution keeps.
KEPT_BYTES = 256 * 2**20
# A run of this many steps is worth a compilation for its length of data alone.
MANY_STEPS = 10_000


class Keep(NamedTuple):
    """What an execution returns of every step, on a new first axis.

    Attributes:
        of: Function of the outputs of a step and the state after it, which
            only picks some: it is given their shapes too.
        most: Integer, the most steps of an execution.
        has_rows: Boolean, whether the first axis of a step's are rows.
    """

    of: Callable[[Any, Any], Any]
    most: int
    has_rows: bool


class _Kept(NamedTuple):
    """What is kept, and the steps for which the program has room."""

    keep: Keep
    steps: int


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
    """Build `run(state, data, start, count, has_tail, kept)`.

    The number of steps is an argument of the program, not a constant of it,
    so that one program serves any number.

    Args:
        step: The result of `jitted`.
        place: Function of a batch that constrains it to the devices which
            share it, and of the axes before that of its rows. It is applied
            before the step, and to outputs that are kept.

    Returns:
        Function returning `(outputs, outputs of the tail, state)`. With
        `kept=None`, `outputs` are the last step's; with a `_Kept` both are
        what it says of every step, on a new first axis.
    """
    inner = cpu.rewritten(step) if device.is_cpu() else step

    def run(state, data, start, count, has_tail, kept):
        def read(i):
            return place(data.batch(start + i))

        def taken(outputs, state):
            return outputs if kept is None else kept.keep.of(outputs, state)

        def shapes(state, batch):
            return taken(*jax.eval_shape(step, state, batch))

        outputs = shapes(state, jax.eval_shape(read, 0))
        if kept is not None:
            outputs = jax.tree.map(
                lambda s: jax.ShapeDtypeStruct((kept.steps, *s.shape), s.dtype),
                outputs,
            )
        note = _keep_last if kept is None else _keep_all

        def one(i, batch, carry):
            noted, state = carry
            outputs, new_state = inner(state, batch)
            noted = note(noted, taken(outputs, new_state), i)
            return noted, _like(new_state, state)

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
            noted, state = lax.fori_loop(0, blocks, from_block, carry)
        else:
            noted, state = loop(read, count, carry)
        has_rows = kept is not None and kept.keep.has_rows
        if has_rows:
            noted = place(noted, 1)
        batch = data.tail(start + count)
        if batch is None:
            return noted, None, state
        batch = place(batch)

        def last(state):
            outputs, new_state = inner(state, batch)
            return taken(outputs, new_state), _like(new_state, state)

        def skip(state):
            return _zeros_like(shapes(state, batch)), state

        of_tail, state = lax.cond(has_tail, last, skip, state)
        if kept is not None:
            of_tail = jax.tree.map(lambda a: a[None], of_tail)
        if has_rows:
            of_tail = place(of_tail, 1)
        return noted, of_tail, state

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
        can_lose: Boolean, whether it may fail because another process does.
    """

    def __init__(
        self,
        step: Step,
        *,
        place: Callable[..., Any],
        shardings: Any = None,
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
        self._compiling: list[Compilation] = []
        self._room: dict[Any, int] = {}
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

    def room(self, state: Any, span: Span, keep: Keep | None) -> int | None:
        """The most steps of a span that one call takes, `None` for all.

        Args:
            state: Structure of arrays.
            span: `Span`.
            keep: `Keep`; `None` for the outputs of the last step alone.
        """
        if keep is None:
            return None
        key = keep, tuple(a.shape for a in jax.tree.leaves(span.data))
        if key not in self._room:
            batch = jax.eval_shape(lambda data: data.batch(0), span.data)
            with uncollected():
                outputs, after = jax.eval_shape(self._step, state, batch)
            leaves = jax.tree.leaves(keep.of(outputs, after))
            size = sum(a.size * a.dtype.itemsize for a in leaves)
            most = min(keep.most, KEPT_BYTES // max(size, 1))
            self._room[key] = max(1, min(most, span.data.capacity))
        return self._room[key]

    @uncollected()
    def __call__(
        self, state: Any, span: Span, keep: Keep | None = None
    ) -> tuple[Any, Any, Any]:
        """Run the steps of a span.

        Args:
            state: Structure of arrays.
            span: `Span`, of at most `room` steps.
            keep: `Keep`; `None` for the outputs of the last step alone.
                Defaults to `None`.

        Returns:
            `(outputs, outputs of the tail, state)`, see `fuse`.
        """
        run, args = self._prepared(state, span, keep)
        return run(*args)

    @property
    def is_new(self) -> bool:
        """Whether nothing was traced for it yet."""
        return self._calls_python is None

    @uncollected()
    def trace(self, state: Any, span: Span, keep: Keep | None = None) -> Any:
        """Trace what a call with such arguments runs.

        Args:
            state: Structure of arrays.
            span: `Span`, of at most `room` steps.
            keep: As in a call. Defaults to `None`.

        Returns:
            `jax.stages.Traced`, for `begin`.
        """
        run, args = self._prepared(state, span, keep)
        return run.trace(*args)

    @uncollected()
    def begin(self, traced: Any) -> None:
        """Begin to compile in a thread what was traced: a call waits for it.

        Args:
            traced: From `trace`.
        """
        self._compiling.append(Compilation(traced.lower()))

    def wait(self) -> None:
        """Wait until all that was begun is compiled, or for a Ctrl-C."""
        while self._compiling:
            self._compiling[-1].wait()
            self._compiling.pop()

    def _prepared(self, state, span, keep):
        """The function that runs a span, and its arguments."""
        data, start, steps, tail = span
        room = self.room(state, span, keep)
        kept = _Kept(keep, room) if keep and room else None
        args = (state, data, start, steps - tail, tail, kept)
        if self._calls_python is None:
            traced = self._donating.trace(*args)
            self._calls_python = calls_python(traced.jaxpr.jaxpr)
        return self._keeping if self.can_fail else self._donating, args
