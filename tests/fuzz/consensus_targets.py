"""Targets of `consensus/`: everything that a stranger's bytes can reach, and what the store keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from facechain.consensus import merkle, sparse
from facechain.consensus.block import Body, Header, SealedHeader
from facechain.consensus.encoding import pack, unpack
from facechain.consensus.errors import DecodeError, ProofError
from facechain.consensus.evidence import Evidence
from facechain.consensus.image import ImageRejected, decode_for_look, decode_image, pixel_hash
from facechain.consensus.kinds import Kind
from facechain.consensus.kv import Delta
from facechain.consensus.light import ProvenHeader
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import ImageBatch, decode_payload
from facechain.consensus.perceptual import perceptual_hash
from facechain.consensus.proof_files import (
    RoleFile,
    decode_headers_file,
    encode_headers_file,
    verify_role_file,
)
from facechain.consensus.proofs import read_checkpoint, verify_evidence
from facechain.consensus.records import Record, Records
from facechain.consensus.sparse import SparseProof
from facechain.consensus.state import ProposalEntry, RoleEntry, StageEntry
from facechain.consensus.state_proof import HeaderProof, RoleProof
from facechain.consensus.statement import Statement, StatementHeader
from facechain.consensus.story import tell_story
from facechain.consensus.upgrade import Schedule
from facechain.consensus.work import bits_to_target, target_to_bits
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder, make_batch, make_genesis
from support.statements import sample_payloads
from support.vectors import load

from .target import MIB, MULTIPLE, STORED_MULTIPLE, Disagreement, Form, Target

LIMIT: Final = MIB
HASH: Final = 32
IMAGE_BYTES: Final = 16 * MIB
"""Room for pictures: a file of some bytes may hold 16 million pixels of one colour, which the limits allow."""


@cache
def _chain() -> ChainBuilder:
    """A block with a statement in it, and a batch that waits."""
    chain = ChainBuilder()
    payloads = sample_payloads(PRODUCER, SUBMITTER, chain.network_id)
    chain.mine([chain.statement(ADMIN, payloads[Kind.CANCEL], sequence=0)])
    return chain


@cache
def _batch() -> Statement:
    payload, header = make_batch(3, name="sample")
    return _chain().statement(PRODUCER, payload, batch=header, sequence=0)


def _structure(
    name: str,
    cls: Any,
    seeds: Callable[[], Sequence[bytes]],
    *,
    decode: Callable[[bytes], object] | None = None,
    multiple: int = MULTIPLE,
) -> Target:
    """Return the target of a class with `decode` and `encode`."""
    return Target(
        name=name,
        read=decode or cls.decode,
        encode=cls.encode,
        refusals=(DecodeError,),
        seeds=seeds,
        multiple=multiple,
    )


def _payload(kind: Kind) -> Target:
    def read(data: bytes) -> object:
        payload = decode_payload(kind, data)
        if isinstance(payload, ImageBatch):
            payload.perceptual_root()
            payload.records.root()
        return payload

    return Target(
        name=f"payload-{kind.label}",
        read=read,
        encode=lambda payload: bytes(payload.encode()),
        refusals=(DecodeError,),
        seeds=lambda: (sample_payloads(PRODUCER, SUBMITTER, _chain().network_id)[kind].encode(),),
    )


def _read_records(data: bytes) -> bytes:
    return b"".join(record.encode() for record in Records(data))


def _evidence_seeds() -> tuple[bytes, ...]:
    return (bytes.fromhex(load("evidence")["proof"]),)


def _read_verdict(data: bytes) -> None:
    """Walk the layers, which never raise; the story is told of evidence that holds, and of any that might."""
    evidence = Evidence.decode(data)
    verdict = verify_evidence(evidence)
    try:
        tell_story(evidence)
    except DecodeError:
        if verdict.is_verified:
            raise Disagreement("verified evidence without a story") from None


def _light_seeds(rows: str, column: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(row[column]) for row in load("light")[rows][:3])


def _role_file_seeds() -> tuple[bytes, ...]:
    genesis = bytes.fromhex(load("light")["genesis"])
    return tuple(
        RoleFile(genesis=genesis, proof=RoleProof.decode(proof)).encode()
        for proof in _light_seeds("role_proofs", "proof")
    )


def _read_role_file(data: bytes) -> RoleFile:
    file = RoleFile.decode(data)
    with suppress(ProofError, DecodeError):
        verify_role_file(file)
    return file


def _headers_file_seeds() -> tuple[bytes, ...]:
    genesis = Genesis.decode(bytes.fromhex(load("light")["genesis"]))
    items = [ProvenHeader.decode(item) for item in _light_seeds("headers", "proven")]
    return encode_headers_file(genesis, items), encode_headers_file(genesis, ())


def _read_headers_file(data: bytes) -> tuple[Genesis, list[ProvenHeader]]:
    genesis, items = decode_headers_file(data)
    return genesis, list(items)


def _read_role_proof(data: bytes) -> RoleProof:
    proof = RoleProof.decode(data)
    with suppress(ProofError, DecodeError):
        proof.held_at(1)
    return proof


def _read_header_proof(data: bytes) -> HeaderProof:
    proof = HeaderProof.decode(data)
    with suppress(ProofError):
        proof.check()
    return proof


def _read_sparse_proof(data: bytes) -> SparseProof:
    proof = SparseProof.decode(data)
    root = bytes([1]) * HASH
    with suppress(ProofError):
        sparse.check_absence(root, bytes(HASH), proof)
        raise Disagreement("a proof under a root that no tree has")
    with suppress(ProofError):
        sparse.check_membership(root, bytes(HASH), b"", proof)
        raise Disagreement("a proof under a root that no tree has")
    return proof


def _sparse_seeds() -> tuple[bytes, ...]:
    leaf = (bytes([7]) * HASH, bytes([8]) * HASH)
    return (
        SparseProof(siblings=(bytes([1]) * HASH, bytes([2]) * HASH), terminal=leaf).encode(),
        SparseProof(siblings=(bytes([1]) * HASH,), terminal=None).encode(),
    )


def _read_merkle_proof(data: bytes) -> None:
    """First sizes and index, then hashes: the input as both kinds of proofs."""
    index, size = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big")
    hashes = [data[start : start + HASH] for start in range(16, len(data), HASH)] or [b""]
    try:
        merkle.check_inclusion(leaf=hashes[0], index=index, size=size, proof=hashes[1:-1], root=hashes[-1])
    except ProofError:
        merkle.check_consistency(
            old_size=index, new_size=size, old_root=hashes[0], new_root=hashes[-1], proof=hashes[1:-1]
        )


def _merkle_seeds() -> tuple[bytes, ...]:
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(7)]
    sizes = (3).to_bytes(8, "big") + (7).to_bytes(8, "big")
    path = merkle.consistency_proof(leaves, 3)
    return (
        (0).to_bytes(8, "big") + (1).to_bytes(8, "big") + leaves[0],
        sizes + b"".join((merkle.root(leaves[:3]), *path, merkle.root(leaves))),
    )


def _read_image(data: bytes) -> None:
    pixels = decode_image(data)
    if len(pixels.rgb) != 3 * pixels.width * pixels.height:
        raise Disagreement(f"{pixels.width} x {pixels.height} pixels in {len(pixels.rgb)} bytes")
    pixel_hash(pixels)
    perceptual_hash(pixels)


def _read_look(data: bytes) -> None:
    pixels = decode_for_look(data)
    if pixels is not None:
        perceptual_hash(pixels)


def _image_seeds() -> tuple[bytes, ...]:
    from fuzz.pictures import sample_images

    return (*(bytes.fromhex(case["file"]) for case in load("images")["cases"]), *sample_images())


def _look_seeds() -> tuple[bytes, ...]:
    from fuzz.pictures import sample_pictures

    return sample_pictures()


def _sample(cls: Any, **fields: Any) -> Callable[[], Sequence[bytes]]:
    return lambda: (cls(**fields).encode(),)


TARGETS: Final = (
    Target(
        name="value",
        read=lambda data: unpack(data, max_bytes=LIMIT),
        encode=pack,
        refusals=(DecodeError,),
        seeds=lambda: tuple(bytes.fromhex(row["encoding"]) for row in load("encoding")["cases"]),
    ),
    _structure("header", Header, lambda: (_chain().tip.header.encode(),)),
    _structure("sealed-header", SealedHeader, lambda: (_chain().tip.sealed.encode(),)),
    _structure(
        "body",
        Body,
        lambda: (_chain().tip.body.encode(), Body((_batch(),)).encode(), Body(()).encode()),
        decode=lambda data: Body.decode(data, max_bytes=LIMIT),
    ),
    _structure("statement", Statement, lambda: (_batch().encode(), _chain().tip.body.statements[0].encode())),
    _structure("statement-header", StatementHeader, lambda: (_batch().header_bytes,)),
    *(_payload(kind) for kind in Kind),
    _structure("record", Record, lambda: (bytes(range(70)),)),
    Target(
        name="records",
        read=_read_records,
        encode=bytes,
        refusals=(DecodeError,),
        seeds=lambda: (bytes(140), b""),
        form=Form.BYTES,
    ),
    _structure(
        "role-entry",
        RoleEntry,
        _sample(RoleEntry, intervals=((1, 2), (3, 2**64 - 1)), encryption_key=bytes(HASH), suspect_since=3),
    ),
    _structure(
        "proposal-entry",
        ProposalEntry,
        _sample(ProposalEntry, payload=b"p", height=1, approvals=(bytes(HASH),) * 2, effective_height=0),
    ),
    _structure(
        "stage-entry",
        StageEntry,
        _sample(StageEntry, kind=Kind.STAGE, stage_type=2, height=1, author=bytes(HASH)),
    ),
    _structure(
        "delta",
        Delta,
        lambda: (_chain().deltas[_chain().tip.hash].encode(), Delta(changes=()).encode()),
        multiple=STORED_MULTIPLE,
    ),
    _structure("genesis", Genesis, lambda: (make_genesis().encode(),)),
    _structure("sparse-proof", SparseProof, _sparse_seeds, decode=_read_sparse_proof),
    Target(
        name="merkle-proof",
        read=_read_merkle_proof,
        refusals=(ProofError,),
        seeds=_merkle_seeds,
        form=Form.BYTES,
    ),
    Target(
        name="evidence",
        read=Evidence.decode,
        encode=lambda evidence: bytes(evidence.encode()),
        refusals=(DecodeError,),
        seeds=_evidence_seeds,
        max_bytes=16_384,
    ),
    Target(
        name="verdict", read=_read_verdict, refusals=(DecodeError,), seeds=_evidence_seeds, max_bytes=16_384
    ),
    _structure("proven-header", ProvenHeader, lambda: _light_seeds("headers", "proven")),
    _structure(
        "role-proof", RoleProof, lambda: _light_seeds("role_proofs", "proof"), decode=_read_role_proof
    ),
    _structure(
        "header-proof", HeaderProof, lambda: _light_seeds("header_proofs", "proof"), decode=_read_header_proof
    ),
    _structure("role-file", RoleFile, _role_file_seeds, decode=_read_role_file),
    Target(
        name="headers-file",
        read=_read_headers_file,
        encode=lambda file: encode_headers_file(*file),
        refusals=(DecodeError,),
        seeds=_headers_file_seeds,
    ),
    _structure(
        "schedule",
        Schedule,
        lambda: (Schedule(decisions=1, version=1, following=2, activation_height=9).encode(),),
    ),
    Target(
        name="checkpoint-entry",
        read=read_checkpoint,
        encode=lambda entry: entry[0].to_bytes(8, "big") + entry[1],
        refusals=(DecodeError,),
        seeds=lambda: (bytes(40),),
        form=Form.BYTES,
    ),
    Target(
        name="bits",
        read=lambda data: bits_to_target(int.from_bytes(data, "big")),
        encode=lambda target: target_to_bits(target).to_bytes(4, "big"),
        refusals=(DecodeError,),
        seeds=lambda: (bytes.fromhex("1d00ffff"), bytes.fromhex("207fffff")),
        form=Form.BYTES,
        max_bytes=4,
    ),
    Target(
        name="image",
        read=_read_image,
        refusals=(ImageRejected,),
        seeds=_image_seeds,
        form=Form.IMAGE,
        constant_bytes=IMAGE_BYTES,
    ),
    Target(
        name="look",
        read=_read_look,
        refusals=(),
        seeds=_look_seeds,
        form=Form.IMAGE,
        constant_bytes=IMAGE_BYTES,
    ),
)
