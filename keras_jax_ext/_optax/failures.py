"""Errors of a transformation that fails on the variables of a model."""

from typing import Any

import jax
import jax.numpy as jnp


def init_failed(cause: Exception, params: Any) -> ValueError:
    """Return the error for an `init` that raised."""
    return ValueError(
        "`init` of the optax transformation failed on the variables of this "
        f"model ({cause}). Received: {_types(params)}. Masks and labels must "
        "fit this tree: make them with `kje.optimizers.mask_by_path` and "
        "`label_by_path`."
    )


def update_failed(cause: Exception, params: Any) -> ValueError:
    """Return the error for an `update` that raised."""
    return ValueError(
        "`update` of the optax transformation failed on gradients of this "
        f"model ({cause}). Received: gradients={_types(params)}."
    )


def check_kept(before: tuple[Any, Any], after: tuple[Any, Any]) -> None:
    """Raise if what an update returned cannot replace what was there.

    Args:
        before: Trees of the parameters and the state.
        after: The same, from the update.
    """
    names = "parameters", "state"
    for what, old, new in zip(names, before, after, strict=True):
        structure: Any = jax.tree.structure(old)
        pairs = jax.tree.leaves(old), jax.tree.leaves(new)
        if structure != jax.tree.structure(new) or any(map(_differ, *pairs)):
            raise ValueError(
                "`update` of an optax transformation must keep the structure, "
                f"shapes and kinds of its {what}. Received: {_types(new)} "
                f"after {_types(old)}."
            )


def _differ(before, after):
    """Whether `after` cannot be stored where `before` was."""
    before, after = jax.typeof(before), jax.typeof(after)
    would_truncate = jnp.issubdtype(
        before.dtype, jnp.integer
    ) and jnp.issubdtype(after.dtype, jnp.inexact)
    return would_truncate or before.shape != after.shape


def _types(tree):
    """The types of a tree's arrays on one line, shortened for a message."""
    text = str(jax.tree.map(lambda leaf: str(jax.typeof(leaf)), tree))
    return text if len(text) < 500 else f"{text[:500]}..."
