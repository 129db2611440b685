"""Key files: one private key each, its kind and public key in readable lines above the PEM block.

Owns the folder of ledger keys (`<data-dir>/keys/<name>.pem`) and the form of every key file. A key file says
what it is for, and a node's identity key is never taken for a ledger key, nor the other way round. Asking
people for passphrases belongs to the caller, which hands in a function.

    Facechain-Key: ledger
    Facechain-Public: 6f1c…
    -----BEGIN ENCRYPTED PRIVATE KEY-----
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..consensus.ed25519 import PUBLIC_KEY_BYTES
from ..consensus.signing import LedgerKey, NodeKey
from . import pkcs8
from .private_files import create_private_file, make_private_directory, read_private_file

SUFFIX: Final = ".pem"
MAX_FILE_BYTES: Final = 8_192
SHOWN_CHARACTERS: Final = 80
"""Of a line that is not as it should be."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Ask: TypeAlias = Callable[[str], bytes]
"""Return the passphrase of the key that is named."""

AnyKey = TypeVar("AnyKey", LedgerKey, NodeKey)


class KeyKind(StrEnum):
    """What a key is for; written into its file."""

    LEDGER = "ledger"
    NODE = "node"


_KINDS: Final = MappingProxyType({LedgerKey: KeyKind.LEDGER, NodeKey: KeyKind.NODE})
_KIND_LINE: Final = re.compile(r"^Facechain-Key: (.*)$", re.MULTILINE)
_PUBLIC_LINE: Final = re.compile(r"^Facechain-Public: (.*)$", re.MULTILINE)


class KeystoreError(Exception):
    """Something about a key file. `diagnostics()` says expected, got and what to do."""

    def __init__(self, what: str, *, expected: str, got: str, advice: str = "") -> None:
        """`what` names the file or key."""
        super().__init__(what, expected, got, advice)
        self.what = what
        self.expected = expected
        self.got = got
        self.advice = advice

    def diagnostics(self) -> str:
        """Return one line."""
        line = f"{self.what}: expected {self.expected}, got {self.got}"
        return f"{line}; {self.advice}" if self.advice else line

    def __str__(self) -> str:
        return self.diagnostics()


class KeyNotFound(KeystoreError):
    """No key has this name."""


class KeyFileInvalid(KeystoreError):
    """The name or the file is not what it should be."""


class KeyRefused(KeystoreError):
    """The key is there, but may not be used so: wrong passphrase, wrong kind, a name that is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What a key file says without its passphrase."""

    name: str
    path: Path
    kind: KeyKind
    public: bytes
    """Ed25519 public key, 32 bytes."""
    encrypted: bool


def write_key_file(path: Path, key: LedgerKey | NodeKey, passphrase: bytes | None) -> None:
    """Create a key file of mode 0600; KeyRefused when `path` is taken."""
    text = (
        f"Facechain-Key: {_KINDS[type(key)]}\n"
        f"Facechain-Public: {key.public.hex()}\n"
        f"{pkcs8.encode_pem(key.private_key, passphrase)}"
    )
    _create(path, text.encode())


def inspect_key_file(path: Path) -> KeyInfo:
    """Read the lines above a key; raises KeyNotFound, KeyFileInvalid or TooOpen."""
    return _inspect(path, _read(path))


def read_key_file(path: Path, key_type: type[AnyKey], ask: Ask) -> AnyKey:
    """Open a key file of the kind of `key_type`, asking for the passphrase when it has one.

    Raises:
        KeyNotFound, KeyFileInvalid: nothing there, or no key file.
        KeyRefused: a key of another kind, or a wrong passphrase.
        TooOpen: others may read the file.
    """
    text = _read(path)
    info = _inspect(path, text)
    if info.kind is not _KINDS[key_type]:
        raise KeyRefused(
            str(path),
            expected=f"a {_KINDS[key_type]} key",
            got=f"a {info.kind} key",
            advice="node and ledger keys never stand in for each other: name another key",
        )
    key = key_type(_decrypt(path, text, ask))
    if key.public != info.public:
        raise KeyFileInvalid(
            str(path), expected=f"the private key of {info.public.hex()}", got=f"that of {key.public.hex()}"
        )
    return key


