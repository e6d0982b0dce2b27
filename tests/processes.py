"""What tests share that look at processes."""

import json
import os
import socket
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


class Together:
    """Processes of `together.py` that share a model.

    Args:
        what: String, what they do.
        folder: Path, where they write.
        count: Integer, how many. Defaults to 2.
    """

    def __init__(self, what, folder, count=2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        script = str(HERE / "together.py")
        python = [sys.executable, "-W", "ignore", script]
        self.each = [
            subprocess.Popen(
                [*python, what, str(me), str(count), str(port), str(folder)],
                env=os.environ | {"PYTHONPATH": str(HERE.parent)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for me in range(count)
        ]

    def found(self):
        """What each process printed as JSON."""
        outputs = [process.communicate()[0] for process in self.each]
        for process, output in zip(self.each, outputs, strict=True):
            assert process.returncode == 0, output[-4000:]
        return [
            json.loads(line.removeprefix("found: "))
            for output in outputs
            for line in output.splitlines()
            if line.startswith("found: ")
        ]
