"""A disk without room: one typed error, nothing half written, and a store that still reads and recovers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, resource, signal, sys
sys.path[:0] = sys.argv[2].split(os.pathsep)
from pathlib import Path
from facechain.node.store.errors import StoreFull
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.schema import Table

T = Table.TESTS
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with LmdbStore.open(Path(sys.argv[1])) as store:
    store.transact(lambda writer: writer.put(T, b"kept", b"value"))
    limited = int(sys.argv[3])
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limited:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limited, unlimited[1]))
    for attempt in range(3):
        try:
            store.transact(lambda writer: writer.put(T, b"big", bytes(4 << 20)))
        except StoreFull as error:
            print(error.diagnostics())
    with store.read() as reader:
        print([key for key, _ in reader.scan(T)])
    store.transact(lambda writer: writer.put(T, b"small", b""))
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    if limited:
        store.transact(lambda writer: writer.put(T, b"big", bytes(4 << 20)))
    with store.read() as reader:
        print([key for key, _ in reader.scan(T)])
"""


def run(folder: Path, limit_bytes: int) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), os.pathsep.join(sys.path), str(limit_bytes)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


# Limits on and off a page boundary: LMDB sees a refused write or a short one, and names them differently.
@pytest.mark.parametrize("limit_bytes", [1 << 20, (1 << 20) + 1000, 3_000_000])
def test_store_disk_full(tmp_path: Path, limit_bytes: int) -> None:
    *errors, between, after = run(tmp_path, limit_bytes)
    assert len(errors) == 3
    for line in errors:
        assert line.startswith(f"store-full: {tmp_path}: expected room for the transaction, got ")
        assert "free disk space" in line
    assert between == "[b'kept']"
    assert after == "[b'big', b'kept', b'small']"
