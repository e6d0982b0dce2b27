"""Layers that are declared in `call`: found again at each call, by name."""
