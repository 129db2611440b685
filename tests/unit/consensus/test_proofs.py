from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from facechain.consensus.block import Header, seal_header
from facechain.consensus.errors import DecodeError
from facechain.consensus.evidence import MAGIC, MAX_EVIDENCE_BYTES, Evidence
from facechain.consensus.image import decode_image, file_hash, pixel_hash
from facechain.consensus.proofs import LAYERS, Status, Subject, verify_evidence
from facechain.consensus.state_proof import EntryProof
from facechain.consensus.statement import Statement
from facechain.consensus.story import tell_story
from facechain.consensus.work import target_to_bits
from facechain.node.evidence import build_evidence
from support.chain import PRODUCER, make_genesis, solve
from support.registry import Registered, make_png, register
from support.vectors import load

FILES = [make_png(number) for number in range(3)]


@cache
def registered() -> Registered:
    return register(FILES)


@cache
def evidence_bytes() -> bytes:
    digest = pixel_hash(decode_image(FILES[1]))
    with registered().chain.snapshot() as chain:
        return build_evidence(chain, chain.claims_of_pixels(digest, limit=1)[0])


def evidence() -> Evidence:
    return Evidence.decode(evidence_bytes())


def subject() -> Subject:
    return Subject(pixel_hash=pixel_hash(decode_image(FILES[1])), file_hash=file_hash(FILES[1]))


def failed_layer(changed: Evidence) -> str:
    """Return the layer that fails, checking that none after it was walked."""
    verdict = verify_evidence(
        Evidence.decode(changed.encode()), network_id=registered().chain.network_id, subject=subject()
    )
    assert verdict.failure is not None
    at = LAYERS.index(verdict.failure.name)
    assert all(layer.status is Status.SKIPPED for layer in verdict.layers[at + 1 :])
    return verdict.failure.name


def test_flipping_any_bit_of_any_byte_is_noticed() -> None:
    data = evidence_bytes()
    accepted = []
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        try:
            verdict = verify_evidence(Evidence.decode(bytes(changed)), subject=subject())
        except DecodeError:
            continue
        if verdict.is_verified:
            accepted.append(position)
    assert accepted == []


def test_cutting_or_lengthening_the_file_is_noticed() -> None:
    data = evidence_bytes()
    for end in range(0, len(data), 97):
        with pytest.raises(DecodeError):
            Evidence.decode(data[:end])
    with pytest.raises(DecodeError):
        Evidence.decode(data + b"\x00")


def test_other_files_are_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="proof file"):
        Evidence.decode(FILES[0])
    with pytest.raises(DecodeError, match="version: expected 1, got 9"):
        Evidence.decode(MAGIC + b"\x00\x09" + evidence_bytes()[10:])
    with pytest.raises(DecodeError, match="at most"):
        Evidence.decode(bytes(MAX_EVIDENCE_BYTES + 1))


def test_the_first_layer_that_fails_is_named() -> None:
    good = evidence()
    other = register(FILES, genesis=make_genesis(name="other"))
    with other.chain.snapshot() as chain:
        place = chain.claims_of_pixels(good.record.record[:32], limit=1)[0]
        foreign = Evidence.decode(build_evidence(chain, place))
    batch = good.batch
    cases = {
        "record": replace(good, record=replace(good.record, index=7)),
        "batch root": replace(good, record=replace(good.record, path=good.record.path[:-1])),
        "signature": replace(good, batch=replace(batch, statement=replace_signature(batch.statement))),
        "authority": replace(good, author_roles=good.author_roles[::-1]),
        "body root": replace(good, batch=replace(batch, byte_count=batch.byte_count + 1)),
        "header": replace(good, ancestors=good.ancestors[:-1]),
        "chain": replace(good, genesis_path=good.genesis_path[::-1] + good.genesis_path),
        "provenance": replace(good, statements=good.statements[1:]),
    }
    for name, changed in cases.items():
        assert failed_layer(changed) == name, name
    assert failed_layer(foreign) == "chain"
    assert failed_layer(replace(good, batch=replace(batch, block=1))) == "body root"


def replace_signature(statement: Statement) -> Statement:
    """Return the same header with a signature that somebody else made."""
    foreign = registered().stages[next(iter(registered().stages))].signature
    return Statement(statement.header_bytes, foreign, statement.payload)


def test_roles_that_the_state_does_not_hold_give_no_authority() -> None:
    good = evidence()
    absent = [EntryProof(value=None, proof=item.proof) for item in good.author_roles]
    assert failed_layer(replace(good, author_roles=tuple(absent))) == "authority"
    assert failed_layer(replace(good, author_roles=good.author_roles[:1])) == "authority"


def test_a_header_without_work_is_refused() -> None:
    """A forger who holds a producer's key still has to pay for each header."""
    good = evidence()
    header = good.anchor.header
    unpaid = header
    while int.from_bytes(unpaid.hash, "big") >> 255 == 0:
        unpaid = unpaid.with_nonce(unpaid.nonce + 1)
    assert refusal_of_anchor(good, unpaid).startswith("work: expected below the target")
    easier = target_to_bits((1 << 256) - 1)
    assert "at most" in refusal_of_anchor(good, solve(replace(header, bits=easier)))
    assert refusal_of_anchor(good, replace(header, version=2)).startswith("header version")


def refusal_of_anchor(good: Evidence, header: Header) -> str:
    """Seal another anchor with the producer's own key and return what is said of it."""
    sealed = seal_header(PRODUCER, registered().chain.network_id, header)
    verdict = verify_evidence(Evidence.decode(replace(good, anchor=sealed).encode()), subject=subject())
    assert verdict.failure is not None
    return verdict.failure.detail


def test_ancestors_bound_the_time_from_below() -> None:
    story = tell_story(evidence())
    times = [header.time_ms for header in evidence().ancestors]
    assert all(left.hash == right.previous for left, right in pairwise(evidence().ancestors))
    assert story.not_before_ms == sorted(times)[len(times) // 2]


def test_golden_proof_file() -> None:
    vector = load("evidence")
    data = bytes.fromhex(vector["proof"])
    decoded = Evidence.decode(data)
    assert decoded.encode() == data
    verdict = verify_evidence(
        decoded,
        network_id=bytes.fromhex(vector["network_id"]),
        subject=Subject(
            pixel_hash=bytes.fromhex(vector["pixel_hash"]), file_hash=bytes.fromhex(vector["file_hash"])
        ),
    )
    assert [layer.status.value for layer in verdict.layers] == ["passed"] * len(LAYERS)
    story = tell_story(decoded)
    assert story.height == vector["height"]
    assert story.confirmations == vector["confirmations"]
    assert story.batch.hex() == vector["batch"]
