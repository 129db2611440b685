"""Processes of a test network: known again for certain, and never a stranger signalled."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from facechain.cli.testnet_process import (
    ProcessId,
    clean_environment,
    own_command,
    send,
    spawn,
    terminating,
    uninterrupted,
    wait_for_end,
)
from support.deadline import wait_until

SLEEPER = "import sys, time; time.sleep(600)"
MARK = "this-is-the-one"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python program with `spawn`; all are killed in the end."""
    with ExitStack() as started:

        def run(code: str = SLEEPER, mark: str = MARK) -> subprocess.Popen[bytes]:
            process = spawn([sys.executable, "-c", code, mark], output=tmp_path / "output")
            started.callback(process.wait)
            started.callback(process.kill)
            return process

        yield run


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found is not None
    # Between fork and exec the command line is still the parent's.
    wait_until(lambda: found.runs(MARK), seconds=10, what="the program was loaded")
    return found


def test_this_process_runs() -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    assert own.is_running()
    assert own.runs(sys.orig_argv[-1])
    assert not own.runs("an argument that is not there")


def test_an_ended_process_is_known_to_have_ended_before_it_is_reaped(start: Start) -> None:
    process = start()
    known = identity(process)
    os.kill(process.pid, signal.SIGKILL)
    assert wait_for_end([known], seconds=10) == ()
    assert Path(f"/proc/{process.pid}").exists()
    assert ProcessId.of(process.pid) is None
    assert not known.is_running()
    assert not known.runs(MARK)
    process.wait()
    assert not known.is_running()
    assert not send(known, signal.SIGTERM, argument=MARK)


def test_a_process_that_inherited_the_number_is_not_signalled(start: Start) -> None:
    process = start()
    known = identity(process)
    former = ProcessId(pid=known.pid, started_ticks=known.started_ticks - 1)
    assert not former.is_running()
    assert not send(former, signal.SIGKILL, argument=MARK)
    assert not send(known, signal.SIGKILL, argument="another-folder")
    assert process.poll() is None
    assert send(known, signal.SIGTERM, argument=MARK)
    assert process.wait(10) == -signal.SIGTERM


def test_sigkill_takes_what_the_process_started(start: Start, tmp_path: Path) -> None:
    target = tmp_path / "grandchild"
    process = start(
        "import pathlib, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])\n"
        f"pathlib.Path({str(target)!r}).write_text(str(child.pid) + '\\n')\n"
        "child.wait()"
    )
    known = identity(process)
    text = wait_until(
        lambda: target.read_text() if target.exists() else None, seconds=10, what="a grandchild"
    )
    grandchild = ProcessId.of(int(text))
    assert grandchild is not None
    assert send(known, signal.SIGKILL, argument=MARK)
    assert wait_for_end([known, grandchild], seconds=10) == ()


def test_waiting_tells_who_is_left(start: Start) -> None:
    stays, ends = identity(start()), identity(start())
    assert wait_for_end([], seconds=0) == ()
    assert wait_for_end([stays, ends], seconds=0) == (stays, ends)
    send(ends, signal.SIGTERM, argument=MARK)
    assert wait_for_end([stays, ends], seconds=0.3) == (stays,)


def test_interruptions_wait_for_the_end_of_what_must_not_stop_half_way() -> None:
    reached = []
    with terminating(), pytest.raises(KeyboardInterrupt), uninterrupted():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.raise_signal(number)
        reached.append("end")
    assert reached == ["end"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_being_terminated_is_like_ctrl_c_and_only_inside(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), terminating():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_child_that_is_started_uninterrupted_can_be_terminated(start: Start) -> None:
    with uninterrupted():
        process = start()
        known = identity(process)
    assert send(known, signal.SIGTERM, argument=MARK)
    assert process.wait(10) == -signal.SIGTERM


def test_a_child_has_a_session_of_its_own(start: Start) -> None:
    process = start()
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_settings_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACECHAIN_NODE_PEERS", "192.0.2.1:7440")
    monkeypatch.setenv("SOMETHING_ELSE", "stays")
    environment = clean_environment({"FACECHAIN_KEY": "given"})
    assert "FACECHAIN_NODE_PEERS" not in environment
    assert (environment["SOMETHING_ELSE"], environment["FACECHAIN_KEY"]) == ("stays", "given")


def test_the_command_is_this_installation_wherever_it_is_run(tmp_path: Path) -> None:
    impostor = tmp_path / "facechain"
    impostor.mkdir()
    (impostor / "__init__.py").write_text("raise SystemExit('impostor')")
    done = subprocess.run(
        own_command("--version"),
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("facechain, version")
