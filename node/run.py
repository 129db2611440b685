"""Running a node as a process: signals, and the file that tells where it listens.

Owns `node.json` in the data directory (process id, addresses, network), which is there exactly while
the node takes connections, and the shutdown on SIGTERM and SIGINT.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from functools import partial
from pathlib import Path

from ..consensus.params import Genesis
from .allocator import give_memory_back
from .config import NodeConfig
from .interpreter import settle_interpreter
from .service import Addresses, Node, NodeKeys

RUN_FILE = "node.json"

_log = logging.getLogger(__name__)


def run_node(config: NodeConfig, genesis: Genesis, keys: NodeKeys) -> None:
    """Run a node until SIGTERM or SIGINT; raises as `Node.open` and `Node.run`."""
    give_memory_back()
    settle_interpreter()
    with Node.open(config, genesis, keys) as node:
        asyncio.run(_serve(node))


async def _serve(node: Node) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    path = node.config.data_dir / RUN_FILE
    started: asyncio.Future[Addresses] = loop.create_future()
    started.add_done_callback(partial(_write_run_file, path, node))
    try:
        await node.run(stop, started)
    finally:
        started.cancel()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _write_run_file(path: Path, node: Node, started: asyncio.Future[Addresses]) -> None:
    if started.cancelled():
        return
    addresses = started.result()
    text = json.dumps(
        {
            "pid": os.getpid(),
            "peer": str(addresses.peer),
            "api": str(addresses.api),
            "network_id": node.chain.network_id.hex(),
        }
    )
    scratch = path.with_suffix(".json.new")
    try:
        scratch.write_text(text + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        _log.error("%s: expected a file that can be written, got %s; free disk space", path, error.strerror)
