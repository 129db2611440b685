"""Earlier releases out of the history, for a node to be upgraded from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

NEWEST: Final[Mapping[int, str]] = {
    1: "4b278fb2817b86ea921185a905a5111ee5bfffc5",
    2: "9a03716a8d93afe5b9db0108f987fe259c79a96f",
}
"""The newest commit whose highest version of the wire is this one. Whoever adds a version adds a row for the one before."""


def old_release(repository: Path, version: int, folder: Path) -> Path | None:
    """Take the newest release that speaks `version` out of the history, into `folder`.

    None where it is not there (a shallow clone, no git).
    """
    commit = NEWEST.get(version)
    if commit is None or shutil.which("git") is None:
        return None
    archive = subprocess.run(
        ["git", "archive", "--format=tar", commit, ".layout", "cli", "consensus", "node"],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        return None
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    # As an installation does; the first start should not pay for it.
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    return folder / ".layout"
