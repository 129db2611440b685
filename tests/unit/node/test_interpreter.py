"""A thread that verifies signatures gets its turn while the event loop is busy."""

import json
import subprocess
import sys

from facechain.cli.testnet_process import clean_environment

BUSY = """
import gc, json, sys, threading
from facechain.consensus.signing import LedgerKey, Purpose, verify_signature
from facechain.node.interpreter import settle_interpreter

if sys.argv[1] == "set":
    settle_interpreter()
key = LedgerKey.from_seed(bytes(32))
signature = key.sign(Purpose.STATEMENT, bytes(32), bytes(32))
verified, turns = threading.Event(), 0

def verify():
    for _ in range(100):
        verify_signature(key.public, signature, Purpose.STATEMENT, bytes(32), bytes(32))
    verified.set()

threading.Thread(target=verify).start()
while not verified.is_set():
    turns += 1
print(json.dumps([turns, gc.get_threshold()]))
"""


def busy_turns(word: str) -> tuple[int, list[int]]:
    """Verify 100 signatures beside a busy thread; return how often that one had its turn, and the thresholds."""
    done = subprocess.run(
        [sys.executable, "-c", BUSY, word],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    turns, thresholds = json.loads(done.stdout)
    return turns, thresholds


def test_signatures_do_not_wait_for_a_busy_thread() -> None:
    plain, before = busy_turns("plain")
    settled, after = busy_turns("set")
    assert settled < plain / 2
    assert before != after == [50_000, 20, 20]
