"""Processes of a test network: started apart from the terminal, known again later, ended for certain.

Owns what makes a process the one that was started (id, start time, command line), so that none is signalled
that merely inherited an id. Knows nothing of nodes.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

IMPORT_ROOT: Final = str(Path(__file__).parents[2])
"""Folder from which `facechain` was imported; children import it from there too."""
SETTINGS_PREFIX: Final = "FACECHAIN_"
"""Variables that would change what a child does; none of them is passed on."""
START_TIME_FIELD: Final = 22 - 3
"""Of /proc/PID/stat, counted from the state, which is field 3."""
ENDED_STATES: Final = frozenset("ZXx")
_GUARD: Final = ("sh", "-c", 'read -r word && exit 0; exec "$@"', "sh")
INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a command in the foreground."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process for good: numbers are used again, a number with its start time is not."""

    pid: int
    started_ticks: int
    """Clock ticks from the boot of the machine to the start of the process."""

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Return the identity of the process that has this number now, None when none runs."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # the name before may hold anything
        if fields[0] in ENDED_STATES:
            return None
        return cls(pid=pid, started_ticks=int(fields[START_TIME_FIELD]))

    def is_running(self) -> bool:
        """Tell whether this very process runs."""
        return ProcessId.of(self.pid) == self

    def runs(self, argument: str) -> bool:
        """Tell whether this very process runs and has `argument` on its command line."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(argument) in words and self.is_running()


def own_command(*arguments: str) -> list[str]:
    """Return the command line that runs this `facechain` with `arguments`, whatever PATH says."""
    return [sys.executable, "-P", "-m", "facechain.cli", *arguments]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's variables without settings of facechain, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS_PREFIX)}
    paths = [IMPORT_ROOT, *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


@contextmanager
def otherwise(command: Sequence[str]) -> Iterator[None]:
    """Have `command` run if this process ends inside the context for good, by SIGKILL or for want of memory.

    A shell waits for the end of a pipe, which the kernel closes in any case.
    """
    guard = subprocess.Popen(
        [*_GUARD, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=clean_environment(),
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate(b"done\n")


def spawn(command: Sequence[str], *, output: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to a file.

    Ctrl-C in the terminal does not reach it; whoever started it decides when it ends.
    """
    with output.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            start_new_session=True,
        )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C, SIGTERM and SIGHUP to the end of the context.

    For what must not stop half way: a process that was started and not yet recorded, nodes that are being ended.
    Children are not affected, as handlers do not survive exec; an ignored or blocked signal would.
    """
    pending: list[int] = []
    numbers = INTERRUPTS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, lambda found, _: pending.append(found)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for found in pending[:1]:
            signal.raise_signal(found)


@contextmanager
def terminating() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that nothing is left running.

    Ctrl-C counts as well where a shell started the command in the background and had it ignored.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def send(process: ProcessId, number: signal.Signals, *, argument: str) -> bool:
    """Signal the process if it still is the one that was started with `argument`; tell whether it was.

    The descriptor is opened before the check, so that the number cannot change hands in between. SIGKILL goes
    to the whole session: what the process started may not outlive it.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not process.runs(argument):
            return False
        with suppress(ProcessLookupError):
            if number is signal.SIGKILL and os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        return True
    finally:
        os.close(descriptor)


def wait_for_end(processes: Iterable[ProcessId], *, seconds: float) -> tuple[ProcessId, ...]:
    """Wait until all have ended or time is up; return those that still run."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.is_running()]
    while left and time.monotonic() < deadline:
        try:
            descriptor = os.pidfd_open(left[0].pid)
        except OSError:
            left.pop(0)
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)  # readable once the process ended, reaped or not
            poll.poll((deadline - time.monotonic()) * 1_000)
        finally:
            os.close(descriptor)
        left = [process for process in left if process.is_running()]
    return tuple(left)
