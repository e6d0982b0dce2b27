"""Optax, imported when it is first used: it takes a third of a second."""

import importlib
from typing import Any


class _Lazy:
    def module(self):
        return importlib.import_module("optax")

    def __getattr__(self, name):
        return getattr(self.module(), name)


optax: Any = _Lazy()
