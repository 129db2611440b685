"""Targets that read files: of `node/`, of `cli/`, and the answers that the commands get."""

from __future__ import annotations

import atexit
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from facechain.cli.answers import Account, BlockName, NodeStatus, Proposals, Roles, StatementStatus
from facechain.cli.audited_image import open_image
from facechain.cli.client import _answer
from facechain.cli.errors import CheckFailedError, CommandError, NotFoundError, UsageError
from facechain.cli.outbox import Draft, Group
from facechain.cli.testnet_network import _run_file
from facechain.cli.testnet_process import ProcessId
from facechain.cli.testnet_record import NetworkRecord, NodeRecord
from facechain.consensus.errors import DecodeError
from facechain.consensus.kinds import StageType
from facechain.consensus.signing import LedgerKey
from facechain.node.api.token import TokenFileError, load_or_create_token
from facechain.node.batch_folder import read_batch
from facechain.node.batch_source import BatchRejected
from facechain.node.batch_stages import StageDraft, read_stage_list
from facechain.node.config import ConfigError, load_config, render_config
from facechain.node.genesis_file import GenesisDocument, read_document
from facechain.node.keystore import KeystoreError, read_key_file, write_key_file
from facechain.node.maintenance.damage import MaintenanceRefused, StoreDamage
from facechain.node.maintenance.snapshot import export_snapshot, import_snapshot
from facechain.node.maintenance.snapshot_file import Frame, SnapshotWriter, read_frames
from facechain.node.private_files import FILE_MODE
from support.chain import make_genesis, seed
from support.pictures import make_picture
from support.stored_chain import fill_store

from .target import MIB, Disagreement, Form, Target, check_again

MEMORY_FOLDER: Final = Path("/dev/shm")
TOML_MULTIPLE: Final = 160
"""The regular expressions of the standard library's parser, which reads the operator's own file."""

FILE_BYTES: Final = MIB
"""Reading a file reserves what the file may have at most, and parsers of text keep their own tables."""

STORE_BYTES: Final = 4 * MIB
IMAGE_BYTES: Final = 16 * MIB


