"""One thing changed in a good block: both implementations name the same broken rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from facechain.consensus.block import Header, seal_header
from facechain.consensus.errors import ConsensusError
from facechain.consensus.kinds import Kind, Role, StageType
from facechain.consensus.payloads import (
    AnyPayload,
    Cancel,
    Checkpoint,
    ProtocolUpgrade,
    Retract,
    RoleApproval,
)
from facechain.consensus.signing import LedgerKey, Purpose
from facechain.consensus.statement import Statement
from facechain.consensus.work import meets_target
from support import reference_rules as page
from support.agreement import (
    A0,
    A1,
    A2,
    FRESH,
    ODD,
    P0,
    P1,
    S0,
    S1,
    STRANGER,
    VIEWER,
    Pair,
    asert_pair,
    attest,
    busy_block,
    flipped,
    resealed,
    view,
)
from support.chain import (
    make_batch,
    make_stage,
    other_signature,
    seed,
    solve,
)
from support.statements import grant, rotation

# Mutations of headers and bodies


def test_flipped_bits_of_a_sealed_header() -> None:
    pair, block = replace(asert_pair(), verdicts=Counter()), busy_block()
    sealed, body = block.sealed.encode(), block.body.encode()
    assert pair.judge(sealed, body, "untouched") is None
    for at in range(224):
        assert pair.judge(flipped(sealed, at, at % 8), body, f"byte {at}") is not None
    for at in [*range(116), *range(120, 152)]:
        header = Header.decode(flipped(sealed[:160], at, at % 8))
        assert pair.judge(
            resealed(header), body, f"byte {at}, mined and sealed anew"
        ) is not None or at in range(108, 116)
    for size in (0, 160, 223, 225):
        assert pair.judge((sealed + b"\0")[:size], body, f"{size} bytes") == "decode-error"
    pair.count(370)
    assert len(pair.verdicts) >= 8


def changed_headers() -> Iterator[tuple[str, dict[str, Any], str | None]]:
    chain, header = asert_pair().chain, busy_block().header
    times = sorted(node.time_ms for node in chain.tree.active[-11:])
    yield from (("version", {"version": v}, "unknown-version") for v in (0, 2, 2**32 - 1))
    yield from (
        ("height", {"height": h}, "bad-height") for h in (0, header.height - 1, header.height + 1, 2**64 - 1)
    )
    yield "unknown parent", {"previous": seed("nobody")}, "missing-parent"
    yield "network as parent", {"previous": chain.network_id}, "missing-parent"
    yield "grandparent", {"previous": chain.tree.active[-2].hash}, "bad-height"
    yield from (("bits", {"bits": header.bits + n}, "bad-diffbits") for n in (-1, 1))
    yield "easiest bits", {"bits": chain.params.pow_limit_bits}, "bad-diffbits"
    yield "median", {"time_ms": times[5]}, "time-too-old"
    yield "no time", {"time_ms": 0}, "time-too-old"
    yield "just after the median", {"time_ms": times[5] + 1}, None
    yield "the end of time", {"time_ms": 2**64 - 1}, None
    yield "body", {"body_root": seed("body")}, "bad-merkle-root"
    yield "state", {"state_root": seed("state")}, "bad-state-root"
    yield "parent's state", {"state_root": chain.tip.header.state_root}, "bad-state-root"


def test_changed_headers() -> None:
    pair, block = replace(asert_pair(), verdicts=Counter()), busy_block()
    body = block.body.encode()
    for what, changes, code in changed_headers():
        assert pair.judge(resealed(replace(block.header, **changes)), body, what) == code, what
    for bits in (0, 0x20800000, 2**32 - 1):
        sealed = seal_header(P0, pair.chain.network_id, replace(block.header, bits=bits)).encode()
        assert pair.judge(sealed, body, "bits of no target") == "bad-diffbits"
    unsolved = block.header
    while meets_target(unsolved.hash, unsolved.bits):
        unsolved = unsolved.with_nonce(unsolved.nonce + 1)
    sealed = seal_header(P0, pair.chain.network_id, unsolved).encode()
    assert pair.judge(sealed, body, "no work") == "high-hash"
    for now_ms, code in (
        (block.header.time_ms - 10_000, None),
        (block.header.time_ms - 10_001, "time-too-new"),
    ):
        assert pair.judge_block(block, "clock", now=now_ms) == code
    for key in (S0, A0, STRANGER, VIEWER, P1, A2):
        found = pair.judge_block(pair.chain.forge(block.body.statements, key=key), "another sealer")
        assert found == "unauthorized-producer"
    for key in (FRESH[2], S0):
        assert pair.judge(resealed(block.header, key), body, "sealed by another") == "bad-seal"
    seals = {
        "zeros": bytes(64),
        "another network": P0.sign(Purpose.SEAL, seed("network"), block.hash),
        "another purpose": P0.sign(Purpose.STATEMENT, pair.chain.network_id, block.hash),
        "s + L": block.sealed.seal[:32]
        + (int.from_bytes(block.sealed.seal[32:], "little") + page.L).to_bytes(32, "little"),
    }
    for what, seal in seals.items():
        assert pair.judge(block.sealed.encode()[:160] + seal, body, what) == "bad-seal"
    message = page.to_sign("seal", pair.chain.network_id, block.hash)
    again = other_signature(seed("key 303"), message)
    assert pair.judge(block.sealed.encode()[:160] + again, body, "another valid seal") is None
    for encoding in sorted(page.SMALL_ORDER):
        assert pair.judge(block.sealed.encode()[:160] + encoding + bytes(32), body, "small R") == "bad-seal"
        weak = solve(replace(block.header, producer=encoding)).encode()
        assert pair.judge(weak + encoding + bytes(32), body, "small A") == "bad-seal"
    pair.count(60)


def test_flipped_bits_of_a_body() -> None:
    pair, block = replace(asert_pair(), verdicts=Counter()), busy_block()
    sealed, body = block.sealed.encode(), block.body.encode()
    for at in range(0, len(body), 3):
        assert pair.judge(sealed, flipped(body, at, at % 8), f"byte {at}") is not None
    for what, other in (
        ("cut", body[:-1]),
        ("longer", body + b"\0"),
        ("none", b""),
        ("empty", page.encode([[]])),
    ):
        assert pair.judge(sealed, other, what) is not None
    wires = page.decode(page.BODY, body)[0]
    orders = {"fewer": wires[:-1], "turned": wires[::-1], "twice": [*wires, wires[-1]]}
    for what, some in orders.items():
        assert pair.judge(sealed, page.encode([some]), what) == "bad-merkle-root"
    codes = Counter(found[0] for found in pair.verdicts.elements())
    assert set(codes) == {"decode-error", "bad-merkle-root", "payload-mismatch"}
    pair.count(170)


def remade(pair: Pair, wires: list[bytes]) -> tuple[bytes, bytes]:
    """Return the block of these wire forms, mined and sealed, under the root that the page gives them."""
    split = [page.decode(lambda _: True, wire)[:2] for wire in wires]
    leaves = page.merkle([page.sha(header + signature) for header, signature in split])
    sizes = page.u64(len(wires)) + page.u64(sum(map(len, wires)))
    root = page.tagged("facechain/body/v1", sizes, leaves)
    return resealed(replace(busy_block().header, body_root=root)), page.encode([wires])


def test_flipped_bits_of_statements_in_blocks_that_commit_to_them() -> None:
    pair = replace(asert_pair(), verdicts=Counter())
    wires: list[bytes] = page.decode(page.BODY, busy_block().body.encode())[0]
    for number, wire in enumerate(wires):
        for part, data in enumerate(page.decode(page.WIRE, wire)):
            for at in range(0, len(data), 3):
                parts = page.decode(page.WIRE, wire)
                parts[part] = flipped(data, at, at % 8)
                sealed, body = remade(pair, [*wires[:number], page.encode(parts), *wires[number + 1 :]])
                assert pair.judge(sealed, body, f"statement {number}, part {part}, byte {at}") is not None
    pair.count(350)
    assert {found[0] for found in pair.verdicts} == {"decode-error", "bad-signature", "payload-mismatch"}


# Statements that are signed anew


def signed_again(key: LedgerKey, network: bytes, header: list[Any], payload: bytes) -> bytes:
    """Return the wire form of a statement with these header fields."""
    raw = page.encode([*header[:5], page.sha(payload) if header[5] is None else header[5], *header[6:]])
    return page.encode([raw, key.sign(Purpose.STATEMENT, network, page.sha(raw)), payload])


@dataclass
class Sample:
    """A good statement, open to changes: header fields (payload hash nil: the true one), payload fields."""

    key: LedgerKey
    header: list[Any]
    payload: list[Any]


@cache
def samples() -> dict[Kind, Sample]:
    """Return a statement of every kind that fits on the chain of `asert_pair`."""
    pair = asert_pair()
    chain = pair.chain
    stages = [
        (item, block.header.height)
        for block in chain.blocks.values()
        for item in block.body.statements
        if item.kind in {Kind.IMAGE_BATCH, Kind.STAGE}
    ]
    by_s1 = next(item for item, _ in stages if item.author == S1.public)
    admin, viewer = FRESH[7], FRESH[8]
    payload, batch = make_batch(2, name="sample")
    (opened,) = chain.tip.body.statements
    chain._waiting.clear()
    made: dict[Kind, tuple[LedgerKey, AnyPayload]] = {
        Kind.IMAGE_BATCH: (S0, payload),
        Kind.STAGE: (S0, make_stage(StageType.FILTER, by_s1.id, by_s1.id, a="b", c="")),
        Kind.ROLE_PROPOSAL: (A1, grant(Role.VIEWER, STRANGER)),
        Kind.ROLE_APPROVAL: (admin, RoleApproval(proposal=opened.id)),
        Kind.KEY_ROTATE: (S0, rotation(S0, FRESH[11], chain.network_id)),
        Kind.VIEW_GRANT: (S1, view(by_s1.id, viewer.public, b"wrapped")),
        Kind.RETRACT: (S1, Retract(target=by_s1.id, record=1, reason="none")),
        Kind.ATTESTATION: (viewer, attest(by_s1.id, 1, seed("pixels"), "seen")),
        Kind.CHECKPOINT: (A1, Checkpoint(height=5, block_hash=chain.tree.active[5].hash)),
        Kind.CANCEL: (S1, Cancel(note="none")),
        Kind.PROTOCOL_UPGRADE: (A1, ProtocolUpgrade(version=3, activation_height=chain.height + 2)),
    }
    found = {}
    for kind, (key, content) in made.items():
        chain._waiting.clear()
        statement = chain.statement(key, content, batch=batch if kind is Kind.IMAGE_BATCH else None)
        fields = page.decode(page.STATEMENT, statement.header_bytes)
        fields[5] = None
        found[kind] = Sample(key, fields, page.decode(page.PAYLOADS[kind], statement.payload))
    return found


def judge_wire(pair: Pair, wire: bytes, what: str) -> str | None:
    """Judge a block with one statement, under the true state root when the project's code has one."""
    try:
        block = pair.chain.forge([Statement.decode(wire)], key=P0)
    except ConsensusError:
        sealed, body = remade(pair, [wire])
        return pair.judge(sealed, body, what)
    return pair.judge_block(block, what)


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.label)
def test_changed_payloads(kind: Kind) -> None:
    sample = samples()[kind]
    pair, network = replace(asert_pair(), verdicts=Counter()), asert_pair().chain.network_id

    def judge(payload: bytes, what: str) -> str | None:
        return judge_wire(pair, signed_again(sample.key, network, sample.header, payload), what)

    raw = page.encode(sample.payload)
    assert judge(raw, "untouched") is None
    for at in range(len(sample.payload)):
        for odd in ODD[at % 2 :: 2]:
            judge(page.encode([*sample.payload[:at], odd, *sample.payload[at + 1 :]]), f"field {at}: {odd!r}")
    for at in range(0, len(raw), 1 + len(raw) // 30):
        judge(flipped(raw, at, at % 8), f"byte {at}")
    for what, other in (
        *(
            ("one more", page.encode([*sample.payload, None])),
            ("one fewer", page.encode(sample.payload[:-1])),
        ),
        *(("longer", raw + b"\0"), ("empty", b""), ("long form", b"\xdc\0" + bytes([raw[0] & 15]) + raw[1:])),
    ):
        assert judge(other, what) == "bad-payload"
    pair.count(35)


@pytest.mark.parametrize("kind", [Kind.IMAGE_BATCH, Kind.STAGE], ids=lambda kind: kind.label)
def test_changed_statement_headers(kind: Kind) -> None:
    sample = samples()[kind]
    pair, network = replace(asert_pair(), verdicts=Counter()), asert_pair().chain.network_id
    payload = page.encode(sample.payload)

    def judge(header: list[Any], what: str) -> str | None:
        return judge_wire(pair, signed_again(sample.key, network, header, payload), what)

    for at in range(7):
        for odd in ODD[at % 2 :: 2]:
            if (at, odd) != (5, None):
                judge([*sample.header[:at], odd, *sample.header[at + 1 :]], f"field {at}: {odd!r}")
    for at in range(15 if kind is Kind.IMAGE_BATCH else 0):
        batch = sample.header[6]
        for odd in ODD[at % 2 :: 2]:
            judge([*sample.header[:6], [*batch[:at], odd, *batch[at + 1 :]]], f"batch field {at}: {odd!r}")
    for what, header in (("more", [*sample.header, None]), ("fewer", sample.header[:6])):
        assert judge(header, what) == "decode-error"
    pair.count(170)


def test_the_last_value_that_fits_and_the_first_that_does_not() -> None:
    pair, network = replace(asert_pair(), verdicts=Counter()), asert_pair().chain.network_id
    cases: list[tuple[Kind, int, Any, str | None]] = [
        *((Kind.CANCEL, 0, "a" * size, code) for size, code in ((512, None), (513, "bad-payload"))),
        *((Kind.RETRACT, 2, "a" * size, code) for size, code in ((512, None), (513, "bad-payload"))),
        *((Kind.STAGE, 3, "a" * size, code) for size, code in ((128, None), (129, "bad-payload"))),
        *((Kind.VIEW_GRANT, 2, bytes(size), code) for size, code in ((512, None), (513, "bad-payload"))),
        (Kind.STAGE, 4, [["a", ""], ["b", ""]], None),
        (Kind.STAGE, 4, [["a", ""], ["a", ""]], "bad-payload"),
        (Kind.STAGE, 4, [["a" * 64, "b" * 1024]], None),
        (Kind.STAGE, 4, [["a" * 65, ""]], "bad-payload"),
        (Kind.STAGE, 4, [["a", "b" * 1025]], "bad-payload"),
        *(
            (Kind.STAGE, 4, [[f"{n:02}", ""] for n in range(size)], code)
            for size, code in ((64, None), (65, "bad-payload"))
        ),
        *(
            (Kind.STAGE, 2, samples()[Kind.STAGE].payload[2][:1] * n, c)
            for n, c in ((16, None), (17, "bad-payload"))
        ),
    ]
    for kind, at, value, code in cases:
        one = samples()[kind]
        payload = page.encode([*one.payload[:at], value, *one.payload[at + 1 :]])
        assert judge_wire(pair, signed_again(one.key, network, one.header, payload), kind.label) == code
    one = samples()[Kind.IMAGE_BATCH]
    for part, parts, code in ((0, 0, "decode-error"), (7, 7, "decode-error"), (6, 7, None)):
        header = [*one.header[:6], [*one.header[6][:13], part, parts]]
        wire = signed_again(one.key, network, header, page.encode(one.payload))
        assert judge_wire(pair, wire, "part") == code
    pair.count(20)


def test_every_kind_by_every_author() -> None:
    pair, network = replace(asert_pair(), verdicts=Counter()), asert_pair().chain.network_id
    for kind, sample in samples().items():
        for key in (A0, A1, A2, P0, S0, S1, FRESH[7], FRESH[8], STRANGER):
            for off in (0, 1)[: 1 + (kind is Kind.CANCEL)]:
                sequence = pair.chain.view().next_sequence(key.public) + off
                header = [sample.header[0], key.public, sequence, *sample.header[3:]]
                payload = sample.payload
                if kind is Kind.KEY_ROTATE:
                    agreed = rotation(key, FRESH[11], network)
                    payload = [agreed.new_key, agreed.consent]
                wire = signed_again(key, network, header, page.encode(payload))
                judge_wire(pair, wire, f"{kind.label} by another")
    for until in (0, pair.chain.height, pair.chain.height + 1):
        sample = samples()[Kind.CANCEL]
        header = [*sample.header[:4], until, *sample.header[5:]]
        found = judge_wire(
            pair, signed_again(sample.key, network, header, page.encode(sample.payload)), "until"
        )
        assert found == (None if until > pair.chain.height else "expired-statement")
    pair.count(11 * 9)
    assert {"unauthorized-author", "bad-sequence", None} <= {found[0] for found in pair.verdicts}
