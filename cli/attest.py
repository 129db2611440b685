"""`facechain attest`: an auditor says on the chain that it rendered a registered image again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .audit import run_audit
from .auditing import Result
from .authoring import say_and_report
from .errors import CheckFailedError, NotFoundError, UsageError
from .keyring import Passphrases
from .options import LongNameOption, examples, signing_options

if TYPE_CHECKING:
    from ..consensus.story import Story
    from ..node.data_dir import DataDir
    from .auditing import Audit

_MISSING: Final = {
    Result.NOT_FOUND: (NotFoundError, "an image that is not registered"),
    Result.ALTERED: (CheckFailedError, "an altered copy of a registered image"),
    Result.FAILED: (CheckFailedError, "a registration whose evidence does not hold"),
}


@click.command(
    short_help="Say on the chain that an image was reproduced.",
    epilog=examples(
        "facechain attest rendered.png --note 'checkpoint 6f1c…9a, torch 2.5' --key alice --wait 1",
        "facechain attest rendered.png --claim 1 --key alice",
    ),
)
@click.argument("image", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--claim",
    cls=LongNameOption,
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Which of several registrations of these pixels, from 0, the oldest first.",
)
@click.option("--note", default="", help="How it was reproduced; kept on the chain.")
@signing_options
def attest(
    *,
    image: Path,
    claim: int,
    note: str,
    key: str,
    passphrase_file: Path | None,
    data_dir: DataDir,
    api: str,
    **sending: Any,
) -> None:
    """Attest that IMAGE, which you rendered from the model, has exactly the registered pixels.

    The registration is audited first; what the node says is not believed. Attest only what you rendered
    yourself: your key stands for it, and every audit of the image will name it. With the key that registered the
    batch it proves nothing, and audits say so.
    """
    from ..consensus.errors import DecodeError
    from ..consensus.kinds import Kind
    from ..consensus.payloads import Attestation

    story = _story(run_audit(str(image), trust_network=None, api=api, data_dir=data_dir), claim)
    payload = Attestation(
        batch=story.batch, record=story.record_index, pixel_hash=story.record.pixel_hash, note=note
    )
    try:
        Attestation.decode(payload.encode())
    except DecodeError as error:
        raise UsageError("option --note", expected=error.expected, got=error.got) from error
    say_and_report(
        "attestation",
        Kind.ATTESTATION,
        payload,
        key=key,
        passphrases=Passphrases(file=passphrase_file),
        data_dir=data_dir,
        api=api,
        **sending,
    )


def _story(found: Audit, number: int) -> Story:
    """Return what claim `number` verifiably says; a CommandError when there is nothing to attest."""
    if found.result is not Result.VERIFIED:
        kind, got = _MISSING[found.result]
        raise kind("image", expected="the pixels of a registered image", got=got)
    if number >= len(found.claims):
        raise UsageError("option --claim", expected=f"0 to {len(found.claims) - 1}", got=str(number))
    story = found.claims[number].story
    if story is None:
        raise CheckFailedError(f"claim {number}", expected="evidence that holds", got="a layer that fails")
    return story
