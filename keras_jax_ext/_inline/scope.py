"""Which `call` is running: a stack of frames, and what enters it."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from keras_jax_ext import _keras
from keras_jax_ext._inline.arguments import DeclarationError
from keras_jax_ext._inline.declarations import declarations
from keras_jax_ext._inline.frame import Frame, late_error, user_line

import keras

Made = TypeVar("Made", bound=type)


class _Threads(threading.local):
    """The running calls of one thread, innermost last."""

    # Each thread that asks runs it, also one that never imported us.
    def __init__(self):
        self.frames: list[Frame | None] = []
        self.build: Any = None


_thread = _Threads()


def current_build() -> Any:
    """The build that is going on in this thread, or `None`."""
    return _thread.build


@contextlib.contextmanager
def building(build: Any) -> Iterator[None]:
    """Within the block, layers that are first used join `build`."""
    _thread.build = build
    try:
        yield
    finally:
        _thread.build = None


def current() -> Frame | None:
    """The frame that a constructor called now belongs to, or `None`."""
    frame = _thread.frames[-1] if _thread.frames else None
    if frame is None:
        return None
    running = _keras.running_layer()
    if running is frame.running or running is frame.owner:
        return frame
    if running is None or not running.built:
        return None  # within the `build` of another layer
    raise DeclarationError(
        f"Layers are declared inline in the `call` of a keras_jax_ext layer or "
        f"model, and {running.name!r} is a stock layer. Received: "
        f"{type(running).__name__} at {user_line()}. Derive it from "
        "keras_jax_ext.Layer, or make its sublayers in `__init__`."
    )


def assigned(owner: keras.Layer, attribute: str, value: Any) -> bool:
    """Note the children that their owner's `call` assigns to an attribute.

    A single child gets the attribute as its name. The children are tracked
    after the build, in order of execution.

    Returns:
        Whether `value` is or holds such children, so that Keras must not
        track it now.
    """
    frame = _thread.frames[-1] if _thread.frames else None
    if frame is None or frame.owner is not owner:
        return False
    children = {id(c.layer): c for c in frame.declared.children.values()}
    held = [c for v in keras.tree.flatten(value) if (c := children.get(id(v)))]
    if not held:
        return False
    if not frame.building:
        return vars(owner).get(attribute) is value
    if isinstance(value, keras.Layer):
        held[0].name_by(attribute)
    else:
        frame.declared.structures[attribute] = value
    return True


def seed_generator(owner: keras.Layer) -> keras.random.SeedGenerator:
    """The generator behind the random keys of `owner`, made at first use."""
    declared = declarations(owner)
    if declared.rng is None:
        frame = current()
        if frame is not None and frame.owner is owner and not frame.building:
            raise late_error(owner, "A random key", f"Received: {user_line()}")
        generator = keras.random.SeedGenerator(name="rng")
        owner._inline_rng = declared.rng = generator
    return declared.rng


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Within the block, constructors act as they do outside of a `call`.

    A layer that is constructed may so make sublayers of its own.
    """
    _thread.frames.append(None)
    try:
        yield
    finally:
        _thread.frames.pop()


def declare(
    cls: type,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    construct: Callable[..., Any],
) -> Any:
    """Find `cls(*args, **kwargs)` by its name in a `call`, else construct it.

    Args:
        cls: The class.
        args: Positional arguments of its constructor.
        kwargs: Keyword arguments of its constructor.
        construct: What makes an instance from these.
    """
    _keras.check_fresh(f"The class {cls.__name__}")
    frame = current()
    if frame is None:
        return construct(*args, **kwargs)

    def plainly(*args, **kwargs):
        with suspended():
            return construct(*args, **kwargs)

    return frame.child(cls, args, kwargs, plainly)


def scoped(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a user-written `call` so that it runs in a frame of its own."""

    def scoped_call(self, *args, **kwargs):
        top = _thread.frames[-1] if _thread.frames else None
        if top is not None and top.owner is self and call not in top.functions:
            top.functions.append(call)  # super().call(): the same frame
            try:
                return call(self, *args, **kwargs)
            finally:
                top.functions.pop()
        if _thread.build is None:
            self._declare_before(args, kwargs)
        frame = Frame(self, call, scoped_call.__code__, _thread.build)
        if frame.building:
            _thread.build.add(self)
            _keras.unlock(self)
        _thread.frames.append(frame)
        try:
            outputs = call(self, *args, **kwargs)
        finally:
            _thread.frames.pop()
        frame.close()
        return outputs

    return functools.wraps(call)(scoped_call)


class InlineClass:
    """A layer class whose constructor finds its layer, when used in a `call`.

    It can be used like the class in three more places: as a base class, in
    `isinstance`, and to read class attributes.
    """

    def __init__(self, cls: type) -> None:
        self.__wrapped__ = cls
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        cls = self.__wrapped__
        return declare(cls, args, kwargs, cls)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        return (self.__wrapped__,)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self.__wrapped__)

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self.__wrapped__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __eq__(self, other: object) -> bool:
        return self.__wrapped__ is getattr(other, "__wrapped__", other)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return inline, (self.__wrapped__,)

    def __repr__(self) -> str:
        return f"<inline {self.__module__}.{self.__qualname__}>"


def inline(cls: Made) -> Made:
    """Make any layer class declarable inline, in the `call` of a model.

    Use it for layers, your own or another package's, that derive from stock
    Keras. Subclasses of `keras_jax_ext.Layer` and the names in
    `keras_jax_ext.layers` need no help.

    Example:

    ```python
    Scale = kje.inline(ThirdPartyScale)

    class Net(kje.Model):
        def call(self, x):
            return Scale(factor=2.0)(x)
    ```

    Args:
        cls: Class, a subclass of `keras.Layer`.

    Returns:
        A callable that constructs `cls` outside of a `call`; within one it
        makes the layer once and finds it by its name ever after. It can be
        subclassed and used in `isinstance` like the class.

    Raises:
        TypeError: If `cls` is not a subclass of `keras.Layer`.
    """
    if isinstance(cls, InlineClass):
        return cls
    if not (isinstance(cls, type) and issubclass(cls, keras.Layer)):
        raise TypeError(
            "`keras_jax_ext.inline` takes a subclass of keras.Layer. "
            f"Received: cls={cls!r} (of type {type(cls).__name__})."
        )
    return _inline_class(cls)


# One object for a class, so that subclasses and comparisons meet it again.
_inline_class: Any = functools.cache(InlineClass)
