"""From a payload to a statement that a node has accepted: network, sequence, signature, receipt.

Owns the order of these steps and the check that the node is of the network that the data directory knows: a
signature is for one network, and the node is not asked which.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import RefusedError
from .keyring import open_key
from .output import emit, facts

if TYPE_CHECKING:
    from ..consensus.kinds import Kind
    from ..consensus.payloads import AnyPayload
    from ..consensus.signing import LedgerKey
    from ..node.data_dir import DataDir
    from .answers import StatementStatus
    from .client import NodeClient
    from .keyring import Passphrases


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who signs, and for which network."""

    key: LedgerKey
    network_id: bytes | None
    """None when the data directory holds no genesis: then the node's word counts."""

    async def say(
        self, client: NodeClient, kind: Kind, payload: AnyPayload, *, wait: int, timeout: float
    ) -> StatementStatus:
        """Sign and submit a statement; with `wait` > 0, return once that many blocks confirm it."""
        from ..consensus.statement import sign_statement

        status = await client.status()
        if self.network_id is not None and status.network_id != self.network_id:
            raise RefusedError(
                f"node at {client.api}",
                expected=f"the network of this data directory, {self.network_id.hex()}",
                got=f"{status.network_id.hex()} ({status.name})",
                advice="check --api and --data-dir",
            )
        account = await client.account(self.key.public)
        statement = sign_statement(
            self.key,
            status.network_id,
            payload=payload,
            kind=kind,
            sequence=account.next_sequence,
            claimed_time_ms=time.time_ns() // 1_000_000,
        )
        accepted = await client.submit(statement)
        if wait == 0:
            return accepted
        return await client.wait(statement.id, confirmations=wait, timeout_seconds=timeout)


def known_network(data_dir: DataDir) -> bytes | None:
    """Return the network id of the data directory's genesis, None when it holds none."""
    from ..node.genesis_file import read_genesis

    try:
        return read_genesis(data_dir.genesis_file).network_id
    except FileNotFoundError:
        return None


def receipt_json(status: StatementStatus) -> dict[str, Any]:
    """Return a receipt for --json."""
    return {
        "id": status.id.hex(),
        "receipt": status.receipt.value,
        "height": status.height,
        "confirmations": status.confirmations,
    }


def receipt_lines(what: str, status: StatementStatus) -> list[str]:
    """Return a receipt for people."""
    rows: list[tuple[str, object]] = [(what, status.id.hex()), ("receipt", status.receipt.value)]
    if status.height is not None:
        rows += [("block", status.height), ("confirmations", status.confirmations)]
    return facts(rows)


def say_and_report(
    what: str,
    kind: Kind,
    payload: AnyPayload,
    *,
    key: str,
    passphrases: Passphrases,
    data_dir: DataDir,
    api: str,
    wait: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Sign a statement, hand it in and print its receipt."""
    from .client import ask_node

    author = Author(key=open_key(data_dir, key, passphrases), network_id=known_network(data_dir))
    status = ask_node(
        api, data_dir, lambda client: author.say(client, kind, payload, wait=wait, timeout=timeout)
    )
    emit(receipt_json(status), as_json=as_json, lines=receipt_lines(what, status))
