"""Headers first: which headers each peer was asked for, which are worth storing, and what its chain is.

Owns header requests and their deadlines, and the chains of little work that are looked at before they are stored
(`presync`). Headers go to the tree only from here. What becomes of bodies is `body_sync`'s.

A message of headers is taken in two steps, since checking many seals takes a while: :meth:`HeaderSync.sift` says
which of them are to be stored, at the cost of a hash or two each, and :meth:`HeaderSync.store` stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...consensus.block import SealedHeader
from ...consensus.chain import HeaderNode
from ...consensus.errors import ConsensusError, DecodeError, RuleViolation, Temporary
from ..wire.limits import MAX_HEADERS
from ..wire.messages import GetHeaders, Headers
from .actions import Action, Drop, PeerId, Punish, Send
from .equivocation import Equivocations
from .presync import ChainChanged, ChainEnded, HeaderRules, Presync, check_own_work
from .sync_peer import ChainPort, SyncLimits, SyncPeer, blame, is_ancestor

ZERO_HASH = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """What is to be done with one message of headers."""

    headers: tuple[SealedHeader, ...] = ()
    """To be stored, oldest first; their seals were not checked."""
    is_full: bool = False
    """More headers of the peer's chain may follow."""
    actions: tuple[Action, ...] = ()
    """In place of storing anything."""


