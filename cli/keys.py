"""`facechain key`: make, list, show, export and import ledger keys. A private key is never printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .keyring import NEW_PASSPHRASE, Passphrases, ledger_key_info
from .options import data_dir_option, examples, json_option, passphrase_file_option
from .output import columns, emit, facts, say

if TYPE_CHECKING:
    from ..node.data_dir import DataDir
    from ..node.keystore import KeyInfo

NAME_ARGUMENT = click.argument("name")
"""The name of a key in the data directory."""

UNPROTECTED = "warning: key {name} has no passphrase: whoever reads {path} can sign with it"


@click.group()
def key() -> None:
    """Make and keep signing keys.

    Keys are encrypted files (PKCS#8) in the folder keys of the data directory. There is no copy anywhere
    else: export one to a safe place.
    """


@key.command(
    epilog=examples(
        "facechain key new alice",
        "facechain key new alice --passphrase-file /run/secrets/alice",
        "facechain key new tester --no-passphrase",
    )
)
@NAME_ARGUMENT
@passphrase_file_option
@click.option("--no-passphrase", is_flag=True, help="Store the key unencrypted; for test networks only.")
@data_dir_option
@json_option
def new(
    name: str, *, passphrase_file: Path | None, no_passphrase: bool, data_dir: DataDir, as_json: bool
) -> None:
    """Make a ledger key."""
    from ..node.keystore import Keystore

    keystore = Keystore(data_dir.keys)
    keystore.check_free(name)
    info = keystore.new(name, None if no_passphrase else Passphrases(file=passphrase_file).new(name))
    _report(info, as_json=as_json)


@key.command("list", epilog=examples("facechain key list", "facechain key list --json"))
@data_dir_option
@json_option
def list_keys(*, data_dir: DataDir, as_json: bool) -> None:
    """List the keys of the data directory."""
    from ..node.keystore import Keystore, KeystoreError
    from ..node.private_files import TooOpen

    keystore = Keystore(data_dir.keys)
    infos: list[KeyInfo] = []
    problems: list[KeystoreError | TooOpen] = []
    for name in keystore.names():
        try:
            infos.append(keystore.info(name))
        except (KeystoreError, TooOpen) as problem:
            problems.append(problem)
    rows = [(info.name, info.public.hex(), "yes" if info.encrypted else "no") for info in infos]
    emit(
        [_as_json(info) for info in infos],
        as_json=as_json,
        lines=columns(("NAME", "PUBLIC KEY", "ENCRYPTED"), rows),
    )
    for further in problems[1:]:
        say(f"error: {further.diagnostics()}")
    if problems:
        raise problems[0]


@key.command(
    epilog=examples(
        "facechain key show alice",
        'facechain role propose --grant producer "$(facechain key show alice)" --key admin',
    )
)
@NAME_ARGUMENT
@data_dir_option
@json_option
def show(name: str, *, data_dir: DataDir, as_json: bool) -> None:
    """Print the public key of NAME, a key's name or file."""
    info = ledger_key_info(data_dir, name)
    emit(_as_json(info), as_json=as_json, lines=[info.public.hex()])


@key.command(
    epilog=examples(
        "facechain key export alice --out /media/safe/alice.pem",
        "facechain key export alice --out alice.pem --new-passphrase",
    )
)
@NAME_ARGUMENT
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write; must not exist.")
@passphrase_file_option
@click.option(
    "--new-passphrase", is_flag=True, help="Encrypt the copy under another passphrase, asked for twice."
)
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"File with the copy's passphrase; otherwise {NEW_PASSPHRASE}, otherwise the prompt.",
)
@data_dir_option
@json_option
def export(
    name: str,
    *,
    out: Path,
    passphrase_file: Path | None,
    new_passphrase: bool,
    new_passphrase_file: Path | None,
    data_dir: DataDir,
    as_json: bool,
) -> None:
    """Copy a key to an encrypted file (PKCS#8 PEM, mode 0600).

    The copy keeps the key's passphrase unless a new one is asked for. A key without one gets a new one.
    """
    from ..node.keystore import KeyRefused, Keystore, inspect_key_file, write_key_file

    if out.exists():
        raise KeyRefused(
            str(out), expected="a name that is free", got="an existing file", advice="choose another name"
        )
    keystore = Keystore(data_dir.keys)
    if keystore.info(name).encrypted and not new_passphrase and new_passphrase_file is None:
        keystore.export(name, out)
    else:
        opened = keystore.open(name, Passphrases(file=passphrase_file).existing)
        fresh = Passphrases(file=new_passphrase_file, variable=NEW_PASSPHRASE).new(name)
        write_key_file(out, opened, fresh)
    _report(inspect_key_file(out), as_json=as_json)


@key.command("import", epilog=examples("facechain key import alice /media/safe/alice.pem"))
@NAME_ARGUMENT
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@passphrase_file_option
@click.option("--no-passphrase", is_flag=True, help="Keep a key that comes unencrypted as it is.")
@data_dir_option
@json_option
def import_key(
    name: str,
    file: Path,
    *,
    passphrase_file: Path | None,
    no_passphrase: bool,
    data_dir: DataDir,
    as_json: bool,
) -> None:
    """Take in an Ed25519 key file as NAME.

    An encrypted key keeps its passphrase. Files of other programs are read as well, as `openssl genpkey -algorithm ed25519` writes them.
    """
    from ..node.keystore import Keystore

    passphrases = Passphrases(file=passphrase_file)
    info = Keystore(data_dir.keys).import_file(
        name, file, ask=passphrases.existing, passphrase=None if no_passphrase else passphrases.new
    )
    _report(info, as_json=as_json)


def _report(info: KeyInfo, *, as_json: bool) -> None:
    if not info.encrypted:
        say(UNPROTECTED.format(name=info.name, path=info.path))
    lines = facts((("name", info.name), ("public key", info.public.hex()), ("file", info.path)))
    emit(_as_json(info), as_json=as_json, lines=lines)


def _as_json(info: KeyInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "kind": info.kind.value,
        "public_key": info.public.hex(),
        "encrypted": info.encrypted,
        "file": str(info.path),
    }
