"""`facechain network`: found a network, sign its genesis, look at one; its protocol versions are `upgrade`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import CheckFailedError, RefusedError, UsageError
from .keyring import PUBLIC_KEY_DIGITS, Passphrases, open_key, public_key
from .options import (
    LongNameOption,
    data_dir_option,
    examples,
    json_option,
    key_option,
    passphrase_file_option,
)
from .output import emit, facts, say
from .upgrade import upgrade

if TYPE_CHECKING:
    from ..consensus.params import Genesis, Params
    from ..node.data_dir import DataDir
    from ..node.genesis_file import GenesisDocument

GENESIS_ARGUMENT = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))

PRESET_NAMES = ("standard", "paper", "test")
"""The names in `network_presets.PRESETS`, which costs an import."""


@click.group()
def network() -> None:
    """Found a network.

    A network is its genesis: parameters, first administrators, first producers and submitters. Its hash is
    the network id. Every administrator signs it.
    """


network.add_command(upgrade)


@network.command(
    epilog=examples(
        "facechain network init --name faces --admin alice --producer alice --out genesis.json",
        "facechain network init --name faces --admin alice --admin 6f1c…9a --param quorum=2 --out genesis.json",
        "facechain network init --name trial --admin a --producer a --preset test --out genesis.json",
    )
)
@click.option("--name", required=True, help="Name of the network, for people.")
@click.option(
    "--admin",
    "admins",
    cls=LongNameOption,
    multiple=True,
    required=True,
    metavar="KEY",
    help="First administrator: a key of this machine, which signs, or another's public key. Repeatable.",
)
@click.option(
    "--producer",
    "producers",
    cls=LongNameOption,
    multiple=True,
    metavar="KEY",
    help="First producer. Repeatable.",
)
@click.option(
    "--submitter",
    "submitters",
    cls=LongNameOption,
    multiple=True,
    metavar="KEY",
    help="First submitter. Repeatable.",
)
@click.option(
    "--preset", type=click.Choice(PRESET_NAMES), default=PRESET_NAMES[0], help="Parameters to start from."
)
@click.option(
    "--param",
    "params",
    cls=LongNameOption,
    multiple=True,
    metavar="NAME=VALUE",
    help="One parameter, as in spacing-ms=2000. Repeatable.",
)
@click.option(
    "--time-ms",
    type=click.IntRange(min=0, max=2**64 - 1),
    help="Unix time of block 0 in milliseconds.  [default: now]",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; must not exist.")
@click.option("--dry-run", is_flag=True, help="Print the genesis; sign and write nothing.")
@passphrase_file_option
@data_dir_option
@json_option
def init(
    *,
    name: str,
    admins: tuple[str, ...],
    producers: tuple[str, ...],
    submitters: tuple[str, ...],
    preset: str,
    params: tuple[str, ...],
    time_ms: int | None,
    out: Path | None,
    dry_run: bool,
    passphrase_file: Path | None,
    data_dir: DataDir,
    as_json: bool,
) -> None:
    """Make, sign and write the genesis of a new network."""
    from ..node.genesis_file import write_document

    if out is None and not dry_run:
        raise UsageError("option --out", expected="a file to write", got="none", advice="or try --dry-run")
    if out is not None and out.exists():
        raise _taken(out)
    document = _draft(
        name=name,
        administrators=_keys(data_dir, "--admin", admins),
        producers=_keys(data_dir, "--producer", producers),
        submitters=_keys(data_dir, "--submitter", submitters),
        params=_params(preset, params),
        time_ms=time.time_ns() // 1_000_000 if time_ms is None else time_ms,
    )
    if dry_run or out is None:
        click.echo(document.encode(), nl=False)
        return
    for local in admins:
        if len(local) != PUBLIC_KEY_DIGITS:
            document = document.signed(open_key(data_dir, local, Passphrases(file=passphrase_file)))
    if not document.missing:
        document.complete()
    try:
        write_document(out, document)
    except FileExistsError:
        raise _taken(out) from None
    say(f"wrote {out}")
    _report(document, as_json=as_json)


@network.command(epilog=examples("facechain network sign genesis.json --key bob"))
@GENESIS_ARGUMENT
@key_option
@passphrase_file_option
@data_dir_option
@json_option
def sign(file: Path, *, key: str, passphrase_file: Path | None, data_dir: DataDir, as_json: bool) -> None:
    """Add one administrator's signature to a genesis.

    Compare what `facechain network show` prints with what was agreed before you sign.
    """
    from ..node.genesis_file import read_document, write_document

    document = read_document(file)
    signer = open_key(data_dir, key, Passphrases(file=passphrase_file))
    if signer.public not in document.genesis.administrators:
        raise RefusedError(
            f"key {key}",
            expected=f"the key of an administrator of {file}",
            got=f"{signer.public.hex()}, which is none's",
            advice="`facechain network show` lists the administrators",
        )
    signed = document.signed(signer)
    if not signed.missing:
        signed.complete()
    write_document(file, signed, replace_existing=True)
    _report(signed, as_json=as_json)


@network.command(
    epilog=examples("facechain network show genesis.json", "facechain network show g.json --json")
)
@GENESIS_ARGUMENT
@json_option
def show(file: Path, *, as_json: bool) -> None:
    """Print and verify a genesis.

    The exit code is 2 while a signature is missing, and for a file that was changed.
    """
    from ..node.genesis_file import read_document

    document = read_document(file)
    if not document.missing:
        document.complete()
    _report(document, as_json=as_json)
    if document.missing:
        raise CheckFailedError(
            f"{file}: genesis",
            expected="the signatures of all administrators",
            got=f"{len(document.signatures)} of {len(document.genesis.administrators)}",
            advice="each of the others runs: facechain network sign",
        )


def _params(preset: str, settings: Sequence[str]) -> Params:
    """Return the preset with the given settings, checked; UsageError names the wrong one."""
    from ..consensus.errors import DecodeError
    from ..consensus.params import check_params
    from ..node.genesis_file import parse_param
    from .network_presets import PRESETS

    params = PRESETS[preset]
    for setting in settings:
        name, equals, value = setting.partition("=")
        field = name.strip().replace("-", "_")
        known = type(params).__dataclass_fields__
        if not equals or field not in known:
            names = ", ".join(item.replace("_", "-") for item in known)
            raise UsageError(
                "option --param", expected=f"NAME=VALUE with a name of {names}", got=repr(setting)
            )
        try:
            change: dict[str, Any] = {field: parse_param(field, value.strip())}
        except DecodeError as error:
            raise UsageError(f"option --param {name}", expected=error.expected, got=error.got) from error
        params = replace(params, **change)
    try:
        check_params(params)
    except DecodeError as error:
        raise UsageError(f"parameter {error.what}", expected=error.expected, got=error.got) from error
    return params


def _keys(data_dir: DataDir, option: str, texts: Sequence[str]) -> tuple[bytes, ...]:
    """Return the public keys in ascending order; UsageError when one is named twice."""
    keys = tuple(sorted(public_key(data_dir, text) for text in texts))
    if len(set(keys)) != len(keys):
        raise UsageError(f"option {option}", expected="each key once", got="one key twice")
    return keys


def _draft(
    *,
    name: str,
    administrators: tuple[bytes, ...],
    producers: tuple[bytes, ...],
    submitters: tuple[bytes, ...],
    params: Params,
    time_ms: int,
) -> GenesisDocument:
    from ..consensus.errors import DecodeError
    from ..consensus.kinds import Role
    from ..consensus.params import Genesis, Grant
    from ..node.genesis_file import GenesisDocument, check_unsigned

    roles = ((Role.PRODUCER, producers), (Role.SUBMITTER, submitters))
    genesis = Genesis(
        name=name,
        params=params,
        time_ms=time_ms,
        administrators=administrators,
        grants=tuple(Grant(role=role, subject=subject) for role, keys in roles for subject in keys),
    )
    try:
        check_unsigned(genesis)
        return GenesisDocument.decode(GenesisDocument(genesis=genesis).encode())
    except DecodeError as error:
        raise UsageError(error.what, expected=error.expected, got=error.got) from error


def _report(document: GenesisDocument, *, as_json: bool) -> None:
    emit(_as_json(document), as_json=as_json, lines=_lines(document))


def _as_json(document: GenesisDocument) -> dict[str, Any]:
    import json

    content: dict[str, Any] = json.loads(document.encode())
    return {**content, "complete": not document.missing}


def _lines(document: GenesisDocument) -> list[str]:
    from ..node.genesis_file import params_to_json

    genesis = document.genesis
    rows: list[tuple[str, object]] = [
        ("network", genesis.name),
        ("network id", genesis.network_id.hex()),
        ("time", _time(genesis.time_ms)),
        *_people(document, genesis),
    ]
    rows += [(name.replace("_", "-"), value) for name, value in params_to_json(genesis.params).items()]
    return facts(rows)


def _time(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1_000, tz=UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError):
        return f"{time_ms} ms, beyond the calendar"


def _people(document: GenesisDocument, genesis: Genesis) -> list[tuple[str, object]]:
    signed = {True: "has not signed", False: "signed"}
    rows: list[tuple[str, object]] = [
        ("administrator", f"{key.hex()}  {signed[key in document.missing]}") for key in genesis.administrators
    ]
    return rows + [(grant.role.label, grant.subject.hex()) for grant in genesis.grants]


def _taken(path: Path) -> RefusedError:
    return RefusedError(
        str(path),
        expected="a name that is free",
        got="an existing file",
        advice="a network has one genesis for good: choose another name",
    )
