"""What a model does between `compile` and its `History`."""
