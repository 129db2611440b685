"""Worker processes that search nonces on several cores: the `hashlib` backend of the miner.

Owns the processes: starts them, shares the nonce space out, passes jobs on, checks what they report, and
starts a worker again that died. Owns no template and no block.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .search import NONCE_SPACE
from .worker import JOB, REPORT, STOP, Job, Report

log = logging.getLogger(__name__)

WORKERS_MAX: Final = 256
MODULE: Final = "facechain.node.mining.worker"
IMPORT_ROOT: Final = str(Path(__file__).parents[3])
"""Folder from which `facechain` was imported; the workers import it from there too."""
END_SECONDS: Final = 2.0
"""For a worker to end by itself once its input is closed; it looks after every chunk of about 30 ms."""

CRASHES_IN_A_ROW_MAX: Final = 5
"""A worker that dies this often without one report is given up."""
PASSED_ON: Final = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "PYTHONHOME")
"""Environment variables that a worker gets; secrets of the node are not among them."""


class WorkersBusy(RuntimeError):
    """`mine` was called while another call was at work."""


class MinerBroken(RuntimeError):
    """No worker process stays alive."""


class _Slot:
    """One place for a worker process."""

    def __init__(self, index: int, count: int) -> None:
        self.index = index
        self.start = NONCE_SPACE // count * index
        self.process: Process | None = None
        self.hashes_per_second = 0.0
        self.crashes = 0


class HashlibWorkers:
    """`count` worker processes; use as an async context manager, which starts and ends them."""

    def __init__(self, count: int) -> None:
        """Cheap. ValueError unless 1 <= count <= WORKERS_MAX."""
        if not 1 <= count <= WORKERS_MAX:
            raise ValueError(f"mining workers: expected 1 to {WORKERS_MAX}, got {count}")
        self._slots = [_Slot(index, count) for index in range(count)]
        self._tasks: list[asyncio.Task[None]] = []
        self._job = STOP
        self._jobs = 0
        self._found: asyncio.Future[int] | None = None
        self.hashes_total = 0
        self.restarts_total = 0

    @property
    def hashes_per_second(self) -> float:
        """Speed of all workers by their latest reports; 0 before the first."""
        return sum(slot.hashes_per_second for slot in self._slots)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Ids of the processes that run now."""
        return tuple(slot.process.pid for slot in self._slots if slot.process is not None)

    async def __aenter__(self) -> Self:
        try:
            for slot in self._slots:
                await self._spawn(slot)
        except BaseException:
            await self.close()
            raise
        for slot in self._slots:
            task = asyncio.create_task(self._serve(slot), name=f"miner-{slot.index}")
            task.add_done_callback(self._on_task_end)
            self._tasks.append(task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def mine(self, prefix: bytes, target: int) -> int:
        """Return a nonce that gives the 152-byte `prefix` a hash below `target`.

        Cancelling the call stops the search within one chunk. Raises WorkersBusy when a call is under way,
        MinerBroken when no worker stays alive.
        """
        if self._found is not None:
            raise WorkersBusy("mine: expected one call at a time, got a second one; cancel the first")
        self._jobs += 1
        self._found = asyncio.get_running_loop().create_future()
        try:
            self._give(Job(number=self._jobs, prefix=prefix, target=target, start=0))
            self._check_alive()
            return await self._found
        finally:
            self._found = None
            self._give(STOP)

    async def close(self) -> None:
        """End all workers; doing it again does nothing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for slot in self._slots:
            if slot.process is not None:
                await _end(slot.process)
                slot.process = None

    def _give(self, job: Job) -> None:
        self._job = job
        for slot in self._slots:
            self._send(slot)

    def _send(self, slot: _Slot) -> None:
        """Give the slot's process the present job, from its own part of the nonce space."""
        job = self._job
        if slot.process is None or slot.process.stdin is None or slot.process.stdin.is_closing():
            return
        start = 0 if job is STOP else slot.start
        frame = Job(number=job.number, prefix=job.prefix, target=job.target, start=start)
        slot.process.stdin.write(frame.encode())

    async def _serve(self, slot: _Slot) -> None:
        """Read the slot's reports; start its process again whenever it ends."""
        while slot.process is not None and slot.process.stdout is not None:
            try:
                self._on_report(slot, Report.decode(await slot.process.stdout.readexactly(REPORT.size)))
            except (asyncio.IncompleteReadError, ConnectionError):
                await self._restart(slot, slot.process)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """A fault in this module must not leave a call waiting for ever."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._found is not None and not self._found.done():
            self._found.set_exception(error)

    def _on_report(self, slot: _Slot, report: Report) -> None:
        slot.crashes = 0
        slot.hashes_per_second = report.hashes * 1e9 / report.nanoseconds
        self.hashes_total += report.hashes
        if not report.found or report.job != self._job.number or self._found is None or self._found.done():
            return
        job = self._job
        digest = hashlib.sha256(job.prefix + report.nonce.to_bytes(8, "big")).digest()
        if int.from_bytes(digest, "big") < job.target:
            self._found.set_result(report.nonce)
        else:
            log.error(
                "mining worker %d reported nonce %d, which does not meet the target", slot.index, report.nonce
            )

    async def _restart(self, slot: _Slot, process: Process) -> None:
        slot.process = None
        slot.hashes_per_second = 0.0
        code = await _end(process)
        slot.crashes += 1
        if slot.crashes > CRASHES_IN_A_ROW_MAX:
            log.error("mining worker %d ended %d times in a row and is given up", slot.index, slot.crashes)
            self._check_alive()
            return
        log.error(
            "mining worker %d (process %d) ended with %s; starting it again", slot.index, process.pid, code
        )
        try:
            await self._spawn(slot)
        except OSError:
            log.exception("mining worker %d could not be started again and is given up", slot.index)
            slot.crashes = CRASHES_IN_A_ROW_MAX + 1
            self._check_alive()
            return
        self.restarts_total += 1
        self._send(slot)

    def _check_alive(self) -> None:
        """Fail the call that waits when nobody is left to answer it."""
        gone = all(slot.crashes > CRASHES_IN_A_ROW_MAX for slot in self._slots)
        if gone and self._found is not None and not self._found.done():
            self._found.set_exception(
                MinerBroken("mining: expected a worker process that stays alive, got none")
            )

    async def _spawn(self, slot: _Slot) -> None:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = IMPORT_ROOT
        slot.process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-m", MODULE, stdin=PIPE, stdout=PIPE, env=environment, limit=JOB.size * 64
        )


async def _end(process: Process) -> int:
    """Let a worker end by closing its input, kill it otherwise; return its exit status."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_SECONDS):
            return await _drained(process)
    except TimeoutError:
        # Only now: killing a process that has ended already would take its exit status from the loop.
        with suppress(ProcessLookupError):
            process.kill()
        return await _drained(process)


async def _drained(process: Process) -> int:
    """Read the output to its end, so that the transport closes, and return the exit status."""
    await process.communicate()
    return await process.wait()
