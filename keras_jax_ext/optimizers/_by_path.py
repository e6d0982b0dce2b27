"""Labels and masks for optax by the paths of a model's variables."""

import difflib
import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from keras_jax_ext._optax.lazy import optax

import jax
import keras


def _is_masked(node):
    return isinstance(node, optax.MaskedNode)


class _ByPath:
    """A function from a tree of parameters to a tree of labels, by path."""

    def __init__(self, patterns: Mapping[str, Any], default: Any) -> None:
        if not patterns or not all(isinstance(p, str) for p in patterns):
            raise ValueError(
                "Patterns of paths must be strings such as `'*/kernel'`. "
                f"Received: {patterns!r} (of type {type(patterns)})."
            )
        self.patterns = dict(patterns)
        self.default = default

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_ByPath":
        return cls(**config)

    def __bool__(self):
        # Else `optax.selective_transform` would take this object for `True`,
        # and freeze everything.
        raise TypeError(
            "Labels and masks by path are functions of the parameters, not "
            f"truth values. Received: {self.patterns}. Use "
            "`optax.partition` or `optax.masked`, which call them."
        )

    def __call__(self, params: Any) -> Any:
        tree: Any
        found, tree = jax.tree_util.tree_flatten_with_path(
            params, is_leaf=_is_masked
        )
        paths = ["/".join(str(key.key) for key in keys) for keys, _ in found]
        self._check(paths)
        leaves = [
            leaf if _is_masked(leaf) else self._label(path)
            for path, (_, leaf) in zip(paths, found, strict=True)
        ]
        return tree.unflatten(leaves)

    def _label(self, path):
        for pattern, value in self.patterns.items():
            if fnmatch.fnmatchcase(path, pattern):
                return value
        if self.default is None:
            raise ValueError(
                "Every variable needs a label. Received: no pattern for "
                f"path={path!r} among {list(self.patterns)}. Give a `default`."
            )
        return self.default

    def _check(self, paths):
        for pattern in self.patterns:
            if not fnmatch.filter(paths, pattern):
                raise unmatched(pattern, paths)


def unmatched(
    pattern: str, paths: Sequence[str], what: str = "trainable variable"
) -> ValueError:
    """The error for a pattern that matches no path.

    Args:
        pattern: The pattern.
        paths: The paths that there are.
        what: What has these paths.
    """
    near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0)
    return ValueError(
        f"A pattern must match the path of a {what}. "
        f"Received: pattern={pattern!r}. Did you mean one of {near}?"
    )


@keras.saving.register_keras_serializable("keras_jax_ext")
class _Labels(_ByPath):
    def get_config(self):
        return {"patterns": self.patterns, "default": self.default}


@keras.saving.register_keras_serializable("keras_jax_ext")
class _Mask(_ByPath):
    def __init__(self, patterns: Collection[str]) -> None:
        super().__init__(dict.fromkeys(patterns, True), default=False)

    def get_config(self):
        return {"patterns": list(self.patterns)}


def label_by_path(
    labels: Mapping[str, Any], *, default: Any = None
) -> Callable[[Any], Any]:
    """Make labels for `optax.partition` from paths of variables.

    Example:

    ```python
    labels = optimizers.label_by_path({"*/kernel": "decay"}, default="plain")
    optax.partition(
        {"decay": optax.adamw(1e-3), "plain": optax.adam(1e-3)}, labels
    )
    ```

    Args:
        labels: Dict from a pattern to a label. A pattern is a path such as
            `"dense/kernel"`, in which `*` stands for any text, `/` included.
            The first pattern that matches counts.
        default: Label of the other variables. Defaults to `None`: a variable
            without a pattern is an error.

    Returns:
        A function from a tree of parameters to a tree of labels.

    Raises:
        ValueError: When it is called, if a pattern matches nothing.
    """
    return _Labels(labels, default)


def mask_by_path(*patterns: str) -> Callable[[Any], Any]:
    """Make a mask for `optax.masked` or `mask=` from paths of variables.

    Example:

    ```python
    optax.adamw(1e-3, mask=optimizers.mask_by_path("*/kernel"))
    ```

    Args:
        *patterns: Strings, as for `label_by_path`.

    Returns:
        A function from a tree of parameters to a tree of booleans, `True`
        where a pattern matches.

    Raises:
        ValueError: When it is called, if a pattern matches nothing.
    """
    return _Mask(patterns)
