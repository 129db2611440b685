"""Real worker processes: they find nonces, give up at once, come back after a crash and die with their parent."""

import asyncio
import hashlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from facechain.node.mining.search import PREFIX_BYTES
from facechain.node.mining.worker import NICENESS
from facechain.node.mining.workers import IMPORT_ROOT, HashlibWorkers, MinerBroken, WorkersBusy
from support.deadline import eventually, wait_until

PREFIX = bytes(range(PREFIX_BYTES))
EASY, HARD = 2**244, 1
SECONDS = 20.0


@pytest.fixture
async def workers() -> AsyncIterator[HashlibWorkers]:
    async with HashlibWorkers(2) as started:
        yield started


def state_of(process_id: int) -> str:
    """The scheduler's letter: R runs, S sleeps, Z is dead; X when there is no such process."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "X"


def is_running(process_id: int) -> bool:
    return state_of(process_id) not in "ZX"


async def searching(workers: HashlibWorkers) -> asyncio.Task[int]:
    """A hopeless search that is under way."""
    before = workers.hashes_total
    task = asyncio.create_task(workers.mine(PREFIX, HARD))
    await eventually(lambda: workers.hashes_total > before, seconds=SECONDS, what="progress")
    return task


async def cancel(task: asyncio.Task[int]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_nonce_meets_the_target(workers: HashlibWorkers) -> None:
    for round_ in range(3):
        prefix = bytes([round_]) + PREFIX[1:]
        nonce = await workers.mine(prefix, EASY)
        digest = hashlib.sha256(prefix + nonce.to_bytes(8, "big")).digest()
        assert int.from_bytes(digest, "big") < EASY
    assert workers.hashes_total > 0
    assert workers.hashes_per_second > 0


async def test_cancelling_stops_the_processes_work_and_the_next_job_runs(workers: HashlibWorkers) -> None:
    await cancel(await searching(workers))
    nonce = await workers.mine(PREFIX, EASY)
    digest = hashlib.sha256(PREFIX + nonce.to_bytes(8, "big")).digest()
    assert int.from_bytes(digest, "big") < EASY

    await eventually(
        lambda: all(state_of(item) == "S" for item in workers.process_ids),
        seconds=SECONDS,
        what="idle workers",
    )


async def test_a_second_call_at_once_is_refused(workers: HashlibWorkers) -> None:
    task = await searching(workers)
    with pytest.raises(WorkersBusy):
        await workers.mine(PREFIX, EASY)
    await cancel(task)


async def test_a_killed_worker_is_started_again_and_goes_on(
    workers: HashlibWorkers, caplog: pytest.LogCaptureFixture
) -> None:
    task = await searching(workers)
    killed = workers.process_ids[0]
    os.kill(killed, signal.SIGKILL)
    await eventually(
        lambda: workers.restarts_total == 1 and len(workers.process_ids) == 2,
        seconds=SECONDS,
        what="a restart",
    )
    assert killed not in workers.process_ids
    (record,) = (item for item in caplog.records if item.levelno == logging.ERROR)
    assert f"process {killed}) ended with -9" in record.message
    await cancel(task)
    await workers.mine(PREFIX, EASY)


async def test_workers_give_way_and_ignore_ctrl_c(workers: HashlibWorkers) -> None:
    task = await searching(workers)
    for process_id in workers.process_ids:
        assert os.getpriority(os.PRIO_PROCESS, process_id) >= NICENESS
        os.kill(process_id, signal.SIGINT)
    before = workers.hashes_total
    await eventually(lambda: workers.hashes_total > before, seconds=SECONDS, what="more progress")
    assert workers.restarts_total == 0
    await cancel(task)


async def test_closing_ends_the_processes() -> None:
    async with HashlibWorkers(1) as workers:
        (process_id,) = workers.process_ids
        assert is_running(process_id)
    assert not is_running(process_id)
    await workers.close()


async def test_workers_that_never_come_up_fail_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facechain.node.mining.workers.MODULE", "facechain.node.mining.absent")
    async with HashlibWorkers(1) as workers:
        with pytest.raises(MinerBroken, match="got none"):
            await workers.mine(PREFIX, EASY)
        with pytest.raises(MinerBroken, match="got none"):
            await workers.mine(PREFIX, EASY)


def test_workers_die_with_a_parent_that_is_killed() -> None:
    script = (
        "import asyncio\n"
        "from facechain.node.mining.workers import HashlibWorkers\n"
        "async def main():\n"
        "    async with HashlibWorkers(1) as workers:\n"
        "        print(*workers.process_ids, flush=True)\n"
        "        await workers.mine(bytes(152), 1)\n"
        "asyncio.run(main())\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": IMPORT_ROOT}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_running(worker)
        parent.kill()
    wait_until(lambda: not is_running(worker), seconds=SECONDS, what="the worker ends")


def test_a_worker_imports_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, facechain.node.mining.worker\n"
        "print(*{name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-s", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": IMPORT_ROOT},
    )
    assert {"aiohttp", "torch", "numpy", "lmdb", "cryptography", "msgpack"}.isdisjoint(done.stdout.split())
    assert "facechain" in done.stdout.split()


@pytest.mark.parametrize("count", [0, 257])
def test_a_count_outside_the_bounds_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="mining workers"):
        HashlibWorkers(count)
