"""`facechain network upgrade`: administrators schedule another protocol version, or take it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .authoring import say_and_report
from .errors import RefusedError
from .keyring import Passphrases
from .options import api_option, data_dir_option, examples, json_option, signing_options
from .output import columns, emit, facts

if TYPE_CHECKING:
    from ..node.data_dir import DataDir
    from .answers import Upgrades
    from .client import NodeClient

VERSIONS = click.IntRange(min=1, max=2**32 - 1)
HEIGHTS = click.IntRange(min=1, max=2**63 - 1)


@click.group()
def upgrade() -> None:
    """Schedule another protocol version.

    It begins at a height once enough administrators asked for the same version and height. Nodes that do not
    know the version warn from then on and stop before that height.
    """


@upgrade.command(
    epilog=examples("facechain network upgrade propose --version 2 --height 120000 --key alice --wait 1")
)
@click.option("--version", type=VERSIONS, required=True, help="The version that begins.")
@click.option("--height", type=HEIGHTS, required=True, help="The first block that has it.")
@signing_options
def propose(*, version: int, height: int, **sending: Any) -> None:
    """Ask for VERSION from HEIGHT on.

    Each administrator runs this with the same numbers: whoever comes after the first approves. A decision
    replaces what was scheduled before.
    """
    _ask("request for an upgrade", (version, height), **sending)


@upgrade.command(epilog=examples("facechain network upgrade cancel --key alice --wait 1"))
@signing_options
def cancel(*, api: str, data_dir: DataDir, **sending: Any) -> None:
    """Ask to take back what is scheduled.

    It stays scheduled until enough administrators asked for this.
    """
    from .client import ask_node

    known = ask_node(api, data_dir, lambda client: client.upgrades())
    if known.scheduled is None:
        raise RefusedError("upgrade", expected="a scheduled version to take back", got="none")
    # The statement names the version in force, and the height of what it takes back.
    taken_back = known.block_version, known.scheduled[1]
    _ask("request to cancel", taken_back, api=api, data_dir=data_dir, **sending)


@upgrade.command(epilog=examples("facechain network upgrade show", "facechain network upgrade show --json"))
@api_option
@data_dir_option
@json_option
def show(*, api: str, data_dir: DataDir, as_json: bool) -> None:
    """Print the version in force, what is scheduled, and the requests that wait for more administrators."""
    from .client import ask_node

    async def ask(client: NodeClient) -> Upgrades:
        return await client.upgrades()

    known = ask_node(api, data_dir, ask)
    scheduled = "nothing"
    if known.scheduled is not None:
        version, height = known.scheduled
        scheduled = f"version {version} from block {height} on"
        if version not in known.supported:
            scheduled += " (not known to this node: it will stop before)"
    lines = facts(
        [
            ("version of the next block", known.block_version),
            ("versions that the node knows", ", ".join(map(str, known.supported))),
            ("scheduled", scheduled),
        ]
    )
    if known.requests:
        rows = [
            (str(item.version), str(item.height), f"{len(item.approvals)} of {known.quorum}")
            for item in known.requests
        ]
        lines += ["", *columns(("VERSION", "FROM BLOCK", "ADMINISTRATORS"), rows)]
    emit(dict(known.content), as_json=as_json, lines=lines)


def _ask(what: str, payload: tuple[int, int], *, passphrase_file: Path | None, **sending: Any) -> None:
    """Say (version, activation height) and report."""
    from ..consensus.kinds import Kind
    from ..consensus.payloads import ProtocolUpgrade

    version, height = payload
    say_and_report(
        what,
        Kind.PROTOCOL_UPGRADE,
        ProtocolUpgrade(version=version, activation_height=height),
        passphrases=Passphrases(file=passphrase_file),
        **sending,
    )
