"""Levels 1 and 2 of `db verify`: headers and bodies against their hashes, seals and signatures."""

from __future__ import annotations

from ...consensus.apply import genesis_block
from ...consensus.block import Body, Header, SealedHeader
from ...consensus.chain import BlockTree
from ...consensus.errors import DecodeError
from ...consensus.kinds import Kind
from ...consensus.payloads import Checkpoint
from ...consensus.signing import Purpose, verify_signature
from ...consensus.state import StateView
from ...consensus.statement import Statement
from ...consensus.validation import check_body, check_header, check_payload_hash, check_seal, check_statement
from ...consensus.work import meets_target
from ..chain_index import BODY_DECODE_BYTES_MAX, HEADER_FLAG_BODY
from ..header_load import FLAGS, ROW_BYTES
from ..meta_keys import CHECKPOINT_KEY
from ..pruned_body import PrunedBody
from ..store.schema import Table, height_key
from .damage import StoreDamage, at, check_same
from .progress import STEP_ROWS
from .verify import Job, Level


def check_headers(job: Job) -> None:
    """Check every header row, and that the active chain is one chain of them from block 0 to the tip."""
    rows = job.reader.scan(Table.HEADERS)
    headers = sorted((_read_header(key, row) for key, row in rows), key=lambda item: item[0].height)
    genesis = genesis_block(job.genesis)[0]
    if not headers or headers[0][0].encode() != genesis.sealed.encode():
        raise StoreDamage("header of block 0", expected=genesis.hash.hex(), got="another or none")
    tree = BlockTree(genesis.sealed, job.genesis.params)
    for number, (sealed, flags) in enumerate(headers[1:], start=1):
        with at(f"header {sealed.hash.hex()} at height {sealed.height}"):
            _check_one(job, tree, sealed, flags)
        if number % STEP_ROWS == 0:
            job.progress("headers", number, len(headers))
    job.progress("headers", len(headers), len(headers))
    _check_active(job, {sealed.hash: (sealed, flags) for sealed, flags in headers})
    what = "headers: hash, link, height, work, time and seal"
    job.report.note(Level.FILE, what, len(headers), len(headers) * ROW_BYTES)


def _read_header(key: bytes, row: bytes) -> tuple[SealedHeader, int]:
    with at(f"header row {key.hex()}"):
        sealed = SealedHeader.decode(row[:-1])
    check_same(f"header row {key.hex()}: its hash", key, sealed.hash)
    if row[-1] not in FLAGS:
        raise StoreDamage(
            f"header row {key.hex()}: flags", expected=f"one of {sorted(FLAGS)}", got=str(row[-1])
        )
    return sealed, row[-1]


def _check_one(job: Job, tree: BlockTree, sealed: SealedHeader, flags: int) -> None:
    """Check one header. One whose parent is not stored is checked by itself: a node passes it over."""
    check_seal(sealed, job.genesis.network_id)
    parent = tree.get(sealed.header.previous)
    if parent is not None:
        check_header(sealed.header, tree.context(parent), job.genesis.params)
        tree.restore(sealed)
    elif not meets_target(sealed.hash, sealed.header.bits):
        raise DecodeError("work", expected=f"a hash below {sealed.header.bits:#010x}", got=sealed.hash.hex())
    if flags & HEADER_FLAG_BODY and not _has_body(job, sealed.header):
        raise DecodeError("flags", expected="the body that they announce", got="none")


def _has_body(job: Job, header: Header) -> bool:
    table = Table.PRUNED if 0 < header.height < job.report.pruned_below else Table.BODIES
    return job.reader.get(table, header.hash) is not None


def _check_active(job: Job, headers: dict[bytes, tuple[SealedHeader, int]]) -> None:
    active = [(key, value) for key, value in job.reader.scan(Table.ACTIVE)]
    previous = b""
    for height, (key, block_hash) in enumerate(active):
        place = f"active chain at height {height}"
        check_same(f"{place}: key", height_key(height), key)
        if block_hash not in headers:
            raise StoreDamage(place, expected="the hash of a stored header", got=block_hash.hex())
        sealed, flags = headers[block_hash]
        if flags != HEADER_FLAG_BODY:
            raise StoreDamage(place, expected="a header whose body is here", got=f"flags {flags}")
        if height:
            check_same(f"{place}: link to the block below", previous, sealed.header.previous)
        previous = block_hash
        job.active.append(block_hash)
    check_same("meta 'tip'", previous, job.report.tip)
    job.report.note(Level.FILE, "active chain: one unbroken line from block 0 to the tip", len(active))


