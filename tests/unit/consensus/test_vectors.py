"""The golden vectors: the code makes the same ones, and a reader written from the page alone agrees with them.

The second half imports nothing of `facechain`: only hashlib, struct, msgpack and PyNaCl.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any

import msgpack
import pytest
from nacl.signing import VerifyKey

from support.vectors import VECTORS, load
from vectors import make_vectors


@pytest.mark.parametrize("name", make_vectors.FILES)
def test_code_makes_the_same_vectors(name: str) -> None:
    made = json.loads(make_vectors._text(make_vectors.FILES[name]()))
    assert made == load(name), "the protocol changed: draft number, page and vectors belong into one commit"


def test_every_file_says_where_it_is_from() -> None:
    for path in VECTORS.glob("*.json"):
        assert load(path.stem)["source"], path


# -- a reader that has only docs/protocol.md


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tagged(tag: str, *parts: bytes) -> bytes:
    return sha(bytes([len(tag)]) + tag.encode() + b"".join(parts))


def tree(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\x00" + leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha(b"\x01" + tree(leaves[:split]) + tree(leaves[split:]))


def sparse(entries: dict[bytes, bytes], depth: int = 0) -> bytes:
    if not entries:
        return bytes(32)
    if len(entries) == 1:
        ((key, value),) = entries.items()
        return sha(b"\x00" + key + sha(value))
    sides: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for key, value in entries.items():
        sides[key[depth // 8] >> (7 - depth % 8) & 1][key] = value
    return sha(b"\x01" + sparse(sides[0], depth + 1) + sparse(sides[1], depth + 1))


def signed(public: bytes, signature: bytes, purpose: str, network: bytes, part: bytes) -> None:
    VerifyKey(public).verify(f"facechain/{purpose}/v1".encode() + network + part, signature)


def header_fields(data: bytes) -> dict[str, Any]:
    names = (
        "version",
        "height",
        "previous",
        "body_root",
        "state_root",
        "time_ms",
        "bits",
        "producer",
        "nonce",
    )
    return dict(zip(names, struct.unpack(">IQ32s32s32sQI32sQ", data), strict=True))


def statements_of(body: bytes) -> list[list[bytes]]:
    (items,) = msgpack.unpackb(body)
    return [msgpack.unpackb(item) for item in items]


def body_root(body: bytes) -> bytes:
    (items,) = msgpack.unpackb(body)
    leaves = [sha(header + signature) for header, signature, _ in map(msgpack.unpackb, items)]
    counts = struct.pack(">QQ", len(items), sum(map(len, items)))
    return tagged("facechain/body/v1", counts, tree(leaves))


def from_json(value: Any) -> object:
    if isinstance(value, dict):
        return bytes.fromhex(value["bin"]) if "bin" in value else int(value["uint"])
    return [from_json(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("row", load("encoding")["cases"], ids=lambda row: row["encoding"][:20])
def test_encoding(row: dict[str, Any]) -> None:
    assert msgpack.packb(from_json(row["value"])).hex() == row["encoding"]


@pytest.mark.parametrize("row", load("latents")["cases"])
def test_latents(row: dict[str, Any]) -> None:
    message = b"facechain/latent/v1" + bytes.fromhex(row["seed"]) + struct.pack(">I", row["index"])
    words = struct.unpack(">192H", hashlib.shake_256(message).digest(384))
    assert [sum(words[12 * k : 12 * k + 12]) - 393_210 for k in range(16)] == row["integers"]


@pytest.mark.parametrize("row", load("images")["cases"], ids=lambda row: row["name"])
def test_images(row: dict[str, Any]) -> None:
    data = bytes.fromhex(row["file"])
    assert sha(data).hex() == row["file_hash"]
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    assert (width, height, depth) == (row["width"], row["height"], 8)
    raw = zlib.decompress(data[41 : 41 + struct.unpack_from(">I", data, 33)[0]])
    channels = 3 if colour == 2 else 1
    stride = width * channels + 1
    samples = b"".join(raw[at + 1 : at + stride] for at in range(0, len(raw), stride))
    rgb = samples if channels == 3 else b"".join(bytes([grey] * 3) for grey in samples)
    assert tagged("facechain/pixels/v1", struct.pack(">II", width, height), rgb).hex() == row["pixel_hash"]


@pytest.mark.parametrize("row", load("records")["cases"])
def test_records(row: dict[str, Any]) -> None:
    packed = bytes.fromhex(row["packed"])
    assert tree([packed[at : at + 70] for at in range(0, len(packed), 70)]).hex() == row["root"]


def test_statements() -> None:
    vectors = load("statements")
    network = bytes.fromhex(vectors["network_id"])
    for number, row in enumerate(vectors["cases"], start=1):
        header, signature, payload = msgpack.unpackb(bytes.fromhex(row["wire"]))
        kind, author, sequence, _claimed, until, payload_hash, batch = msgpack.unpackb(header)
        assert (kind, sequence, until) == (number, number, 1_000 * number)
        assert sha(payload) == payload_hash
        assert sha(header).hex() == row["id"]
        assert sha(header + signature).hex() == row["leaf"]
        signed(author, signature, "statement", network, sha(header))
        assert (batch is not None) == (kind == 1)
        if batch is not None:
            packed, perceptual, opened = msgpack.unpackb(payload)
            assert batch[0] == len(packed) // 70
            assert batch[1] == tree([packed[at : at + 70] for at in range(0, len(packed), 70)])
            assert batch[2] == tree([perceptual[at : at + 32] for at in range(0, len(perceptual), 32)])
            assert batch[9] == tagged("facechain/seed/v1", opened)
            assert batch[12] == tagged("facechain/batch-group/v1", batch[1])
    group = vectors["group"]
    roots = [bytes.fromhex(item) for item in group["records_roots"]]
    assert tagged("facechain/batch-group/v1", *roots).hex() == group["id"]


def test_blocks() -> None:
    vectors = load("blocks")
    header, sealed = bytes.fromhex(vectors["header"]), bytes.fromhex(vectors["sealed"])
    fields = header_fields(header)
    assert fields["nonce"] == 0x2122232425262728
    assert sha(header).hex() == vectors["hash"]
    assert sealed[:160] == header
    signed(fields["producer"], sealed[160:], "seal", bytes.fromhex(vectors["network_id"]), sha(header))
    for row in vectors["bodies"]:
        assert body_root(bytes.fromhex(row["body"])).hex() == row["root"]


def test_genesis() -> None:
    vectors = load("chain")
    unsigned, signatures = msgpack.unpackb(bytes.fromhex(vectors["genesis"]))
    network = sha(unsigned)
    assert network.hex() == vectors["network_id"]
    tag, draft, name, params, time_ms, administrators, grants = msgpack.unpackb(unsigned)
    assert (tag, draft, name, len(params)) == ("facechain/genesis/v1", 2, "vectors", 14)
    for public, signature in zip(administrators, signatures, strict=True):
        signed(public, signature, "genesis", network, b"")
    entries = {b"n": network, b"a": b"".join(administrators)}
    roles = {b"r\x01" + key: msgpack.packb([[[1, 2**64 - 1]], None, None]) for key in administrators}
    for role, key in grants:
        roles[b"r" + bytes([role]) + key] = msgpack.packb([[[1, 2**64 - 1]], None, None])
    roles[b"a"] = entries.pop(b"a")
    sub_roots = [
        sparse({sha(key): value for key, value in entries.items()}),
        sparse({sha(key): value for key, value in roles.items()}),
        bytes(32),
        bytes(32),
        sha(b""),
        sha(b""),
    ]
    first = header_fields(bytes.fromhex(vectors["blocks"][0]["sealed"])[:160])
    assert state_root(vectors["sub_root_names"], sub_roots) == first["state_root"]
    assert (first["previous"], first["time_ms"], first["bits"]) == (network, time_ms, params[3])
    assert (first["producer"], first["nonce"], first["height"]) == (bytes(32), 0, 0)


def state_root(names: list[str], roots: list[bytes]) -> bytes:
    return tree([msgpack.packb([name, root]) for name, root in zip(names, roots, strict=True)])


def test_chain_of_headers_and_bodies() -> None:
    vectors = load("chain")
    network, previous, chainwork = bytes.fromhex(vectors["network_id"]), None, 0
    hashes: list[bytes] = []
    for row in vectors["blocks"]:
        sealed, body = bytes.fromhex(row["sealed"]), bytes.fromhex(row["body"])
        fields = header_fields(sealed[:160])
        block_hash = sha(sealed[:160])
        roots = [bytes.fromhex(item) for item in row["sub_roots"]]
        assert block_hash.hex() == row["hash"]
        assert fields["body_root"] == body_root(body)
        assert fields["state_root"] == state_root(vectors["sub_root_names"], roots)
        assert roots[4] == tree(hashes)
        if previous is not None:
            assert fields["previous"] == previous
            target = (fields["bits"] & 0x7FFFFF) << 8 * ((fields["bits"] >> 24) - 3)
            assert int.from_bytes(block_hash, "big") < target
            chainwork += 2**256 // target
            signed(fields["producer"], sealed[160:], "seal", network, block_hash)
        assert chainwork == row["chainwork"]
        for header, signature, _payload in statements_of(body):
            signed(msgpack.unpackb(header)[1], signature, "statement", network, sha(header))
        previous = block_hash
        hashes.append(block_hash)


def test_entries_of_the_last_state() -> None:
    vectors = load("chain")
    last = vectors["blocks"][-1]
    for at, part in enumerate(vectors["sub_root_names"][:4]):
        entries = {
            sha(bytes.fromhex(row["key"])): bytes.fromhex(row["value"])
            for row in vectors["entries"]
            if row["part"] == part
        }
        assert sparse(entries).hex() == last["sub_roots"][at], part


def test_proofs_under_the_last_state() -> None:
    vectors = load("chain")
    last = vectors["blocks"][-1]
    roots = dict(zip(vectors["sub_root_names"], last["sub_roots"], strict=True))
    for row in vectors["proofs"]:
        siblings, terminal = msgpack.unpackb(bytes.fromhex(row["proof"]))
        path = int(row["path"], 16)
        assert sha(bytes.fromhex(row["key"])).hex() == row["path"]
        current = bytes(32) if terminal is None else sha(b"\x00" + terminal)
        count = len(siblings) // 32
        for number in range(count):
            sibling = siblings[32 * number : 32 * number + 32]
            goes_right = path >> (255 - (count - 1 - number)) & 1
            current = sha(b"\x01" + (sibling + current if goes_right else current + sibling))
        assert current.hex() == roots[row["part"]]
        found = bytes.fromhex(row["path"]) + sha(bytes.fromhex(row["value"])) if row["value"] else None
        assert terminal == found or (found is None and terminal[:32].hex() != row["path"])
    hashes = [bytes.fromhex(row["hash"]) for row in vectors["blocks"][:-1]]
    for row in vectors["history_proofs"]:
        proof = [bytes.fromhex(item) for item in row["proof"]]
        found = root_from(proof, row["height"], len(hashes), sha(b"\x00" + hashes[row["height"]]))
        assert found.hex() == roots["history"]


def root_from(proof: list[bytes], index: int, size: int, leaf: bytes) -> bytes:
    if size == 1:
        return leaf
    split = 1 << (size - 1).bit_length() - 1
    if index < split:
        return sha(b"\x01" + root_from(proof[:-1], index, split, leaf) + proof[-1])
    return sha(b"\x01" + proof[-1] + root_from(proof[:-1], index - split, size - split, leaf))
