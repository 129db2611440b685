"""Nodes as real processes, each with its own folder, on ports that the system chooses."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from facechain.cli.answers import NodeStatus
from facechain.cli.client import NodeClient
from facechain.cli.testnet_process import clean_environment, own_command
from support.deadline import wait_until

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
ANY_PORT: Final = "127.0.0.1:0"


def run_command(*arguments: str, seconds: float = START_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a command of facechain to its end."""
    return subprocess.run(
        own_command(*arguments),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that says what went wrong; log lines may stand before it."""
    lines = done.stderr.splitlines()
    assert lines, "expected an error, got silence"
    assert "Traceback" not in done.stderr, done.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], done.stderr
    return lines[-1].removeprefix("error: ")


class NodeProcess:
    """`facechain node start` on a folder; a context manager that leaves nothing running."""

    start_seconds = START_SECONDS

    def __init__(self, data_dir: Path, genesis: Path, *options: str, listen: str = ANY_PORT) -> None:
        self.data_dir = data_dir
        self.arguments = (
            *("node", "start", "--data-dir", str(data_dir), "--genesis", str(genesis)),
            *("--listen", listen, "--api", ANY_PORT, *options),
        )
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line; a test that changes the node overrides it."""
        return own_command(*self.arguments)

    def __enter__(self) -> Self:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(
                self._is_up, seconds=self.start_seconds, what=f"{self.data_dir.name} takes connections"
            )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)

    @property
    def run_file(self) -> Path:
        return self.data_dir / "node.json"

    @property
    def addresses(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.run_file.read_bytes())
        return content

    @property
    def peer(self) -> str:
        return str(self.addresses["peer"])

    @property
    def api(self) -> str:
        return f"http://{self.addresses['api']}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _is_up(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"ended with {code}: {(self.data_dir / 'output.log').read_text()}"
        return self.run_file.exists() and self.addresses["pid"] == self.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the node and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def status(self) -> NodeStatus:
        async def ask() -> NodeStatus:
            async with NodeClient(self.api) as client:
                return await client.status()

        return asyncio.run(ask())

    def block_hash(self, height: int) -> bytes:
        async def ask() -> bytes:
            async with NodeClient(self.api) as client:
                return (await client.block(height)).hash

        return asyncio.run(ask())

    def wait_for(self, condition: Callable[[NodeStatus], bool], *, seconds: float, what: str) -> NodeStatus:
        """Return the first status that meets the condition."""

        def found() -> NodeStatus | None:
            status = self.status()
            return status if condition(status) else None

        return wait_until(found, seconds=seconds, what=what)
