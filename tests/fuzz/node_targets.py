"""Targets of `node/` below the files: the wire, the rows of the store, the API's parameters."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Final

from facechain.consensus.block import Body, SealedHeader
from facechain.consensus.encoding import as_bytes, as_list, pack, unpack
from facechain.consensus.errors import DecodeError, RuleViolation
from facechain.consensus.kinds import Kind
from facechain.consensus.statement import Statement
from facechain.node.api.parameters import read_hash, read_uint
from facechain.node.api.problems import ApiProblem
from facechain.node.api.read_handlers import read_block_name
from facechain.node.api.token import carries_token
from facechain.node.chain_index import Place, RecordPlace
from facechain.node.config_kinds import Endpoint, PeerPattern, PinnedBlock
from facechain.node.genesis_file import parse_param
from facechain.node.mining.worker import JOB, REPORT, Job, Report
from facechain.node.protocol.assembly import BodyAssembly
from facechain.node.protocol.peer_bans import Ban
from facechain.node.protocol.peer_entry import AddressEntry
from facechain.node.pruned_body import PrunedBody, RowSum
from facechain.node.runs.directory import Run, RunsDamaged
from facechain.node.wire.codec import decode, encode
from facechain.node.wire.faults import HandshakeError, PeerFault
from facechain.node.wire.handshake import Handshake
from facechain.node.wire.messages import (
    Address,
    Addresses,
    AnnounceBlock,
    BodyChunk,
    GetAddresses,
    GetBody,
    GetHeaders,
    GetLeaves,
    GetStatements,
    HandshakeRole,
    Headers,
    Inventory,
    Leaves,
    Message,
    Missing,
    NotFound,
    Ping,
    Pong,
    SendAnnouncements,
    Statements,
    Status,
)
from facechain.node.wire.session import Session
from support.chain import ADMIN, PRODUCER, SUBMITTER, ChainBuilder
from support.statements import sample_payloads
from support.vectors import load
from support.wire import local_node

from .target import STORED_MULTIPLE, Disagreement, Form, Target

HASH: Final = 32
MAX_FRAMES: Final = 16
FRAME_BYTES: Final = 65_536
RUN_BYTES: Final = 17
PARAMETERS: Final = {b"r": "retarget", b"b": "pow_limit_bits"}


@cache
def _chain() -> ChainBuilder:
    chain = ChainBuilder()
    payloads = sample_payloads(PRODUCER, SUBMITTER, chain.network_id)
    chain.mine(
        [chain.statement(ADMIN, payloads[Kind.CANCEL], sequence=0), chain.batch(PRODUCER, 2, name="wire")]
    )
    return chain


def _frames(data: bytes) -> list[bytes]:
    """Several frames are handed over as one array of byte strings."""
    items = as_list(unpack(data, max_bytes=FRAME_BYTES), "frames", max_items=MAX_FRAMES)
    return [as_bytes(item, "frame") for item in items]


def _handshake(role: HandshakeRole) -> Handshake:
    seed = 1 if role is HandshakeRole.RESPONDER else 2
    return Handshake(
        role=role, local=local_node(seed), nonce=bytes([seed]) * HASH, certificate_hash=bytes([9]) * HASH
    )


def _read_handshake(data: bytes) -> None:
    responder = _handshake(HandshakeRole.RESPONDER)
    for frame in _frames(data):
        try:
            responder.receive(frame)
        finally:
            for answer in responder.frames_to_send():
                decode(answer)


def _handshake_seeds() -> tuple[bytes, ...]:
    """What an initiator sends from the first frame to the last."""
    initiator, responder = _handshake(HandshakeRole.INITIATOR), _handshake(HandshakeRole.RESPONDER)
    sent = []
    while frames := initiator.frames_to_send():
        for frame in frames:
            sent.append(frame)
            responder.receive(frame)
        for answer in responder.frames_to_send():
            initiator.receive(answer)
    return (pack(sent),)


def _read_session(data: bytes) -> None:
    session = Session(0.0)
    for request in (
        Ping(nonce=7),
        GetHeaders(locator=(), stop_hash=bytes(HASH)),
        GetBody(block_hash=bytes(HASH), start=0, with_leaves=True),
        GetLeaves(block_hash=bytes(HASH)),
        GetLeaves(block_hash=bytes(HASH)),
        GetStatements(leaves=(bytes(HASH),)),
        GetAddresses(),
    ):
        session.outgoing(request, 0.0)
    for number, frame in enumerate(_frames(data)):
        session.incoming(frame, float(number))


def _session_seeds() -> tuple[bytes, ...]:
    replies: tuple[Message, ...] = (
        Pong(nonce=7),
        NotFound(missing=Missing.BODY, hashes=(bytes(HASH),)),
        NotFound(missing=Missing.STATEMENT, hashes=()),
        NotFound(missing=Missing.LEAVES, hashes=(bytes(HASH),)),
        Leaves(block_hash=bytes(HASH), byte_count=1, leaves=(bytes(HASH),)),
        SendAnnouncements(high_bandwidth=True),
    )
    return (pack([encode(reply) for reply in replies]),)


def _read_assembly(data: bytes) -> None:
    """A block's announcement, its leaves if that has none, then the chunks of its body."""
    messages = [decode(frame) for frame in _frames(data)]
    if not messages or not isinstance(first := messages[0], AnnounceBlock):
        raise DecodeError("frames", expected="an announcement first", got="another")
    assembly = BodyAssembly(SealedHeader.decode(first.sealed_header))
    if first.leaves or not first.byte_count:
        assembly.set_leaves(first.leaves, first.byte_count)
    for chunk in messages[1:]:
        if isinstance(chunk, Leaves):
            assembly.set_leaves(chunk.leaves, chunk.byte_count)
        elif isinstance(chunk, BodyChunk):
            assembly.add(chunk.start, [Statement.decode(item) for item in chunk.statements])
    block = assembly.block()
    if block is not None and block.body.root() != block.header.body_root:
        raise Disagreement("a body that is not its header's")


