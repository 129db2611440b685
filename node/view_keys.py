"""Keys of viewers: an X25519 key at rest, and content keys wrapped for it (HPKE, RFC 9180).

Owns the file form of a viewer's key and the bytes of `wrapped key` in a view grant. What a content key opens, and how
images are encrypted with it, is not here.

Source: ``docs/protocol.md``, section "Payloads".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from . import pkcs8
from .keystore import KeyFileInvalid, KeyRefused
from .private_files import create_private_file, read_private_file

CONTENT_KEY_BYTES: Final = 32
WRAPPED_BYTES: Final = 80
"""Encapsulated key 32, ciphertext 32, tag 16."""

MAX_FILE_BYTES: Final = 4_096
_INFO_TAG: Final = b"facechain/view-key/v1"
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

Ask = Callable[[str], bytes]
"""Returns the passphrase of the named file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Which batch a content key belongs to, and for whom it is wrapped; the wrapping is bound to all of it."""

    network_id: bytes
    batch: bytes
    """Statement id."""
    viewer: bytes
    """Ledger key."""

    @property
    def info(self) -> bytes:
        """The context of the encryption."""
        return _INFO_TAG + self.network_id + self.batch + self.viewer


class WrappedKeyInvalid(Exception):
    """The wrapped key was not made for this viewer's key, batch and network, or was changed."""

    def diagnostics(self) -> str:
        """Return one line."""
        return (
            "wrapped key: expected one for this viewer, batch and network, got one that does not open; "
            "check that the view key is the one whose public part is on the chain"
        )


def public_bytes(key: X25519PrivateKey) -> bytes:
    """Return the 32 bytes that a role grant names as encryption key."""
    return key.public_key().public_bytes_raw()


def write_view_key(path: Path, key: X25519PrivateKey, passphrase: bytes | None) -> None:
    """Create a file of mode 0600; KeyRefused when `path` is taken."""
    try:
        create_private_file(path, pkcs8.encode_pem(key, passphrase).encode())
    except FileExistsError as error:
        raise KeyRefused(
            str(path), expected="a name that is free", got="an existing file", advice="choose another"
        ) from error


def read_view_key(path: Path, ask: Ask) -> X25519PrivateKey:
    """Open a viewer's key.

    Raises:
        KeyFileInvalid: no key file. KeyRefused: a wrong passphrase. TooOpen: others may read the file.
    """
    data = read_private_file(path, max_bytes=MAX_FILE_BYTES)
    text = data.decode("utf-8", errors="replace")
    try:
        passphrase = ask(path.name) if pkcs8.is_encrypted(text) else None
        return pkcs8.decode_view_pem(text, passphrase)
    except pkcs8.WrongPassphrase as error:
        raise KeyRefused(
            str(path), expected="the key's passphrase", got="another one", advice="try again"
        ) from error
    except pkcs8.NotPkcs8 as error:
        raise KeyFileInvalid(str(path), expected="the file of a view key", got=str(error)) from error


def wrap(content_key: bytes, encryption_key: bytes, grant: Grant) -> bytes:
    """Encrypt a content key (32 bytes) to a viewer's encryption key (32 bytes); ValueError for a weak one."""
    return _SUITE.encrypt(content_key, X25519PublicKey.from_public_bytes(encryption_key), grant.info)


def unwrap(wrapped: bytes, key: X25519PrivateKey, grant: Grant) -> bytes:
    """Return the content key; WrappedKeyInvalid when it is not for this key and grant."""
    if len(wrapped) != WRAPPED_BYTES:
        raise WrappedKeyInvalid
    try:
        return _SUITE.decrypt(wrapped, key, grant.info)
    except (InvalidTag, ValueError) as error:
        raise WrappedKeyInvalid from error
