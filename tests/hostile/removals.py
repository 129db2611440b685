"""Defences that take more than a constant to be taken out: what the changed node does in their place.

Owns these functions, one for each defence, and no names of defences: those are in `defences.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from hostile.changes import Change, nothing, part, patched, set_default, wrapped

HUGE: Final = 1 << 30


class Unlike(bytes):
    """Bytes that are equal to nothing."""

    def __eq__(self, _other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return super().__hash__()


def other_networks_agree() -> None:
    """Take on the network that a Hello names."""

    def on_hello(known: Any, self: Any, hello: Any) -> Any:
        self._local = replace(self._local, network_id=hello.network_id)
        return known(self, hello)

    wrapped("node.wire.handshake:Handshake", "_on_hello", on_hello)()


def own_key_is_strange() -> None:
    """Do not know this node's own key."""

    def on_hello(known: Any, self: Any, hello: Any) -> Any:
        return known(self, replace(hello, node_key=Unlike(hello.node_key)))

    wrapped("node.wire.handshake:Handshake", "_on_hello", on_hello)()


def roles_do_not_matter() -> None:
    """Take a Hello of either role for one of the other role."""
    other = part("node.wire.handshake")._OTHER

    def on_hello(known: Any, self: Any, hello: Any) -> Any:
        return known(self, replace(hello, role=other[self._role]))

    wrapped("node.wire.handshake:Handshake", "_on_hello", on_hello)()


def faults_pass(*reasons: str) -> Change:
    """Pass over messages with these faults."""

    def incoming(known: Any, self: Any, frame: bytes, now: float) -> Any:
        from facechain.node.wire.faults import PeerFault
        from facechain.node.wire.messages import Pong

        try:
            return known(self, frame, now)
        except PeerFault as fault:
            if fault.reason not in reasons:
                raise
            return Pong(nonce=0)

    return wrapped("node.wire.session:Session", "incoming", incoming)


def strange_frames_pass() -> None:
    """Pass over text and WebSocket's own pings."""
    from aiohttp import WSMsgType

    async def read_frame(self: Any) -> bytes:
        while True:
            received = await self._websocket.receive()
            if received.type is WSMsgType.BINARY:
                return bytes(received.data)
            if received.type not in {WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG}:
                raise await self._end(self._end_of(received))

    patched("node.wire.connection:Connection", _read_frame=read_frame)()


def ends_go_unnoticed() -> None:
    """Keep the place of a connection that was lost."""
    from facechain.node.wire.faults import Reason

    async def end(known: Any, self: Any, failure: Any) -> Any:
        if failure.reason == Reason.CONNECTION_LOST:
            await asyncio.Event().wait()
        return await known(self, failure)

    wrapped("node.wire.connection:Connection", "_end", end)()


def nobody_else_has_a_turn() -> None:
    """Deal with all frames that are here before anything else."""

    async def sleep(seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)

    part("node.wire.connection").asyncio = type(
        "asyncio", (), {**vars(asyncio), "sleep": staticmethod(sleep)}
    )


def context_follows(*fields: str) -> Change:
    """Let a header's own fields stand for what its ancestors ask for."""

    def check_header(known: Any, header: Any, context: Any, *rest: Any) -> None:
        own = {
            "bits": header.bits,
            "height": header.height,
            "parent_hash": header.previous,
            "median_time_ms": -1,
        }
        known(header, replace(context, **{name: own[name] for name in fields}), *rest)

    def change() -> None:
        for module in ("consensus.chain", "node.protocol.presync"):
            wrapped(module, "check_header", check_header)()

    return change


def any_target_counts() -> None:
    """Take whatever target a header names."""
    context_follows("bits")()
    work = part("consensus.work").block_work
    patched("node.protocol.header_sync", check_own_work=lambda sealed, _params: work(sealed.header.bits))()


def gaps_pass() -> None:
    """Store headers whether they follow each other or not."""
    module = part("node.protocol.header_sync")

    def sift(known: Any, self: Any, peer: int, headers: Any, **clocks: Any) -> Any:
        sifted = known(self, peer, headers, **clocks)
        if any(getattr(action, "reason", "") == "bad-prevblk" for action in sifted.actions):
            return module.Sifted(headers=tuple(headers))
        return sifted

    wrapped("node.protocol.header_sync:HeaderSync", "sift", sift)()


def orphans_are_adopted() -> None:
    """Take every header with an unknown parent for a child of the tip, at whatever height it claims."""
    from facechain.consensus.errors import Temporary

    context_follows("height", "parent_hash", "bits", "median_time_ms")()
    rules = part("consensus.chain")

    class Nodes(dict[bytes, Any]):
        tree: Any

        def __missing__(self, _key: bytes) -> Any:
            return self.tree.tip

    def init(known: Any, self: Any, *arguments: Any, **named: Any) -> None:
        known(self, *arguments, **named)
        self.nodes = Nodes(self.nodes)
        self.nodes.tree = self

    def check(known: Any, self: Any, sealed: Any) -> None:
        try:
            known(self, sealed)
        except Temporary as error:
            if error.code != "missing-parent":
                raise
            rules.check_header(sealed.header, self.context(self.tip), self._params, self._versions)

    wrapped("consensus.chain:BlockTree", "__init__", init)()
    wrapped("consensus.chain:BlockTree", "check_header", check)()


def bits_are_kept() -> None:
    """Keep any number of bits of a chain of little work."""
    module = part("node.protocol.presync")
    set_default("node.protocol.presync:HeaderRules", "limits", module.PresyncLimits(bits=HUGE))


def rules_pass(path: str, name: str, *codes: str) -> Change:
    """Pass over some rules that a function checks."""

    def check(known: Any, *arguments: Any, **named: Any) -> None:
        from facechain.consensus.errors import RuleViolation

        try:
            known(*arguments, **named)
        except RuleViolation as error:
            if error.code not in codes:
                raise

    return wrapped(path, name, check)


