"""`facechain view`: a viewer's key, granting a viewer the content key of a batch, and taking it out of a grant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .authoring import known_network, say_and_report
from .errors import CheckFailedError, NotFoundError, UsageError
from .hexadecimal import read_hash
from .keyring import Passphrases, public_key
from .options import (
    LongNameOption,
    api_option,
    data_dir_option,
    examples,
    json_option,
    passphrase_file_option,
    signing_options,
)
from .output import emit, facts, say

if TYPE_CHECKING:
    from ..consensus.payloads import ViewGrant
    from ..node.data_dir import DataDir
    from .client import NodeClient

OUT = click.option(
    "--out",
    cls=LongNameOption,
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="File to write, of mode 0600; must not exist.",
)


UNPROTECTED = "warning: the viewer's key has no passphrase: whoever reads {path} can open what it is granted"


@click.group()
def view() -> None:
    """Let viewers open encrypted batches.

    A viewer makes a key (`view key`); administrators grant its owner the role with it (`role propose --grant
    viewer --encryption-key`). Whoever registered a batch then wraps its content key for that viewer.
    """


@view.command(
    epilog=examples(
        "facechain view key --out viewer.pem",
        "facechain view key --out viewer.pem --passphrase-file /run/secrets/viewer",
    )
)
@OUT
@click.option("--no-passphrase", is_flag=True, help="Store the key unencrypted; for test networks only.")
@passphrase_file_option
@json_option
def key(*, out: Path, no_passphrase: bool, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a viewer's key and print its public part, which the role grant names."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from ..node.view_keys import public_bytes, write_view_key

    made = X25519PrivateKey.generate()
    passphrase = None if no_passphrase else Passphrases(file=passphrase_file).new(out.name)
    write_view_key(out, made, passphrase)
    if passphrase is None:
        say(UNPROTECTED.format(path=out))
    public = public_bytes(made).hex()
    emit(
        {"encryption_key": public, "file": str(out)},
        as_json=as_json,
        lines=facts((("encryption key", public), ("file", out))),
    )


@view.command(
    epilog=examples("facechain view grant 9d3e…01 6f1c…9a --content-key batch.key --key alice --wait 1")
)
@click.argument("batch")
@click.argument("viewer")
@click.option(
    "--content-key",
    cls=LongNameOption,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    metavar="FILE",
    help="The batch's content key: a file of 32 bytes, of mode 0600.",
)
@signing_options
def grant(
    *,
    batch: str,
    viewer: str,
    content_key: Path,
    key: str,
    passphrase_file: Path | None,
    data_dir: DataDir,
    api: str,
    **sending: Any,
) -> None:
    """Wrap the content key of BATCH (an id) for VIEWER (a public key, or a key of this machine).

    Only the batch's author can. The node's word is taken for the viewer's encryption key: ask your own. What
    was granted cannot be taken back, since a viewer may keep the key.
    """
    from ..consensus.kinds import Kind
    from ..consensus.payloads import ViewGrant
    from ..node import view_keys
    from .client import ask_node

    batch_id, viewer_key = read_hash("BATCH", batch), public_key(data_dir, viewer)
    secret = _content_key(content_key)

    async def find(client: NodeClient) -> tuple[bytes, bytes]:
        found = await client.encryption_key(viewer_key)
        if found is None:
            raise NotFoundError(
                f"viewer {viewer_key.hex()}", expected="a key with role viewer", got="one without it"
            )
        return (await client.status()).network_id, found

    network_id, encryption_key = ask_node(api, data_dir, find)
    about = view_keys.Grant(
        network_id=known_network(data_dir) or network_id, batch=batch_id, viewer=viewer_key
    )
    try:
        wrapped = view_keys.wrap(secret, encryption_key, about)
    except ValueError as error:
        raise CheckFailedError("encryption key", expected="an X25519 key", got=str(error)) from error
    say_and_report(
        "view grant",
        Kind.VIEW_GRANT,
        ViewGrant(batch=batch_id, viewer=viewer_key, wrapped_key=wrapped),
        key=key,
        passphrases=Passphrases(file=passphrase_file),
        data_dir=data_dir,
        api=api,
        **sending,
    )


@view.command("open", epilog=examples("facechain view open 51ac…7e --view-key viewer.pem --out batch.key"))
@click.argument("grant_id", metavar="GRANT")
@click.option(
    "--view-key",
    cls=LongNameOption,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    metavar="FILE",
    help="The viewer's key, as `view key` made it.",
)
@OUT
@passphrase_file_option
@api_option
@data_dir_option
@json_option
def open_grant(
    *,
    grant_id: str,
    view_key: Path,
    out: Path,
    passphrase_file: Path | None,
    api: str,
    data_dir: DataDir,
    as_json: bool,
) -> None:
    """Take the content key out of GRANT, the id of a view grant, and write it to a file."""
    from ..node import view_keys
    from ..node.private_files import create_private_file
    from .client import ask_node

    wanted = read_hash("GRANT", grant_id)
    trusted = known_network(data_dir)

    async def find(client: NodeClient) -> tuple[ViewGrant, bytes]:
        network_id = trusted or (await client.status()).network_id
        return _checked_grant(await client.statement_bytes(wanted), wanted, network_id), network_id

    payload, network_id = ask_node(api, data_dir, find)
    private = view_keys.read_view_key(view_key, Passphrases(file=passphrase_file).existing)
    about = view_keys.Grant(network_id=network_id, batch=payload.batch, viewer=payload.viewer)
    create_private_file(out, view_keys.unwrap(payload.wrapped_key, private, about))
    say(f"wrote {out}")
    rows = {"batch": payload.batch.hex(), "viewer": payload.viewer.hex()}
    emit({**rows, "file": str(out)}, as_json=as_json, lines=facts(tuple(rows.items())))


def _checked_grant(data: bytes, wanted: bytes, network_id: bytes) -> ViewGrant:
    """Return the payload of a view grant; CheckFailedError when the bytes are not the one that was asked for."""
    from ..consensus.errors import DecodeError
    from ..consensus.hashing import sha256
    from ..consensus.payloads import ViewGrant
    from ..consensus.statement import Statement

    try:
        statement = Statement.decode(data)
        payload = statement.decode_payload()
    except DecodeError as error:
        raise CheckFailedError("grant", expected=error.expected, got=error.got) from error
    same = statement.id == wanted and sha256(statement.payload) == statement.header.payload_hash
    if not same or not statement.has_valid_signature(network_id):
        raise CheckFailedError(
            "grant", expected=f"statement {wanted.hex()}, signed for this network", got="another one"
        )
    if not isinstance(payload, ViewGrant):
        raise UsageError(
            "GRANT", expected="the id of a view grant", got=f"that of kind {statement.kind.label}"
        )
    return payload


def _content_key(path: Path) -> bytes:
    from ..node.private_files import read_private_file
    from ..node.view_keys import CONTENT_KEY_BYTES

    secret = read_private_file(path, max_bytes=CONTENT_KEY_BYTES)
    if len(secret) != CONTENT_KEY_BYTES:
        got = f"{len(secret)}" if len(secret) < CONTENT_KEY_BYTES else "more"
        raise UsageError(str(path), expected=f"{CONTENT_KEY_BYTES} bytes", got=got)
    return secret
