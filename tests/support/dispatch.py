"""What a node's hub does with a message, for networks without a hub: hand it to the machine that takes it."""

from __future__ import annotations

from facechain.consensus.block import SealedHeader
from facechain.node.protocol.actions import Action, PeerId
from facechain.node.protocol.relay import Relay
from facechain.node.protocol.sync import Synchronizer
from facechain.node.wire import messages as wire


def hand_to_machines(  # noqa: C901, PLR0911 - one case per message type
    sync: Synchronizer, relay: Relay, peer: PeerId, message: wire.Message, *, now: float, now_ms: int
) -> list[Action] | None:
    """Return what synchronisation and relay want done; None when the message is for neither of them."""
    match message:
        case wire.Status():
            return sync.on_status(peer, message, now)
        case wire.SendAnnouncements():
            return sync.on_send_announcements(peer, message)
        case wire.GetHeaders():
            return sync.on_get_headers(peer, message)
        case wire.Headers():
            headers = [SealedHeader.decode(item) for item in message.sealed_headers]
            return sync.on_headers(peer, headers, now=now, now_ms=now_ms)
        case wire.GetBody():
            return sync.on_get_body(peer, message)
        case wire.GetLeaves():
            return sync.on_get_leaves(peer, message)
        case wire.Leaves():
            return sync.on_leaves(peer, message, now)
        case wire.BodyChunk():
            return sync.on_body_chunk(peer, message, now)
        case wire.AnnounceBlock():
            return sync.on_announce_block(peer, message, now=now, now_ms=now_ms)
        case wire.Inventory():
            return relay.on_inventory(peer, message, now)
        case wire.GetStatements():
            return relay.on_get_statements(peer, message)
        case wire.Statements():
            actions, statements = relay.on_statements(peer, message.statements, now)
            return actions + sync.on_statements(peer, statements, now)
        case wire.NotFound():
            actions = sync.on_not_found(peer, message, now)
            if message.missing is wire.Missing.STATEMENT:
                actions += relay.on_not_found(peer, message, now)
            return actions
    return None