def standing_passes(*codes: str) -> Change:
    """Take in, and keep, statements whatever their expiry, author or sequence."""

    def change() -> None:
        rules_pass("consensus.apply:Transition", "check_standing", *codes)()
        patched("node.mempool.pool:Mempool", _check_standing=lambda *_: ())()

    return change


def sequences_are_shared() -> None:
    """Hold any number of statements under one sequence number."""
    patched("node.mempool.pool:Mempool", _check_sequence=nothing)()
    standing_passes("bad-sequence")()


def all_statements_are_remembered() -> None:
    """Compare a statement with all that ever came."""
    module = part("node.protocol.equivocation")
    start = module.Equivocations.__init__
    start.__defaults__ = (replace(module.DEFAULT_LIMITS, seen=HUGE),)


def garbage_is_no_statement() -> None:
    """Pass over what is no statement, whoever sent it."""
    from facechain.consensus.errors import DecodeError
    from facechain.consensus.statement import Statement

    def on_statements(known: Any, self: Any, peer: int, encoded: Any, now: float) -> Any:
        good = []
        for item in encoded:
            with contextlib.suppress(DecodeError):
                Statement.decode(item)
                good.append(item)
        return known(self, peer, good, now)

    wrapped("node.protocol.relay:Relay", "on_statements", on_statements)()


def all_statements_were_asked_for() -> None:
    """Take statements whether they were asked for or not."""
    from facechain.consensus.statement import Statement

    def on_statements(known: Any, self: Any, peer: int, encoded: Any, now: float) -> Any:
        self._asked.update((Statement.decode(item).leaf, peer) for item in encoded)
        return known(self, peer, encoded, now)

    wrapped("node.protocol.relay:Relay", "on_statements", on_statements)()


def nothing_returns() -> None:
    """Forget the statements of blocks that a reorganisation takes off."""

    def on_update(known: Any, self: Any, *, connected: Any, disconnected: Collection[Any]) -> Any:
        del disconnected
        return known(self, connected=connected, disconnected=())

    wrapped("node.mempool.durable:DurableMempool", "on_update", on_update)()


def places_are_kept() -> None:
    """Give no pending place back, and make no room for newcomers."""
    no_room_made()
    patched("node.protocol.peer_pending:PendingSockets", release=nothing)()


def numbers_are_trusted() -> None:
    """Read whatever Python takes for a number."""
    patched("node.api.parameters", read_uint=lambda text, _what, **_: int(text))()


def no_type_sizes() -> None:
    """Let a message of any type be as long as a frame may be."""
    from facechain.node.wire.messages import BY_NUMBER

    session = part("node.wire.session")
    known = session.frame_spec

    def frame_spec(frame: bytes) -> Any:
        spec = BY_NUMBER.get(frame[0]) if frame else None
        return known(frame) if spec is None else replace(spec, max_bytes=HUGE)

    session.frame_spec = frame_spec


def no_structure_bounds() -> None:
    """Take arrays of any length and depth apart."""
    codec = part("node.wire.codec")
    bounded = codec.unpack

    def unpack(data: bytes, *, max_bytes: int, **_: int) -> Any:
        return bounded(data, max_bytes=max_bytes, max_items=1 << 24, max_depth=1 << 24)

    codec.unpack = unpack


def compress() -> None:
    """Agree to compression, without a bound of what comes out."""
    from aiohttp import web

    class Compressing(web.WebSocketResponse):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "compress": True, "max_msg_size": 0})

    namespace = type("web", (), {**vars(web), "WebSocketResponse": Compressing})
    part("node.wire.transport").web = namespace


def no_room_made() -> None:
    """Let whoever came first keep every pending place."""

    def admit(self: Any, host: str) -> tuple[int | None, int | None]:
        if len(self._groups) >= self._total:
            return None, None
        self._next += 1
        self._groups[self._next] = host
        return self._next, None

    part("node.protocol.peer_pending:PendingSockets").admit = admit


def answers_again() -> None:
    """Answer each question for addresses anew."""
    gossip = part("node.address_gossip:AddressGossip")
    known = gossip.on_get_addresses

    def on_get_addresses(self: Any, link: Any, message: Any) -> Any:
        link.has_addresses = False
        return known(self, link, message)

    gossip.on_get_addresses = on_get_addresses


def bodies_unchecked() -> None:
    """Take any body for that of a header."""

    def set_leaves(self: Any, leaves: tuple[bytes, ...], byte_count: int) -> None:
        if self.leaves is None:
            self.leaves, self.byte_count = leaves, byte_count
            for index, leaf in enumerate(leaves):
                self._missing.setdefault(leaf, index)

    part("node.protocol.assembly:BodyAssembly").set_leaves = set_leaves
    patched("node.chainstate", check_body=nothing)()


def clock_follows_peers() -> None:
    """Set this node's clock by what peers say."""
    gossip, service = part("node.address_gossip:AddressGossip"), part("node.service")
    shift = {"ms": 0}
    own = service.clock_ms
    known = gossip.on_clock

    def on_clock(self: Any, link: Any, message: Any) -> Any:
        shift["ms"] = message.time_ms - own()
        return known(self, link, message)

    gossip.on_clock = on_clock
    service.clock_ms = lambda: own() + shift["ms"]


def oldest_goes(peers: Any, _secret: bytes) -> Any:
    """Choose who was here first to make room."""
    return min(peers, key=lambda peer: peer.since).id


def many_outbound() -> None:
    """Seek as many connections as there are addresses."""
    set_default("node.config:NodeConfig", "max_outbound", 1_000)