def _assembly_seeds() -> tuple[bytes, ...]:
    block = _chain().tip
    statements = [statement.encode() for statement in block.body.statements]
    announced = AnnounceBlock(
        sealed_header=block.sealed.encode(), byte_count=block.body.byte_count(), leaves=block.body.leaves()
    )
    chunks = [
        BodyChunk(block_hash=block.hash, leaves=(), byte_count=0, start=start, statements=(item,))
        for start, item in enumerate(statements)
    ]
    leaves = Leaves(block_hash=block.hash, byte_count=block.body.byte_count(), leaves=block.body.leaves())
    alone = replace(announced, leaves=())
    said = [encode(chunk) for chunk in chunks]
    return pack([encode(announced), *said]), pack([encode(alone), encode(leaves), *said])


def _frame_seeds() -> tuple[bytes, ...]:
    """The golden frames, and one of every other type."""
    block = _chain().tip
    announced, alone = [unpack(data, max_bytes=FRAME_BYTES) for data in _assembly_seeds()]
    messages: tuple[Message, ...] = (
        Status(tip_hash=block.hash, height=1, chainwork=bytes(HASH), pruned_below=0),
        Headers(sealed_headers=(block.sealed.encode(),)),
        Inventory(leaves=block.body.leaves()),
        Statements(statements=(block.body.statements[0].encode(),)),
        Addresses(addresses=(Address(host="node.example", port=7440, last_seen_ms=1),)),
        GetHeaders(locator=(block.hash,), stop_hash=bytes(HASH)),
        GetBody(block_hash=block.hash, start=1, with_leaves=True),
        GetLeaves(block_hash=block.hash),
        NotFound(missing=Missing.BODY, hashes=(block.hash,)),
        GetAddresses(),
    )
    golden = (bytes.fromhex(row["frame"]) for row in load("wire")["frames"])
    said = (
        as_bytes(frame, "frame")
        for frames in (announced, alone)
        for frame in as_list(frames, "frames", max_items=MAX_FRAMES)
    )
    return (*golden, *(encode(message) for message in messages), *said)


def _read_pruned(data: bytes) -> PrunedBody:
    """Read a row, and what is asked of it later."""
    body = PrunedBody.decode(data)
    body.root()
    for stub in body.stubs:
        try:
            stub.header.encode(), stub.statement()
        except DecodeError:
            continue
    return body


def _read_report(data: bytes) -> None:
    Report.decode(data.ljust(REPORT.size, b"\0")[: REPORT.size])


def _read_parameters(data: bytes) -> None:
    """The API's three kinds of parameters, as the URL gives them."""
    kind, text = data[:1], data[1:].decode("utf-8", "surrogateescape")
    match kind:
        case b"h":
            if len(read_hash(text, "hash")) != HASH:
                raise Disagreement("a hash of another size")
        case b"u":
            read_uint(text, "number")
        case _:
            read_block_name(text)


