"""Who is kept out, why and until when; and the offences that lead there: without I/O.

Owns the ban list (node keys and networks, each with a reason and an expiry), the score of offences by node key,
and the table `OFFENCES` of what each is worth. A node key costs nothing, so an address whose keys were banned
is *discouraged* for as long: its connections are the first to make room. An address is banned only by the operator:
many honest nodes may share it.

Times are Unix milliseconds, since bans outlive the process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...consensus.encoding import U64, as_array, as_bool, as_text, as_uint, pack, unpack
from ..config_kinds import PeerPattern
from ..wire.faults import Reason
from ..wire.limits import (
    BAN_SCORE,
    BAN_SECONDS,
    MAX_BAN_REASON_BYTES,
    MAX_BANS,
    MAX_SCORED_PEERS,
    OFFENCE_SECONDS,
    PROTOCOL_BAN_SECONDS,
)

MAX_ROW_BYTES: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Offence:
    """What one kind of misbehaviour costs."""

    points: int
    """At `BAN_SCORE` points within `OFFENCE_SECONDS` the peer is banned."""
    ban_ms: int


RULE_BROKEN: Final = Offence(points=BAN_SCORE, ban_ms=BAN_SECONDS * 1_000)
"""A rule of the chain that is punished (`consensus.errors.RULES`): nobody breaks one by accident."""

_BAD_FRAME: Final = Offence(points=BAN_SCORE, ban_ms=PROTOCOL_BAN_SECONDS * 1_000)
_UNASKED: Final = Offence(points=BAN_SCORE // 2, ban_ms=PROTOCOL_BAN_SECONDS * 1_000)

OFFENCES: Final[Mapping[str, Offence]] = MappingProxyType(
    {
        Reason.UNKNOWN_MESSAGE: _BAD_FRAME,
        Reason.OVERSIZED_MESSAGE: _BAD_FRAME,
        Reason.MALFORMED_MESSAGE: _BAD_FRAME,
        Reason.UNEXPECTED_MESSAGE: _BAD_FRAME,
        Reason.UNSOLICITED_REPLY: _UNASKED,
        Reason.RATE_LIMIT: _UNASKED,
    }
)
"""Faults on the wire; every other reason is a broken rule. The connection ends at the first fault in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """Why somebody is kept out, and until when."""

    reason: str
    until_ms: int
    since_ms: int = 0
    by_operator: bool = False

    def encode(self) -> bytes:
        """Return the stored form."""
        return pack([self.reason, self.until_ms, self.since_ms, self.by_operator])

    @classmethod
    def decode(cls, data: bytes) -> Ban:
        """Read the stored form; raises DecodeError."""
        reason, until, since, by_operator = as_array(unpack(data, max_bytes=MAX_ROW_BYTES), "ban", 4)
        return cls(
            reason=as_text(reason, "reason", max_bytes=MAX_BAN_REASON_BYTES),
            until_ms=as_uint(until, "until", U64),
            since_ms=as_uint(since, "since", U64),
            by_operator=as_bool(by_operator, "by operator"),
        )


