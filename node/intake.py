"""Statements from peers on their way into the mempool, in whatever order they come.

Owns the orphans: what is refused only because another statement is not here yet is kept and tried again
after that one. It is synchronous and belongs to the thread that writes the chain.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..consensus.apply import Checked
from ..consensus.errors import DecodeError, RuleViolation
from ..consensus.statement import Statement
from ..consensus.validation import check_payload_hash
from .chain_index import references
from .chainstate import ChainState
from .mempool import DurableMempool, MempoolRefusal, SequenceGap, Tip
from .mempool.pool import FIXABLE
from .orphans import Orphans

Relayed = tuple[Statement, RuleViolation | MempoolRefusal | None]
"""A statement and why it was refused; None when it is new in the mempool."""


class Intake:
    """See the module's text."""

    def __init__(self, chain: ChainState, mempool: DurableMempool) -> None:
        """Fill ``mempool``, which stands on the tip of ``chain``."""
        self._chain = chain
        self._mempool = mempool
        self.orphans = Orphans()

    def find(self, leaf: bytes) -> Statement | None:
        """Return a statement that is in the mempool or waits for another one. Any thread may ask."""
        return self._mempool.pool.get(leaf) or self.orphans.get(leaf)

    def relay(self, statements: Iterable[Statement]) -> list[Relayed]:
        """Take statements and whatever waited for them; one that was here already is left out."""
        results: list[Relayed] = []
        waiting = list(reversed(list(statements)))
        pool = self._mempool.pool
        with self._mempool.open_tip() as tip:
            while waiting:
                statement = waiting.pop()
                try:
                    known = pool.add(statement, tip).known
                except (RuleViolation, MempoolRefusal) as error:
                    self._keep(statement, error, tip)
                    results.append((statement, error))
                    continue
                if not known:
                    results.append((statement, None))
                waiting.extend(reversed(self.orphans.take_after(statement)))
        return results

    def _keep(self, statement: Statement, error: RuleViolation | MempoolRefusal, tip: Tip) -> None:
        """Keep a statement that another one on its way may make good, if its author may speak at all."""
        if isinstance(error, SequenceGap):
            near = error.got - error.expected <= self._mempool.pool.limits.author_statements
            if near and self._may_be_said(statement, tip):
                self.orphans.keep(statement)
        elif error.code in FIXABLE:
            self.orphans.keep(statement, references(Checked(statement, statement.decode_payload())))

    def _may_be_said(self, statement: Statement, tip: Tip) -> bool:
        """Tell whether the author has a role and signed this: whatever else it breaks is seen later."""
        if not tip.state.roles_at(statement.author, tip.height + 1):
            return False
        try:
            check_payload_hash(statement)
            statement.decode_payload()
        except (RuleViolation, DecodeError):
            return False
        return statement.has_valid_signature(self._chain.network_id)
