"""SIGKILL at any moment: what the store acknowledged is there, and what is there is a whole prefix."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from facechain.node.store.lmdb_file import find_damage
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.schema import Table, height_key

RUNS: Final = 10
ACKNOWLEDGED_MAX: Final = 60

WRITER = """
import os, sys
sys.path[:0] = sys.argv[2].split(os.pathsep)
from pathlib import Path
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.schema import Table, height_key

def block(height):
    def change(writer):
        for part in range(8):
            writer.put(Table.TESTS, height_key(height) + bytes([part]), bytes([height % 256]) * 6000)
        writer.put(Table.META, b"height", height_key(height))
    return change

with LmdbStore.open(Path(sys.argv[1]), map_bytes=1 << 20) as store:
    with store.read() as reader:
        found = reader.get(Table.META, b"height")
    height = int.from_bytes(found, "big") + 1 if found else 0
    while True:
        store.transact(block(height))
        print(height, flush=True)
        height += 1
"""


def killed_writer(folder: Path, acknowledged: int) -> int:
    """Run the writer, kill it some time after its n-th commit, and return the last height that it printed."""
    command = [sys.executable, "-c", WRITER, str(folder), ":".join(sys.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        assert writer.wait(30) == -signal.SIGKILL
    return int([line for line in lines if line.endswith("\n")][-1])


@pytest.mark.parametrize("seed", range(RUNS))
def test_store_crash_leaves_a_valid_prefix(tmp_path: Path, seed: int) -> None:
    acknowledged = killed_writer(tmp_path, random.Random(seed).randrange(1, ACKNOWLEDGED_MAX))
    assert find_damage(tmp_path) is None
    with LmdbStore.open(tmp_path) as store, store.read() as reader:
        tip = reader.get(Table.META, b"height")
        rows = list(reader.scan(Table.TESTS))
    assert tip is not None
    height = int.from_bytes(tip, "big")
    assert height >= acknowledged
    assert rows == [
        (height_key(block) + bytes([part]), bytes([block % 256]) * 6000)
        for block in range(height + 1)
        for part in range(8)
    ]


def test_store_crash_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = killed_writer(tmp_path, 5)
    second = killed_writer(tmp_path, 5)
    assert second >= first + 5