@cache
def _folder() -> Path:
    """Return a folder of this process, in memory where there is such a place."""
    folder = tempfile.mkdtemp(prefix="facechain-fuzz-", dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    path.chmod(FILE_MODE)
    return path


def _read_config(data: bytes) -> None:
    config = load_config(config_file=_file("config.toml", data))
    check_again(lambda: load_config(config_file=_file("again.toml", render_config(config).encode())), config)


def _config_seeds() -> tuple[bytes, ...]:
    pinned = f'checkpoints = ["5:{"0f" * 32}"]\nminimum_chainwork = "ff"\n'
    return (
        render_config(load_config(config_file=_file("empty.toml", b""))).encode(),
        f'peers = ["a.example:1", "[::1]:2"]\ndeny = ["10.0.0.0/8"]\nmine = true\n{pinned}'.encode(),
    )


def _read_genesis(data: bytes) -> None:
    document = read_document(_file("genesis.json", data))
    check_again(lambda: GenesisDocument.decode(document.encode()), document)
    with suppress(DecodeError):
        document.complete()


def _genesis_seeds() -> tuple[bytes, ...]:
    document = GenesisDocument.of(make_genesis())
    return (document.encode().encode(), GenesisDocument(genesis=document.genesis).encode().encode())


def _read_key(data: bytes) -> LedgerKey:
    """Open a key file; one with a passphrase is given up on, since stretching takes its time."""

    def ask(name: str) -> bytes:
        raise KeystoreError(name, expected="no passphrase", got="one")

    return read_key_file(_file("key.pem", data), LedgerKey, ask)


def _key_seeds() -> tuple[bytes, ...]:
    path = _folder() / "written.pem"
    path.unlink(missing_ok=True)
    write_key_file(path, LedgerKey.from_seed(seed("fuzz")), None)
    return (path.read_bytes(),)


def _read_frames(data: bytes) -> bytes:
    """Frames as they are read are written as the same file."""
    output = io.BytesIO()
    writer = SnapshotWriter(output)
    with _file("frames.snapshot", data).open("rb") as file:
        for kind, content in read_frames(file):
            writer.put(kind, content)
    writer.end()
    return output.getvalue()


def _frames_seeds() -> tuple[bytes, ...]:
    output = io.BytesIO()
    writer = SnapshotWriter(output)
    for kind in Frame:
        if kind is not Frame.END:
            writer.put(kind, bytes([kind]) * 40)
    writer.end()
    return (output.getvalue(),)


@cache
def _snapshot() -> tuple[bytes, bytes]:
    """A snapshot and the hash of its block."""
    store, out = _folder() / "stored", _folder() / "stored.snapshot"
    fill_store(store, blocks=6, records=1)
    done = export_snapshot(store, out)
    return out.read_bytes(), done.block_hash


def _resummed(data: bytes) -> bytes:
    """Return a snapshot with the checksum that its frames have, where they are whole."""
    output = io.BytesIO()
    writer = SnapshotWriter(output)
    try:
        for kind, content in read_frames(io.BytesIO(data)):
            writer.put(kind, content)
    except DecodeError as error:
        if "checksum" not in error.what:
            return data
    writer.end()
    return output.getvalue()


def _read_snapshot(data: bytes) -> None:
    other = _folder() / "imported"
    shutil.rmtree(other, ignore_errors=True)
    import_snapshot(other, _file("chain.snapshot", _resummed(data)), expected=_snapshot()[1])


def _read_zip(data: bytes) -> None:
    read_batch(_file("batch.zip", data))


def _zip_of(members: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return output.getvalue()


@cache
def _batch_files() -> dict[str, bytes]:
    """The files of a produced batch, as the node's own reader accepts them."""
    from facechain.consensus.records import Record, Records
    from facechain.node.batch_folder import FORMAT
    from facechain.node.batch_images import ImageFacts, manifest_bytes

    picture = make_picture(1, side=8)
    manifest = manifest_bytes(
        [
            ImageFacts(
                name="",
                pixel_hash=picture.pixel_hash,
                file_hash=picture.file_hash,
                look=picture.look,
                width=8,
                height=8,
                size_bytes=len(picture.data),
                media_type="image/png",
            )
        ]
    )
    record = Record(pixel_hash=picture.pixel_hash, file_hash=picture.file_hash, generator_index=0, cluster=0)
    from facechain.consensus.hashing import sha256

    facts = {
        "format": FORMAT,
        "count": 1,
        "width": 8,
        "height": 8,
        "public": True,
        "seed": "00" * 32,
        "micro_batch": 1,
        "manifest_sha256": sha256(manifest).hex(),
        "stages": [_stage()],
        "model": "training",
        "clustering": None,
        "filter": None,
    }
    return {
        "batch.json": json.dumps(facts).encode(),
        "manifest.json": manifest,
        "records.bin": Records.of([record]).packed,
        "perceptual.bin": picture.look,
        "images/00000000.png": picture.data,
    }


def _stage() -> dict[str, Any]:
    return {
        "label": "training",
        "stage_type": "training",
        "artifact": "ab" * 32,
        "inputs": ["cd" * 32],
        "name": "a model",
        "details": [["epochs", "3"], ["seed_commitment", "ef" * 32]],
    }


def _read_batch_json(data: bytes) -> None:
    for name, content in _batch_files().items():
        (_folder() / "batch" / name).parent.mkdir(parents=True, exist_ok=True)
        (_folder() / "batch" / name).write_bytes(data if name == "batch.json" else content)
    read_batch(_folder() / "batch")


def _read_stages(data: bytes) -> None:
    with suppress(ValueError, RecursionError):
        read_stage_list(json.loads(data), "fuzz")


def _draft() -> Draft:
    stage = StageDraft(
        label="training", stage_type=StageType.TRAINING, artifact=bytes(32), inputs=(), name="n", details=()
    )
    return Draft(
        author=bytes(32),
        network=None,
        key="sam",
        path="/images",
        width=8,
        height=8,
        public=True,
        seed=bytes(32),
        seed_commitment=None,
        micro_batch=1,
        manifest_hash=bytes(32),
        stages=(stage,),
        model="training",
        clustering=None,
        filter=None,
        wait=1,
        with_objects=True,
    )


def _read_draft(data: bytes) -> None:
    path = _file("outbox/batch.json", data)
    draft = Group(path.parent).draft()
    _check_types(draft)
    check_again(lambda: Draft.from_json(json.loads(json.dumps(draft.to_json())), "again"), draft)


def _check_types(draft: Draft) -> None:
    """What follows computes with these."""
    numbers = (draft.width, draft.height, draft.micro_batch, draft.wait)
    flags = (draft.public, draft.with_objects)
    texts = (draft.key, draft.path)
    fits = (
        all(type(item) is int and item >= 0 for item in numbers)
        and all(type(item) is bool for item in flags)
        and all(type(item) is str for item in texts)
        and all(item is None or type(item) is str for item in (draft.model, draft.clustering, draft.filter))
        and len(draft.author) == len(draft.manifest_hash) == 32
        and all(
            item is None or len(item) == 32 for item in (draft.network, draft.seed, draft.seed_commitment)
        )
    )
    if not fits:
        raise Disagreement(f"a draft with fields of other types: {draft}")


def _read_record(data: bytes) -> None:
    root = _file("testnet/testnet.json", data).parent
    record = NetworkRecord.load(root)
    for node in record.nodes.values():
        if not all(type(item) is str for item in (node.peer, node.api) if item is not None):
            raise Disagreement(f"an address that is no text: {node}")
    record.save()
    check_again(lambda: NetworkRecord.load(root), record)


def _record_seeds() -> tuple[bytes, ...]:
    nodes = (
        NodeRecord(
            name="node-1", mines=True, process=ProcessId(pid=7, started_ticks=9), peer="a:1", api="a:2"
        ),
        NodeRecord(name="node-2", mines=False),
    )
    root = _file("testnet/testnet.json", b"").parent
    NetworkRecord(root=root, network_id=bytes(32), nodes={node.name: node for node in nodes}).save()
    return ((root / "testnet.json").read_bytes(),)


ANSWERS: Final[tuple[Callable[[object], object], ...]] = (
    NodeStatus.of,
    Account.of,
    Roles.of,
    Proposals.of,
    BlockName.of,
    StatementStatus.of,
)
"""Selected by the input's first byte; what follows is the body of the answer."""


def _read_answer(data: bytes) -> None:
    number = int.from_bytes(data[:1], "big")
    status = 200 if number < 128 else 400
    ANSWERS[number % len(ANSWERS)](_answer("GET /", status, {}, data[1:]))


def _answer_seeds() -> tuple[bytes, ...]:
    digest = "0f" * 32
    entry = {"from": 1, "until": None}
    role = {"role": "admin", "key": digest, "held": True, "intervals": [entry], "suspect_since": None}
    proposal = {
        "id": digest,
        "action": "grant",
        "role": "viewer",
        "key": digest,
        "note": "",
        "height": 1,
        "approvals": [digest],
        "effective_height": None,
    }
    answers: tuple[dict[str, Any], ...] = (
        {"network_id": digest, "name": "n", "height": 1, "tip": digest, "syncing": False},
        {"key": digest, "roles": ["admin"], "next_sequence_with_mempool": 3},
        {"at_height": 3, "entries": [role]},
        {"quorum": 1, "proposals": [proposal]},
        {"height": 1, "hash": digest},
        {"id": digest, "receipt": "sealed", "height": 1, "confirmations": 1, "refused": None},
    )
    return tuple(bytes([number]) + json.dumps(answer).encode() for number, answer in enumerate(answers))


def _image_seeds() -> tuple[bytes, ...]:
    from fuzz.pictures import sample_pictures

    return sample_pictures()


TARGETS: Final = (
    Target(
        name="config-file",
        read=_read_config,
        refusals=(ConfigError,),
        seeds=_config_seeds,
        form=Form.TEXT,
        constant_bytes=FILE_BYTES,
        multiple=TOML_MULTIPLE,
    ),
    Target(
        name="genesis-file",
        read=_read_genesis,
        refusals=(DecodeError,),
        seeds=_genesis_seeds,
        form=Form.JSON,
        constant_bytes=FILE_BYTES,
    ),
    Target(name="key-file", read=_read_key, refusals=(KeystoreError,), seeds=_key_seeds, form=Form.TEXT),
    Target(
        name="token-file",
        read=lambda data: load_or_create_token(_file("api-token", data)),
        refusals=(TokenFileError,),
        seeds=lambda: (b"0f" * 32 + b"\n",),
        form=Form.TEXT,
    ),
    Target(
        name="snapshot-frames",
        read=_read_frames,
        encode=bytes,
        refusals=(DecodeError,),
        seeds=_frames_seeds,
        form=Form.BYTES,
    ),
    Target(
        name="snapshot",
        read=_read_snapshot,
        refusals=(StoreDamage, MaintenanceRefused),
        seeds=lambda: (_snapshot()[0],),
        form=Form.BYTES,
        constant_bytes=STORE_BYTES,
        max_bytes=16_384,
    ),
    Target(
        name="batch-zip",
        read=_read_zip,
        refusals=(BatchRejected,),
        seeds=lambda: (_zip_of(_batch_files()), _zip_of({"1.png": make_picture(2, side=8).data})),
        form=Form.ZIP,
        constant_bytes=IMAGE_BYTES,
        max_bytes=16_384,
    ),
    Target(
        name="batch-json",
        read=_read_batch_json,
        refusals=(BatchRejected,),
        seeds=lambda: (_batch_files()["batch.json"],),
        form=Form.JSON,
        constant_bytes=FILE_BYTES,
    ),
    Target(
        name="stage-list",
        read=_read_stages,
        refusals=(BatchRejected,),
        seeds=lambda: (json.dumps([_stage()]).encode(),),
        form=Form.JSON,
    ),
    Target(
        name="outbox-draft",
        read=_read_draft,
        refusals=(CheckFailedError,),
        seeds=lambda: (json.dumps(_draft().to_json()).encode(),),
        form=Form.JSON,
    ),
    Target(
        name="outbox-receipt",
        read=lambda data: Group(_file("outbox/receipt.json", data).parent).receipt(),
        refusals=(CheckFailedError,),
        seeds=lambda: (b'{"batch": "00", "parts": []}',),
        form=Form.JSON,
    ),
    Target(
        name="testnet-record",
        read=_read_record,
        refusals=(UsageError, NotFoundError),
        seeds=_record_seeds,
        form=Form.JSON,
        constant_bytes=3 * FILE_BYTES,
    ),
    Target(
        name="testnet-run-file",
        read=lambda data: _run_file(_file("node.json", data)),
        refusals=(),
        seeds=lambda: (b'{"peer": "127.0.0.1:1"}',),
        form=Form.JSON,
    ),
    Target(name="answer", read=_read_answer, refusals=(CommandError,), seeds=_answer_seeds, form=Form.JSON),
    Target(
        name="audited-image",
        read=lambda data: open_image(_file("image", data)),
        refusals=(UsageError,),
        seeds=_image_seeds,
        form=Form.IMAGE,
        constant_bytes=IMAGE_BYTES,
    ),
)
