"""A chain of one producer in memory, run by the real rules: what a node's API stands on, without the node."""

from __future__ import annotations

from dataclasses import dataclass

from facechain.consensus.apply import Transition, genesis_block
from facechain.consensus.block import Block, Body, Header, seal_header
from facechain.consensus.kinds import Role
from facechain.consensus.kv import Bucket, Delta
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import RoleProposal
from facechain.consensus.retarget import fixed_bits
from facechain.consensus.signing import LedgerKey
from facechain.consensus.state import ProposalEntry, RoleEntry, StateView
from facechain.consensus.statement import Statement
from facechain.consensus.validation import check_body, check_statement, connect_block
from facechain.consensus.work import meets_target


class DictState:
    """Chain state in a dict."""

    def __init__(self) -> None:
        self.values: dict[tuple[Bucket, bytes], bytes] = {}

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        return self.values.get((bucket, key))

    def apply(self, delta: Delta) -> None:
        for change in delta:
            if change.new is None:
                self.values.pop((change.bucket, change.key), None)
            else:
                self.values[change.bucket, change.key] = change.new


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a statement is: in a block, or waiting (height None)."""

    statement: Statement
    height: int | None


class Ledger:
    """Blocks 0 to the tip and the statements that wait; the genesis must use `fixed` retarget."""

    def __init__(self, genesis: Genesis, producer: LedgerKey) -> None:
        self.genesis = genesis
        self.producer = producer
        self.state = DictState()
        block, delta = genesis_block(genesis)
        self.state.apply(delta)
        self.blocks = [block]
        self.waiting: list[Statement] = []

    @property
    def tip(self) -> Block:
        return self.blocks[-1]

    @property
    def view(self) -> StateView:
        return StateView(self.state)

    def add(self, statement: Statement) -> None:
        """Check a statement as the next one of the coming block; raises RuleViolation."""
        if self.find(statement.id) is not None:
            return
        self._transition((*self.waiting, statement))
        self.waiting.append(statement)

    def next_sequence(self, author: bytes) -> int:
        return self._transition(tuple(self.waiting)).state.next_sequence(author)

    def seal(self) -> Block:
        """Mine, seal and connect a block with all that waits."""
        body = Body(tuple(self.waiting))
        _, root = self._transition(body.statements).finish()
        params, parent = self.genesis.params, self.tip.header
        header = Header(
            version=1,
            height=parent.height + 1,
            previous=self.tip.hash,
            body_root=body.root(),
            state_root=root,
            time_ms=parent.time_ms + params.spacing_ms,
            bits=fixed_bits(params.fixed_digits),
            producer=self.producer.public,
            nonce=0,
        )
        while not meets_target(header.hash, header.bits):
            header = header.with_nonce(header.nonce + 1)
        check_body(header, body, params, parent_time_ms=parent.time_ms)
        delta, _ = connect_block(self.state, header, body, params, self.genesis.network_id)
        self.state.apply(delta)
        self.blocks.append(Block(seal_header(self.producer, self.genesis.network_id, header), body))
        self.waiting.clear()
        return self.tip

    def find(self, statement_id: bytes) -> Found | None:
        for statement in self.waiting:
            if statement.id == statement_id:
                return Found(statement=statement, height=None)
        for block in self.blocks:
            for statement in block.body.statements:
                if statement.id == statement_id:
                    return Found(statement=statement, height=block.header.height)
        return None

    def roles(self) -> list[tuple[Role, bytes, RoleEntry]]:
        return [
            (Role(key[1]), key[2:], RoleEntry.decode(value))
            for (bucket, key), value in sorted(self.state.values.items())
            if bucket is Bucket.ROLES and key[:1] == b"r"
        ]

    def proposals(self) -> list[tuple[bytes, ProposalEntry, RoleProposal]]:
        entries = [
            (key[1:], ProposalEntry.decode(value))
            for (bucket, key), value in sorted(self.state.values.items())
            if bucket is Bucket.ROLES and key[:1] == b"p"
        ]
        return [(key, entry, RoleProposal.decode(entry.payload)) for key, entry in entries]

    def _transition(self, statements: tuple[Statement, ...]) -> Transition:
        params, network_id = self.genesis.params, self.genesis.network_id
        transition = Transition(
            self.state, params, network_id, height=self.tip.header.height + 1, parent_hash=self.tip.hash
        )
        for statement in statements:
            transition.add(check_statement(statement, params, network_id))
        return transition
