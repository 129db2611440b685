"""A small network whose API commands can talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from facechain.consensus.params import Genesis
from facechain.consensus.signing import LedgerKey
from facechain.node.keystore import Keystore
from support.api_thread import ApiThread
from support.chain import PRODUCER, make_genesis

ALICE, BOB = (LedgerKey.from_seed(bytes([number]) * 32) for number in (1, 2))


@pytest.fixture
def genesis() -> Genesis:
    """Administrators Alice and Bob, both needed; Carol produces."""
    return make_genesis(
        administrators=(ALICE, BOB), producers=(PRODUCER,), submitters=(), quorum=2, heartbeat_ms=0
    )


@pytest.fixture
def node(genesis: Genesis, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiThread]:
    with ApiThread(genesis) as thread:
        monkeypatch.setenv("FACECHAIN_API", thread.url)
        monkeypatch.setenv("FACECHAIN_API_TOKEN", thread.token)
        yield thread


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unencrypted keys of Alice, Bob and Carol."""
    monkeypatch.setenv("FACECHAIN_DATA_DIR", str(tmp_path / "data"))
    keystore = Keystore(tmp_path / "data" / "keys")
    for name, key in (("alice", ALICE), ("bob", BOB), ("carol", PRODUCER)):
        keystore.add(name, key, None)
    return tmp_path / "data"
