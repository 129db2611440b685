"""Everything about peers put together: memory, door, hub, dialer and peer port.

Owns their construction, the saving of what is known of peers, and what the operator may do about peers while
the node runs. It decides nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from functools import partial
from random import SystemRandom

from .chain_runner import ChainRunner
from .config import NodeConfig
from .dialer import Dialer
from .hub import PeerHub
from .peer_admin import PeerAdmin
from .peer_door import PeerDoor
from .peer_store import SECRET_BYTES, load_memory, save_picture, take_picture
from .protocol.peer_entry import Endpoint
from .protocol.peer_groups import canonical_host
from .protocol.peer_outbound import OutboundPlan, OutboundPolicy
from .store.errors import StoreError
from .store.port import Store
from .wire.handshake import LocalNode
from .wire.limits import MAX_BLOCK_RELAY, ConnectionLimits
from .wire.tls import open_identity
from .wire.transport import Listener

SAVE_SECONDS = 30.0

SAVE_PAUSE_SECONDS = 1.0
"""Between two saves, so that a row of bans does not keep the disk busy."""

_log = logging.getLogger(__name__)


class Peering:
    """See the module's text. `run` works until it is cancelled; then `save_last` keeps the anchors."""

    def __init__(
        self,
        *,
        config: NodeConfig,
        store: Store,
        runner: ChainRunner,
        own_key: bytes,
        clock_ms: Callable[[], int],
    ) -> None:
        """Put the parts together; nothing runs yet."""
        self._config = config
        self._store = store
        self._runner = runner
        self._clock_ms = clock_ms
        random = SystemRandom()
        memory = load_memory(store, random=random, new_secret=partial(secrets.token_bytes, SECRET_BYTES))
        self.book, self.bans = memory.book, memory.bans
        self.door = PeerDoor(
            book=self.book,
            bans=self.bans,
            clock_ms=clock_ms,
            max_inbound=config.max_inbound,
            allow=config.allow,
            deny=config.deny,
        )
        self.hub = PeerHub(
            runner=runner,
            door=self.door,
            clock_ms=clock_ms,
            own_key=own_key,
            own_address=_own_address(config),
        )
        policy = OutboundPolicy(
            connections=config.max_outbound, block_relay=min(MAX_BLOCK_RELAY, config.max_outbound)
        )
        self._plan = OutboundPlan(self.book, random, policy, memory.anchors)
        self._last_anchors: tuple[Endpoint, ...] = ()
        self._changed = asyncio.Event()
        self.door.on_ban = self._changed.set
        self.admin = PeerAdmin(
            door=self.door, links=self.hub.links, end=self.hub.end, clock_ms=clock_ms, save=self.save_now
        )

    def _limits(self) -> ConnectionLimits:
        return ConnectionLimits(max_inbound=self._config.max_inbound)

    def listener(self, local: LocalNode) -> Listener:
        """Return the peer port; it listens while it is entered."""
        listen = self._config.listen
        return Listener(
            host=listen.host,
            port=listen.port,
            identity=open_identity(self._config.data_dir),
            local=local,
            on_connection=self.hub.serve,
            on_refused=self.door.on_refused,
            admits_host=self.door.admits_host,
            make_room=self.hub.make_room,
            limits=self._limits(),
        )

    async def run(self, local: LocalNode) -> None:
        """Dial, gossip and save.

        Raises:
            WrongNetworkPeers: at the first try, all of the operator's peers turned out to be strangers.
        """
        dialer = Dialer(
            plan=self._plan,
            door=self.door,
            hub=self.hub,
            local=local,
            limits=self._limits(),
            manual=self._config.peers,
            clock_ms=self._clock_ms,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.run(), name="peer hub")
            tasks.create_task(dialer.run(), name="dialer")
            tasks.create_task(self._keep_saving(), name="address book")
            try:
                await asyncio.Event().wait()
            finally:  # before the tasks above, and with them the connections, are cancelled
                self._last_anchors = self._plan.anchors(dialer.outbound())

    async def _keep_saving(self) -> None:
        """Save now and then, and at once after a ban."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            with contextlib.suppress(StoreError):  # the runner said so; the next round may do better
                await self.save_now()
            await asyncio.sleep(SAVE_PAUSE_SECONDS)

    async def save_now(self) -> None:
        """Write what is known of peers; raises StoreError."""
        now_ms = self._clock_ms()
        for link in self.hub.links.values():
            if link.dialed is not None:
                self.book.on_alive(*link.dialed, now_ms)
        picture = take_picture(self.book, self.bans, now_ms)
        await self._runner.call(partial(save_picture, self._store, picture))

    async def save_last(self) -> None:
        """Write what is known of peers at a stop in order, with the anchors of the next run."""
        picture = take_picture(self.book, self.bans, self._clock_ms(), self._last_anchors)
        try:
            await self._runner.call(partial(save_picture, self._store, picture))
        except StoreError as error:
            _log.warning("the address book is not saved: %s", error)


def _own_address(config: NodeConfig) -> Endpoint | None:
    """Return the numeric address at which others reach this node, if the settings say one."""
    named = config.advertise or config.listen
    host = canonical_host(named.host)
    return None if host is None or not named.port else (host, named.port)
