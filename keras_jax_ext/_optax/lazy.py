"""Optax, imported when it is first used: it takes a third of a second."""

import importlib
from typing import Any


class _Lazy:
    def __getattr__(self, name):
        return getattr(importlib.import_module("optax"), name)


optax: Any = _Lazy()