class Keystore:
    """The ledger keys in one folder, by name."""

    def __init__(self, folder: Path) -> None:
        """Look at `folder` when asked, not before."""
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return where the key `name` lives; KeyFileInvalid for a name that cannot be one."""
        if not NAME.fullmatch(name) or name.endswith(SUFFIX):
            raise KeyFileInvalid(
                "key name",
                expected="1 to 64 letters, digits, '.', '_' or '-', not starting with a mark",
                got=repr(name),
            )
        return self.folder / f"{name}{SUFFIX}"

    def new(self, name: str, passphrase: bytes | None) -> KeyInfo:
        """Make a key; KeyRefused when the name is taken."""
        return self.add(name, LedgerKey(Ed25519PrivateKey.generate()), passphrase)

    def add(self, name: str, key: LedgerKey, passphrase: bytes | None) -> KeyInfo:
        """Keep a key under a new name; KeyRefused when it is taken."""
        path = self.path(name)
        make_private_directory(self.folder)
        write_key_file(path, key, passphrase)
        return inspect_key_file(path)

    def check_free(self, name: str) -> None:
        """Raise KeyRefused when the name is taken, before anybody is asked for a passphrase."""
        if self.path(name).exists():
            raise _taken(self.path(name))

    def names(self) -> tuple[str, ...]:
        """Return the names of all keys, sorted."""
        if not self.folder.is_dir():
            return ()
        files = self.folder.glob(f"*{SUFFIX}")
        return tuple(sorted(file.stem for file in files if NAME.fullmatch(file.stem)))

    def info(self, name: str) -> KeyInfo:
        """Return what is known of a key without its passphrase."""
        return inspect_key_file(self.path(name))

    def open(self, name: str, ask: Ask) -> LedgerKey:
        """Return the private key; see `read_key_file`."""
        return read_key_file(self.path(name), LedgerKey, ask)

    def export(self, name: str, target: Path) -> None:
        """Copy the key file as it is, under its present passphrase; KeyRefused when `target` is taken."""
        content = _read(self.path(name))
        _create(target, content.encode())

    def import_file(self, name: str, source: Path, *, ask: Ask, passphrase: Ask | None) -> KeyInfo:
        """Take in a key file of this or another program (PKCS#8 PEM, Ed25519).

        An encrypted key keeps its passphrase. `passphrase` is asked for one for a key that comes without;
        None stores that key as it came.
        """
        self.check_free(name)
        text = _read(source)
        kind = _kind(source, text)
        if kind is KeyKind.NODE:
            raise KeyRefused(
                str(source), expected="a ledger key", got="a node key", advice="name another file"
            )
        used: list[bytes] = []

        def remember(what: str) -> bytes:
            used.append(ask(what))
            return used[-1]

        key = LedgerKey(_decrypt(source, text, remember))
        if used:
            return self.add(name, key, used[-1])
        return self.add(name, key, None if passphrase is None else passphrase(name))


def _read(path: Path) -> str:
    try:
        content = read_private_file(path, max_bytes=MAX_FILE_BYTES)
    except FileNotFoundError:
        raise KeyNotFound(
            f"key {path.stem!r}",
            expected=f"a key file at {path}",
            got="none",
            advice="facechain key list shows the keys, facechain key new makes one",
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise KeyFileInvalid(
            str(path), expected=f"a key file of at most {MAX_FILE_BYTES} bytes", got="a longer file"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyFileInvalid(str(path), expected="a key file in PEM form", got="binary data") from None


def _kind(path: Path, text: str) -> KeyKind | None:
    line = _KIND_LINE.search(text)
    if line is None:
        return None
    known = KeyKind.__members__.values()
    if line[1].strip() not in known:
        raise KeyFileInvalid(
            str(path), expected=f"Facechain-Key: {' or '.join(known)}", got=line[1][:SHOWN_CHARACTERS]
        )
    return KeyKind(line[1].strip())


def _inspect(path: Path, text: str) -> KeyInfo:
    kind, line = _kind(path, text), _PUBLIC_LINE.search(text)
    if kind is None or line is None:
        raise KeyFileInvalid(
            str(path),
            expected="a key file with the lines Facechain-Key and Facechain-Public",
            got="one without",
            advice="take a key of another program in with: facechain key import NAME FILE",
        )
    try:
        public, encrypted = _public(line[1].strip()), pkcs8.is_encrypted(text)
    except (ValueError, pkcs8.NotPkcs8) as error:
        raise KeyFileInvalid(str(path), expected="a whole key file", got=str(error)) from None
    return KeyInfo(name=path.stem, path=path, kind=kind, public=public, encrypted=encrypted)


def _public(text: str) -> bytes:
    """Read a public key; ValueError when it is none. Blanks, which `fromhex` skips, would make it shorter."""
    public = bytes.fromhex(text)
    if len(text) != 2 * PUBLIC_KEY_BYTES or len(public) != PUBLIC_KEY_BYTES:
        raise ValueError(f"expected {2 * PUBLIC_KEY_BYTES} hex digits, got {text[:SHOWN_CHARACTERS]!r}")
    return public


def _decrypt(path: Path, text: str, ask: Ask) -> Ed25519PrivateKey:
    try:
        passphrase = ask(path.stem) if pkcs8.is_encrypted(text) else None
        return pkcs8.decode_pem(text, passphrase)
    except pkcs8.WrongPassphrase:
        raise KeyRefused(
            f"key {path.stem!r}", expected="its passphrase", got="another one", advice="try again"
        ) from None
    except pkcs8.NotPkcs8 as error:
        raise KeyFileInvalid(
            str(path), expected="an Ed25519 private key in PEM form (PKCS#8)", got=str(error)
        ) from None


def _create(path: Path, content: bytes) -> None:
    try:
        create_private_file(path, content)
    except FileExistsError:
        raise _taken(path) from None


def _taken(path: Path) -> KeyRefused:
    return KeyRefused(
        str(path), expected="a name that is free", got="an existing file", advice="choose another name"
    )
