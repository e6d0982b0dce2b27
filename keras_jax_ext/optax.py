"""The namespace of optax, whose transformations can be saved.

Every name is optax's. What its functions return remembers how it was made, so
that a model compiled with it is saved and loaded with its optimizer.

Example:

```python
from keras_jax_ext import optax

optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
```
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optax import *  # noqa: F403 (what an editor completes)


def __getattr__(name: str) -> Any:
    return getattr(_namespace(), name)


def __dir__() -> list[str]:
    return dir(_namespace())


def _namespace():
    from keras_jax_ext._optax.recording import Namespace

    import optax

    return Namespace("optax", optax)
