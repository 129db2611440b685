"""A chain in memory that mines real blocks: keys from seeds, a genesis with trivial work, forks, forged blocks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from facechain.consensus import apply, validation
from facechain.consensus.apply import Transition
from facechain.consensus.block import Block, Body, Header, seal_header
from facechain.consensus.chain import BlockTree, HeaderNode
from facechain.consensus.errors import ConsensusError
from facechain.consensus.kinds import Kind, Role, StageType
from facechain.consensus.kv import Bucket, Delta
from facechain.consensus.params import Genesis, Grant, Params
from facechain.consensus.payloads import PAYLOADS, AnyPayload, ImageBatch, Stage
from facechain.consensus.records import Record, Records
from facechain.consensus.signing import LedgerKey
from facechain.consensus.state import StateView
from facechain.consensus.statement import (
    ABSENT,
    NEVER_EXPIRES,
    BatchHeader,
    Statement,
    group_id,
    seed_commitment,
    sign_statement,
)
from facechain.consensus.upgrade import SUPPORTED_VERSIONS
from facechain.consensus.work import meets_target

EASY_BITS: Final = 0x207FFFFF
"""Every second hash is good enough."""

GENESIS_TIME_MS: Final = 1_800_000_000_000
KIND_OF: Final[Mapping[type[AnyPayload], Kind]] = {payload: kind for kind, payload in PAYLOADS.items()}


def seed(name: str) -> bytes:
    """Return 32 bytes that follow from a name."""
    return hashlib.sha256(f"facechain test {name}".encode()).digest()


def keys(count: int, *, start: int = 0) -> tuple[LedgerKey, ...]:
    """Return ledger keys number `start`, `start` + 1, …, the same in every run."""
    return tuple(LedgerKey.from_seed(seed(f"key {number}")) for number in range(start, start + count))


ADMIN, PRODUCER, SUBMITTER, STRANGER = keys(4)
"""The keys of :func:`make_genesis`, and one without any role."""


def easy_params(**changes: Any) -> Params:
    """Return parameters under which a block takes a hash or two."""
    return replace(Params(pow_limit_bits=EASY_BITS), **changes)


def make_genesis(
    *,
    administrators: Sequence[LedgerKey] = (ADMIN,),
    producers: Sequence[LedgerKey] = (PRODUCER,),
    submitters: Sequence[LedgerKey] = (SUBMITTER,),
    name: str = "test",
    time_ms: int = GENESIS_TIME_MS,
    **params: Any,
) -> Genesis:
    """Return a signed genesis; further arguments are fields of `Params`."""
    granted = [(Role.PRODUCER, key) for key in producers] + [(Role.SUBMITTER, key) for key in submitters]
    return Genesis(
        name=name,
        params=easy_params(**params),
        time_ms=time_ms,
        administrators=tuple(sorted(key.public for key in administrators)),
        grants=tuple(
            Grant(role=role, subject=subject)
            for role, subject in sorted((role, key.public) for role, key in granted)
        ),
    ).signed_by(*administrators)


def make_records(count: int, *, name: str = "batch") -> Records:
    """Return records of images that do not exist."""
    return Records.of(
        Record(
            pixel_hash=seed(f"{name} pixels {number}"),
            file_hash=seed(f"{name} file {number}"),
            generator_index=number,
            cluster=number % 125,
        )
        for number in range(count)
    )


def make_batch(
    count: int = 1, *, name: str = "batch", public: bool = True, **header: Any
) -> tuple[ImageBatch, BatchHeader]:
    """Return a batch payload of `count` records and the header that is true of it, `header` fields changed."""
    batch_seed = seed(f"{name} seed")
    perceptual = b"".join(seed(f"{name} look {number}") for number in range(count))
    payload = ImageBatch(
        records=make_records(count, name=name),
        perceptual=perceptual if public else None,
        seed=batch_seed if public else None,
    )
    true_of_it = _batch_header(payload, batch_seed, manifest_hash=seed(f"{name} manifest"))
    return payload, replace(true_of_it, **header)


def pack_batch(packed: bytes, *, batch_seed: bytes) -> tuple[ImageBatch, BatchHeader]:
    """Return a private batch of packed records and its header."""
    payload = ImageBatch(records=Records(packed), perceptual=None, seed=None)
    return payload, _batch_header(payload, batch_seed, manifest_hash=seed("manifest"))


def _batch_header(payload: ImageBatch, batch_seed: bytes, *, manifest_hash: bytes) -> BatchHeader:
    root = payload.records.root()
    return BatchHeader(
        record_count=len(payload.records),
        records_root=root,
        perceptual_root=payload.perceptual_root() or ABSENT,
        width=32,
        height=32,
        public=payload.seed is not None,
        model=ABSENT,
        clustering=ABSENT,
        filter=ABSENT,
        seed_commitment=seed_commitment(batch_seed),
        micro_batch=64,
        manifest_hash=manifest_hash,
        group=group_id([root]),
        part_index=0,
        part_count=1,
    )


def make_stage(
    stage_type: StageType = StageType.DATASET, *inputs: bytes, name: str = "a stage", **details: str
) -> Stage:
    """Return a stage payload; `details` become its facts."""
    return Stage(
        stage_type=stage_type,
        artifact=seed(name),
        inputs=inputs,
        name=name,
        details=tuple(sorted(details.items())),
    )


class DictState:
    """A whole state in a dict."""

    def __init__(self, entries: Mapping[tuple[Bucket, bytes], bytes] | None = None) -> None:
        self.entries = dict(entries or {})

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        return self.entries.get((bucket, key))

    def apply(self, delta: Delta) -> None:
        """Write a change set; AssertionError when it belongs to another state."""
        for change in delta:
            at = (change.bucket, change.key)
            assert self.entries.get(at) == change.old, f"{at} is not what the change set replaces"
            if change.new is None:
                self.entries.pop(at, None)
            else:
                self.entries[at] = change.new

    def copy(self) -> DictState:
        return DictState(self.entries)


def solve(header: Header) -> Header:
    """Return the header with the first nonce that meets its own bits."""
    while not meets_target(header.hash, header.bits):
        header = header.with_nonce(header.nonce + 1)
    return header


class ChainBuilder:
    """Blocks, their states, and the tree of their headers. Every accepted block went through every rule."""

    def __init__(
        self, genesis: Genesis | None = None, *, versions: Container[int] = SUPPORTED_VERSIONS
    ) -> None:
        """Start from `genesis` (default: that of :func:`make_genesis`), knowing some protocol versions."""
        self.genesis = genesis or make_genesis()
        self.versions = versions
        self.params = self.genesis.params
        self.network_id = self.genesis.network_id
        block, delta = apply.genesis_block(self.genesis)
        state = DictState()
        state.apply(delta)
        self.genesis_block = block
        self.blocks: dict[bytes, Block] = {block.hash: block}
        self.states: dict[bytes, DictState] = {block.hash: state}
        self.deltas: dict[bytes, Delta] = {block.hash: delta}
        self.tree = BlockTree(block.sealed, self.params, versions=versions)
        self._waiting: Counter[bytes] = Counter()

    @property
    def tip(self) -> Block:
        """The block that was accepted last on the best chain."""
        return self.blocks[self.tree.tip.hash]

    @property
    def height(self) -> int:
        return self.tip.header.height

    def node(self, block: Block) -> HeaderNode:
        return self.tree.nodes[block.hash]

    def state(self, block: Block | None = None) -> DictState:
        """Return the state after a block (default: the tip)."""
        return self.states[(block or self.tip).hash]

    def view(self, block: Block | None = None) -> StateView:
        return StateView(self.state(block))

    def transition(self, parent: Block | None = None) -> Transition:
        """Return the transition of the block that follows `parent`."""
        parent = parent or self.tip
        return Transition(
            self.state(parent),
            self.params,
            height=parent.header.height + 1,
            parent_hash=parent.hash,
        )

    def statement(
        self,
        key: LedgerKey,
        payload: AnyPayload,
        *,
        sequence: int | None = None,
        valid_until_height: int = NEVER_EXPIRES,
        batch: BatchHeader | None = None,
        kind: Kind | None = None,
        parent: Block | None = None,
    ) -> Statement:
        """Sign a statement with the author's next sequence: after the tip and what was made since."""
        if sequence is None:
            sequence = self.view(parent).next_sequence(key.public) + self._waiting[key.public]
            self._waiting[key.public] += 1
        return sign_statement(
            key,
            self.network_id,
            payload=payload,
            kind=kind or KIND_OF[type(payload)],
            sequence=sequence,
            claimed_time_ms=self.genesis.time_ms,
            valid_until_height=valid_until_height,
            batch=batch,
        )

    def batch(self, key: LedgerKey = SUBMITTER, count: int = 1, **fields: Any) -> Statement:
        """Sign an image batch; `fields` as in :func:`make_batch`."""
        payload, header = make_batch(count, **fields)
        return self.statement(key, payload, batch=header)

    def draft(
        self,
        statements: Sequence[Statement] = (),
        *,
        parent: Block | None = None,
        time_ms: int | None = None,
        key: LedgerKey = PRODUCER,
    ) -> tuple[Header, Body]:
        """Return the true header without work and the body of the block that follows `parent`.

        When a statement breaks a rule there is no state to commit to: the state root is then zeros.
        """
        parent = parent or self.tip
        body = Body(tuple(statements))
        transition = self.transition(parent)
        try:
            for statement in statements:
                transition.add(validation.check_statement(statement, self.params, self.network_id))
            state_root = transition.finish()[1]
        except ConsensusError:
            state_root = ABSENT
        context = self.tree.context(self.node(parent))
        header = Header(
            version=self.view(parent).schedule().version_at(context.height),
            height=context.height,
            previous=parent.hash,
            body_root=body.root(),
            state_root=state_root,
            time_ms=time_ms or parent.header.time_ms + self.params.spacing_ms,
            bits=context.bits,
            producer=key.public,
            nonce=0,
        )
        return header, body

    def seal(self, header: Header, body: Body, *, key: LedgerKey = PRODUCER, mined: bool = True) -> Block:
        """Find a nonce (unless `mined` is False) and seal; nothing is checked."""
        return Block(seal_header(key, self.network_id, solve(header) if mined else header), body)

    def forge(
        self,
        statements: Sequence[Statement] = (),
        *,
        parent: Block | None = None,
        time_ms: int | None = None,
        key: LedgerKey = PRODUCER,
        **changes: Any,
    ) -> Block:
        """Return a mined and sealed block whose header has `changes`; it is not accepted."""
        header, body = self.draft(statements, parent=parent, time_ms=time_ms, key=key)
        return self.seal(replace(header, **changes), body, key=key)

    def check(self, block: Block) -> Delta:
        """Put a block whose parent is known through every rule but the clock; return what it changes."""
        self.tree.add_header(block.sealed)
        validation.check_seal(block.sealed, self.network_id)
        parent_block = self.blocks[block.header.previous]
        validation.check_body(
            block.header, block.body, self.params, parent_time_ms=parent_block.header.time_ms
        )
        return validation.connect_block(
            self.states[parent_block.hash],
            block.header,
            block.body,
            self.params,
            self.network_id,
            versions=self.versions,
        )[0]

    def accept(self, block: Block) -> Block:
        """Check a block, keep it and its state, and move the tip to the best chain."""
        delta = self.check(block)
        state = self.states[block.header.previous].copy()
        state.apply(delta)
        self.blocks[block.hash], self.states[block.hash], self.deltas[block.hash] = block, state, delta
        self.tree.mark_body(self.node(block))
        best = self.tree.best_candidate()
        if best is not None:
            self.tree.set_tip(best)
        self._waiting.clear()
        return block

    def mine(
        self,
        statements: Sequence[Statement] = (),
        *,
        parent: Block | None = None,
        time_ms: int | None = None,
        key: LedgerKey = PRODUCER,
    ) -> Block:
        """Mine, seal and accept the block that follows `parent` (default: the tip)."""
        return self.accept(self.forge(statements, parent=parent, time_ms=time_ms, key=key))

    def mine_many(self, count: int, *, parent: Block | None = None) -> list[Block]:
        """Mine empty blocks one after the other, `count` of them."""
        blocks: list[Block] = []
        for _ in range(count):
            blocks.append(self.mine(parent=blocks[-1] if blocks else parent))
        return blocks

    def undo(self, block: Block) -> DictState:
        """Return the state before a block, made from the state after it and its undo data."""
        state = self.state(block).copy()
        state.apply(Delta.decode(self.deltas[block.hash].inverse().encode()))
        return state


def other_signature(key_seed: bytes, message: bytes, *, nonce: bytes = b"another nonce") -> bytes:
    """Return a valid Ed25519 signature that is not the one of RFC 8032: its nonce is chosen otherwise.

    Anyone with the private seed can make any number of them, and each verifies.
    """
    from nacl import bindings

    expanded = bytearray(hashlib.sha512(key_seed).digest())
    expanded[0] &= 248
    expanded[31] = expanded[31] & 127 | 64
    secret = bindings.crypto_core_ed25519_scalar_reduce(bytes(expanded[:32]) + bytes(32))
    public = bindings.crypto_scalarmult_ed25519_base_noclamp(secret)
    scalar = bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(nonce).digest())
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
    challenge = bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(point + public + message).digest())
    response = bindings.crypto_core_ed25519_scalar_add(
        scalar, bindings.crypto_core_ed25519_scalar_mul(challenge, secret)
    )
    return bytes(point + response)
