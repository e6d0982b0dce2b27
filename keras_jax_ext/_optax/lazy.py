"""Optax, imported at its first use: importing it takes a third of a second."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optax import GradientTransformation as Transformation
else:
    Transformation = Any


class _Lazy:
    def module(self) -> ModuleType:
        return importlib.import_module("optax")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module(), name)


optax: Any = _Lazy()

__all__ = ["Transformation", "optax"]
