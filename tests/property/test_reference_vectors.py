"""The golden vectors hold for the page's second implementation."""

from __future__ import annotations

from typing import Any

import pytest

from facechain.consensus.errors import RULES
from facechain.consensus.kinds import Kind
from support import reference_rules as page
from support.agreement import (
    asert_pair,
)
from support.reference import Reference, Rejected
from support.vectors import load

# Golden vectors


def unhex(value: str | None) -> bytes | None:
    return None if value is None else bytes.fromhex(value)


def test_vectors_of_hashes_and_trees() -> None:
    for case in load("tagged_hash")["cases"]:
        assert page.tagged(case["tag"], *map(bytes.fromhex, case["parts"])).hex() == case["hash"]
    merkle = load("merkle")
    leaves = [bytes.fromhex(leaf) for leaf in merkle["leaves"]]
    for size, root in enumerate(merkle["roots"], start=1):
        history = page.History()
        for leaf in leaves[:size]:
            history = history.append(leaf)
        assert page.merkle(leaves[:size]).hex() == history.root().hex() == root
    for case in load("sparse")["cases"]:
        entries = {bytes.fromhex(key): bytes.fromhex(value) for key, value in case["entries"]}
        assert page.sparse_root(entries).hex() == case["root"]
    for case in load("records")["cases"]:
        packed = bytes.fromhex(case["packed"])
        assert page.merkle([packed[at : at + 70] for at in range(0, len(packed), 70)]).hex() == case["root"]
    for case in load("latents")["cases"]:
        assert (
            page.latent(bytes.fromhex(case["seed"]), case["index"], len(case["integers"])) == case["integers"]
        )
    black = load("images")["cases"][0]
    assert page.pixel_hash(1, 1, bytes(3)).hex() == black["pixel_hash"]


def test_vectors_of_signatures() -> None:
    judged = 0
    for name in ("ed25519_rfc8032", "ed25519_speccheck"):
        for case in load(name)["cases"]:
            parts = [bytes.fromhex(case[part]) for part in ("public_key", "signature", "message")]
            assert page.verify(*parts) == case["valid"], case
            judged += 1
    for case in load("ed25519_cctv")["cases"]:
        key, signature = bytes.fromhex(case["public_key"]), bytes.fromhex(case["signature"])
        refused = {"low_order_R", "low_order_A", "non_canonical_R", "non_canonical_A"} & set(case["flags"])
        if refused:
            assert not page.verify(key, signature, case["message"].encode())
            judged += 1
    signing = load("signing")
    for case in signing["cases"]:
        message = page.to_sign(
            case["purpose"], bytes.fromhex(signing["network_id"]), *map(bytes.fromhex, case["parts"])
        )
        assert message.hex() == case["message"]
        assert page.verify(bytes.fromhex(signing["public_key"]), bytes.fromhex(case["signature"]), message)
    assert judged > 20


def test_vectors_of_work() -> None:
    for case in load("bits")["cases"]:
        bits = int(case["bits"], 16)
        if case["target"] is None:
            with pytest.raises(Rejected):
                page.to_target(bits)
        else:
            assert page.to_target(bits) == int(case["target"], 16)
    vectors = load("asert")
    limit = int(vectors["pow_limit_bits"], 16)
    for run in vectors["runs"]:
        anchor = {"anchor": int(run["anchor_bits"], 16), "limit": limit}
        for height, time, bits in run["rows"]:
            elapsed, blocks = time - run["anchor_parent_time"], height - run["anchor_height"]
            for unit in (1, 1_000):
                ideal = {"spacing": 600 * unit, "half_life": 172_800 * unit, "elapsed": elapsed * unit}
                assert page.asert(**anchor, **ideal, blocks=blocks) == int(bits, 16)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return int(value["uint"]) if "uint" in value else bytes.fromhex(value["bin"])
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_vectors_of_encoding_and_structures() -> None:
    def anything(_value: Any) -> bool:
        return True

    vectors = load("encoding")
    for case in vectors["cases"]:
        raw = bytes.fromhex(case["encoding"])
        assert page.encode(plain(case["value"])) == raw
        assert page.decode(anything, raw) == plain(case["value"])
    for case in vectors["refused"]:
        with pytest.raises(Rejected):
            page.decode(anything, bytes.fromhex(case["encoding"]))
    vectors = load("statements")
    network = bytes.fromhex(vectors["network_id"])
    assert {case["kind"] for case in vectors["cases"]} == {kind.label for kind in Kind}
    for case in vectors["cases"]:
        one = page.parse_statement(bytes.fromhex(case["wire"]))
        assert (one.id.hex(), one.leaf.hex(), one.payload.hex()) == (
            case["id"],
            case["leaf"],
            case["payload"],
        )
        assert page.verify(one.author, one.signature, page.to_sign("statement", network, one.id))
        assert page.encode(page.parse_payload(one, network)) == one.payload
    commitment = vectors["seed_commitment"]
    assert page.seed_commitment(bytes.fromhex(commitment["seed"])).hex() == commitment["commitment"]
    vectors = load("blocks")
    assert page.sha(bytes.fromhex(vectors["header"])).hex() == vectors["hash"]
    for case in vectors["bodies"]:
        statements = page.parse_body(bytes.fromhex(case["body"]))
        assert [one.leaf.hex() for one in statements] == case["leaves"]
        assert page.body_root(statements).hex() == case["root"]


def test_the_chain_of_the_vectors() -> None:
    vectors = load("chain")
    reference = Reference(bytes.fromhex(vectors["genesis"]))
    assert reference.network.hex() == vectors["network_id"]
    for number, block in enumerate(vectors["blocks"]):
        if number:
            reference.accept(bytes.fromhex(block["sealed"]), bytes.fromhex(block["body"]))
        assert (reference.height, reference.tip_hash.hex()) == (block["height"], block["hash"])
        assert reference.chainwork == int(block["chainwork"])
    assert reference.height > 4


def test_every_code_is_a_rule_of_the_table() -> None:
    judged = {found[0] for found in asert_pair().verdicts}
    assert judged <= {None, "decode-error", *RULES}
