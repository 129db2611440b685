"""What a process freed goes back to the system, once the allocator is set."""

import json
import subprocess
import sys

from facechain.cli.testnet_process import clean_environment

CHURN = """
import json, sys
from pathlib import Path
from facechain.node.allocator import give_memory_back

def anonymous_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))

done = give_memory_back() if sys.argv[1] == "set" else None
before = anonymous_mib()
large = b"x" * (30 << 20)
del large
bodies = [(b"x" * (8 << 20), b"y" * 100_000) for _ in range(10)]
kept = [small for _, small in bodies]
del bodies
print(json.dumps([done, anonymous_mib() - before]))
"""


def churn(word: str) -> tuple[bool | None, int]:
    """Let a process handle bodies, the allocator set or not; return the answer and the MiB that stay with it."""
    done = subprocess.run(
        [sys.executable, "-c", CHURN, word],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    answer, mib = json.loads(done.stdout)
    return answer, mib


def test_freed_bodies_leave_the_process() -> None:
    _, plain = churn("plain")
    done, settled = churn("set")
    assert done, "glibc has these settings"
    assert settled < 20 < plain
