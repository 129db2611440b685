"""Whole nodes in this process: real stores, TLS connections, HTTP servers and miners on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.consensus.params import Genesis
from facechain.consensus.signing import LedgerKey, NodeKey
from facechain.consensus.upgrade import SUPPORTED_VERSIONS
from facechain.node.config import NodeConfig
from facechain.node.config_kinds import Endpoint
from facechain.node.service import Addresses, Node, NodeKeys

from .chain import seed
from .deadline import eventually

TOKEN = "t" * 64
ADMIN_TOKEN = "a" * 64


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A running node and where it listens."""

    node: Node
    addresses: Addresses
    running: asyncio.Task[None]
    """Ends when the node stops, by itself or because it was told to."""

    @property
    def height(self) -> int:
        return self.node.chain.tree.tip.height

    @property
    def tip(self) -> bytes:
        return self.node.chain.tree.tip.hash

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until `condition()` is true."""
        await eventually(lambda: bool(condition()), seconds=seconds, what=f"a state of {self.addresses.api}")


@contextlib.asynccontextmanager
async def live_node(
    folder: Path,
    genesis: Genesis,
    *,
    peers: Sequence[LiveNode | Endpoint] = (),
    mining: LedgerKey | None = None,
    identity: str | None = None,
    versions: Collection[int] = SUPPORTED_VERSIONS,
    **settings: Any,
) -> AsyncIterator[LiveNode]:
    """Run a node on free ports until the context ends; it is then shut down in order. `settings`: of `NodeConfig`."""
    config = NodeConfig(
        data_dir=folder,
        listen=Endpoint(host="127.0.0.1", port=0),
        api=Endpoint(host="127.0.0.1", port=0),
        peers=tuple(peer.addresses.peer if isinstance(peer, LiveNode) else peer for peer in peers),
        mine=mining is not None,
        **settings,
    )
    config.layout.create()
    keys = NodeKeys(
        identity=NodeKey.from_seed(seed(identity or str(folder))),
        mining=mining,
        api_token=TOKEN,
        admin_token=ADMIN_TOKEN,
    )
    with Node.open(config, genesis, keys, versions=versions) as node:
        stop = asyncio.Event()
        started: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(node.run(stop, started))
        await asyncio.wait((running, started), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        try:
            yield LiveNode(node, started.result(), running)
        finally:
            stop.set()
            await running
