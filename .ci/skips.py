"""Fail if a test ran in no environment: `skips.py REPORT.xml...`.

A test may be skipped where its package is not installed, if another
environment has run it. What needs a GPU or Windows is left out.
"""

import sys
from xml.etree import ElementTree

ELSEWHERE = "GPU", "Windows"


def tests(path):
    """Yield the name and the reasons for skipping of each test of a report."""
    for case in ElementTree.parse(path).iter("testcase"):
        reasons = [s.get("message", "") for s in case.iter("skipped")]
        yield f"{case.get('classname')}::{case.get('name')}", reasons


ran, skipped = set(), {}
for path in sys.argv[1:]:
    for name, reasons in tests(path):
        if not reasons:
            ran.add(name)
        elif not any(word in reasons[0] for word in ELSEWHERE):
            skipped[name] = reasons[0]
nowhere = {name: why for name, why in skipped.items() if name not in ran}
print(f"{len(ran)} tests ran, {len(nowhere)} were skipped everywhere")
sys.exit("\n".join(f"{name}: {why}" for name, why in nowhere.items()) or None)
