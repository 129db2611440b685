"""Every error ends as one line on stderr and the exit code that the documentation promises."""

import errno
import os
from importlib import import_module

import click
import pytest

from facechain.cli.errors import (
    KNOWN,
    CommandError,
    ExitCode,
    NotFoundError,
    RefusedError,
    UnreachableError,
    UsageError,
    report,
)
from facechain.consensus.errors import DecodeError


def os_error(number: int, filename: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), filename)


class Tagged(Exception):
    """An error of another package that brings its own exit code and line."""

    exit_code = 4

    def diagnostics(self) -> str:
        return "node: expected an answer,\n got silence"


CASES = [
    (NotFoundError("no image abc"), 1, "error: no image abc"),
    (UsageError("--peers", expected="HOST:PORT", got="x"), 3, "error: --peers: expected HOST:PORT, got x"),
    (UnreachableError("no node", advice="start one"), 4, "error: no node; start one"),
    (RefusedError("not allowed"), 5, "error: not allowed"),
    (CommandError("checked", got="other bytes"), 2, "error: checked: got other bytes"),
    (Tagged(), 4, "error: node: expected an answer, got silence"),
    (DecodeError("header", expected=160, got=3), 2, "error: decode-error: header: expected 160, got 3"),
    (os_error(errno.ENOENT, "a.png"), 3, "error: a.png: No such file or directory; check the path"),
    (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        4,
        "error: Connection refused; nothing",
    ),
    (os_error(errno.EADDRINUSE), 5, "error: Address already in use; another program listens there"),
    (TimeoutError("no answer\nin 5 s"), 4, "error: no answer in 5 s"),
    (ModuleNotFoundError("no", name="torch.nn"), 5, "pip install 'facechain-node[producer]'"),
    (ModuleNotFoundError("no module x", name="facechain.x"), 70, "error: unexpected ModuleNotFoundError"),
    (ZeroDivisionError("division"), 70, "error: unexpected ZeroDivisionError: division; this is a fault of"),
    (click.Abort(), 130, "interrupted"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (click.BadParameter("must be whole"), 3, "must be whole"),
]


@pytest.mark.parametrize("error,code,line", CASES, ids=lambda value: type(value).__name__)
def test_error_becomes_one_line_and_a_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == code
    out, err = capsys.readouterr()
    assert line in err
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("facechain.")])
def test_listed_exception_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert issubclass(getattr(import_module(module), attribute), Exception)


class Purposeful(Exception):
    """Listed nowhere, but raised on purpose."""

    def diagnostics(self) -> str:
        return "pool: expected room, got none"


def test_unlisted_refusal_is_no_fault_of_facechain(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Purposeful()) == ExitCode.REFUSED
    assert capsys.readouterr().err == "error: pool: expected room, got none\n"


def test_group_reports_the_leaf_that_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("tasks", [ValueError("odd"), ExceptionGroup("inner", [NotFoundError("gone")])])
    assert report(group) == ExitCode.NOT_FOUND
    assert capsys.readouterr().err == "error: gone\n"


def test_traceback_is_shown_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    report(ValueError("odd"), debug=True)
    assert "Traceback" not in capsys.readouterr().out
    report(ValueError("odd"))
    assert "ValueError: odd" in capsys.readouterr().err


def test_broken_pipe_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(os_error(errno.EPIPE)) == ExitCode.BROKEN_PIPE
    assert capsys.readouterr() == ("", "")
