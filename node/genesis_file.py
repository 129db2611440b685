"""genesis.json: the genesis of a network as people read, compare and pass it on.

Owns the JSON form of `Genesis`, also while administrators have yet to sign. It adds no meaning: what counts
is the canonical form behind the network id. Reading is strict (unknown, missing and repeated names are
refused), and a complete genesis always went through `check_genesis`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ..consensus.errors import DecodeError
from ..consensus.kinds import Role
from ..consensus.params import (
    MAX_ADMINISTRATORS,
    MAX_GRANTS,
    MAX_NETWORK_NAME_BYTES,
    PROTOCOL_DRAFT,
    Genesis,
    Grant,
    Params,
    Retarget,
    check_genesis,
    check_params,
)
from ..consensus.signing import LedgerKey, Purpose, verify_signature

FORMAT: Final = "facechain-genesis"
MAX_FILE_BYTES: Final = 524_288
HASH_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
BITS_BYTES: Final = 4
FILE_MODE: Final = 0o644
MAX_DIGITS: Final = 20
UINT_MAX: Final = 2**64 - 1
_UINT: Final = f"a whole number from 0 to {UINT_MAX}"

_NAMES: Final = frozenset(
    ("format", "draft", "network_id", "name", "time_ms", "params", "administrators", "grants")
)
_GRANTABLE: Final = MappingProxyType({role.label: role for role in (Role.PRODUCER, Role.SUBMITTER)})


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisDocument:
    """A genesis with the signatures that it has so far, each of which was verified."""

    genesis: Genesis
    """Without signatures."""
    signatures: Mapping[bytes, bytes] = field(default_factory=dict)
    """Signature by administrator."""

    @property
    def missing(self) -> tuple[bytes, ...]:
        """Administrators that have not signed."""
        return tuple(key for key in self.genesis.administrators if key not in self.signatures)

    def signed(self, key: LedgerKey) -> "GenesisDocument":
        """Return the document with one more signature.

        Raises:
            DecodeError: the key is no administrator's.
        """
        if key.public not in self.genesis.administrators:
            raise DecodeError(
                "signature", expected="the key of an administrator of this genesis", got=key.public.hex()
            )
        signature = key.sign(Purpose.GENESIS, self.genesis.network_id)
        return replace(self, signatures={**self.signatures, key.public: signature})

    def complete(self) -> Genesis:
        """Return the checked genesis.

        Raises:
            DecodeError: a signature is missing, or `check_genesis` refuses.
        """
        if self.missing:
            raise DecodeError(
                "genesis",
                expected="the signatures of all administrators",
                got="none of " + ", ".join(key.hex() for key in self.missing),
            )
        signatures = tuple(self.signatures[key] for key in self.genesis.administrators)
        genesis = replace(self.genesis, signatures=signatures)
        check_genesis(genesis)
        return genesis

    def encode(self) -> str:
        """Return the JSON text."""
        genesis = self.genesis
        content = {
            "format": FORMAT,
            "draft": PROTOCOL_DRAFT,
            "network_id": genesis.network_id.hex(),
            "name": genesis.name,
            "time_ms": genesis.time_ms,
            "params": params_to_json(genesis.params),
            "administrators": [
                {
                    "key": key.hex(),
                    "signature": self.signatures[key].hex() if key in self.signatures else None,
                }
                for key in genesis.administrators
            ],
            "grants": [{"role": grant.role.label, "key": grant.subject.hex()} for grant in genesis.grants],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, genesis: Genesis) -> "GenesisDocument":
        """Return the document of a signed genesis."""
        signatures = dict(zip(genesis.administrators, genesis.signatures, strict=True))
        return cls(genesis=replace(genesis, signatures=()), signatures=signatures)

    @classmethod
    def decode(cls, text: str) -> "GenesisDocument":
        """Read JSON text, complete or not.

        Raises:
            DecodeError: names the field, what is expected and what came.
        """
        content = _object(_parse(text), "genesis", _NAMES)
        for name, wanted in (("format", FORMAT), ("draft", PROTOCOL_DRAFT)):
            if content[name] != wanted:
                raise DecodeError(name, expected=repr(wanted), got=_short(content[name]))
        pairs = [
            _administrator(item)
            for item in _list(content["administrators"], "administrators", MAX_ADMINISTRATORS)
        ]
        genesis = Genesis(
            name=_text(content["name"], "name"),
            params=params_from_json(content["params"]),
            time_ms=_uint(content["time_ms"], "time_ms"),
            administrators=tuple(key for key, _ in pairs),
            grants=tuple(_grant(item) for item in _list(content["grants"], "grants", MAX_GRANTS)),
        )
        check_unsigned(genesis)
        if content["network_id"] != genesis.network_id.hex():
            raise DecodeError(
                "network_id",
                expected=f"{genesis.network_id.hex()}, the hash of what the file says",
                got=_short(content["network_id"]),
            )
        signatures = {key: signature for key, signature in pairs if signature is not None}
        for key, signature in signatures.items():
            if not verify_signature(key, signature, Purpose.GENESIS, genesis.network_id):
                raise DecodeError(
                    "signature", expected=f"one of administrator {key.hex()}", got="one that does not verify"
                )
        return cls(genesis=genesis, signatures=signatures)


def check_unsigned(genesis: Genesis) -> None:
    """Check what can be checked before anybody signed: parameters, order, quorum; raises DecodeError."""
    check_params(genesis.params)
    if not genesis.administrators:
        raise DecodeError("administrators", expected="at least one", got="none")
    grants = [(grant.role, grant.subject) for grant in genesis.grants]
    for name, items in (("administrators", list(genesis.administrators)), ("grants", grants)):
        if items != sorted(set(items)):  # type: ignore[type-var]
            raise DecodeError(name, expected="strictly ascending order", got="unordered or repeated items")
    if len(genesis.administrators) < genesis.params.quorum:
        raise DecodeError(
            "quorum",
            expected=f"at most {len(genesis.administrators)}, the number of administrators",
            got=str(genesis.params.quorum),
        )


def read_document(path: Path) -> GenesisDocument:
    """Read a genesis file, complete or not; raises OSError or DecodeError."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise DecodeError(f"{path}: genesis", expected=f"at most {MAX_FILE_BYTES} bytes", got="a longer file")
    try:
        return GenesisDocument.decode(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise DecodeError(f"{path}: genesis", expected="JSON in UTF-8", got="binary data") from None
    except DecodeError as error:
        raise DecodeError(f"{path}: {error.what}", expected=error.expected, got=error.got) from None


def read_genesis(path: Path) -> Genesis:
    """Read a complete, checked genesis; raises OSError or DecodeError."""
    document = read_document(path)
    try:
        return document.complete()
    except DecodeError as error:
        raise DecodeError(f"{path}: {error.what}", expected=error.expected, got=error.got) from None


def write_document(path: Path, document: GenesisDocument, *, replace_existing: bool = False) -> None:
    """Write a genesis file whole or not at all; FileExistsError when it is there and must not be replaced."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(document.encode())
            file.flush()
            os.fsync(file.fileno())
        if replace_existing:
            scratch.replace(path)
        else:
            os.link(scratch, path)
    except OSError as error:  # which names the scratch file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)


def params_to_json(params: Params) -> dict[str, int | str]:
    """Return the parameters by name: retarget by its name, compact bits in hex, the rest as numbers."""
    content: dict[str, int | str] = {item.name: int(getattr(params, item.name)) for item in fields(params)}
    content["retarget"] = params.retarget.name.lower()
    content["pow_limit_bits"] = f"{params.pow_limit_bits:#010x}"
    return content


def params_from_json(value: object) -> Params:
    """Read what `params_to_json` wrote and check it; raises DecodeError."""
    content = _object(value, "params", frozenset(item.name for item in fields(Params)))
    rest = {
        name: _uint(item, name)
        for name, item in content.items()
        if name not in {"retarget", "pow_limit_bits"}
    }
    params = Params(
        retarget=_retarget(content["retarget"]), pow_limit_bits=_bits(content["pow_limit_bits"]), **rest
    )
    check_params(params)
    return params


def parse_param(name: str, text: str) -> int | Retarget:
    """Read one parameter as a person writes it (`retarget`, hex or decimal); raises DecodeError."""
    if name == "retarget":
        return _retarget(text)
    if name == "pow_limit_bits":
        return _bits(text)
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS or int(text) > UINT_MAX:
        raise DecodeError(name, expected=_UINT, got=_short(text))
    return int(text)


def _retarget(value: object) -> Retarget:
    known = {item.name.lower(): item for item in Retarget}
    if not isinstance(value, str) or value not in known:
        raise DecodeError("retarget", expected=" or ".join(known), got=_short(value))
    return known[value]


def _bits(value: object) -> int:
    try:
        if isinstance(value, str) and len(value) == 10 and value.startswith("0x"):
            bits = bytes.fromhex(value[2:])
            if len(bits) == BITS_BYTES:
                return int.from_bytes(bits, "big")
    except ValueError:
        pass
    raise DecodeError("pow_limit_bits", expected="compact bits such as 0x1f010000", got=_short(value))


def _administrator(item: object) -> tuple[bytes, bytes | None]:
    content = _object(item, "administrator", frozenset(("key", "signature")))
    signature = content["signature"]
    return (
        _hex(content["key"], "administrator", HASH_BYTES),
        None if signature is None else _hex(signature, "signature", SIGNATURE_BYTES),
    )


def _grant(item: object) -> Grant:
    content = _object(item, "grant", frozenset(("role", "key")))
    role = content["role"]
    if not isinstance(role, str) or role not in _GRANTABLE:
        raise DecodeError("granted role", expected=" or ".join(_GRANTABLE), got=_short(role))
    return Grant(role=_GRANTABLE[role], subject=_hex(content["key"], "granted key", HASH_BYTES))


def _parse(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DecodeError("genesis", expected="JSON", got=str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise DecodeError("genesis", expected="each name once", got="a repeated name")
    return content


def _no_number(text: str) -> None:
    raise DecodeError("genesis", expected="whole numbers", got=text)


def _object(value: object, name: str, names: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DecodeError(name, expected="a JSON object", got=_short(value))
    for what, wrong in (("unknown", value.keys() - names), ("missing", names - value.keys())):
        if wrong:
            raise DecodeError(
                name,
                expected="the names " + ", ".join(sorted(names)),
                got=f"{what} {', '.join(sorted(wrong))}",
            )
    return value


def _list(value: object, name: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise DecodeError(name, expected=f"a list of at most {most}", got=_short(value))
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise DecodeError(name, expected="printable text", got=_short(value))
    if len(value.encode()) > MAX_NETWORK_NAME_BYTES:
        raise DecodeError(
            name, expected=f"at most {MAX_NETWORK_NAME_BYTES} bytes", got=f"{len(value.encode())} bytes"
        )
    return value


def _uint(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= UINT_MAX:
        raise DecodeError(name, expected=_UINT, got=_short(value))
    return value


def _hex(value: object, name: str, size: int) -> bytes:
    try:
        if isinstance(value, str) and len(value) == 2 * size:
            found = bytes.fromhex(value)  # skips blanks
            if len(found) == size:
                return found
    except ValueError:
        pass
    raise DecodeError(name, expected=f"{2 * size} hex digits", got=_short(value))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
