"""A node's process has the interpreter's settings that it needs."""

import json
import subprocess
import sys

import pytest

from facechain.cli.testnet_process import clean_environment
from facechain.node.interpreter import GC_THRESHOLDS, SWITCH_SECONDS

TELL = """
import gc, json, sys
from facechain.node.interpreter import settle_interpreter

def settings():
    return [sys.getswitchinterval(), gc.get_threshold()]

before = settings()
settle_interpreter()
print(json.dumps([before, settings()]))
"""


def test_threads_change_over_quickly_and_cycles_are_looked_for_seldom() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = json.loads(done.stdout)
    assert after == [pytest.approx(SWITCH_SECONDS), list(GC_THRESHOLDS)]
    assert after[0] < before[0] / 10
    assert after[1][0] > 10 * before[1][0]