def check_bodies(job: Job) -> None:
    """Hash every body again and check every statement; those of side branches need not keep all rules."""
    on_chain = set(job.active)
    checkpoints = {0}
    statements = size = count = 0
    total = job.reader.count(Table.BODIES)
    for block_hash, data in job.reader.scan(Table.BODIES):
        header = _header_of(job, block_hash, "body")
        with at(f"body of block {block_hash.hex()} at height {header.height}"):
            body = _check_body(job, header, data, is_active=block_hash in on_chain)
        for statement in body.statements:
            checkpoints |= _checkpoint_height(statement)
        statements += len(body.statements)
        size += len(data)
        count += 1
        if count % STEP_ROWS == 0:
            job.progress("bodies", count, total)
    job.progress("bodies", total, total)
    job.report.note(Level.BODIES, "bodies: body root, payload hashes and limits", count, size)
    job.report.note(
        Level.BODIES, "statements in bodies: signatures and payloads of the active chain", statements
    )
    _check_pruned(job)
    _check_mempool(job)
    _check_checkpoint(job, checkpoints)


def _header_of(job: Job, block_hash: bytes, what: str) -> Header:
    row = job.reader.get(Table.HEADERS, block_hash)
    if row is None or row[-1] != HEADER_FLAG_BODY:
        got = "none" if row is None else f"flags {row[-1]}"
        raise StoreDamage(
            f"{what} of block {block_hash.hex()}", expected="a header that announces it", got=got
        )
    return SealedHeader.decode(row[:-1]).header


def _check_body(job: Job, header: Header, data: bytes, *, is_active: bool) -> Body:
    body = Body.decode(data, max_bytes=BODY_DECODE_BYTES_MAX)
    if header.height == 0:
        check_same("body root", header.body_root, body.root())
        return body
    parent = job.reader.get(Table.HEADERS, header.previous)
    # Without its parent (a side branch cut by a crash) the rule on empty blocks has nothing to compare with.
    parent_time_ms = SealedHeader.decode(parent[:-1]).header.time_ms if parent else 0
    check_body(header, body, job.genesis.params, parent_time_ms=parent_time_ms)
    if is_active:
        for statement in body.statements:
            check_statement(statement, job.genesis.params, job.genesis.network_id)
    return body


def _checkpoint_height(statement: Statement) -> set[int]:
    try:
        payload = statement.decode_payload()
    except DecodeError:  # in a side branch that was never connected
        return set()
    return {payload.height} if isinstance(payload, Checkpoint) else set()


def _check_pruned(job: Job) -> None:
    """Check what was kept of dropped bodies: it has the body root, and every signature verifies."""
    expected = max(job.report.pruned_below - 1, 0)
    check_count = job.reader.count(Table.PRUNED)
    if check_count != expected:
        raise StoreDamage("dropped bodies", expected=f"{expected} rows", got=str(check_count))
    statements = size = 0
    for height in range(1, job.report.pruned_below):
        block_hash = job.active[height]
        data = job.reader.get(Table.PRUNED, block_hash)
        header = _header_of(job, block_hash, "dropped body")
        with at(f"dropped body of block {block_hash.hex()} at height {height}"):
            body = PrunedBody.decode(data or b"")
            check_same("body root", header.body_root, body.root())
            for stub in body.stubs:
                _check_signature(job, stub.header.author, stub.signature, stub.id)
                if (stub.payload is None) != (stub.header.kind is Kind.IMAGE_BATCH):
                    raise DecodeError("payload", expected="one, unless it is a batch's", got="the contrary")
                if (kept := stub.statement()) is not None:
                    check_payload_hash(kept)
        statements += len(body.stubs)
        size += len(data or b"")
    if expected:
        what = "dropped bodies: body root, signatures and kept payloads of their statements"
        job.report.note(Level.BODIES, what, statements, size)


def _check_mempool(job: Job) -> None:
    count = size = 0
    for leaf, data in job.reader.scan(Table.MEMPOOL):
        with at(f"mempool row {leaf.hex()}"):
            statement = Statement.decode(data)
            check_same(f"mempool row {leaf.hex()}: its leaf", leaf, statement.leaf)
            check_payload_hash(statement)
            _check_signature(job, statement.author, statement.signature, statement.id)
        count += 1
        size += len(data)
    job.report.note(Level.BODIES, "acknowledged statements: hashes and signatures", count, size)


def _check_signature(job: Job, author: bytes, signature: bytes, statement_id: bytes) -> None:
    if not verify_signature(author, signature, Purpose.STATEMENT, job.genesis.network_id, statement_id):
        raise DecodeError("signature", expected=f"one by {author.hex()}", got="one that does not verify")


def _check_checkpoint(job: Job, named: set[int]) -> None:
    """The highest checkpoint ever in force was declared in a block that is or was connected here."""
    value = job.reader.get(Table.META, CHECKPOINT_KEY)
    stored = 0 if value is None else int.from_bytes(value, "big")
    accepted = StateView(job.reader).checkpoint()
    lowest = 0 if accepted is None else accepted[0]
    if not lowest <= stored <= job.report.height:
        raise StoreDamage(
            "meta 'checkpoint'", expected=f"a height from {lowest} to {job.report.height}", got=str(stored)
        )
    if stored != lowest and stored not in named:
        job.report.not_checked.append(
            f"the remembered checkpoint at height {stored}: the block that declared it is gone"
        )
