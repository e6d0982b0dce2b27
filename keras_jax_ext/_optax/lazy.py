"""Optax, imported at its first use: importing it takes a third of a second."""

import importlib
from types import ModuleType
from typing import Any


class _Lazy:
    def module(self) -> ModuleType:
        return importlib.import_module("optax")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module(), name)


optax: Any = _Lazy()
