"""`facechain db`: check, repair, back up and prune a node's store.

Owns the options, the progress bars and what is printed; the work is `facechain.node.maintenance`'s. Commands
that change the store, and `verify`, refuse one that a node is using and name its process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import UsageError
from .options import data_dir_option, examples, json_option
from .output import columns, emit, facts, say

if TYPE_CHECKING:
    from ..node.data_dir import DataDir
    from ..node.maintenance.progress import Progress
    from ..node.maintenance.verify import Check, Verification

_HASH_BYTES = 32


@click.group()
def db() -> None:
    """Check, repair, back up and prune a node's store."""


@db.command(epilog=examples("facechain db verify", "facechain db verify --level 4 --json"))
@click.option(
    "--level",
    type=click.IntRange(0, 4),
    default=3,
    help="0 opens; 1 pages and headers; 2 bodies and signatures; 3 indexes, undo data and state; "
    "4 everything replayed from block 0.",
)
@data_dir_option
@json_option
def verify(*, level: int, data_dir: DataDir, as_json: bool) -> None:
    """Check a store that no node uses; exit code 2 names the first damage."""
    from ..node.maintenance.damage import StoreDamage
    from ..node.maintenance.verify import Level, verify_store
    from ..node.store.errors import StoreCorrupt

    try:
        with _progress() as progress:
            report = verify_store(data_dir.store, Level(level), progress)
    except (StoreDamage, StoreCorrupt) as damage:
        if as_json:
            emit({"level": level, "damage": str(damage)}, as_json=True, lines=())
        raise
    emit(_verified(report), as_json=as_json, lines=_verified_lines(report))


def _verified(report: Verification) -> dict[str, object]:
    return {
        "level": int(report.level),
        "network": report.network.hex(),
        "height": report.height,
        "tip": report.tip.hex(),
        "pruned_below": report.pruned_below,
        "base_height": report.base_height,
        "checks": [
            {"level": item.level, "what": item.what, "count": item.count, "bytes": item.size_bytes}
            for item in _in_order(report)
        ],
        "not_checked": report.not_checked,
        "damage": None,
    }


def _in_order(report: Verification) -> list[Check]:
    """By level: pages, of level 1, are read before the store of level 0 is opened."""
    return sorted(report.checks, key=lambda item: item.level)


def _verified_lines(report: Verification) -> list[str]:
    lines = columns(
        ("LEVEL", "CHECKED", "COUNT", "BYTES"),
        [
            (
                str(item.level),
                item.what,
                f"{item.count:,}",
                "" if item.size_bytes is None else f"{item.size_bytes:,}",
            )
            for item in _in_order(report)
        ],
    )
    lines += [f"not checked: {item}" for item in report.not_checked]
    return [
        *lines,
        f"no damage found up to level {int(report.level)}; height {report.height}, tip {report.tip.hex()}",
    ]


@db.command(epilog=examples("facechain db stats", "facechain db stats --json"))
@data_dir_option
@json_option
def stats(*, data_dir: DataDir, as_json: bool) -> None:
    """Count rows and bytes by table, also while a node runs."""
    from ..node.maintenance.stats import read_stats

    found = read_stats(data_dir.store)
    numbers = {
        "height": found.height,
        "tip": found.tip.hex(),
        "bodies": found.bodies,
        "records": found.records,
        "runs": found.runs,
        "pruned_below": found.pruned_below,
        "base_height": found.base_height,
        "schema": found.schema,
        "file_bytes": found.file_bytes,
        "used_bytes": found.used_bytes,
        "free_bytes": found.free_bytes,
        "map_bytes": found.map_bytes,
        "readers": found.readers,
    }
    tables = [
        {"name": item.name, "rows": item.rows, "bytes": item.size_bytes, "depth": item.depth}
        for item in found.tables
    ]
    rows = [(item.name, f"{item.rows:,}", f"{item.size_bytes:,}", str(item.depth)) for item in found.tables]
    lines = [*facts(numbers.items()), "", *columns(("TABLE", "ROWS", "BYTES", "DEPTH"), rows)]
    emit({**numbers, "tables": tables}, as_json=as_json, lines=lines)


@db.command(epilog=examples("facechain db backup --out /backup/facechain-2026-11-23"))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder for the copy: a data directory without keys.",
)
@data_dir_option
@json_option
def backup(*, out: Path, data_dir: DataDir, as_json: bool) -> None:
    """Copy the store as of one moment, also while a node runs; the copy is compact, and checked."""
    from ..node.maintenance.backup import back_up

    with _progress() as progress:
        done = back_up(data_dir, out, progress)
    content = {"out": str(done.out), "height": done.height, "tip": done.tip.hex(), "bytes": done.size_bytes}
    emit(content, as_json=as_json, lines=facts(content.items()))


