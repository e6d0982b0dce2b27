"""Arguments, parts of structures and config entries, found by their names."""
