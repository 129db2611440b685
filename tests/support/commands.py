"""The command line in this process: what a command printed, or how it failed."""

import json
from typing import Any

import pytest

from facechain.cli.main import run

Capture = pytest.CaptureFixture[str]


def output(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    """Run a command with `--json`; return what it printed, when it ended with `code`."""
    found = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert found == code, err
    return json.loads(out)


def failure(capsys: Capture, *arguments: str) -> tuple[int, str]:
    """Run a command that fails; return its exit code and its one line."""
    code = run(list(arguments))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return code, err
