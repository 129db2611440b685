"""Files of proofs: role files, headers files, and evidence beside a proven chain of headers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from facechain.consensus.block import seal_header
from facechain.consensus.errors import ConsensusError, DecodeError, ProofError
from facechain.consensus.evidence import Evidence
from facechain.consensus.image import decode_image, pixel_hash
from facechain.consensus.kinds import Role
from facechain.consensus.light import LightClient
from facechain.consensus.proof_files import (
    MAX_ROLE_FILE_BYTES,
    RoleFile,
    decode_frames,
    decode_headers_file,
    encode_frames,
    encode_headers_file,
    verify_role_file,
)
from facechain.consensus.proofs import verify_evidence
from facechain.consensus.state import State
from facechain.consensus.state_proof import RoleProof
from facechain.node.block_store import apply_delta
from facechain.node.evidence import build_evidence
from support.chain import PRODUCER, STRANGER, ChainBuilder, make_genesis, seed, solve
from support.light import NEWCOMER, active_blocks, authority_story, proven
from support.registry import follow, make_image_batch, make_png, open_chain, register
from support.strangers import forged_state, strangers_line

NOW_MS = 10**14


@cache
def story() -> ChainBuilder:
    return authority_story()


@cache
def client() -> LightClient:
    return chain_of(story())


def chain_of(builder: ChainBuilder) -> LightClient:
    """Return a light client on a builder's best chain."""
    light = LightClient.from_genesis(builder.genesis)
    for item in proven(builder, active_blocks(builder)):
        light.accept(item, now_ms=NOW_MS)
    return light


def role_file(height: int | None = None, key: bytes = NEWCOMER.public) -> RoleFile:
    block = story().tip if height is None else story().blocks[story().tree.active[height].hash]
    proof = RoleProof.make(story().state(block), block.sealed, Role.PRODUCER, key)
    return RoleFile(genesis=story().genesis.encode(), proof=proof)


def test_a_role_file_is_checked_alone_and_against_headers() -> None:
    file = RoleFile.decode(role_file().encode())
    alone = verify_role_file(file)
    assert alone.confirmations is None
    assert alone.network_id == story().network_id
    assert len(alone.entry.intervals) == 1
    checked = verify_role_file(file, network_id=story().network_id, headers=client())
    assert checked == replace(alone, confirmations=1)
    assert verify_role_file(role_file(5), headers=client()).confirmations == story().height - 4
    with pytest.raises(ProofError, match="network: expected"):
        verify_role_file(file, network_id=seed("another network"))


def test_a_role_of_the_genesis_needs_no_seal() -> None:
    first = role_file(0, PRODUCER.public)
    assert verify_role_file(first, headers=client()).entry.is_open
    other = replace(first.proof.anchor, header=replace(first.proof.anchor.header, nonce=1))
    with pytest.raises(ProofError, match="block 0"):
        verify_role_file(replace(first, proof=replace(first.proof, anchor=other)))


def test_a_forged_role_passes_alone_but_not_against_headers() -> None:
    """What one header shows is work and a seal: whoever has a machine has that."""
    line = strangers_line(story(), story().tip, 1)
    state = forged_state(story(), story().tip, STRANGER)
    proof = RoleProof.make(state, line[0].sealed, Role.PRODUCER, STRANGER.public)
    forged = RoleFile(genesis=story().genesis.encode(), proof=proof)
    assert verify_role_file(forged).entry.is_open
    with pytest.raises(ProofError, match="one of the headers, which end at block"):
        verify_role_file(forged, headers=client())
    another = LightClient.from_genesis(make_genesis(name="another"))
    with pytest.raises(ProofError, match="network of the headers"):
        verify_role_file(forged, headers=another)


def test_seal_and_work_of_a_role_file_are_checked() -> None:
    file = role_file()
    anchor = file.proof.anchor
    lazy = anchor.header
    while int.from_bytes(lazy.hash) >> 255 == 0:
        lazy = lazy.with_nonce(lazy.nonce + 1)
    other_seal = seal_header(STRANGER, story().network_id, anchor.header).seal
    easy = solve(replace(anchor.header, bits=0x2100FFFF))
    for changed, message in (
        (seal_header(NEWCOMER, story().network_id, replace(lazy, producer=NEWCOMER.public)), "work"),
        (seal_header(NEWCOMER, story().network_id, replace(easy, producer=NEWCOMER.public)), "bits"),
        (replace(anchor, seal=other_seal), "seal of block"),
    ):
        with pytest.raises(ProofError, match=message):
            verify_role_file(replace(file, proof=replace(file.proof, anchor=changed)))


