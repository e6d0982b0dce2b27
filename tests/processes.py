"""What tests share that look at processes."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run_script(name, timeout=None):
    """Run a script of this folder in a process of its own.

    Args:
        name: String, its file.
        timeout: Seconds after which it fails. Defaults to `None`: never.

    Returns:
        What it printed.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / name)],
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
