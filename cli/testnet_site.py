"""Where the nodes of a test network are and how they are kept apart: the port of `TrialNetwork`, and loopback.

Owns the choice between the two sites; hosts of their own are in `testnet_namespaces`. On loopback nodes are kept apart
by bans, since nothing else tells two of them from each other there.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from .errors import UnreachableError
from .testnet_record import NetworkRecord, NodeRecord

LOOPBACK: Final = "127.0.0.1"
PARTITIONED: Final = "testnet partition"
"""Reason of the bans that keep the groups of a partition apart; other bans are left alone."""
ANSWER_SECONDS: Final = 5.0
"""A node that does not answer within this time is left as it is."""


class Site(Protocol):
    """Addresses and processes of nodes, and the way between them."""

    def places(self, name: str) -> tuple[str, str | None]:
        """Return HOST:PORT for the peers and for the API of a node that starts for the first time.

        None for the API: any port of loopback.
        """
        ...

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        """Return the command line that runs `command` where a node is."""
        ...

    def divide(self, record: NetworkRecord, names: Sequence[str]) -> None:
        """Let running nodes reach those that the record's partition does not keep from them, and nobody else."""
        ...

    def remove(self) -> None:
        """Take away what was made for it; nothing happens where nothing is left."""
        ...


def site_of(record: NetworkRecord) -> Site:
    """Return the site of a network."""
    if record.lan is None:
        return Loopback(record)
    from .testnet_namespaces import Namespaces

    return Namespaces(record)


class Loopback:
    """All nodes on this machine, on Linux each at an address of its own."""

    def __init__(self, record: NetworkRecord) -> None:
        """Take the names."""
        self._names = list(record.nodes)

    def places(self, name: str) -> tuple[str, None]:
        """Return a place for peers that is free at this moment."""
        return _free_place(self._names.index(name) + 1), None

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        """Return the command line as it is."""
        return list(command)

    def divide(self, record: NetworkRecord, names: Sequence[str]) -> None:
        """Make the bans of running nodes those of the record; they end connections at once."""
        from ..node.node_key import open_node_key

        keys = {name: open_node_key(record.data_dir(name).root).public.hex() for name in record.nodes}
        beyond = {name: {keys[other] for other in record.beyond(name)} for name in names}
        tokens = {
            name: record.data_dir(name).admin_token_file.read_text(encoding="utf-8").strip() for name in names
        }
        asyncio.run(_keep_out([(record.nodes[name], beyond[name], tokens[name]) for name in names]))

    def remove(self) -> None:
        """Nothing was made."""


async def _keep_out(beyond: Iterable[tuple[NodeRecord, set[str], str]]) -> None:
    await asyncio.gather(*(_keep_out_at(node, keys, token) for node, keys, token in beyond))


async def _keep_out_at(node: NodeRecord, keys: set[str], token: str) -> None:
    from ..node.api.limits import BAN_SECONDS_MAX
    from .client import NodeClient

    if node.url is None:
        return
    # One that is frozen does not answer. The others keep it out meanwhile, and it is told when it goes on.
    with suppress(UnreachableError):
        async with NodeClient(node.url, token=token, request_seconds=ANSWER_SECONDS) as client:
            bans = (await client.get("/v1/bans"))["bans"]
            present = {ban["peer"] for ban in bans if ban["reason"] == PARTITIONED}
            for key in present - keys:
                await client.call("DELETE", "/v1/bans", query={"peer": key})
            for key in keys - present:
                content = {"peer": key, "reason": PARTITIONED, "seconds": BAN_SECONDS_MAX}
                await client.call("POST", "/v1/bans", content=content)


def _free_place(number: int) -> str:
    """Return HOST:PORT for node `number` (from 1 on), free at this moment: on Linux an address of its own."""
    host = f"127.0.{number >> 8}.{number & 0xFF}" if sys.platform == "linux" else LOOPBACK
    with socket.socket() as place:
        place.bind((host, 0))
        return f"{host}:{place.getsockname()[1]}"
