"""What the protocol machines ask their driver to do: plain values, no I/O.

Owns the action types. A machine is given messages, events and the clock, and returns a list of
these; the node's service carries them out, and so does a simulator.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...consensus.block import Block
from ...consensus.statement import Statement
from ..wire.messages import Message

PeerId = int
"""A connection of this run; never reused."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a peer."""

    peer: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class Punish:
    """A peer broke a rule that an honest peer never breaks."""

    peer: PeerId
    reason: str
    """Code of the rule, or a reason of :mod:`facechain.node.wire.faults`."""
    detail: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Close a connection that is of no use; nobody is to blame."""

    peer: PeerId
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class BlockReady:
    """A whole block whose body belongs to its header; to be connected."""

    block: Block
    peer: PeerId


@dataclass(frozen=True, slots=True)
class StatementReceived:
    """A statement came; signature and standing are still to be checked."""

    statement: Statement
    peer: PeerId


Action = Send | Punish | Drop | BlockReady | StatementReceived
