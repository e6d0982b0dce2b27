"""Documents of JSON: the places of their values, and values of other types."""

# Of each type of JSON; a value is replaced by those of other types.
VALUES = (None, True, 7, -1.5, "x", [], {}, ["x"], {"class_name": "Dense"})


def places(tree, path=()):
    """Yield the path of every value of a document, as a tuple of keys."""
    if path:
        yield path
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)
