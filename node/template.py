"""Building the next block: everything but its nonce and its seal.

Owns which of the offered statements go in. The rules decide; a statement that they refuse is left out
with its rule, and the others keep their order.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from ..consensus.apply import Transition
from ..consensus.block import Body, Header
from ..consensus.errors import RuleViolation
from ..consensus.kinds import SEALING_ROLE
from ..consensus.kv import StateReader
from ..consensus.params import Params
from ..consensus.statement import Statement
from ..consensus.upgrade import SUPPORTED_VERSIONS
from ..consensus.validation import (
    NOTHING_VERIFIED,
    HeaderContext,
    Verified,
    check_producer,
    check_statement,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A block that lacks only its nonce and seal."""

    header: Header
    body: Body
    dropped: tuple[tuple[Statement, RuleViolation], ...]
    """Offered statements that the rules refuse at this height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateBase:
    """What a template stands on: the parent, its state, and the network."""

    reader: StateReader
    """State after the parent."""
    context: HeaderContext
    params: Params
    network_id: bytes
    versions: Container[int] = SUPPORTED_VERSIONS
    """Protocol versions that this node knows."""

    def transition(self) -> Transition:
        """Return an empty transition of the next block."""
        return Transition(
            self.reader,
            self.params,
            height=self.context.height,
            parent_hash=self.context.parent_hash,
        )


def build_template(
    base: TemplateBase,
    statements: Sequence[Statement],
    *,
    producer: bytes,
    now_ms: int,
    verified: Verified = NOTHING_VERIFIED,
) -> Template:
    """Build the next block.

    Raises:
        RuleViolation: unauthorized-producer.
        UpgradeNeeded: this node does not know the version that the block must have.
    """
    transition = base.transition()
    entry = transition.parent.role(SEALING_ROLE, producer)
    check_producer(entry, producer, height=transition.height)
    taken: list[Statement] = []
    dropped: list[tuple[Statement, RuleViolation]] = []
    for statement in statements:
        try:
            transition.attempt(check_statement(statement, base.params, base.network_id, verified=verified))
        except RuleViolation as error:
            dropped.append((statement, error))
        else:
            taken.append(statement)
    body = Body(tuple(taken))
    context = base.context
    header = Header(
        version=transition.parent.schedule().check_known(context.height, base.versions),
        height=context.height,
        previous=context.parent_hash,
        body_root=body.root(),
        state_root=transition.root(),
        time_ms=max(now_ms, context.median_time_ms + 1),
        bits=context.bits,
        producer=producer,
        nonce=0,
    )
    return Template(header=header, body=body, dropped=tuple(dropped))
