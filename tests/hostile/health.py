"""How the victim and the honest peers fare: answer times, memory, connections, and whether the network still works.

Owns the measuring. Answer times come from a process of their own (`probe.py`), so that the attacker's work is not
counted as the victim's.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from facechain.cli.client import NodeClient
from facechain.cli.errors import CommandError
from facechain.consensus.statement import Statement
from hostile.arena import Arena
from support.chain import SUBMITTER

P99_MS_MAX: Final = 250.0
"""What an answer may take on an otherwise idle machine."""
BASELINE_FACTOR: Final = 3.0
"""… and how much longer than without an attack, where the machine has other work."""
RSS_MIB_MAX: Final = 300.0
"""Anonymous memory of a node under any attack."""
SEALED_SECONDS: Final = 30.0
SAMPLE_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 1.5
"""Answer times are taken for at least this long, and until the honest statement is sealed."""
PERCENTILE: Final = 0.99


def rss_anon_mib(pid: int) -> float:
    """Return the anonymous resident memory of a process in MiB, 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    kib = next((line.split()[1] for line in text.splitlines() if line.startswith("RssAnon:")), "0")
    return int(kib) / 1_024


def percentile(values: Sequence[float], share: float = PERCENTILE) -> float:
    """Return the value below which a share of all values lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Probe:
    """Answer times of one node's API; a context manager."""

    def __init__(self, address: tuple[str, int], file: Path) -> None:
        self._file = file
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        host, port = self._address
        script = str(Path(__file__).with_name("probe.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-P", script, host, str(port), str(self._file)], stdin=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def between(self, begin: float, end: float) -> list[float]:
        """Return the answer times, in ms, of requests that began between two monotonic times."""
        if not self._file.exists():
            return []
        rows = [line.split() for line in self._file.read_text(encoding="utf-8").splitlines()]
        return [float(row[1]) for row in rows if len(row) == 2 and begin <= float(row[0]) <= end]


@dataclass(kw_only=True)
class Health:
    """What was measured around one attack; a context manager that samples memory while it is entered."""

    arena: Arena
    rss_mib: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    faults: list[str] = field(default_factory=list)
    is_cut: bool = False
    """Whether what becomes of the honest peers is of no interest any more."""

    async def __aenter__(self) -> Self:
        self.peers = await self.arena.honest_peers()
        self.height = int((await self.arena.status())["height"])
        self.pid = self.arena.victim.pid
        self.log_bytes = (self.arena.victim.data_dir / "output.log").stat().st_size
        self.began = time.monotonic()
        self._sampling = asyncio.create_task(self._sample())
        self._honest = asyncio.create_task(self._submit())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or self.is_cut:
            self._honest.cancel()
        await asyncio.wait((self._honest,))
        await asyncio.sleep(max(0.0, self.began + LOOK_SECONDS - time.monotonic()))
        self.ended = time.monotonic()
        self._sampling.cancel()
        await asyncio.wait((self._sampling,))
        if error is None and not self.is_cut:
            await self._look()

    async def _sample(self) -> None:
        while True:
            self.rss_mib = max(self.rss_mib, rss_anon_mib(self.pid))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _submit(self) -> None:
        """Have an honest statement sealed: it goes from the second peer through the victim to the miner and back."""
        try:
            async with self.arena.client(self.arena.second) as client:
                await self._sealed(client, await self._handed_in(client))
        except (CommandError, OSError) as error:
            self.faults.append(f"an honest statement was not sealed: {error}")

    async def _handed_in(self, client: NodeClient) -> Statement:
        account = await client.account(SUBMITTER.public)
        statement = self.arena.sign(SUBMITTER, self.arena.note(), sequence=account.next_sequence)
        await client.submit(statement)
        return statement

    async def _sealed(self, client: NodeClient, statement: Statement) -> None:
        await client.wait(statement.id, confirmations=1, timeout_seconds=SEALED_SECONDS, poll_seconds=0.2)

    async def _look(self) -> None:
        """Note what is wrong now that the attack is over."""
        if self.arena.victim.process is None or self.arena.victim.process.poll() is not None:
            self.faults.append("the victim ended")
            return
        now = await self.arena.honest_peers()
        taken = time.monotonic() - self.began
        for key, since in self.peers.items():
            if now.get(key, 0.0) < since + 0.5 * taken:
                self.faults.append(f"honest peer {key[:16]} lost its connection")
        if not await self.arena.within(self.arena.is_settled, SEALED_SECONDS):
            self.faults.append("the honest nodes have no common tip")
        if int((await self.arena.status())["height"]) <= self.height:
            self.faults.append("no honest block arrived")
        if self.rss_mib > RSS_MIB_MAX:
            self.faults.append(f"{self.rss_mib:.0f} MiB of memory, expected at most {RSS_MIB_MAX:.0f}")
        log = (self.arena.victim.data_dir / "output.log").read_bytes()[self.log_bytes :]
        if b"Traceback" in log:
            self.faults.append("a traceback in the victim's log")