def test_other_bytes_are_no_role_file() -> None:
    data = role_file().encode()
    for wrong, message in (
        (b"", "got other content"),
        (data[:9], "got other content"),
        (b"FCPROOF\x00" + data[8:], "got other content"),
        (data[:8] + b"\x00\x02" + data[10:], "version: expected 1, got 2"),
        (data + bytes(MAX_ROLE_FILE_BYTES), "at most"),
        (data + b"\x00", "decode-error"),
    ):
        with pytest.raises(DecodeError, match=message):
            RoleFile.decode(wrong)


def test_a_headers_file_holds_a_chain() -> None:
    items = proven(story(), active_blocks(story()))
    data = encode_headers_file(story().genesis, items)
    genesis, read = decode_headers_file(data)
    assert genesis == story().genesis
    assert list(read) == items
    empty = decode_headers_file(encode_headers_file(story().genesis, ()))[1]
    assert list(empty) == []


def test_a_cut_or_changed_headers_file_is_noticed() -> None:
    items = proven(story(), active_blocks(story())[:2])
    data = encode_headers_file(story().genesis, items)
    frames = encode_frames(items)
    whole = {len(data) - len(frames), len(data) - len(encode_frames(items[1:])), len(data)}
    for end in {*range(0, len(data), 7)} - whole:
        with pytest.raises(DecodeError):
            list(decode_headers_file(data[:end])[1])
    for frame in (b"\xff\xff\xff\xff", b"\x00\x00\x00", b"\x00\x00\x00\x02\x93"):
        with pytest.raises(DecodeError, match="frame"):
            list(decode_frames(frame))
    for position in range(len(data) - len(frames), len(data), 3):
        changed = bytearray(data)
        changed[position] ^= 0x10
        light = LightClient.from_genesis(story().genesis)
        with pytest.raises(ConsensusError):
            for item in decode_headers_file(bytes(changed))[1]:
                light.accept(item, now_ms=NOW_MS)


def test_evidence_that_a_stranger_made_passes_alone_but_not_against_headers() -> None:
    """A stranger forges the state after block 0, registers an image there, and mines it without a granted key."""
    genesis = make_genesis()
    builder, chain = ChainBuilder(genesis), open_chain(genesis)
    forged = State(builder.state())
    for role in (Role.PRODUCER, Role.SUBMITTER):
        forged.open_role(role, STRANGER.public, 1, None)
    forged.root()
    delta = forged.overlay.delta()
    chain.store.transact(lambda writer: apply_delta(writer, delta))
    builder.states[builder.genesis_block.hash].apply(delta)
    file = make_png(1)
    payload, header = make_image_batch([file])
    follow(chain, builder.mine([builder.statement(STRANGER, payload, batch=header)], key=STRANGER))
    follow(chain, builder.mine(key=STRANGER))
    honest = register([make_png(2)], genesis=genesis)
    headers = chain_of(honest.builder)

    def evidence(of: object, data: bytes) -> Evidence:
        with of.snapshot() as reader:  # type: ignore[attr-defined]
            (place,) = reader.claims_of_pixels(pixel_hash(decode_image(data)), limit=2)
            return Evidence.decode(build_evidence(reader, place))

    lie, truth = evidence(chain, file), evidence(honest.chain, honest.files[0])
    assert verify_evidence(lie, network_id=genesis.network_id).is_verified
    verdict = verify_evidence(lie, network_id=genesis.network_id, headers=headers)
    assert verdict.failure is not None
    assert verdict.failure.name == "chain"
    checked = verify_evidence(truth, network_id=genesis.network_id, headers=headers)
    assert checked.is_verified
    assert "1 confirmations of the tip on the given headers" in checked.layers[-2].detail
    other = LightClient.from_genesis(make_genesis(name="another"))
    assert not verify_evidence(truth, headers=other).is_verified
