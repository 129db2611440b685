"""`headers sync`, `role prove` and `verify` with headers: a chain and its proofs, kept without a node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from facechain.cli.errors import CheckFailedError
from facechain.cli.header_chain import HeaderChain, ProofClient
from facechain.cli.main import run
from facechain.consensus.kinds import Role
from facechain.consensus.light import ProvenHeader
from facechain.consensus.proof_files import RoleFile, encode_frames, encode_headers_file
from facechain.consensus.state_proof import RoleProof
from support.api_thread import ApiThread
from support.chain import PRODUCER, STRANGER, ChainBuilder, make_genesis
from support.commands import Capture, failure, output
from support.light import active_blocks, prove_header, proven
from support.ports import free_ports
from support.strangers import forged_state, strangers_line
from support.submitting import images, serve, submit

PAST_MS = 1_700_000_000_000
"""Commands look at the real clock, so the network is older than it."""
FUTURE_MS = 10**14


@pytest.fixture
def past(monkeypatch: pytest.MonkeyPatch, data_dir: Path, tmp_path: Path) -> Iterator[ApiThread]:
    thread = serve(monkeypatch, tmp_path / "objects", time_ms=PAST_MS)
    thread.node.blocks_after_submit = 1
    yield thread
    thread.__exit__(None, None, None)


def no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACECHAIN_API", f"http://127.0.0.1:{free_ports(1)[0]}")


def test_headers_are_kept_continued_and_hold_proofs(
    past: ApiThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path, chain, proof = images(tmp_path / "images"), tmp_path / "x.fcheaders", tmp_path / "x.fcproof"
    network = past.genesis.network_id.hex()
    past.seal(3)
    first = output(capsys, "headers", "sync", "--out", str(chain), "--network", network)
    assert (first["height"], first["network"]) == (3, network)
    output(capsys, *submit(path))
    picture = str(path / "00000001.png")
    output(capsys, "audit", picture, "--proof", str(proof))
    newer = output(capsys, "verify", picture, str(proof), "--headers", str(chain), code=2)
    assert newer["failed_layer"] == "chain"
    past.seal(2)
    second = output(capsys, "headers", "sync", "--out", str(chain))
    assert (second["height"], second["tip"]) == (6, past.block_hash(6).hex())
    again = output(capsys, "headers", "sync", "--out", str(chain))
    assert again == second
    no_node(monkeypatch)
    assert run(["verify", picture, str(proof), "--headers", str(chain), "--network", network]) == 0
    assert "3 confirmations of the tip on the given headers" in capsys.readouterr().out
    code, err = failure(
        capsys, "verify", picture, str(proof), "--headers", str(chain), "--network", "ab" * 32
    )
    assert (code, "network: expected abab" in err) == (2, True)


def test_a_role_is_proven_and_verified_without_a_node(
    past: ApiThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    past.seal(4)
    chain, held, absent = tmp_path / "x.fcheaders", tmp_path / "held.fcrole", tmp_path / "absent.fcrole"
    output(capsys, "headers", "sync", "--out", str(chain))
    made = output(capsys, "role", "prove", PRODUCER.public.hex(), "producer", "--out", str(held))
    assert (made["result"], made["intervals"], made["height"]) == ("held", [[1, None]], 4)
    output(capsys, "role", "prove", "stranger", "producer", "--height", "2", "--out", str(absent))
    no_node(monkeypatch)
    good = output(capsys, "verify", str(held), "--height", "5", "--headers", str(chain))
    assert (good["result"], good["confirmations"], good["network_trusted"]) == ("held", 1, False)
    never = output(capsys, "verify", str(absent), "--headers", str(chain), code=1)
    assert (never["result"], never["intervals"]) == ("not-held", [])
    network = past.genesis.network_id.hex()
    assert run(["verify", str(held), "--network", network]) == 0
    page = capsys.readouterr().out
    assert page.startswith("HELD: the key had the role producer at height 4\n")
    assert "not checked: anyone can forge a block of no chain" in page
    assert f"{network} (trusted)" in page
    assert run(["verify", str(absent), "--headers", str(chain)]) == 1
    page = capsys.readouterr().out
    assert page.startswith("NOT HELD: the key had not the role producer at height 4\n")
    assert "never" in page
    assert "on the given headers, 1 confirmations" in page
    code, err = failure(capsys, "verify", str(held), "--height", "6")
    assert (code, "expected 0 to 5, as far as the proof reaches, got 6" in err) == (2, True)


def test_what_a_stranger_forges_is_refused_with_headers(
    past: ApiThread, tmp_path: Path, capsys: Capture
) -> None:
    builder = ChainBuilder(past.genesis)
    forged = forged_state(builder, builder.tip, STRANGER)
    block = strangers_line(builder, builder.tip, 1)[0]
    role = RoleProof.make(forged, block.sealed, Role.PRODUCER, STRANGER.public)
    file, chain = tmp_path / "forged.fcrole", tmp_path / "x.fcheaders"
    file.write_bytes(RoleFile(genesis=past.genesis.encode(), proof=role).encode())
    past.seal(2)
    output(capsys, "headers", "sync", "--out", str(chain))
    assert run(["verify", str(file)]) == 0
    assert "give --headers" in capsys.readouterr().out
    code, err = failure(capsys, "verify", str(file), "--headers", str(chain))
    assert (code, "role proof: block 1: expected" in err) == (2, True)


def test_bad_files_and_options_are_one_clear_line(past: ApiThread, tmp_path: Path, capsys: Capture) -> None:
    past.seal(2)
    chain, role, other = tmp_path / "x.fcheaders", tmp_path / "x.fcrole", tmp_path / "other"
    output(capsys, "headers", "sync", "--out", str(chain))
    output(capsys, "role", "prove", PRODUCER.public.hex(), "producer", "--out", str(role))
    other.write_bytes(b"something else")
    cut = tmp_path / "cut.fcrole"
    cut.write_bytes(role.read_bytes()[:-1])
    for arguments, code, text in (
        (("verify", str(other)), 3, "expected a role proof, or an image and its proof"),
        (("verify", str(cut)), 3, f"{cut}: "),
        (("verify", str(role), "--headers", str(other)), 3, "expected a facechain headers file"),
        (("verify", str(role), str(role), "--height", "1"), 3, "option --height: expected a role proof"),
        (("headers", "sync", "--out", str(other)), 3, "expected a facechain headers file"),
        (("headers", "sync", "--out", str(chain), "--network", "ab" * 32), 2, "network: expected abab"),
        (("role", "prove", PRODUCER.public.hex(), "producer", "--out", str(other), "--network", "ab" * 32), 2, "network"),
        (("role", "prove", "ab", "producer", "--out", str(other)), 1, "ab"),
        (("role", "prove", PRODUCER.public.hex(), "producer", "--out", str(other), "--height", "4"), 3,
         "option --height: expected at most 3, the block after the tip at 2, got 4"),
    ):  # fmt: skip
        found = failure(capsys, *arguments)
        assert (found[0], text in found[1]) == (code, True), found
    assert other.read_bytes() == b"something else"


def test_a_clock_that_is_behind_is_said(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    thread = serve(monkeypatch, time_ms=FUTURE_MS)
    try:
        thread.seal(1)
        code, err = failure(capsys, "headers", "sync", "--out", str(tmp_path / "x"))
    finally:
        thread.__exit__(None, None, None)
    assert (code, "time-too-new" in err) == (2, True)
    assert not (tmp_path / "x").exists()


class ShownNode(ProofClient):
    """A node that shows whatever chain it is given."""

    def __init__(self, builder: ChainBuilder) -> None:
        super().__init__("http://127.0.0.1:1")
        self.items = proven(builder, active_blocks(builder))
        self.asked: list[int] = []

    async def header_proofs(self, first: int, limit: int) -> bytes:
        self.asked.append(first)
        return encode_frames(self.items[first - 1 : first - 1 + limit])


def follow(chain: HeaderChain, node: ShownNode) -> None:
    asyncio.run(chain.follow(node, now_ms=FUTURE_MS, progress=lambda _height: None))


@pytest.mark.parametrize("depth", [1, 8, 9, 60])
def test_a_reorganisation_of_the_node_is_followed(
    depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facechain.cli.header_chain.PAGE_HEADERS", 7)
    builder = ChainBuilder(make_genesis())
    blocks = builder.mine_many(60)
    chain, node = HeaderChain(builder.genesis), ShownNode(builder)
    follow(chain, node)
    old = chain.encode()
    fork = builder.genesis_block if depth == 60 else blocks[-depth - 1]
    side = builder.mine(parent=fork, time_ms=fork.header.time_ms + 11_000)
    builder.mine_many(depth, parent=side)
    other = ShownNode(builder)
    follow(chain, other)
    assert chain.client.tip.hash == builder.tip.hash
    assert min(other.asked) <= 61 - depth
    file = tmp_path / "x"
    file.write_bytes(chain.encode())
    assert chain.encode() == encode_headers_file(builder.genesis, _once(other))
    assert HeaderChain.read(file, now_ms=FUTURE_MS).client.tip.hash == builder.tip.hash
    # The node's old chain has less work: shown again, it changes nothing.
    follow(chain, node)
    assert chain.client.tip.hash == builder.tip.hash
    assert chain.encode() != old


def _once(node: ShownNode) -> list[ProvenHeader]:
    """Return a node's headers with the first role proof only: the roles never change here."""
    return [item if number == 0 else replace(item, role=None) for number, item in enumerate(node.items)]


def test_a_node_that_shows_strangers_headers_is_refused() -> None:
    builder = ChainBuilder(make_genesis())
    builder.mine_many(5)
    chain, node = HeaderChain(builder.genesis), ShownNode(builder)
    follow(chain, node)
    line = strangers_line(builder, builder.tip, 3)
    forged = forged_state(builder, builder.tip, STRANGER)
    node.items += [prove_header(block, forged) for block in line]
    with pytest.raises(CheckFailedError, match="bad-proof"):
        follow(chain, node)
    assert chain.client.tip.hash == builder.tip.hash
    gap = ShownNode(builder)
    gap.items = [gap.items[0], *gap.items[2:]]
    with pytest.raises(CheckFailedError, match="missing-parent"):
        follow(HeaderChain(builder.genesis), gap)