class BanList:
    """See the module's text."""

    def __init__(self, *, bans_max: int = MAX_BANS, scored_max: int = MAX_SCORED_PEERS) -> None:
        """Start empty."""
        self._bans_max = bans_max
        self._scored_max = scored_max
        self._bans: dict[PeerPattern, Ban] = {}
        self._networks: set[PeerPattern] = set()
        self._offences: OrderedDict[bytes, list[tuple[int, int]]] = OrderedDict()
        """Node key -> when an offence lapses, and its points."""
        self._discouraged: OrderedDict[str, int] = OrderedDict()
        """Host -> until when."""

    def __len__(self) -> int:
        """Number of bans, those that ended since the last look included."""
        return len(self._bans)

    def active(self, now_ms: int) -> dict[PeerPattern, Ban]:
        """Return the bans in force; those that ended are dropped."""
        for pattern in [item for item, ban in self._bans.items() if ban.until_ms <= now_ms]:
            self.unban(pattern)
        return dict(self._bans)

    def restore(self, pattern: PeerPattern, ban: Ban) -> None:
        """Take a ban that was stored."""
        self._put(pattern, ban)

    def ban(
        self, pattern: PeerPattern, reason: str, *, now_ms: int, ban_ms: int, by_operator: bool = False
    ) -> Ban:
        """Keep a node, an address or a network out for a while; an operator's ban is not shortened by another."""
        known = self._bans.get(pattern)
        ban = Ban(
            reason=_cut(reason),
            until_ms=now_ms + ban_ms,
            since_ms=now_ms,
            by_operator=by_operator,
        )
        if known is not None and known.by_operator and not by_operator and known.until_ms > now_ms:
            return known
        self._put(pattern, ban)
        return ban

    def unban(self, pattern: PeerPattern) -> bool:
        """End a ban, and forget what led there; tell whether there was one."""
        self._networks.discard(pattern)
        if pattern.node_key is not None:
            self._offences.pop(pattern.node_key, None)
        return self._bans.pop(pattern, None) is not None

    def find(self, host: str, node_key: bytes | None, now_ms: int) -> Ban | None:
        """Return the ban in force that keeps a peer out; `node_key` is None before it is proven.

        `host` is numeric, or empty where only the key is in question.
        """
        candidates = [item for item in self._networks if host and item.matches(host)]
        if node_key is not None:
            candidates.append(PeerPattern(node_key=node_key))
        for pattern in candidates:
            ban = self._bans.get(pattern)
            if ban is not None and ban.until_ms > now_ms:
                return ban
        return None

    def on_offence(self, node_key: bytes, host: str, reason: str, detail: str, now_ms: int) -> Ban | None:
        """Note that a peer misbehaved; return the ban when that is enough for one."""
        offence = OFFENCES.get(reason, RULE_BROKEN)
        lapses = [item for item in self._offences.pop(node_key, []) if item[0] > now_ms]
        lapses.append((now_ms + OFFENCE_SECONDS * 1_000, offence.points))
        if sum(points for _, points in lapses) < BAN_SCORE:
            self._offences[node_key] = lapses
            while len(self._offences) > self._scored_max:
                self._offences.popitem(last=False)
            return None
        self.discourage(host, now_ms + offence.ban_ms)
        return self.ban(
            PeerPattern(node_key=node_key), f"{reason}: {detail}", now_ms=now_ms, ban_ms=offence.ban_ms
        )

    def score(self, node_key: bytes, now_ms: int) -> int:
        """Return the points that count against a peer."""
        return sum(points for lapses, points in self._offences.get(node_key, []) if lapses > now_ms)

    def is_discouraged(self, host: str, now_ms: int) -> bool:
        """Tell whether a peer at this address was banned of late."""
        return self._discouraged.get(host, 0) > now_ms

    def discourage(self, host: str, until_ms: int) -> None:
        """Let connections from an address be the first to make room for a while."""
        self._discouraged[host] = max(until_ms, self._discouraged.pop(host, 0))
        while len(self._discouraged) > self._scored_max:
            self._discouraged.popitem(last=False)

    def _put(self, pattern: PeerPattern, ban: Ban) -> None:
        self._bans[pattern] = ban
        if pattern.network is not None:
            self._networks.add(pattern)
        while len(self._bans) > self._bans_max:
            # Those that end first go, and the operator's last.
            first = min(
                self._bans, key=lambda item: (self._bans[item].by_operator, self._bans[item].until_ms)
            )
            del self._bans[first]
            self._networks.discard(first)


def _cut(text: str) -> str:
    """Return printable text of at most `MAX_BAN_REASON_BYTES` bytes."""
    plain = "".join(item if item.isprintable() else "?" for item in text)
    return plain.encode()[:MAX_BAN_REASON_BYTES].decode(errors="ignore")
