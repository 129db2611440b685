"""`facechain retract`: an author or an administrator withdraws a batch, one image of it, or a stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .authoring import say_and_report
from .errors import RefusedError, UsageError
from .hexadecimal import read_hash
from .keyring import Passphrases
from .options import LongNameOption, examples, signing_options

if TYPE_CHECKING:
    from ..node.data_dir import DataDir
    from .client import NodeClient


@click.command(
    short_help="Withdraw a batch, one image of it, or a stage.",
    epilog=examples(
        "facechain retract 9d3e…01 --reason 'shows a person' --record 17 --key alice --wait 1",
        "facechain retract 9d3e…01 --reason 'the model leaked its training data' --key alice",
    ),
)
@click.argument("target")
@click.option(
    "--record",
    cls=LongNameOption,
    type=click.IntRange(min=0, max=2**32 - 1),
    metavar="N",
    help="Only image number N of the batch, from 0.  [default: all of it]",
)
@click.option("--reason", required=True, help="Why; kept on the chain.")
@signing_options
def retract(
    *,
    target: str,
    record: int | None,
    reason: str,
    key: str,
    passphrase_file: Path | None,
    data_dir: DataDir,
    api: str,
    **sending: Any,
) -> None:
    """Withdraw TARGET, the id of a batch or stage on the chain.

    Nothing disappears: whoever audits an image of it is told that it was withdrawn, and why. Its author or an
    administrator can do it. `facechain audit` prints batch and number of an image.
    """
    from ..consensus.errors import DecodeError
    from ..consensus.kinds import Kind
    from ..consensus.payloads import Retract
    from .client import ask_node

    payload = Retract(target=read_hash("TARGET", target), record=record, reason=reason)
    try:
        payload = Retract.decode(payload.encode())
    except DecodeError as error:
        raise UsageError("option --reason", expected=error.expected, got=error.got) from error

    async def find(client: NodeClient) -> None:
        found = await client.statement(payload.target)
        if found.height is None:
            raise RefusedError("target", expected="a statement in a block", got=found.receipt.value)
        # The rules do not check whether the record is there, and a retraction of none would help nobody.
        if record is not None and record >= (count := await client.record_count(payload.target)):
            expected = f"0 to {count - 1}" if count else "none: the target is no batch"
            raise UsageError("option --record", expected=expected, got=str(record))

    ask_node(api, data_dir, find)
    say_and_report(
        "retraction",
        Kind.RETRACT,
        payload,
        key=key,
        passphrases=Passphrases(file=passphrase_file),
        data_dir=data_dir,
        api=api,
        **sending,
    )