def _read_setting(data: bytes) -> None:
    """Values with a text form: what is written is read as the same."""
    kind, text = data[:1], data[1:].decode("utf-8", "replace")
    parsers: dict[bytes, Any] = {b"e": Endpoint, b"p": PinnedBlock, b"n": PeerPattern}
    if kind in parsers:
        try:
            value = parsers[kind].parse(text)
        except ValueError:
            return  # the settings' reader says what was expected
        if parsers[kind].parse(str(value)) != value:
            raise Disagreement(f"{text!r} is written as {value}")
        return
    parse_param(PARAMETERS.get(kind, "spacing_ms"), text)


TARGETS: Final = (
    Target(name="frame", read=decode, encode=encode, refusals=(DecodeError, PeerFault), seeds=_frame_seeds),
    Target(
        name="handshake",
        read=_read_handshake,
        refusals=(DecodeError, HandshakeError),
        seeds=_handshake_seeds,
    ),
    Target(name="session", read=_read_session, refusals=(DecodeError, PeerFault), seeds=_session_seeds),
    Target(
        name="assembly",
        read=_read_assembly,
        refusals=(DecodeError, PeerFault, RuleViolation),
        seeds=_assembly_seeds,
    ),
    Target(
        name="pruned-body",
        read=_read_pruned,
        encode=PrunedBody.encode,
        refusals=(DecodeError,),
        seeds=lambda: (PrunedBody.of(_chain().tip.body).encode(), PrunedBody.of(Body(())).encode()),
        multiple=STORED_MULTIPLE,
    ),
    Target(
        name="row-sum",
        read=RowSum.decode,
        encode=RowSum.encode,
        refusals=(DecodeError,),
        seeds=lambda: (bytes(40),),
        form=Form.BYTES,
    ),
    Target(
        name="place",
        read=Place.decode,
        encode=Place.encode,
        refusals=(DecodeError,),
        seeds=lambda: (bytes(12),),
        form=Form.BYTES,
    ),
    Target(
        name="record-place",
        read=RecordPlace.decode,
        refusals=(DecodeError,),
        seeds=lambda: (bytes(16),),
        form=Form.BYTES,
    ),
    Target(
        name="run",
        read=lambda data: Run.decode(data[:-RUN_BYTES], data[-RUN_BYTES:]),
        refusals=(RunsDamaged,),
        seeds=lambda: (bytes(9 + RUN_BYTES),),
        form=Form.BYTES,
    ),
    Target(
        name="address-entry",
        read=AddressEntry.decode,
        encode=AddressEntry.encode,
        refusals=(DecodeError,),
        seeds=lambda: (AddressEntry(host="node.example", port=7440, source_group="10.0.0.0/16").encode(),),
    ),
    Target(
        name="ban",
        read=Ban.decode,
        encode=Ban.encode,
        refusals=(DecodeError,),
        seeds=lambda: (Ban(reason="bad-signature", until_ms=1).encode(),),
    ),
    Target(
        name="mining-job",
        read=lambda data: Job.decode(data.ljust(JOB.size, b"\0")[: JOB.size]),
        refusals=(),
        seeds=lambda: (bytes(JOB.size),),
        form=Form.BYTES,
    ),
    Target(
        name="mining-report",
        read=_read_report,
        refusals=(),
        seeds=lambda: (bytes(REPORT.size),),
        form=Form.BYTES,
    ),
    Target(
        name="parameters",
        read=_read_parameters,
        refusals=(ApiProblem,),
        seeds=lambda: (b"h" + b"0f" * HASH, b"u12", b"b7", b"b" + b"0f" * HASH),
        form=Form.TEXT,
    ),
    Target(
        name="setting",
        read=_read_setting,
        refusals=(DecodeError,),
        seeds=lambda: (
            b"elocalhost:7440",
            b"e[::1]:1",
            b"p12:" + b"0f" * HASH,
            b"n10.0.0.0/8",
            b"n" + b"0f" * HASH,
            b"w12",
            b"b0x1f010000",
            b"rasert",
        ),
        form=Form.TEXT,
    ),
    Target(
        name="authorization",
        read=lambda data: carries_token(data.decode("utf-8", "surrogateescape"), "00" * HASH),
        refusals=(),
        seeds=lambda: (b"Bearer " + b"00" * HASH, b"Basic OjAwMDA="),
        form=Form.TEXT,
    ),
)
