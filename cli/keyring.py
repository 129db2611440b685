"""Keys and passphrases on the command line: which key an argument means, and where its passphrase comes from.

Owns the order passphrase file, FACECHAIN_PASSPHRASE, prompt on the terminal. A passphrase is never an
argument: other users of the machine could read it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .errors import UsageError

if TYPE_CHECKING:
    from ..consensus.signing import LedgerKey
    from ..node.data_dir import DataDir
    from ..node.keystore import KeyInfo

PASSPHRASE: Final = "FACECHAIN_PASSPHRASE"  # noqa: S105 - the name of a variable
NEW_PASSPHRASE: Final = "FACECHAIN_NEW_PASSPHRASE"  # noqa: S105 - the name of a variable
MAX_PASSPHRASE_BYTES: Final = 1_023
PUBLIC_KEY_DIGITS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Passphrases:
    """Where passphrases come from in one run of a command."""

    file: Path | None
    variable: str = PASSPHRASE

    def existing(self, name: str) -> bytes:
        """Return the passphrase of a key that is there."""
        return self._given() or _prompt(f"Passphrase of key {name}", self.variable, twice=False)

    def new(self, name: str) -> bytes:
        """Return the passphrase for a new key file."""
        return self._given() or _prompt(f"New passphrase for key {name}", self.variable, twice=True)

    def _given(self) -> bytes | None:
        if self.file is not None:
            with self.file.open("rb") as file:
                content = file.read(MAX_PASSPHRASE_BYTES + 3)
            return _checked(content.removesuffix(b"\n").removesuffix(b"\r"), str(self.file))
        value = os.environ.get(self.variable)
        return None if value is None else _checked(os.fsencode(value), self.variable)


def _prompt(text: str, variable: str, *, twice: bool) -> bytes:
    if not sys.stdin.isatty():
        raise UsageError(
            text.lower(),
            expected=f"a passphrase file, {variable} or a terminal",
            got="none of them",
            advice=f"name a file with --{variable.removeprefix('FACECHAIN_').lower().replace('_', '-')}-file",
        )
    answer: str = click.prompt(text, hide_input=True, confirmation_prompt=twice, err=True)
    return _checked(answer.encode(), "passphrase")


def _checked(passphrase: bytes, source: str) -> bytes:
    if not 1 <= len(passphrase) <= MAX_PASSPHRASE_BYTES:
        got = "none" if not passphrase else "more"
        raise UsageError(source, expected=f"a passphrase of 1 to {MAX_PASSPHRASE_BYTES} bytes", got=got)
    return passphrase


def key_path(data_dir: DataDir, key: str) -> Path:
    """Return the file that `key` means: a name in the data directory, or a path (it has a slash or .pem)."""
    from ..node.keystore import SUFFIX, Keystore

    if "/" in key or key.endswith(SUFFIX):
        return Path(key).expanduser()
    return Keystore(data_dir.keys).path(key)


def open_key(data_dir: DataDir, key: str, passphrases: Passphrases) -> LedgerKey:
    """Return the private ledger key that `key` means; raises KeystoreError or TooOpen."""
    from ..consensus.signing import LedgerKey
    from ..node.keystore import read_key_file

    return read_key_file(key_path(data_dir, key), LedgerKey, passphrases.existing)


def ledger_key_info(data_dir: DataDir, key: str) -> KeyInfo:
    """Return what the file of a ledger key says without its passphrase; KeyRefused for another kind."""
    from ..node.keystore import KeyKind, KeyRefused, inspect_key_file

    info = inspect_key_file(key_path(data_dir, key))
    if info.kind is not KeyKind.LEDGER:
        raise KeyRefused(
            str(info.path), expected="a ledger key", got=f"a {info.kind} key", advice="name another key"
        )
    return info


def public_key(data_dir: DataDir, text: str) -> bytes:
    """Return the public key that `text` means: 64 hex digits, or a key as in `key_path`."""
    if len(text) == PUBLIC_KEY_DIGITS:
        from ..consensus.ed25519 import check_public_key
        from ..consensus.errors import DecodeError

        try:
            public = bytes.fromhex(text)
            check_public_key(public)
        except ValueError:
            return ledger_key_info(data_dir, text).public
        except DecodeError as error:
            raise UsageError(f"public key {text}", expected=error.expected, got=error.got) from error
        return public
    return ledger_key_info(data_dir, text).public
