"""`facechain submit`: sign a batch of images and hand it to a node, losing nothing on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import CommandError, UsageError
from .keyring import Passphrases, ledger_key_info, open_key
from .options import (
    LongNameOption,
    api_option,
    data_dir_option,
    examples,
    gathered,
    json_option,
    passphrase_file_option,
    wait_options,
)
from .output import columns, emit, facts, plain, say

if TYPE_CHECKING:
    from ..consensus.params import Genesis
    from ..node.batch_folder import BatchFolder
    from ..node.data_dir import DataDir
    from .outbox import Group, Outbox
    from .submission import SubmissionReceipt

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a batch goes, and who signs it."""

    data_dir: DataDir
    api: str
    passphrases: Passphrases
    timeout: float

    @classmethod
    def of(cls, *, data_dir: DataDir, api: str, passphrase_file: Path | None, timeout: float) -> Target:
        """What the options of these names say."""
        return cls(data_dir=data_dir, api=api, passphrases=Passphrases(file=passphrase_file), timeout=timeout)


target_options = gathered("target", Target.of, "data_dir", "api", "passphrase_file", "timeout")


@click.command(
    epilog=examples(
        "facechain submit --batch faces/ --key alice",
        "facechain submit --batch batch.zip --key alice --wait 2 --json",
        "facechain submit --resume",
    )
)
@click.option(
    "--batch",
    type=click.Path(path_type=Path),
    help="Folder or zip archive of images, or a folder that `facechain produce` wrote.",
)
@click.option("--resume", is_flag=True, help="Go on with every batch that is kept in the outbox.")
@click.option(
    "--key",
    metavar="NAME",
    envvar="FACECHAIN_KEY",
    show_envvar=True,
    help="Ledger key that signs: a name in the data directory, or the path of a key file.",
)
@click.option("--private", is_flag=True, help="Keep the seed and the look of the images off the chain.")
@click.option("--no-objects", is_flag=True, help="Do not upload the images to the node.")
@click.option(
    "--dry-run", cls=LongNameOption, is_flag=True, help="Read and check the batch; sign and send nothing."
)
@api_option
@wait_options
@passphrase_file_option
@data_dir_option
@json_option
@target_options
def submit(
    *,
    batch: Path | None,
    resume: bool,
    key: str | None,
    private: bool,
    no_objects: bool,
    dry_run: bool,
    target: Target,
    wait: int,
    as_json: bool,
) -> None:
    """Sign and submit a batch of images.

    The batch is written to the outbox in the data directory first, so a node that is down or a crash loses
    nothing: `--resume` goes on. Submitting the same images again returns the receipt that is there. The node takes
    writes with its token only: FACECHAIN_API_TOKEN, or the one in the data directory.
    """
    if resume == (batch is not None):
        raise UsageError("submit", expected="--batch PATH or --resume", got="both" if resume else "neither")
    if batch is None:
        _resume_all(target, wait=wait, key=key, as_json=as_json)
        return
    if dry_run:
        _describe(target, batch, private=private, as_json=as_json)
        return
    if key is None:
        raise UsageError("option --key", expected="the name of a ledger key", got="none")
    submit_batch_folder(
        batch,
        key=key,
        target=target,
        wait=wait,
        private=private,
        with_objects=not no_objects,
        on_receipt=lambda receipt: _emit(receipt, as_json=as_json),
    )


def submit_batch_folder(
    path: Path,
    *,
    key: str,
    target: Target,
    wait: int = 0,
    private: bool = False,
    with_objects: bool = True,
    on_receipt: Callable[[SubmissionReceipt], object] = lambda _: None,
) -> SubmissionReceipt:
    """Submit a batch and return its receipt.

    `on_receipt` is also called when something fails after a part was acknowledged: the receipt then says what is
    missing.

    Raises:
        BatchRejected: the batch is not what it should be.
        CommandError: as in the exit codes of the command; the batch is then in the outbox.
    """
    from ..node.batch_folder import read_batch
    from .authoring import known_network
    from .outbox import Outbox
    from .submission import make_draft

    with bars() as progress:
        folder = read_batch(path, on_progress=lambda done, total: progress("read", done, total))
        draft = make_draft(
            folder,
            author=ledger_key_info(target.data_dir, key).public,
            network=known_network(target.data_dir),
            key=key,
            private=private,
            wait=wait,
            with_objects=with_objects,
        )
        outbox = Outbox.of(target.data_dir)
        group = outbox.keep(draft, folder.records, folder.looks)
        return _deliver(
            target,
            outbox,
            group,
            key=key,
            wait=wait,
            folder=folder,
            with_objects=with_objects,
            progress=progress,
            on_receipt=on_receipt,
        )


