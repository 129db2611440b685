"""A chain in memory, run by the real consensus code: what the mempool and the miner stand on in tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facechain.consensus.apply import Checked, Transition, genesis_block
from facechain.consensus.block import Block, Body, Header, seal_header
from facechain.consensus.chain import BlockTree
from facechain.consensus.kinds import Kind, Role, RoleAction, StageType
from facechain.consensus.kv import Delta
from facechain.consensus.params import Genesis, Grant, Params
from facechain.consensus.payloads import AnyPayload, Cancel, RoleApproval, RoleProposal, Stage
from facechain.consensus.signing import LedgerKey
from facechain.consensus.state import StateView
from facechain.consensus.statement import NEVER_EXPIRES, Statement, sign_statement
from facechain.consensus.validation import check_body, check_seal, check_statement, connect_block
from facechain.consensus.work import meets_target
from facechain.node.mempool import Tip
from support.chain import DictState

EASY_BITS = 0x207FFFFF
"""Half of all hashes are below this target."""

GENESIS_TIME_MS = 1_700_000_000_000
EASY = Params(pow_limit_bits=EASY_BITS)


def ledger_key(number: int) -> LedgerKey:
    return LedgerKey.from_seed(number.to_bytes(32, "big"))


ADMIN, PRODUCER = ledger_key(1), ledger_key(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTemplate:
    header: Header
    body: Body


class Ledger:
    """One active chain that can be extended and taken back; no forks, no disk."""

    def __init__(
        self,
        *,
        authors: Sequence[LedgerKey] = (),
        producers: Sequence[LedgerKey] = (PRODUCER,),
        admins: Sequence[LedgerKey] = (ADMIN,),
        params: Params = EASY,
    ) -> None:
        grants = {(Role.PRODUCER, key.public) for key in producers}
        grants |= {(Role.SUBMITTER, key.public) for key in authors}
        genesis = Genesis(
            name="test",
            params=params,
            time_ms=GENESIS_TIME_MS,
            administrators=tuple(sorted(key.public for key in admins)),
            grants=tuple(Grant(role=role, subject=subject) for role, subject in sorted(grants)),
        ).signed_by(*admins)
        self.params = params
        self.genesis = genesis
        self.network_id = genesis.network_id
        block, delta = genesis_block(genesis)
        self.state = DictState()
        self.state.apply(delta)
        self.tree = BlockTree(block.sealed, params)
        self.blocks = [block]
        self._undo: list[Delta] = []

    @property
    def height(self) -> int:
        return self.blocks[-1].header.height

    def tip(self) -> Tip:
        return Tip(height=self.height, hash=self.blocks[-1].hash, state=StateView(self.state))

    def transition(self) -> Transition:
        return Transition(
            self.state,
            self.params,
            height=self.height + 1,
            parent_hash=self.blocks[-1].hash,
        )

    def check(self, statement: Statement) -> Checked:
        """The rules that need no state."""
        return check_statement(statement, self.params, self.network_id)

    def template(self, statements: Sequence[Statement], *, producer: bytes, now_ms: int) -> LedgerTemplate:
        """The next block, unmined; every statement must be acceptable."""
        transition = self.transition()
        for statement in statements:
            transition.add(self.check(statement))
        _, root = transition.finish()
        context = self.tree.context(self.tree.tip)
        body = Body(tuple(statements))
        header = Header(
            version=1,
            height=context.height,
            previous=context.parent_hash,
            body_root=body.root(),
            state_root=root,
            time_ms=max(now_ms, context.median_time_ms + 1),
            bits=context.bits,
            producer=producer,
            nonce=0,
        )
        return LedgerTemplate(header=header, body=body)

    def mine(
        self, *statements: Statement, producer: LedgerKey = PRODUCER, now_ms: int | None = None
    ) -> Block:
        """Build, mine and connect the next block; empty ones come after the heartbeat."""
        parent_ms = self.blocks[-1].header.time_ms
        wanted = parent_ms + self.params.heartbeat_ms if now_ms is None else now_ms
        template = self.template(statements, producer=producer.public, now_ms=wanted)
        header = template.header
        while not meets_target(header.hash, header.bits):
            header = header.with_nonce(header.nonce + 1)
        block = Block(seal_header(producer, self.network_id, header), template.body)
        self.connect(block)
        return block

    def connect(self, block: Block) -> None:
        """Check a block by every rule and make it the tip."""
        check_seal(block.sealed, self.network_id)
        node = self.tree.add_header(block.sealed)
        check_body(block.header, block.body, self.params, parent_time_ms=self.blocks[-1].header.time_ms)
        delta, _ = connect_block(self.state, block.header, block.body, self.params, self.network_id)
        self.state.apply(delta)
        self.tree.mark_body(node)
        self.tree.set_tip(node)
        self.blocks.append(block)
        self._undo.append(delta.inverse())

    def disconnect(self) -> Block:
        """Take the tip back."""
        block = self.blocks.pop()
        self.state.apply(self._undo.pop())
        self.tree.active.pop()
        return block

    def sign(
        self,
        key: LedgerKey,
        sequence: int,
        *,
        payload: AnyPayload | None = None,
        kind: Kind = Kind.CANCEL,
        until: int = NEVER_EXPIRES,
    ) -> Statement:
        """A statement by `key`: a `cancel` unless another payload is given."""
        return sign_statement(
            key,
            self.network_id,
            payload=Cancel(note="") if payload is None else payload,
            kind=kind,
            sequence=sequence,
            claimed_time_ms=0,
            valid_until_height=until,
        )

    def note(self, key: LedgerKey, sequence: int, *, size: int = 0, until: int = NEVER_EXPIRES) -> Statement:
        """A `cancel` whose note is `size` bytes long."""
        return self.sign(key, sequence, payload=Cancel(note="x" * size), until=until)

    def stage(self, key: LedgerKey, sequence: int, *inputs: Statement, name: str = "faces") -> Statement:
        """A `stage` statement over `inputs`."""
        payload = Stage(
            stage_type=StageType.DATASET,
            artifact=bytes(32),
            inputs=tuple(item.id for item in inputs),
            name=name,
            details=(),
        )
        return self.sign(key, sequence, payload=payload, kind=Kind.STAGE)

    def proposal(
        self,
        key: LedgerKey,
        sequence: int,
        *,
        subject: LedgerKey,
        role: Role,
        action: RoleAction = RoleAction.GRANT,
        note: str = "",
    ) -> Statement:
        """A `role-proposal`."""
        payload = RoleProposal(
            action=action,
            role=role,
            subject=subject.public,
            encryption_key=None,
            suspect_since=None,
            note=note,
        )
        return self.sign(key, sequence, payload=payload, kind=Kind.ROLE_PROPOSAL)

    def approval(self, key: LedgerKey, sequence: int, proposal: Statement) -> Statement:
        """A `role-approval` of `proposal`."""
        return self.sign(key, sequence, payload=RoleApproval(proposal=proposal.id), kind=Kind.ROLE_APPROVAL)
