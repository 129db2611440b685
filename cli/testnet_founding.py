"""Founding a test network: keys, genesis and one data directory for each node.

Owns who the people of a test network are. Their keys have no passphrase, in folders of mode 0700: what such
a network says is worth nothing outside it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import RefusedError
from .testnet_process import ProcessId
from .testnet_record import RECORD_FILE, NetworkRecord, NodeRecord, node_names
from .testnet_topology import DEFAULT_DEGREE, Topology, links

if TYPE_CHECKING:
    from ..consensus.params import Genesis
    from ..consensus.signing import LedgerKey
    from ..node.genesis_file import GenesisDocument

NETWORK_NAME: Final = "testnet"
PRESET: Final = "test"
ADMINISTRATOR: Final = "admin"
PRODUCER: Final = "producer"
SUBMITTER: Final = "submitter"
WALLET_KEYS: Final = (ADMINISTRATOR, PRODUCER, SUBMITTER)


OWN_LINKS_ONLY: Final = "max_outbound = 0\n"
"""Settings of a node that connects to nobody but the peers it is told of."""


def found_testnet(
    root: Path,
    *,
    count: int,
    mines: bool,
    miners: int = 1,
    topology: Topology = Topology.GOSSIP,
    degree: int = DEFAULT_DEGREE,
    seed: int = 0,
    owner: ProcessId | None = None,
) -> NetworkRecord:
    """Make a network of `count` nodes in `root`; with `mines` the first one seals with the producer's key.

    The first `miners` nodes do, each with a key of its own, so that both sides of a partition can have one. `topology`, `degree` and `seed` say who opens connections to whom, see `testnet_topology.links`.

    Raises:
        RefusedError: `root` is a folder with something in it.
    """
    from ..node.genesis_file import GenesisDocument

    keys = {name: _new_key() for name in WALLET_KEYS}
    names = node_names(count)
    sealing = dict.fromkeys(names[: miners if mines else 0], keys[PRODUCER])
    for name in tuple(sealing)[1:]:
        sealing[name] = _new_key()
    genesis = _genesis(keys, sealing)
    dials: dict[str, list[str]] = {name: [] for name in names}
    for lower, higher in sorted(links(topology, count, degree=degree, seed=seed)):
        dials[names[higher]].append(names[lower])
    record = NetworkRecord(
        root=root,
        network_id=genesis.network_id,
        nodes={
            name: NodeRecord(name=name, mines=name in sealing, dials=tuple(dials[name])) for name in names
        },
        owner=owner,
    )
    _claim(record)
    _write(record, GenesisDocument.of(genesis), keys, sealing)
    if topology.is_fixed:
        for name in names:
            record.data_dir(name).config_file.write_text(OWN_LINKS_ONLY, encoding="utf-8")
    return record


def _claim(record: NetworkRecord) -> None:
    """Make the folder ours before anything is in it; of two commands at the same time, one gets it."""
    root = record.root
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise _occupied(root)
    try:
        record.save(first=True)
    except FileExistsError:
        raise RefusedError(
            str(root), expected="a new or empty folder", got="a test network that is just being made"
        ) from None


def _occupied(root: Path) -> RefusedError:
    if not (root / RECORD_FILE).exists():
        got, advice = "other files", "choose another --dir"
    elif (owner := NetworkRecord.load(root).owner) is not None and owner.is_running():
        got = f"a test network that process {owner.pid} runs in the foreground"
        advice = "end it with Ctrl-C there, or choose another --dir"
    else:
        got, advice = "a test network", f"end it with: facechain testnet down --dir {shlex.quote(str(root))}"
    return RefusedError(str(root), expected="a new or empty folder", got=got, advice=advice)


def _new_key() -> LedgerKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ..consensus.signing import LedgerKey

    return LedgerKey(Ed25519PrivateKey.generate())


def _genesis(keys: Mapping[str, LedgerKey], sealing: Mapping[str, LedgerKey]) -> Genesis:
    from ..consensus.kinds import Role
    from ..consensus.params import Genesis, Grant
    from .network_presets import PRESETS

    producers = sorted({key.public for key in (keys[PRODUCER], *sealing.values())})
    submitters = sorted(keys[name].public for name in (PRODUCER, SUBMITTER))
    return Genesis(
        name=NETWORK_NAME,
        params=PRESETS[PRESET],
        time_ms=time.time_ns() // 1_000_000,
        administrators=(keys[ADMINISTRATOR].public,),
        grants=(
            *(Grant(role=Role.PRODUCER, subject=public) for public in producers),
            *(Grant(role=Role.SUBMITTER, subject=public) for public in submitters),
        ),
    ).signed_by(keys[ADMINISTRATOR])


def _write(
    record: NetworkRecord,
    document: GenesisDocument,
    keys: Mapping[str, LedgerKey],
    sealing: Mapping[str, LedgerKey],
) -> None:
    """Write keys, genesis, and one API token and one admin token for the person and every node."""
    from ..node.api.token import load_or_create_token
    from ..node.genesis_file import write_document
    from ..node.keystore import Keystore
    from ..node.private_files import create_private_file

    write_document(record.genesis_file, document)
    wallet = record.wallet.create()
    write_document(wallet.genesis_file, document)
    for name, key in keys.items():
        Keystore(wallet.keys).add(name, key, None)
    token = load_or_create_token(wallet.api_token_file)
    admin_token = load_or_create_token(wallet.admin_token_file)
    for node in record.nodes.values():
        layout = record.data_dir(node.name).create()
        create_private_file(layout.api_token_file, f"{token}\n".encode())
        create_private_file(layout.admin_token_file, f"{admin_token}\n".encode())
        if node.name in sealing:
            Keystore(layout.keys).add(PRODUCER, sealing[node.name], None)
