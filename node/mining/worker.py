"""One mining process: reads jobs from standard input, searches, writes what it found to standard output.

Run as `python -m facechain.node.mining.worker`. It imports the standard library only, lowers its own
priority, ignores Ctrl-C (its parent decides), and ends when its standard input ends, so also when its parent
dies in whatever way. Frames have fixed sizes; a new job replaces the one before within one chunk.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time
from dataclasses import dataclass
from typing import Final

from .search import NONCE_SPACE, PREFIX_BYTES, TARGET_BYTES, search

JOB: Final = struct.Struct(f">Q{PREFIX_BYTES}s{TARGET_BYTES}sQ")
"""Parent to worker: job number (0: none, stop searching), header prefix, target, first nonce."""
REPORT: Final = struct.Struct(">QBQQQ")
"""Worker to parent: job number, 1 when found, nonce, hashes and nanoseconds since the last report."""

NO_JOB: Final = 0
NICENESS: Final = 10
"""Mining gives way to everything else that the machine does."""
CHUNK_SECONDS: Final = 0.03
"""A worker looks for a new job this often."""
CHUNK_NONCES: Final = (256, 2_000_000)
"""Least and most nonces of a chunk."""
REPORT_SECONDS: Final = 1.0
"""Progress is reported this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to search for."""

    number: int
    prefix: bytes
    target: int
    start: int

    def encode(self) -> bytes:
        """Return the frame that gives a worker this job."""
        return JOB.pack(self.number, self.prefix, self.target.to_bytes(TARGET_BYTES, "big"), self.start)

    @classmethod
    def decode(cls, data: bytes) -> Job:
        """Read a frame."""
        number, prefix, target, start = JOB.unpack(data)
        return cls(number=number, prefix=prefix, target=int.from_bytes(target, "big"), start=start)


STOP: Final = Job(number=NO_JOB, prefix=bytes(PREFIX_BYTES), target=0, start=0)
"""The job of having none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker did since its last report."""

    job: int
    found: bool
    nonce: int
    """The nonce that was found; else the next one that is tried."""
    hashes: int
    nanoseconds: int

    def encode(self) -> bytes:
        """Return the frame."""
        return REPORT.pack(self.job, self.found, self.nonce, self.hashes, self.nanoseconds)

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """Read a frame."""
        job, found, nonce, hashes, nanoseconds = REPORT.unpack(data)
        return cls(job=job, found=bool(found), nonce=nonce, hashes=hashes, nanoseconds=nanoseconds)


class Worker:
    """The loop of one process, over two file descriptors."""

    def __init__(self, jobs: int, reports: int) -> None:
        self._jobs = jobs
        self._reports = reports
        self._chunk = CHUNK_NONCES[0]

    def run(self) -> None:
        """Work until the jobs' pipe ends."""
        job: Job | None = STOP
        while job is not None:
            job = self._read() if job.number == NO_JOB else self._work(job)

    def _work(self, job: Job) -> Job | None:
        """Search until something is found or another job comes; return the next job, None at the end."""
        nonce, hashes, since = job.start, 0, time.monotonic_ns()
        while not self._has_news():
            count = min(self._chunk, NONCE_SPACE - nonce)
            begun = time.monotonic_ns()
            found = search(job.prefix, job.target, nonce, count)
            now = time.monotonic_ns()
            tried = count if found is None else found - nonce + 1
            hashes += tried
            nonce = (nonce + tried) % NONCE_SPACE
            if found is not None or now - since >= REPORT_SECONDS * 1e9:
                at = nonce if found is None else found
                self._report(
                    Report(
                        job=job.number,
                        found=found is not None,
                        nonce=at,
                        hashes=hashes,
                        nanoseconds=max(1, now - since),
                    )
                )
                hashes, since = 0, now
            if found is not None:
                return STOP
            self._adapt(count, now - begun)
        return self._read()

    def _adapt(self, count: int, nanoseconds: int) -> None:
        """Size the next chunk for `CHUNK_SECONDS`."""
        least, most = CHUNK_NONCES
        self._chunk = max(least, min(most, int(count * CHUNK_SECONDS * 1e9 / max(1, nanoseconds))))

    def _has_news(self) -> bool:
        return bool(select.select([self._jobs], [], [], 0)[0])

    def _read(self) -> Job | None:
        """Wait for the newest job; None when the parent closed the pipe."""
        data = b""
        while len(data) < JOB.size:
            more = os.read(self._jobs, JOB.size - len(data))
            if not more:
                return None
            data += more
        return Job.decode(data)

    def _report(self, report: Report) -> None:
        os.write(self._reports, report.encode())  # below PIPE_BUF: one write, whole


def main() -> None:
    """Serve standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    try:
        Worker(sys.stdin.fileno(), sys.stdout.fileno()).run()
    except BrokenPipeError:
        return  # the parent is gone, and with it whoever wanted to know


if __name__ == "__main__":
    main()
