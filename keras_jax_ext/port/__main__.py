"""`python -m keras_jax_ext.port SCRIPT`: see `--help`."""

import sys

try:
    from keras_jax_ext.port.command import main
except ModuleNotFoundError as error:
    if error.name != "libcst":
        raise
    sys.exit(
        "Scripts are read by LibCST. Received: no package `libcst`. Install "
        "it: `pip install libcst`."
    )

if __name__ == "__main__":
    sys.exit(main())
