"""The Makefile names its targets, and says what is wrong with a Python that will not do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OLD_PYTHON = """#!/bin/sh
[ "$1" = --version ] && echo Python 3.9.1
exit 1
"""


def make(*arguments: str, cwd: Path, path: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env={**environment, "PATH": path, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_target_that_is_no_file() -> None:
    listed = {line.split()[0] for line in make(cwd=ROOT, path=os.environ["PATH"]).stdout.splitlines()}
    (phony,) = (
        line.removeprefix(".PHONY:").split()
        for line in (ROOT / "Makefile").read_text().splitlines()
        if line.startswith(".PHONY:")
    )
    assert listed == set(phony)
    assert listed >= {"demo", "test", "lint", "bench", "clean"}


@pytest.mark.parametrize("named", [[], ["PYTHON=python3"]])
def test_old_python_is_named_and_nothing_is_left_behind(tmp_path: Path, named: list[str]) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (programs / name).write_text(OLD_PYTHON)
        (programs / name).chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = make("demo", *named, cwd=tmp_path, path=f"{programs}:/usr/bin:/bin")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "expected Python 3.11 or newer, got Python 3.9.1; install it, or name one" in done.stderr
    assert not (tmp_path / ".venv").exists()