@db.command(epilog=examples("facechain db rollback --to 1200", "facechain db rollback --to 1200 --refuse"))
@click.option("--to", "to", required=True, type=int, metavar="HEIGHT", help="Height of the new tip.")
@click.option("--refuse", is_flag=True, help="Never go back to the block above it.")
@click.option("--force", is_flag=True, help="Go below a checkpoint that was accepted.")
@data_dir_option
@json_option
def rollback(*, to: int, refuse: bool, force: bool, data_dir: DataDir, as_json: bool) -> None:
    """Take blocks off the chain; their statements wait in the mempool again.

    Without --refuse a node that is started afterwards fetches the blocks again and checks them anew.
    """
    from ..node.maintenance.rollback import roll_back

    with _progress() as progress:
        done = roll_back(data_dir.store, to, refuse=refuse, force=force, progress=progress)
    content = {
        "height": done.height,
        "tip": done.tip.hex(),
        "blocks": done.blocks,
        "statements": done.statements,
    }
    emit(content, as_json=as_json, lines=facts(content.items()))


@db.command(epilog=examples("facechain db reindex"))
@data_dir_option
@json_option
def reindex(*, data_dir: DataDir, as_json: bool) -> None:
    """Build state and indexes anew from the stored headers and bodies, all or nothing.

    Needs as much free disk as the store takes. What does not read back is left out and named.
    """
    from ..node.maintenance.reindex import reindex as rebuild

    with _progress() as progress:
        done = rebuild(data_dir.store, progress)
    content: dict[str, object] = {
        "height": done.height,
        "tip": done.tip.hex(),
        "side_blocks": done.side_blocks,
        "left_out": done.left_out,
    }
    lines = [*facts(content.items()), *(f"left out: {item}" for item in done.named)]
    emit({**content, "named": done.named}, as_json=as_json, lines=lines)


@db.command(epilog=examples("facechain db prune --keep 2000", "facechain db prune --keep 2000 --compact"))
@click.option(
    "--keep",
    required=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of blocks at the tip that keep their bodies.",
)
@click.option("--compact", is_flag=True, help="Then write the file anew, without the room that was freed.")
@data_dir_option
@json_option
def prune(*, keep: int, compact: bool, data_dir: DataDir, as_json: bool) -> None:
    """Drop the records of old batches; headers, state, indexes and signed statements stay.

    The node serves these bodies no longer, makes no proofs from them, and follows no reorganisation
    that begins below them.
    """
    from ..node.config import NodeConfig
    from ..node.maintenance.prune import prune as drop

    if keep < NodeConfig().max_reorg:
        say(f"note: the node can then follow reorganisations of at most {keep} blocks")
    with _progress() as progress:
        done = drop(data_dir.store, keep, shrink=compact, progress=progress)
    content = {
        "height": done.height,
        "pruned_below": done.pruned_below,
        "blocks": done.blocks,
        "dropped_bytes": done.dropped_bytes,
        "file_bytes": done.file_bytes,
    }
    emit(content, as_json=as_json, lines=facts(content.items()))


@db.group()
def snapshot() -> None:
    """Carry a chain to another node as one file."""


@snapshot.command(name="export", epilog=examples("facechain db snapshot export --out chain.snapshot"))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="New file to write."
)
@data_dir_option
@json_option
def export_command(*, out: Path, data_dir: DataDir, as_json: bool) -> None:
    """Write headers, state and bodies up to the tip, also while a node runs."""
    from ..node.maintenance.snapshot import export_snapshot

    with _progress() as progress:
        done = export_snapshot(data_dir.store, out, progress)
    content = {
        "out": str(out),
        "network": done.network.hex(),
        "height": done.height,
        "hash": done.block_hash.hex(),
        "state_root": done.state_root.hex(),
        "bytes": done.size_bytes,
    }
    emit(content, as_json=as_json, lines=facts(content.items()))


@snapshot.command(
    name="import",
    epilog=examples(
        "facechain db snapshot import chain.snapshot --expect 00ab…  # hash from a node you trust"
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--expect",
    required=True,
    metavar="HASH",
    help="Hash of the snapshot's block, from a node or a person that you trust.",
)
@data_dir_option
@json_option
def import_command(*, file: Path, expect: str, data_dir: DataDir, as_json: bool) -> None:
    """Make the store of a new node from a snapshot, checked against HASH, work, seals and state root."""
    from ..node.genesis_file import read_genesis
    from ..node.maintenance.snapshot import import_snapshot

    data_dir.create()
    network = read_genesis(data_dir.genesis_file).network_id if data_dir.genesis_file.exists() else None
    with _progress() as progress:
        done = import_snapshot(
            data_dir.store, file, expected=_hash(expect), network=network, progress=progress
        )
    content = {
        "network": done.network.hex(),
        "height": done.height,
        "hash": done.block_hash.hex(),
        "state_root": done.state_root.hex(),
        "chainwork": f"{done.chainwork:x}",
    }
    emit(content, as_json=as_json, lines=facts(content.items()))


def _hash(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != _HASH_BYTES:
        raise UsageError("--expect", expected="a block hash of 64 hexadecimal digits", got=text)
    return value


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a bar for each part of a job on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        from ..node.maintenance.progress import silent

        yield silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(part: str, done: int, total: int, /) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(part, total=total)
            bars.update(tasks[part], completed=done, total=total)

        yield show
