"""The command line's entry: cheap help, one table, exit codes."""

import os
import subprocess
import sys

import pytest

from facechain import __version__
from facechain.cli.errors import ExitCode
from facechain.cli.main import COMMANDS, run

HEAVY = ("PIL", "aiohttp", "cryptography", "lmdb", "msgpack", "numpy", "rich", "sklearn", "torch")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from facechain.cli.main import run; "
        f"status = run({arguments!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "facechain" in done.stdout


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-h"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    for name, entry in COMMANDS.items():
        assert f"{name} {entry.summary}" in page


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"facechain, version {__version__}\n"


def test_who_reads_the_output_and_goes_away_does_not_make_it_not_found() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "facechain.cli", "-h"], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, b"")


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"]])
def test_usage_error_is_one_line_and_exit_3(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: No such")
    assert err.endswith("see 'facechain -h'\n")
    assert err.count("\n") == 1


def test_no_command_shows_the_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 3
    out, err = capsys.readouterr()
    assert (out, err[:6]) == ("", "Usage:")


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["--debug", "nonsense"])
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("FACECHAIN_DEBUG", "1")
    run(["nonsense"])
    assert "Traceback" in capsys.readouterr().err