def _deliver(
    target: Target,
    outbox: Outbox,
    group: Group,
    *,
    key: str,
    wait: int,
    folder: BatchFolder | None,
    with_objects: bool | None,
    progress: Progress,
    on_receipt: Callable[[SubmissionReceipt], object],
) -> SubmissionReceipt:
    from .client_images import ImageClient, ask_images
    from .delivery import Delivery, kept_in_outbox

    started: list[Delivery] = []

    async def deliver(client: ImageClient) -> SubmissionReceipt:
        delivery = Delivery(
            client,
            outbox,
            group,
            open_key=lambda: open_key(target.data_dir, key, target.passphrases),
            timeout_seconds=target.timeout,
            folder=folder,
            with_objects=with_objects,
            on_progress=progress,
        )
        started.append(delivery)
        return await delivery.run(wait=wait)

    with group.locked():
        try:
            receipt = ask_images(target.api, target.data_dir, deliver)
        except CommandError as error:
            known = started[0].receipt if started else None
            if known is not None and any(item.id is not None for item in known.parts):
                on_receipt(known)
            raise kept_in_outbox(error) from error.__cause__
    on_receipt(receipt)
    return receipt


def _resume_all(target: Target, *, wait: int, key: str | None, as_json: bool) -> None:
    """Deliver every group that is not finished; the first failure is raised after all were tried."""
    from .outbox import Outbox

    outbox = Outbox.of(target.data_dir)
    receipts: list[SubmissionReceipt] = []
    failures: list[CommandError] = []
    with bars() as progress:
        for group in outbox.groups():
            draft = group.draft()
            wanted = max(wait, draft.wait)
            if _is_finished(group.receipt(), wanted):
                continue
            try:
                receipt = _deliver(
                    target,
                    outbox,
                    group,
                    key=key or draft.key,
                    wait=wanted,
                    folder=None,
                    with_objects=None,
                    progress=progress,
                    on_receipt=receipts.append,
                )
            except CommandError as error:
                failures.append(error)
            else:
                say(f"{receipt.images} images of {draft.path}: {receipt.level}")
    content = {"receipts": [receipt.to_json() for receipt in receipts], "failures": len(failures)}
    lines = [line for receipt in receipts for line in receipt_lines(receipt)] or ["nothing to resume"]
    emit(content, as_json=as_json, lines=[] if failures and not receipts else lines)
    for other in failures[1:]:
        say(f"error: {other.diagnostics()}")
    if failures:
        raise failures[0]


def _is_finished(receipt: dict[str, Any] | None, wait: int) -> bool:
    return bool(receipt and receipt["complete"] and receipt["confirmations"] >= max(wait, 1))


def _describe(target: Target, batch: Path, *, private: bool, as_json: bool) -> None:
    """Print what would be submitted."""
    from ..node.batch_folder import read_batch
    from .submission import make_draft, records_per_part, split

    with bars() as progress:
        folder = read_batch(batch, on_progress=lambda done, total: progress("read", done, total))
    genesis = _genesis(target)
    draft = make_draft(
        folder, author=b"", network=genesis.network_id, key="", private=private, wait=0, with_objects=False
    )
    parts = split(draft, folder.records, folder.looks, genesis.params)
    content = {
        "dry_run": True,
        "network_id": genesis.network_id.hex(),
        "images": len(folder.records),
        "width": folder.width,
        "height": folder.height,
        "public": draft.public,
        "stages": [stage.label for stage in folder.stages],
        "parts": [len(part.payload.records) for part in parts],
        "images_per_part": records_per_part(genesis.params, public=draft.public),
        "payload_bytes": sum(len(part.payload.encode()) for part in parts),
    }
    emit(content, as_json=as_json, lines=facts((name, plain(value)) for name, value in content.items()))


def _genesis(target: Target) -> Genesis:
    from ..node.genesis_file import read_genesis
    from .client_images import ask_images

    try:
        return read_genesis(target.data_dir.genesis_file)
    except FileNotFoundError:
        return ask_images(target.api, target.data_dir, lambda client: client.genesis())


def _emit(receipt: SubmissionReceipt, *, as_json: bool) -> None:
    emit(receipt.to_json(), as_json=as_json, lines=receipt_lines(receipt))


def receipt_lines(receipt: SubmissionReceipt) -> list[str]:
    """Return a receipt for people."""
    rows: list[tuple[str, object]] = [
        ("batch", receipt.group.hex()),
        ("images", receipt.images),
        ("receipt", f"{receipt.level} (submitted before)" if receipt.is_resubmission else receipt.level),
        ("confirmations", receipt.confirmations),
    ]
    skipped = receipt.objects.get("skipped")
    rows.append(("images held by the node", f"{receipt.objects['sent']}{f' ({skipped})' if skipped else ''}"))
    if receipt.missing:
        rows.append(("missing", ", ".join(receipt.missing)))
    table = [
        (item.label, item.level, "" if item.height is None else str(item.height), (item.id or b"").hex())
        for item in (*receipt.stages, *receipt.parts)
    ]
    return [*facts(rows), "", *columns(("STATEMENT", "RECEIPT", "BLOCK", "ID"), table)]


@contextmanager
def bars() -> Iterator[Progress]:
    """One progress line on stderr, on a terminal only."""
    import sys

    shown = sys.stderr.isatty()

    def report(step: str, done: int, total: int) -> None:
        if shown:
            click.echo(f"\r\x1b[K{step} {done} of {total}", nl=False, err=True)

    try:
        yield report
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
