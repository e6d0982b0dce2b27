"""Functions of a benchmark that run in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def start(module, *arguments):
    """Start a process that calls `module.measure(*arguments)`."""
    paths = [str(FOLDER), str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    code = f"import {module}; {module}.measure(*{arguments!r})"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
    )


def found(*processes):
    """The lines that each of some processes prints, when all have ended."""
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"a process failed:\n{''.join(outputs)}")
    return [output.splitlines() for output in outputs]


def measured(module, *arguments):
    """What `module.measure(*arguments)` prints last in a process, as JSON."""
    (lines,) = found(start(module, *arguments))
    return json.loads(lines[-1])
