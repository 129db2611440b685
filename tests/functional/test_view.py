"""From a viewer's key to the content key in the viewer's hands, through a node's real API."""

import json
from pathlib import Path
from typing import Any

import pytest

from facechain.cli.main import run
from facechain.node.keystore import Keystore
from facechain.node.private_files import create_private_file
from support.api_thread import ApiThread
from support.chain import ADMIN, PRODUCER, keys, seed
from support.commands import Capture, failure, output
from support.submitting import images

(VIEWER,) = keys(1, start=800)
SECRET = seed("content key")


@pytest.fixture
def ready(keeper: ApiThread, data_dir: Path, tmp_path: Path, capsys: Capture) -> dict[str, Any]:
    """A batch by Sam, its content key in a file, and Vera, who holds role viewer with a view key."""
    keystore = Keystore(data_dir / "keys")
    for name, key in (("admin", ADMIN), ("carol", PRODUCER), ("vera", VIEWER)):
        keystore.add(name, key, None)
    file = tmp_path / "vera.pem"
    assert run(["view", "key", "--out", str(file), "--no-passphrase", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == (
        f"warning: the viewer's key has no passphrase: whoever reads {file} can open what it is granted\n"
    )
    made = json.loads(out)
    granted = ("--encryption-key", made["encryption_key"], "--key", "admin", "--wait", "1")
    output(capsys, "role", "propose", "viewer", "vera", "--grant", *granted)
    receipt = output(capsys, "submit", "--batch", str(images(tmp_path / "images", 2)), "--key", "sam")
    create_private_file(tmp_path / "batch.key", SECRET)
    return {"batch": receipt["batches"][0], "folder": tmp_path}


def grant(ready: dict[str, Any], key: str = "sam", **changes: str) -> list[str]:
    named = {
        "batch": ready["batch"],
        "viewer": "vera",
        "content": str(ready["folder"] / "batch.key"),
        **changes,
    }
    return [
        *("view", "grant", named["batch"], named["viewer"], "--content-key", named["content"]),
        *("--key", key, "--wait", "1"),
    ]


def opened(ready: dict[str, Any], statement: str, key: str = "vera.pem", out: str = "out.key") -> list[str]:
    folder = ready["folder"]
    return ["view", "open", statement, "--view-key", str(folder / key), "--out", str(folder / out)]


def refused(capsys: Capture, code: int, text: str, *arguments: str) -> None:
    got, error = failure(capsys, *arguments)
    assert (got, text in error) == (code, True), error


def test_a_viewer_takes_the_content_key_out_of_a_grant(ready: dict[str, Any], capsys: Capture) -> None:
    receipt = output(capsys, *grant(ready))
    answer = output(capsys, *opened(ready, receipt["id"]))
    assert answer["batch"] == ready["batch"]
    assert (ready["folder"] / "out.key").read_bytes() == SECRET
    assert (ready["folder"] / "out.key").stat().st_mode & 0o777 == 0o600
    assert run([*opened(ready, receipt["id"])]) == 5, "an existing file is left alone"
    capsys.readouterr()


def test_a_grant_needs_the_author_a_viewer_and_a_key(ready: dict[str, Any], capsys: Capture) -> None:
    folder = ready["folder"]
    create_private_file(folder / "short.key", SECRET[:-1])
    create_private_file(folder / "long.key", SECRET + b"\n")
    (folder / "open.key").write_bytes(SECRET)
    (folder / "open.key").chmod(0o644)
    refused(capsys, 5, "unauthorized-author", *grant(ready, "carol"))
    refused(capsys, 1, "expected a key with role viewer, got one without it", *grant(ready, viewer="carol"))
    refused(capsys, 5, "unknown-reference", *grant(ready, batch="ab" * 32))
    refused(capsys, 3, "BATCH: expected 64 hex digits", *grant(ready, batch="ab"))
    refused(capsys, 3, "expected 32 bytes, got 31", *grant(ready, content=str(folder / "short.key")))
    refused(capsys, 3, "expected 32 bytes, got more", *grant(ready, content=str(folder / "long.key")))
    refused(capsys, 5, "expected mode 0600, got 0644", *grant(ready, content=str(folder / "open.key")))


def test_a_grant_opens_for_its_viewer_alone(ready: dict[str, Any], capsys: Capture) -> None:
    receipt = output(capsys, *grant(ready))
    output(capsys, "view", "key", "--out", str(ready["folder"] / "other.pem"), "--no-passphrase")
    refused(
        capsys, 2, "wrapped key: expected one for this viewer", *opened(ready, receipt["id"], "other.pem")
    )
    refused(
        capsys,
        3,
        "expected the id of a view grant, got that of kind image-batch",
        *opened(ready, ready["batch"]),
    )
    refused(capsys, 1, "is not held by this node", *opened(ready, "ab" * 32))
    assert not (ready["folder"] / "out.key").exists()
