"""Roles through the API: propose, approve, list, and everything that can be refused."""

from pathlib import Path
from typing import Any

import pytest

from facechain.cli.main import run
from facechain.consensus.params import Genesis
from facechain.consensus.signing import LedgerKey, NodeKey
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.keystore import write_key_file
from support.api_thread import ApiThread
from support.chain import PRODUCER
from support.commands import Capture, failure, output
from support.ports import free_ports

DAVE = LedgerKey.from_seed(b"\x04" * 32)
ENCRYPTION_KEY = "ab" * 32

pytestmark = pytest.mark.usefixtures("data_dir")


def propose(*more: str, action: str = "--grant", role: str = "producer", key: str = "alice") -> list[str]:
    return ["role", "propose", action, role, DAVE.public.hex(), "--key", key, *more]


def held(capsys: Capture, key: bytes, role: str, at: int) -> bool:
    """Return whether the API says that the key holds the role for a block."""
    entries = output(capsys, "role", "list", "--at", str(at))["entries"]
    return any(item["held"] for item in entries if (item["key"], item["role"]) == (key.hex(), role))


def test_two_administrators_grant_a_role(node: ApiThread, capsys: Capture) -> None:
    node.node.blocks_after_submit = 1
    proposal = output(capsys, *propose("--note", "new site", "--wait", "1"))
    assert (proposal["receipt"], proposal["height"], proposal["confirmations"]) == ("sealed", 1, 1)
    assert not held(capsys, DAVE.public, "producer", 2)

    assert run(["role", "list"]) == 0
    page = capsys.readouterr().out
    assert f"grant producer {DAVE.public.hex()} (new site)" in page
    assert "1 of 2" in page

    node.node.blocks_after_submit = 2
    approval = output(capsys, "role", "approve", proposal["id"], "--key", "bob", "--wait", "2")
    assert (approval["receipt"], approval["height"], approval["confirmations"]) == ("confirmed", 2, 2)
    assert held(capsys, DAVE.public, "producer", 3)
    assert not held(capsys, DAVE.public, "producer", 2)
    assert run(["role", "list"]) == 0
    page = capsys.readouterr().out
    assert any(line.split()[:3] == ["producer", DAVE.public.hex(), "3"] for line in page.splitlines())
    assert "of 2" not in page


def test_revocation_disputes_and_list_at_a_height_remembers(node: ApiThread, capsys: Capture) -> None:
    command = ["role", "propose", "--revoke", "producer", "carol", "--suspect-since", "1", "--key", "alice"]
    output(capsys, *propose("--note", "another, so that a producer is left"))
    proposal = output(capsys, *command)
    for waiting in node.waiting():
        output(capsys, "role", "approve", waiting.id.hex(), "--key", "bob")
    assert proposal["receipt"] == "queued"
    node.seal()
    now, before = output(capsys, "role", "list"), output(capsys, "role", "list", "--at", "1")

    def entry(content: Any) -> Any:
        return next(item for item in content["entries"] if item["key"] == PRODUCER.public.hex())

    assert (entry(now)["held"], entry(now)["suspect_since"]) == (False, 1)
    assert entry(now)["intervals"] == [{"from": 1, "until": 2}]
    assert entry(before)["held"]
    assert {item["effective_height"] for item in now["proposals"]} == {1}


def test_viewer_grant_carries_its_encryption_key(node: ApiThread, capsys: Capture) -> None:
    output(capsys, *propose("--encryption-key", ENCRYPTION_KEY, role="viewer"))
    assert node.waiting()[0].decode_payload().encryption_key == bytes.fromhex(ENCRYPTION_KEY)  # type: ignore[union-attr]


