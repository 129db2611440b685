"""`facechain demo` as people run it: what it prints, what it shows, and that nothing is left."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from facechain.cli.testnet_process import clean_environment, own_command
from support.deadline import wait_until

DEADLINE_SECONDS = 400.0
"""Only keeps a demo that hangs from hanging the tests; how long it takes is measured elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished demo."""

    code: int
    out: str
    err: str
    sheet: Path
    scratch: Path


def environment(scratch: Path) -> Mapping[str, str]:
    return clean_environment({"TMPDIR": str(scratch)})


def processes_of(folder: Path) -> list[int]:
    """Return the ids of processes with a path below the folder on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(os.fsencode(folder) + b"/") for word in words):
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo")
    scratch, sheet = folder / "scratch", folder / "out" / "sheet.png"
    scratch.mkdir()
    done = subprocess.run(
        own_command("demo", "--sheet", str(sheet)),
        env=environment(scratch),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return Run(code=done.returncode, out=done.stdout, err=done.stderr, sheet=sheet, scratch=scratch)


@pytest.mark.timeout(DEADLINE_SECONDS + 30)
def test_everything_was_observed(shown: Run) -> None:
    assert shown.code == 0, shown.err
    line = json.loads(shown.out.splitlines()[-1])
    height, seconds = line.pop("height"), line.pop("seconds")
    assert line == {
        "nodes": 4,
        "same_tip": True,
        "images": 1000,
        "clusters": 125,
        "audit_registered": "verified",
        "audit_altered": "altered",
        "audit_unknown": "not-found",
        "restarted_node_caught_up": True,
    }
    assert height > 3
    assert seconds > 0


@pytest.mark.timeout(DEADLINE_SECONDS + 30)
def test_progress_is_told_and_the_sheet_is_there(shown: Run) -> None:
    assert all(f"{step}/6" in shown.err for step in range(1, 7))
    assert f"6/6 contact sheet of 125 faces with block and hash: {shown.sheet}" in shown.err
    assert "explorer while this runs: http://127.0.0.1:" in shown.err
    assert "Traceback" not in shown.err
    with Image.open(shown.sheet) as picture:
        picture.load()
        assert picture.format == "PNG"


@pytest.mark.timeout(DEADLINE_SECONDS + 30)
def test_nothing_is_left(shown: Run) -> None:
    assert processes_of(shown.scratch) == []
    assert list(shown.scratch.iterdir()) == []


@pytest.mark.timeout(DEADLINE_SECONDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        own_command("demo", "--sheet", str(tmp_path / "sheet.png")),
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # The demo itself, four nodes, and the producer.
        wait_until(lambda: len(processes_of(tmp_path)) >= 6, seconds=180, what="nodes and producer")
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    # The producer, killed while it loads its libraries, may have last words of its own.
    assert "interrupted" in err.splitlines()
    assert json.loads(out.splitlines()[-1])["images"] == 0
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
