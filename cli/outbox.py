"""The outbox: batches on their way, kept in the data directory until every part is where it was asked to be.

Owns the folder `outbox/` and its durability. A batch is written here whole before a node is asked anything;
each signed statement is written before it is offered; all writes are synced and appear whole or not at all. So a
crash at any instruction loses nothing: `facechain submit --resume` reads what is here and goes on.

    outbox/groups/NAME/batch.json     what is to be said (see `Draft`)
    outbox/groups/NAME/records.bin    the records
    outbox/groups/NAME/looks.bin      the perceptual hashes, of public batches
    outbox/groups/NAME/SLOT.statement the statement signed last for a slot (`stage-0000`, `part-0000`)
    outbox/groups/NAME/receipt.json   the receipt as it was known last
    outbox/stages/DIGEST              id of the statement that said this stage before
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, Final

from .errors import CheckFailedError, RefusedError

if TYPE_CHECKING:
    from ..consensus.records import Records
    from ..consensus.statement import Statement
    from ..node.batch_stages import StageDraft
    from ..node.data_dir import DataDir

FORMAT: Final = "facechain-outbox-1"
FOLDER: Final = "outbox"
PRIVATE_MODE: Final = 0o700
NAME_BYTES: Final = 16
HASH_BYTES: Final = 32
_HEX_FIELDS: Final = MappingProxyType(
    {"author": False, "manifest_hash": False, "network": True, "seed": True, "seed_commitment": True}
)
"""Fields of 32 bytes, and whether they may be null."""
_PLAIN_FIELDS: Final = MappingProxyType(
    {
        **dict.fromkeys(("width", "height", "micro_batch", "wait"), (int,)),
        **dict.fromkeys(("public", "with_objects"), (bool,)),
        **dict.fromkeys(("key", "path"), (str,)),
        **dict.fromkeys(("model", "clustering", "filter"), (str, NoneType)),
    }
)
"""Fields that JSON has as they are, and their types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to be said of a batch; with its records, everything that signing needs but the key."""

    author: bytes
    network: bytes | None
    """None while no node was reached that names it."""
    key: str
    """The key as the command was given it, for `--resume`."""
    path: str
    """Where the images are, for `--resume`."""
    width: int
    height: int
    public: bool
    seed: bytes | None
    seed_commitment: bytes | None
    micro_batch: int
    manifest_hash: bytes
    stages: tuple[StageDraft, ...]
    model: str | None
    clustering: str | None
    filter: str | None
    wait: int
    with_objects: bool

    def to_json(self) -> dict[str, Any]:
        """Return the content of batch.json."""
        content: dict[str, Any] = {"format": FORMAT}
        for field in fields(self):
            value = getattr(self, field.name)
            content[field.name] = value.hex() if isinstance(value, bytes) else value
        content["stages"] = [
            {**asdict(stage), "stage_type": stage.stage_type.label, "artifact": stage.artifact.hex()}
            for stage in self.stages
        ]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any], what: str) -> Draft:
        """Read batch.json; CheckFailedError when it is damaged."""
        from ..node.batch_source import BatchRejected
        from ..node.batch_stages import read_stage_list

        try:
            values: dict[str, Any] = {field.name: content[field.name] for field in fields(cls)}
            for name, may_be_null in _HEX_FIELDS.items():
                if values[name] is not None or not may_be_null:
                    values[name] = _hash(name, values[name])
            for name, kinds in _PLAIN_FIELDS.items():
                _check_plain(name, values[name], kinds)
            values["stages"] = read_stage_list(values["stages"], what)
        except (KeyError, TypeError, ValueError, BatchRejected) as error:
            raise _damaged(what, repr(error)) from error
        return cls(**values)


def _hash(name: str, value: object) -> bytes:
    """Read 64 hex digits; ValueError otherwise. Blanks, which `fromhex` skips, would make it shorter."""
    found = bytes.fromhex(value) if isinstance(value, str) and len(value) == 2 * HASH_BYTES else b""
    if len(found) != HASH_BYTES:
        raise ValueError(f"{name}: expected {2 * HASH_BYTES} hex digits")
    return found


def _check_plain(name: str, value: object, kinds: tuple[type, ...]) -> None:
    """Raise TypeError unless a value is of one of the types, ValueError when it is a negative number."""
    if type(value) not in kinds:
        raise TypeError(f"{name}: expected {kinds[0].__name__}, got {type(value).__name__}")
    if isinstance(value, int) and value < 0:
        raise ValueError(f"{name}: expected 0 or more, got {value}")


def _damaged(what: str, got: str) -> CheckFailedError:
    return CheckFailedError(
        what,
        expected="what submit wrote",
        got=got[:120],
        advice="move the folder away and submit the batch again",
    )


class Outbox:
    """All groups of one data directory."""

    def __init__(self, root: Path) -> None:
        """Look at `root`, which need not exist yet."""
        self.root = root

    @classmethod
    def of(cls, data_dir: DataDir) -> Outbox:
        """Return the outbox of a data directory."""
        return cls(data_dir.root / FOLDER)

    def keep(self, draft: Draft, records: Records, looks: tuple[bytes, ...]) -> Group:
        """Write a batch durably and return its group; the same batch again is the same group."""
        group = Group(self.root / "groups" / _name(draft, records))
        if group.exists:
            return group
        scratch = group.path.with_name(f".{group.path.name}.{secrets.token_hex(4)}")
        scratch.mkdir(mode=PRIVATE_MODE, parents=True)
        write_durably(scratch / "records.bin", records.packed)
        if draft.public:
            write_durably(scratch / "looks.bin", b"".join(looks))
        write_durably(scratch / "batch.json", _encode(draft.to_json()))
        scratch.rename(group.path)
        _sync(group.path.parent)
        return group

    def groups(self) -> tuple[Group, ...]:
        """Return every group, the oldest first."""
        found = [Group(path) for path in (self.root / "groups").glob("[0-9a-f]*") if path.is_dir()]
        return tuple(sorted(found, key=lambda group: (group.path.stat().st_mtime_ns, group.path.name)))

    def stage_id(self, network: bytes, author: bytes, payload: bytes) -> bytes | None:
        """Return the id of the statement in which the author said this stage before."""
        try:
            return bytes.fromhex(self._stage_path(network, author, payload).read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def keep_stage(self, network: bytes, author: bytes, payload: bytes, statement: bytes) -> None:
        """Remember which statement says a stage."""
        write_durably(self._stage_path(network, author, payload), statement.hex().encode("ascii"))

    def _stage_path(self, network: bytes, author: bytes, payload: bytes) -> Path:
        from ..consensus.hashing import sha256

        return self.root / "stages" / sha256(network + author + sha256(payload)).hex()


def _name(draft: Draft, records: Records) -> str:
    """Name a group by author, records and openness; the network is left out, it may not be known yet."""
    from ..consensus.hashing import sha256

    parts = draft.author + sha256(records.packed) + bytes([draft.public]) + (draft.network or b"")
    return sha256(parts)[:NAME_BYTES].hex()


class Group:
    """One batch in the outbox."""

    def __init__(self, path: Path) -> None:
        """Look at a group's folder."""
        self.path = path

    @property
    def exists(self) -> bool:
        """Tell whether the group is there, which means: whole."""
        return (self.path / "batch.json").exists()

    def draft(self) -> Draft:
        """Return what is to be said; CheckFailedError when the file is damaged."""
        what = str(self.path / "batch.json")
        content = _decode(self.path / "batch.json")
        if content is None or content.get("format") != FORMAT:
            raise _damaged(what, "another content")
        return Draft.from_json(content, what)

    def records(self) -> Records:
        """Return the records."""
        from ..consensus.records import Records

        return Records((self.path / "records.bin").read_bytes())

    def looks(self) -> tuple[bytes, ...]:
        """Return the perceptual hashes; none of a batch that is not public."""
        from ..consensus.perceptual import HASH_BYTES

        try:
            packed = (self.path / "looks.bin").read_bytes()
        except FileNotFoundError:
            return ()
        return tuple(packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES))

    def set_network(self, network: bytes) -> None:
        """Note the network once it is known."""
        content = {**self.draft().to_json(), "network": network.hex()}
        write_durably(self.path / "batch.json", _encode(content))

    def statement(self, slot: str) -> Statement | None:
        """Return the statement signed last for a slot."""
        from ..consensus.statement import Statement

        try:
            return Statement.decode((self.path / f"{slot}.statement").read_bytes())
        except FileNotFoundError:
            return None

    def keep_statement(self, slot: str, statement: Statement) -> None:
        """Write a signed statement; only then may it be offered."""
        write_durably(self.path / f"{slot}.statement", statement.encode())

    def receipt(self) -> dict[str, Any] | None:
        """Return the receipt as it was known last."""
        return _decode(self.path / "receipt.json")

    def keep_receipt(self, content: dict[str, Any]) -> None:
        """Write the receipt."""
        write_durably(self.path / "receipt.json", _encode(content))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the group, so that no two commands sign for it at once; RefusedError when another does."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RefusedError(
                f"batch {self.path.name}",
                expected="one command at a time",
                got="another facechain submit that works on it",
                advice="wait for it to end",
            ) from error


def write_durably(path: Path, content: bytes) -> None:
    """Put a file in place, whole and synced, or leave what was there."""
    path.parent.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(path)
    except OSError as error:
        # A write that fails names no file, and nobody looks for a scratch file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def _decode(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, None when there is no file; CheckFailedError when it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise _damaged(str(path), str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(str(path), type(content).__name__)
    return content
