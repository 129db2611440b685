"""`facechain checkpoint`: administrators vouch for a block, so that no chain forks off below it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .authoring import say_and_report
from .errors import NotFoundError, UsageError
from .keyring import Passphrases
from .options import api_option, data_dir_option, examples, json_option, signing_options
from .output import emit, facts

if TYPE_CHECKING:
    from ..node.data_dir import DataDir
    from .answers import BlockName
    from .client import NodeClient

MARGIN_BLOCKS: Final = 6
"""Without a height, the block this far below the tip is named: deep enough that it is unlikely to go."""


@click.group()
def checkpoint() -> None:
    """Declare a block final as a witness.

    Nodes never leave the chain below a checkpoint that enough administrators vouch for.
    """


@checkpoint.command(
    epilog=examples("facechain checkpoint create --key alice", "facechain checkpoint create 1200 --key alice")
)
@click.argument("height", type=click.IntRange(min=0), required=False)
@signing_options
def create(
    *,
    height: int | None,
    key: str,
    passphrase_file: Path | None,
    data_dir: DataDir,
    api: str,
    **sending: Any,
) -> None:
    """Vouch for the block at HEIGHT of the node's chain.

    Without HEIGHT, the block 6 below the tip. The node's word is taken for which block that is: ask your own.
    """
    from ..consensus.kinds import Kind
    from ..consensus.payloads import Checkpoint
    from .client import ask_node

    async def find(client: NodeClient) -> BlockName:
        status = await client.status()
        wanted = status.height - MARGIN_BLOCKS if height is None else height
        if not 0 <= wanted <= status.height:
            expected = (
                f"a tip above {MARGIN_BLOCKS}" if height is None else f"at most the tip's, {status.height}"
            )
            raise UsageError(
                "height", expected=expected, got=str(status.height if height is None else height)
            )
        return await client.block(wanted)

    block = ask_node(api, data_dir, find)
    say_and_report(
        f"checkpoint of block {block.height}",
        Kind.CHECKPOINT,
        Checkpoint(height=block.height, block_hash=block.hash),
        key=key,
        passphrases=Passphrases(file=passphrase_file),
        data_dir=data_dir,
        api=api,
        **sending,
    )


@checkpoint.command(epilog=examples("facechain checkpoint show", "facechain checkpoint show --json"))
@api_option
@data_dir_option
@json_option
def show(*, api: str, data_dir: DataDir, as_json: bool) -> None:
    """Print the highest checkpoint that enough administrators vouch for."""
    from .client import ask_node

    found = ask_node(api, data_dir, lambda client: client.checkpoint())
    if found is None:
        raise NotFoundError("checkpoint", expected="one with enough approvals", got="none yet")
    emit(
        {"height": found.height, "hash": found.hash.hex()},
        as_json=as_json,
        lines=facts((("height", found.height), ("hash", found.hash.hex()))),
    )
