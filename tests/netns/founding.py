"""A network on hosts of their own: several producers, a submitter for each node, a genesis.

Owns who the people are. Rules are those of the preset `test`: a block about every second.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facechain.cli.network_presets import PRESETS
from facechain.consensus.kinds import Role
from facechain.consensus.params import Genesis, Grant
from facechain.consensus.signing import LedgerKey
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.keystore import Keystore
from facechain.node.private_files import create_private_file
from netns.authors import Author
from netns.hosts import MINE, HostNode
from netns.manifest import MINER_EVERY
from netns.namespaces import Lan

PRESET: Final = "test"
NAMED_BY_ALL: Final = 2
"""Nodes that all others name; the rest is found by gossip, so that most connections are not between named peers."""
PRODUCER: Final = "producer"
GENESIS_FILE: Final = "genesis.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Nodes, each on a host of its own, and those who submit."""

    network_id: bytes
    future_limit_ms: int
    nodes: tuple[HostNode, ...]
    authors: tuple[Author, ...]


def new_key() -> LedgerKey:
    return LedgerKey.from_seed(secrets.token_bytes(32))


def found(root: Path, lan: Lan, count: int, *, seed: int) -> Network:
    """Make hosts and data directories of `count` nodes; nothing is started."""
    administrator = new_key()
    names = [f"node-{number}" for number in range(1, count + 1)]
    producers = {name: new_key() for name in names[::MINER_EVERY]}
    writers = [new_key() for _ in names]
    granted = [(Role.PRODUCER, key.public) for key in producers.values()]
    granted += [(Role.SUBMITTER, key.public) for key in writers]
    genesis = Genesis(
        name="check-net",
        params=PRESETS[PRESET],
        time_ms=time.time_ns() // 1_000_000,
        administrators=(administrator.public,),
        grants=tuple(Grant(role=role, subject=subject) for role, subject in sorted(granted)),
    ).signed_by(administrator)
    write_document(root / GENESIS_FILE, GenesisDocument.of(genesis))
    (root / "logs").mkdir()
    token = secrets.token_hex(32)
    nodes: list[HostNode] = []
    for name in names:
        options = ["--genesis", str(root / GENESIS_FILE)]
        if named := [node.peer for node in nodes[:NAMED_BY_ALL]]:
            options += ["--peers", ",".join(named)]
        if name in producers:
            options += [MINE, "--mining-key", PRODUCER]
        node = HostNode(lan.add(name), output=root / "logs" / f"{name}.log", options=options, token=token)
        create_private_file(node.layout.api_token_file, f"{token}\n".encode())
        if name in producers:
            Keystore(node.layout.keys).add(PRODUCER, producers[name], None)
        nodes.append(node)
    authors = tuple(
        Author(home=node, key=key, network_id=genesis.network_id, seed=seed + number)
        for number, (node, key) in enumerate(zip(nodes, writers, strict=True))
    )
    return Network(
        network_id=genesis.network_id,
        future_limit_ms=genesis.params.future_limit_ms,
        nodes=tuple(nodes),
        authors=authors,
    )