class HeaderSync:
    """See the module's text."""

    def __init__(
        self,
        chain: ChainPort,
        peers: Mapping[PeerId, SyncPeer],
        limits: SyncLimits,
        rules: HeaderRules | None,
        equivocations: Equivocations,
    ) -> None:
        """`rules`: None to store whatever `chain` accepts, whatever its work."""
        self._equivocations = equivocations
        self._chain = chain
        self._peers = peers
        self._limits = limits
        self._rules = rules

    # What is worth storing.

    def worth_storing(self) -> int:
        """Return the chainwork from which a chain's headers are stored as they come.

        The tip's, less that of a number of blocks like it, so that short branches near the tip are known; never
        less than the operator's minimum.
        """
        if self._rules is None:
            return 0
        tip = self._chain.tree.tip
        last = tip.chainwork - (0 if tip.parent is None else tip.parent.chainwork)
        near_tip = tip.chainwork - min(tip.chainwork, self._limits.margin_blocks * last)
        return max(self._limits.minimum_chainwork, near_tip)

    def is_worth_storing(self, sealed: SealedHeader) -> bool:
        """Tell whether one header that was announced has enough work, if it has what it claims; its parent is known."""
        parent = self._chain.tree.get(sealed.header.previous)
        if parent is None or self._rules is None or self._chain.tree.get(sealed.hash) is not None:
            return True
        try:
            return parent.chainwork + check_own_work(sealed, self._rules.params) >= self.worth_storing()
        except (RuleViolation, DecodeError):
            return True  # refused, with its rule, where headers are accepted

    # Asking.

    def ask(self, peer: PeerId, now: float, after: HeaderNode | None = None) -> Action:
        """Ask for what follows the best header, or for what follows `after` when that is on another chain."""
        tree, state = self._chain.tree, self._peers[peer]
        start = tree.best_header
        if after is not None and not is_ancestor(after, start):
            start = after
        locator = tree.locator(start)
        if state.presync is not None:
            locator = (state.presync.last_hash, *tree.locator(state.presync.start))
        state.headers_deadline = now + self._limits.headers_timeout
        return Send(peer, GetHeaders(locator=tuple(dict.fromkeys(locator)), stop_hash=ZERO_HASH))

    def serve(self, peer: PeerId, message: GetHeaders) -> Action:
        """Answer with headers of the active chain after the first hash that is known."""
        return Send(peer, Headers(sealed_headers=self._chain.sealed_headers(self.wanted(message))))

    def wanted(self, message: GetHeaders) -> Sequence[HeaderNode]:
        """Return the nodes whose headers a question asks for."""
        tree = self._chain.tree
        return tree.after(tree.locate(message.locator), limit=MAX_HEADERS, stop=message.stop_hash)

    def on_tick(self, peer: PeerId, state: SyncPeer, now: float) -> tuple[list[Action], bool]:
        """Ask again for headers whose time has come; tell whether an answer is late."""
        if state.headers_deadline is not None and now >= state.headers_deadline:
            state.headers_deadline = None
            return [self.ask(peer, now)], True
        if state.ask_again is not None and now >= state.ask_again and state.headers_deadline is None:
            state.ask_again = None
            return [self.ask(peer, now)], False
        if state.is_ahead and state.headers_deadline is None and not self._is_far_ahead(state.headers_end):
            state.is_ahead = False
            return [self.ask(peer, now, after=state.headers_end)], False
        return [], False

    def _is_far_ahead(self, node: HeaderNode | None) -> bool:
        return node is not None and node.height - self._chain.tree.tip.height >= self._limits.headers_ahead

    # Taking.

    def sift(self, peer: PeerId, headers: Sequence[SealedHeader], *, now: float, now_ms: int) -> Sifted:
        """Say which headers of a message are to be stored: each has work, and their chain enough of it."""
        state = self._peers[peer]
        state.headers_deadline = None
        is_full = len(headers) == MAX_HEADERS
        work = 0
        for position, sealed in enumerate(headers):
            if position and sealed.header.previous != headers[position - 1].hash:
                detail = f"headers: expected a chain, got a gap at {position}"
                return Sifted(actions=(Punish(peer, "bad-prevblk", detail),))
            if self._rules is not None and self._chain.tree.get(sealed.hash) is None:
                try:
                    work += check_own_work(sealed, self._rules.params)
                except (RuleViolation, DecodeError) as error:
                    return Sifted(actions=(blame(peer, error),))
        known = headers and self._chain.tree.get(headers[-1].hash)
        if self._rules is None or known:
            state.presync = None  # another peer showed this chain
            return Sifted(headers=tuple(headers), is_full=is_full)
        if state.presync is None:
            below = self._lowest_known(headers)
            if below is None or below.chainwork + work >= self.worth_storing():
                return Sifted(headers=tuple(headers), is_full=is_full)
            if not is_full:
                return Sifted()  # a whole chain with less work than is worth storing
            headers = [item for item in headers if self._chain.tree.get(item.hash) is None]
            state.presync = Presync(below, self.worth_storing(), self._rules)
        return self._look_twice(peer, state, state.presync, headers, now=now, now_ms=now_ms, is_full=is_full)

    def _lowest_known(self, headers: Sequence[SealedHeader]) -> HeaderNode | None:
        """Return the known header below the first one that is not known."""
        tree = self._chain.tree
        fresh = next((item for item in headers if tree.get(item.hash) is None), None)
        return None if fresh is None else tree.get(fresh.header.previous)

    def _look_twice(
        self,
        peer: PeerId,
        state: SyncPeer,
        presync: Presync,
        headers: Sequence[SealedHeader],
        *,
        now: float,
        now_ms: int,
        is_full: bool,
    ) -> Sifted:
        try:
            released = presync.take(headers, is_full=is_full, now_ms=now_ms)
        except Temporary as error:
            state.presync = None
            self.wait_for_time(state, error, now)
            return Sifted()
        except ChainEnded:
            state.presync = None
            return Sifted()
        except ChainChanged as error:
            state.presync = None
            return Sifted(actions=(Drop(peer, "headers-changed", f"headers: {error}"),))
        except RuleViolation as error:
            state.presync = None
            return Sifted(actions=(blame(peer, error),))
        if released:
            return Sifted(headers=released, is_full=is_full)
        return Sifted(actions=(self.ask(peer, now),))

    def store(
        self, peer: PeerId, sifted: Sifted, *, now: float, now_ms: int, seals_checked: bool
    ) -> tuple[list[Action], HeaderNode | None, bool]:
        """Add headers to the tree, in order.

        Returns actions, the newest header that the peer showed, and whether the message was the last one.
        A broken rule or a bad seal is the sender's fault; a missing parent or too new a time is nobody's.
        """
        state = self._peers[peer]
        last: HeaderNode | None = None
        is_full = sifted.is_full
        for sealed in sifted.headers:
            try:
                last = self._chain.accept_header(sealed, now_ms=now_ms, seal_checked=seals_checked)
                self._equivocations.on_header(last, now_ms)
            except Temporary as error:
                self.wait_for_time(state, error, now)
                is_full, state.presync = False, None
                break
            except RuleViolation as error:
                state.presync = None
                return [blame(peer, error)], None, False
        if state.presync is not None and not state.presync.is_done:
            return [self.ask(peer, now)], last, False
        state.presync = None
        if last is None or not is_full:
            return [], last, True
        if state.headers_end is last:
            detail = f"headers: expected new ones, got {last.height} again"
            return [Drop(peer, "no-progress", detail)], last, False
        state.headers_end = last
        state.is_ahead = self._is_far_ahead(last)
        return ([] if state.is_ahead else [self.ask(peer, now, after=last)]), last, False

    def wait_for_time(self, state: SyncPeer, error: ConsensusError, now: float) -> None:
        """A header from the future is asked for again later: perhaps no newer one will tell of it."""
        if error.code == "time-too-new" and state.ask_again is None:
            state.ask_again = now + self._limits.future_retry
