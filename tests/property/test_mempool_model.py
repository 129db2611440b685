"""The pool against a naive model: random arrivals, blocks, reorganisations and promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from facechain.consensus.block import Block
from facechain.consensus.errors import RuleViolation
from facechain.consensus.kinds import Role, RoleAction
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import NEVER_EXPIRES, Statement
from facechain.node.mempool import Mempool, MempoolFull, MempoolLimits, MempoolRefusal
from support.ledger import ADMIN, EASY, Ledger, ledger_key

AUTHORS = tuple(ledger_key(number) for number in (11, 12, 13))
LIMITS = MempoolLimits(
    bytes=6_000,
    statements=12,
    author_bytes=4_096,
    author_statements=6,
    returned_bytes=3_000,
    returned_statements=6,
    stalled_blocks=2,
)
PARAMS = replace(
    EASY, max_statement_bytes=4_096, max_statements=5, max_body_bytes=4_096, max_author_bytes=4_096
)


class MempoolMachine(RuleBasedStateMachine):
    """`held` is the naive model: the statements that should be here, in no order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(authors=AUTHORS, params=PARAMS)
        self.pool = Mempool(PARAMS, self.ledger.network_id, LIMITS)
        self.held: dict[bytes, Statement] = {}
        self.promised: set[bytes] = set()
        self.admin_sequence = 0

    @initialize()
    def start(self) -> None:
        assert len(self.pool) == 0

    @rule(
        author=st.sampled_from(AUTHORS),
        skip=st.sampled_from((0, 0, 0, 0, 1, -1)),
        size=st.integers(0, 500),
        lifetime=st.sampled_from((None, None, 0, 1, 2)),
        references=st.booleans(),
        promise=st.booleans(),
    )
    def arrive(
        self,
        *,
        author: LedgerKey,
        skip: int,
        size: int,
        lifetime: int | None,
        references: bool,
        promise: bool,
    ) -> None:
        tip = self.ledger.tip()
        following = self.pool.next_sequence(author.public, tip)
        assert following == tip.state.next_sequence(author.public) + sum(
            item.author == author.public for item in self.held.values()
        )
        sequence = max(0, following + skip)
        until = NEVER_EXPIRES if lifetime is None else tip.height + 1 + lifetime
        named = [item for item in self.held.values() if item.kind.label == "stage"]
        if references:
            statement = self.ledger.stage(author, sequence, *named[:1], name="x" * (size // 4))
        else:
            statement = self.ledger.note(author, sequence, size=size, until=until)
        self.offer(statement, following, promise=promise)

    def offer(self, statement: Statement, following: int, *, promise: bool) -> None:
        try:
            admitted = self.pool.add(statement, self.ledger.tip())
        except MempoolFull:
            assert statement.sequence == following
            return
        except (MempoolRefusal, RuleViolation):
            return
        assert admitted.known == (statement.id in self.held)
        if admitted.known:
            return
        assert statement.sequence == following
        for drop in admitted.evicted:
            assert drop.id not in self.promised
            del self.held[drop.id]
        self.held[statement.id] = statement
        if promise:
            self.promised |= {item.id for item in self.pool.acknowledged_with([statement.leaf])}
            self.pool.acknowledge([statement.leaf])

    @rule(limit=st.integers(0, 5))
    def mine(self, *, limit: int) -> None:
        chosen = self.pool.select(self.ledger.tip(), max_statements=limit)
        self.follow((self.ledger.mine(*chosen),), ())

    @rule(author=st.sampled_from(AUTHORS))
    def mine_a_rival(self, *, author: LedgerKey) -> None:
        view = self.ledger.tip()
        if view.state.role(Role.SUBMITTER, author.public).holds_at(view.height + 1):
            rival = self.ledger.note(author, view.state.next_sequence(author.public), size=7)
            self.follow((self.ledger.mine(rival),), ())

    @rule(author=st.sampled_from(AUTHORS), action=st.sampled_from(RoleAction))
    def change_role(self, *, author: LedgerKey, action: RoleAction) -> None:
        sequence = self.ledger.tip().state.next_sequence(ADMIN.public)
        proposal = self.ledger.proposal(ADMIN, sequence, subject=author, role=Role.SUBMITTER, action=action)
        self.follow((self.ledger.mine(proposal),), ())

    @rule(depth=st.integers(1, 3), replacement=st.booleans())
    def reorganise(self, *, depth: int, replacement: bool) -> None:
        gone = tuple(self.ledger.disconnect() for _ in range(min(depth, self.ledger.height)))
        new = (self.ledger.mine(),) if replacement else ()
        self.follow(new, gone)

    def follow(self, connected: tuple[Block, ...], disconnected: tuple[Block, ...]) -> None:
        drops = self.pool.on_update(connected=connected, disconnected=disconnected, tip=self.ledger.tip())
        for block in disconnected:
            self.held.update((item.id, item) for item in block.body.statements)
        for block in connected:
            for item in block.body.statements:
                self.held.pop(item.id, None)
        for drop in drops:
            self.held.pop(drop.id, None)
            assert self.pool.dropped(drop.id) == drop

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert {item.id for item in self.pool} == set(self.held)
        assert self.pool.size_bytes == sum(item.size_bytes for item in self.held.values())

    @invariant()
    def has_no_gap(self) -> None:
        tip = self.ledger.tip()
        for author in (*AUTHORS, ADMIN):
            held = sorted(item.sequence for item in self.pool if item.author == author.public)
            start = tip.state.next_sequence(author.public)
            assert held == list(range(start, start + len(held)))

    @invariant()
    def keeps_its_bounds(self) -> None:
        assert self.pool.size_bytes <= LIMITS.bytes + LIMITS.returned_bytes
        assert len(self.pool) <= LIMITS.statements + LIMITS.returned_statements

    @invariant()
    def selects_what_a_block_may_hold(self) -> None:
        chosen = self.pool.select(self.ledger.tip(), max_author_bytes=1_500)
        assert len(chosen) <= PARAMS.max_statements
        assert sum(item.size_bytes for item in chosen) <= PARAMS.max_body_bytes
        sizes: Counter[bytes] = Counter()
        transition = self.ledger.transition()
        for item in chosen:
            sizes[item.author] += item.size_bytes
            transition.add(self.ledger.check(item))
        assert max(sizes.values(), default=0) <= 1_500


MempoolMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
test_mempool_agrees_with_a_naive_model = MempoolMachine.TestCase
