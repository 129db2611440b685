"""Who said two things in one place, found out a second time: nobody is missed, and nobody is accused of what he did not do."""

from __future__ import annotations

from collections.abc import Mapping

from facechain.consensus.kinds import Kind
from facechain.consensus.statement import Statement
from facechain.node.protocol.equivocation import Equivocation, EquivocationKind
from facechain.node.wire.limits import MAX_EQUIVOCATIONS_PER_KEY, MAX_EQUIVOCATORS

from .events import Violation
from .nodes import SimNode


def check_equivocations(node: SimNode, signed: Mapping[bytes, Statement]) -> None:
    """Compare what a node counted with its headers and with what was ever `signed`."""
    for key, places in node.node.equivocations.all():
        for place in places:
            if not _is_true(node, key, place, signed):
                raise Violation(f"{node.name} says that {key.hex()[:16]} said two things, got {place}")
    _check_none_missed(node)


def _is_true(node: SimNode, key: bytes, found: Equivocation, signed: Mapping[bytes, Statement]) -> bool:
    if found.first == found.second:
        return False
    if found.kind is EquivocationKind.STATEMENT:
        both = [signed.get(item) for item in (found.first, found.second)]
        return all(
            item is not None
            and (item.author, item.sequence) == (key, found.number)
            and item.header.kind is not Kind.CANCEL
            for item in both
        )
    headers = [node.chain.tree.get(item) for item in (found.first, found.second)]
    return all(
        item is not None
        and item.parent is not None
        and (item.producer, item.height, item.parent.hash) == (key, found.number, found.parent)
        for item in headers
    )


def _check_none_missed(node: SimNode) -> None:
    """Two headers of one key on one parent are counted by the next look at them, if one came in this life."""
    tree = node.chain.tree
    children: dict[tuple[bytes, bytes], list[bytes]] = {}
    for item in tree.nodes.values():
        if item.parent is not None and item.hash in node.headers_seen:
            children.setdefault((item.producer, item.parent.hash), []).append(item.hash)
    node.headers_seen = frozenset(tree.nodes)
    counted = node.node.equivocations
    for (key, parent), hashes in children.items():
        if len(hashes) < 2 or all(item in node.headers_before for item in hashes):
            continue
        node.equivocators.add(key)
        places = counted.of(key)
        is_full = len(places) >= MAX_EQUIVOCATIONS_PER_KEY or len(counted) >= MAX_EQUIVOCATORS
        if not is_full and not any(place.parent == parent for place in places):
            names = [item.hex()[:16] for item in hashes]
            raise Violation(f"{node.name} did not count the blocks {names} of {key.hex()[:16]} on one parent")