def test_sequence_counts_statements_that_wait(node: ApiThread, capsys: Capture) -> None:
    for role in ("producer", "submitter"):
        output(capsys, *propose(role=role))
    assert [statement.sequence for statement in node.waiting()] == [0, 1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["role", "propose", "producer", "00" * 32, "--key", "alice"], "--grant or --revoke"),
        (propose("--revoke"), "got both"),
        (propose(role="viewer"), "expected --encryption-key HEX"),
        (propose("--encryption-key", "zz"), "64 hex digits"),
        (propose("--suspect-since", "3"), "suspect since"),
        (propose("--note", "x" * 600), "note"),
        (["role", "propose", "--grant", "producer", "00" * 32, "--key", "alice"], "small order"),
        (["role", "approve", "abc", "--key", "alice"], "PROPOSAL_ID"),
        (["role", "list", "--api", "ftp://nowhere"], "--api"),
        (["role", "list", "--api", "http://host:99999"], "--api"),
    ],
)
def test_usage_errors_come_before_the_node_is_asked(
    arguments: list[str], message: str, capsys: Capture
) -> None:
    code, err = failure(capsys, *arguments)
    assert (code, message in err) == (3, True), err


def test_author_without_the_right_is_refused_by_the_rule(node: ApiThread, capsys: Capture) -> None:
    code, err = failure(capsys, *propose(key="carol"))
    assert code == 5
    assert "unauthorized-author" in err
    assert "expected an author with role admin" in err
    assert node.waiting() == []


def test_unknown_proposal_is_refused(node: ApiThread, capsys: Capture) -> None:
    code, err = failure(capsys, "role", "approve", "00" * 32, "--key", "bob")
    assert (code, "unknown-proposal" in err) == (5, True)


def test_missing_token_is_refused_with_advice(
    node: ApiThread, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACECHAIN_API_TOKEN")
    code, err = failure(capsys, *propose())
    assert (code, "FACECHAIN_API_TOKEN" in err) == (5, True)


def test_token_is_found_in_the_data_directory(
    node: ApiThread, data_dir: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACECHAIN_API_TOKEN")
    (data_dir / "api-token").write_text(f"{node.token}\n")
    assert output(capsys, *propose())["receipt"] == "queued"


def test_node_of_another_network_gets_no_signature(
    node: ApiThread, genesis: Genesis, data_dir: Path, capsys: Capture
) -> None:
    path = data_dir / "genesis.json"
    write_document(path, GenesisDocument.of(genesis))
    output(capsys, *propose())
    path.unlink()
    document = GenesisDocument.of(genesis)
    other = Genesis(
        name="other",
        params=genesis.params,
        time_ms=genesis.time_ms,
        administrators=genesis.administrators,
        grants=(),
    )
    write_document(path, _signed_like(document, other))
    code, err = failure(capsys, *propose(role="submitter"))
    assert (code, "the network of this data directory" in err) == (5, True)
    assert len(node.waiting()) == 1


def _signed_like(document: GenesisDocument, genesis: Genesis) -> GenesisDocument:
    keys = [LedgerKey.from_seed(bytes([number]) * 32) for number in (1, 2)]
    assert sorted(key.public for key in keys) == list(document.genesis.administrators)
    return GenesisDocument.of(genesis.signed_by(*keys))


def test_waiting_ends_when_time_is_up(node: ApiThread, capsys: Capture) -> None:
    code, err = failure(capsys, *propose("--wait", "1", "--timeout", "0.1"))
    assert (code, "1 confirmations within 0.1 s" in err) == (2, True)


@pytest.mark.parametrize("command", [["role", "list"], ["checkpoint", "show"], propose()])
def test_node_that_is_down_is_one_line_and_exit_4(command: list[str], capsys: Capture) -> None:
    code, err = failure(capsys, *command, "--api", f"127.0.0.1:{free_ports(1)[0]}")
    assert (code, "Connection refused" in err) == (4, True)


def test_node_key_does_not_sign_statements(node: ApiThread, data_dir: Path, capsys: Capture) -> None:
    path = data_dir / "node.pem"
    write_key_file(path, NodeKey.from_seed(b"\x01" * 32), None)
    code, err = failure(capsys, *propose(key=str(path)))
    assert (code, "expected a ledger key, got a node key" in err) == (5, True)
