"""Protocol versions as JSON: in force, scheduled, asked for."""

from __future__ import annotations

from collections.abc import Collection

from ....consensus.state import upgrade_prefix
from ...chainstate import ChainState
from ...store.schema import Table, prefix_stop
from ..limits import UPGRADE_REQUESTS_MAX
from ..snapshot import Snapshot
from .blocks import JsonObject

KEY_BYTES = 32


def scheduled_view(scheduled: tuple[int, int] | None, versions: Collection[int]) -> JsonObject | None:
    """Return the version that is scheduled; None when there is none."""
    if scheduled is None:
        return None
    version, height = scheduled
    return {"version": version, "activation_height": height, "known": version in versions}


def live_upgrade(chain: ChainState) -> JsonObject:
    """Return what the status says of versions; call on the event loop's thread."""
    return {
        "block_version": chain.version,
        "upgrade": scheduled_view(chain.scheduled, chain.versions),
    }


def upgrades_view(snapshot: Snapshot, versions: Collection[int]) -> JsonObject:
    """Return versions in force, known here and scheduled, and the requests since the last decision."""
    schedule, following = snapshot.state.schedule(), snapshot.height + 1
    standing = set(snapshot.state.administrators())
    prefix = upgrade_prefix(schedule.decisions)
    rows = snapshot.chain.reader.scan(
        Table.PARAMETERS, start=prefix, stop=prefix_stop(prefix), limit=UPGRADE_REQUESTS_MAX
    )
    requests = []
    for key, value in rows:
        numbers = key[len(prefix) :]
        height = int.from_bytes(numbers[4:], "big")
        if height < following:
            continue
        keys = [value[start : start + KEY_BYTES] for start in range(0, len(value), KEY_BYTES)]
        requests.append(
            {
                "version": int.from_bytes(numbers[:4], "big"),
                "activation_height": height,
                "approvals": [item.hex() for item in keys if item in standing],
            }
        )
    return {
        "block_version": schedule.version_at(following),
        "supported": sorted(versions),
        "scheduled": scheduled_view(schedule.pending_at(following), versions),
        "quorum": snapshot.genesis.params.quorum,
        "requests": requests,
    }
