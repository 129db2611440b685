"""A small network whose API commands can talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from facechain.consensus.kinds import Role
from facechain.consensus.params import Genesis, Grant, Params, Retarget
from facechain.consensus.signing import LedgerKey
from facechain.node.keystore import Keystore
from support.api_simulator import ApiSimulator
from support.ledgers import Ledger

ALICE, BOB, CAROL = (LedgerKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def genesis() -> Genesis:
    """Administrators Alice and Bob, both needed; Carol produces."""
    unsigned = Genesis(
        name="trial",
        params=Params(retarget=Retarget.FIXED, fixed_digits=1, quorum=2),
        time_ms=1_790_000_000_000,
        administrators=tuple(sorted((ALICE.public, BOB.public))),
        grants=(Grant(role=Role.PRODUCER, subject=CAROL.public),),
    )
    return unsigned.signed_by(ALICE, BOB)


@pytest.fixture
def ledger(genesis: Genesis) -> Ledger:
    return Ledger(genesis, CAROL)


@pytest.fixture
def node(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiSimulator]:
    with ApiSimulator(ledger) as simulator:
        monkeypatch.setenv("FACECHAIN_API", simulator.url)
        monkeypatch.setenv("FACECHAIN_API_TOKEN", simulator.token)
        yield simulator


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unencrypted keys of Alice, Bob and Carol."""
    monkeypatch.setenv("FACECHAIN_DATA_DIR", str(tmp_path / "data"))
    keystore = Keystore(tmp_path / "data" / "keys")
    for name, key in (("alice", ALICE), ("bob", BOB), ("carol", CAROL)):
        keystore.add(name, key, None)
    return tmp_path / "data"
