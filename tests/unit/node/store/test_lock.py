"""One instance per folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facechain.node.store.errors import StoreError, StoreLocked
from facechain.node.store.lock import LOCK_NAME, InstanceLock
from support.deadline import wait_until

HOLD = """
import sys
from pathlib import Path
from facechain.node.store.lock import InstanceLock
with InstanceLock.acquire(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

FORK_AND_DIE = """
import os, signal, sys
from pathlib import Path
from facechain.node.store.lock import InstanceLock
lock = InstanceLock.acquire(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(program: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_second_lock_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with InstanceLock.acquire(tmp_path):
        with pytest.raises(StoreLocked) as caught:
            InstanceLock.acquire(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert "this process" in str(caught.value)
    InstanceLock.acquire(tmp_path).release()


def test_lock_of_another_process_names_it_and_ends_with_it(tmp_path: Path) -> None:
    with run(HOLD, tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLocked) as caught:
            InstanceLock.acquire(tmp_path)
        assert f"{tmp_path} is in use by process {holder.pid};" in caught.value.diagnostics()
        assert "\n" not in caught.value.diagnostics()
        holder.send_signal(signal.SIGKILL)
    InstanceLock.acquire(tmp_path).release()


def test_forked_child_does_not_keep_the_lock_of_a_dead_parent(tmp_path: Path) -> None:
    with run(FORK_AND_DIE, tmp_path) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) > 0
        assert parent.wait(30) == -signal.SIGKILL
        # The child lets go as soon as it runs, which may be after its parent's death was seen here.
        wait_until(lambda: is_free(tmp_path), seconds=30, what="the child to let go of the lock")


def is_free(folder: Path) -> bool:
    try:
        InstanceLock.acquire(folder).release()
    except StoreLocked:
        return False
    return True


def test_lock_file_holds_the_process_id(tmp_path: Path) -> None:
    with InstanceLock.acquire(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_folder_that_is_missing_gives_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a lock file that can be written"):
        InstanceLock.acquire(tmp_path / "missing")
