"""A node on a host of its own: `facechain node start` as a real process, and what can happen to it.

Owns the process, its data directory (on the host's disk) and what it printed (elsewhere, as a disk may be full).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facechain.cli.answers import NodeStatus
from facechain.cli.client import NodeClient
from facechain.cli.errors import CheckFailedError, CommandError
from facechain.cli.testnet_process import clean_environment, own_command
from facechain.consensus.signing import NodeKey
from facechain.node.data_dir import DataDir
from facechain.node.wire.handshake import LocalNode
from facechain.node.wire.transport import connect
from netns.namespaces import Host

PEER_PORT: Final = 7440
API_PORT: Final = 7441
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
STATUS_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
LOG_LINES: Final = 6
BALLAST_CHUNK: Final = bytes(1 << 16)
CLOCK_LAUNCHER: Final = Path(__file__).with_name("shifted_clock.py")
MINE: Final = "--mine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How a node is started, when not in the ordinary way."""

    wire_version: int | None = None
    """Highest version of the wire to speak."""
    code: Path | None = None
    """Folder from which another release of `facechain` is imported."""
    clock: Path | None = None
    """File with the milliseconds by which its clock is off."""


ORDINARY: Final = Life()


class HostNode:
    """One node; nothing runs before `start`."""

    def __init__(self, host: Host, *, output: Path, options: Sequence[str], token: str) -> None:
        """`options`: further arguments of `node start`."""
        self.host = host
        self.layout = DataDir(root=host.disk / "data").create()
        self.output = output
        self._options = tuple(options)
        self._token = token
        self.process: subprocess.Popen[bytes] | None = None
        self.ballast = host.disk / "ballast"

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def mines(self) -> bool:
        return MINE in self._options

    @property
    def peer(self) -> str:
        return f"{self.host.address}:{PEER_PORT}"

    async def start(self, life: Life = ORDINARY) -> None:
        """Start the process and wait until its ports are open; CheckFailedError with its last words."""
        self.process = self._spawn(life)
        await self._await_ports(self.process.pid)

    def _spawn(self, life: Life) -> subprocess.Popen[bytes]:
        environment = {}
        if life.wire_version is not None:
            environment["FACECHAIN_NODE_WIRE_VERSION"] = str(life.wire_version)
        if life.code is not None:
            environment["PYTHONPATH"] = str(life.code)
        else:  # an earlier release knows no such setting
            environment["FACECHAIN_NODE_API_ADMIN"] = "0.0.0.0/0"
        api = f"{self.host.address}:{API_PORT}"
        arguments = [
            "node",
            "start",
            "--data-dir",
            str(self.layout.root),
            "--listen",
            self.peer,
            "--api",
            api,
        ]
        command = own_command(*arguments, *self._options)
        if life.clock is not None:
            launcher = [sys.executable, "-P", str(CLOCK_LAUNCHER), str(life.clock)]
            command = [*launcher, *arguments, *self._options]
        with self.output.open("ab") as output:
            return subprocess.Popen(
                self.host.inside(*command),
                env=clean_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def _await_ports(self, pid: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._run_file_pid() != pid:
            if not self.runs() or time.monotonic() > deadline:
                raise CheckFailedError(
                    self.name, expected=f"open ports within {START_SECONDS:g} s", got=self.last_words()
                )
            await asyncio.sleep(POLL_SECONDS)

    def _run_file_pid(self) -> int | None:
        try:
            found: int = json.loads((self.layout.root / "node.json").read_bytes())["pid"]
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return found

    def runs(self) -> bool:
        """Tell whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Signal the node and what it started."""
        if self.process is not None and self.runs():
            os.killpg(self.process.pid, number)

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        await self._ended()

    async def stop(self) -> None:
        """End it in order; CheckFailedError when it does not end so."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
        code = await self._ended()
        if code:
            raise CheckFailedError(
                self.name, expected="exit code 0 after SIGTERM", got=f"{code}: {self.last_words()}"
            )

    async def _ended(self) -> int | None:
        if self.process is None:
            return None
        try:
            return await asyncio.to_thread(self.process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise CheckFailedError(
                self.name, expected=f"its end within {STOP_SECONDS:g} s", got="a process that runs on"
            ) from None

    def last_words(self) -> str:
        """Return the end of what it printed."""
        lines = self.output.read_text(errors="replace").splitlines()
        return " | ".join(lines[-LOG_LINES:])

    def empty_store(self) -> None:
        """Remove the store; identity, keys and settings stay."""
        shutil.rmtree(self.layout.store)
        self.layout.create()

    def fill_disk(self) -> None:
        """Leave no room at all on the host's disk; what became free since the last time is taken, too."""
        with self.ballast.open("ab", buffering=0) as file:
            try:
                while file.write(BALLAST_CHUNK):
                    pass
            except OSError:
                return

    def free_disk(self) -> None:
        """Give the room back."""
        self.ballast.unlink(missing_ok=True)

    def client(self, seconds: float = STATUS_SECONDS) -> NodeClient:
        """Return a client of its API."""
        return NodeClient(f"{self.host.address}:{API_PORT}", token=self._token, request_seconds=seconds)

    def admin(self) -> NodeClient:
        """Return a client that may change whom it talks to."""
        token = self.layout.admin_token_file.read_text(encoding="ascii").strip()
        return NodeClient(f"{self.host.address}:{API_PORT}", token=token, request_seconds=STATUS_SECONDS)

    async def status(self) -> NodeStatus | None:
        """Return its status; None while it does not answer."""
        if not self.runs():
            return None
        try:
            async with self.client() as client:
                return await client.status()
        except CommandError:
            return None

    async def spoken_version(self, network_id: bytes) -> int:
        """Return the wire version that it agrees on with a peer of the present release."""
        stranger = LocalNode(
            key=NodeKey.from_seed(secrets.token_bytes(32)), network_id=network_id, user_agent="check-net"
        )
        connection = await connect(self.host.address, PEER_PORT, local=stranger)
        async with connection:
            version = connection.peer.version
            await connection.close()
        return version
