"""What callbacks wrote, which a script may read again by an old name."""

import re

from keras_jax_ext.port.script import Script

import libcst as cst

# What looks for files by a pattern, and endings that are no longer written.
_LISTING = ("glob", "iglob", ".endswith", "fnmatch", "fnmatch.filter")
_ENDED = re.compile(r"\.(hdf5|ckpt)\b[\"']")


def check_listed(script: Script, node: cst.Call) -> None:
    """Refuse to look for checkpoints by an ending that they had."""
    if "ModelCheckpoint" not in script.text or not (
        script.code(node.func).endswith(_LISTING)
    ):
        return
    if any(_ENDED.search(script.code(arg.value)) for arg in node.args):
        script.todo(
            node,
            "files of `ModelCheckpoint` may have another ending",
            "look for the ending that is written now",
        )


def check_column(script: Script, node: cst.Subscript) -> None:
    """Refuse to read `"lr"` of a table, where `CSVLogger` writes one."""
    if "CSVLogger" in script.text:
        script.todo(
            node,
            '`"lr"` may be a column of `CSVLogger`, `"learning_rate"` now',
            "write that name, or another for what is no such column",
        )
