"""A data directory with keys, and nodes that serve their API from a thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from facechain.node.keystore import Keystore
from support.api_thread import ApiThread
from support.chain import STRANGER, SUBMITTER
from support.submitting import serve


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("FACECHAIN_DATA_DIR", str(folder))
    keystore = Keystore(folder / "keys")
    keystore.add("sam", SUBMITTER, None)
    keystore.add("stranger", STRANGER, None)
    return folder


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Iterator[ApiThread]:
    thread = serve(monkeypatch)
    yield thread
    thread.__exit__(None, None, None)


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch, data_dir: Path, tmp_path: Path) -> Iterator[ApiThread]:
    """A node that holds the images of public batches and seals a block after each submission."""
    thread = serve(monkeypatch, tmp_path / "objects")
    thread.node.blocks_after_submit = 1
    yield thread
    thread.__exit__(None, None, None)


@pytest.fixture
def small_node(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Iterator[ApiThread]:
    """A network whose statements hold 33 public images."""
    thread = serve(monkeypatch, max_statement_bytes=4_096)
    yield thread
    thread.__exit__(None, None, None)
