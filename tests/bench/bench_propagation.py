"""A block between two connected idle nodes, beside `litecoind` on regtest in the same run; prints a JSON line.

Both networks are two processes on loopback; rounds alternate. Time runs from the moment that one node is handed
a solved block until the other one has it as its tip, on the system's monotonic clock. The statements (or
transactions) of the block are in both mempools before. What the JSON-RPC itself costs (the median of an empty
call) is taken off the times of `litecoind`; the facechain nodes note the time themselves.

Needs `litecoind` (Debian: apt-get install litecoind); without it only facechain is measured.
Run: PYTHONPATH=tests python tests/bench/bench_propagation.py [ROUNDS] [STATEMENTS_PER_BLOCK …]
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from facechain.consensus.block import Block, seal_header
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import Cancel
from facechain.consensus.statement import Statement
from facechain.node.config_kinds import Endpoint
from facechain.node.service import clock_ms
from support.chain import PRODUCER, SUBMITTER, ChainBuilder, make_genesis, solve
from support.deadline import wait_until
from support.live import LiveNode, live_node
from support.ports import free_ports

STEP_SECONDS_MAX: Final = 60.0
PAST_MS: Final = 100 * 86_400_000
"""How long ago the network began: room for blocks whose times are a spacing apart."""
MATURE_BLOCKS: Final = 101
"""Blocks after which the first reward of a regtest network may be spent."""
OUTPUTS_PER_SPLIT: Final = 200
COIN_SHARE: Final = 0.01
TRUSTING: Final = "-whitelist=noban@127.0.0.1"
"""Transactions are passed on at once, and not after some seconds; blocks travel as always."""


def milliseconds(spans: list[float]) -> dict[str, float]:
    """Summarise times in seconds."""
    ordered = sorted(1_000 * item for item in spans)
    return {
        "median_ms": round(statistics.median(ordered), 2),
        "p90_ms": round(ordered[int(0.9 * (len(ordered) - 1))], 2),
    }


# facechain: each node is a child that reads commands from stdin and answers with JSON lines.


def answer(**fields: Any) -> None:
    """Say something to the parent."""
    print(json.dumps(fields), flush=True)


async def serve(folder: Path, genesis: Genesis, peer: str) -> None:
    """Run one node and do what stdin says until it ends."""
    peers = [Endpoint.parse(peer)] if peer else []
    async with live_node(folder, genesis, peers=peers) as live:
        answer(peer=str(live.addresses.peer))
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            command, *arguments = line.split()
            await COMMANDS[command](live, genesis, *arguments)


async def wait_for(live: LiveNode, _genesis: Genesis, what: str, number: str) -> None:
    """Wait until the node has so many peers or waiting statements."""
    wanted = int(number)

    def reached() -> bool:
        return (len(live.node.hub.links) if what == "peers" else len(live.node.pool)) >= wanted

    await live.until(reached, STEP_SECONDS_MAX)
    answer(done=what)


async def submit(live: LiveNode, genesis: Genesis, first: str, count: str) -> None:
    """Put statements into the mempool."""
    builder = ChainBuilder(genesis)
    statements: list[Statement] = [
        builder.statement(SUBMITTER, Cancel(note=str(number)), sequence=number)
        for number in range(int(first), int(first) + int(count))
    ]
    await live.node.submit(statements)
    answer(done="submit")


async def mine(live: LiveNode, genesis: Genesis) -> None:
    """Solve a block of everything that waits, then take it; tell when, and at which height."""
    now_ms = live.node.chain.tree.tip.time_ms + genesis.params.spacing_ms
    template = await live.node.build_template(producer=PRODUCER.public, now_ms=now_ms)
    sealed = seal_header(PRODUCER, genesis.network_id, solve(template.header))
    block = Block(sealed, template.body)
    started = time.monotonic()
    await live.node.submit_block(block)
    answer(started=started, height=block.header.height, statements=len(block.body.statements))


async def next_tip(live: LiveNode, _genesis: Genesis) -> None:
    """Tell when the tip moves next."""
    with live.node.events.subscribe() as events:
        answer(ready=True)
        await asyncio.wait_for(events.next(), STEP_SECONDS_MAX)
        answer(arrived=time.monotonic(), height=live.height)


COMMANDS: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    "wait": wait_for,
    "submit": submit,
    "mine": mine,
    "tip": next_tip,
}


class Child:
    """A node in a process of its own."""

    def __init__(self, folder: Path, genesis: Path, peer: str = "") -> None:
        self._genesis = genesis
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder), str(genesis), peer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peer: str = self.read()["peer"]

    def peer_of(self, folder: Path) -> Child:
        """Start another node that connects to this one."""
        return Child(folder, self._genesis, self.peer)

    def read(self) -> dict[str, Any]:
        if self._process.stdout is None:
            raise RuntimeError("child: expected a pipe")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"child: expected an answer, it ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def tell(self, *words: object) -> None:
        if self._process.stdin is None:
            raise RuntimeError("child: expected a pipe")
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def ask(self, *words: object) -> dict[str, Any]:
        self.tell(*words)
        return self.read()

    def close(self) -> None:
        if self._process.poll() is None:
            self.tell()
        self._process.wait(STEP_SECONDS_MAX)


class Facechain:
    """Two facechain nodes."""

    name = "facechain"

    def __init__(self, first: Child, second: Child) -> None:
        self._first, self._second = first, second
        self._sequence = 0

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Facechain]:
        """Start both and wait until they are connected."""
        genesis = folder / "genesis"
        genesis.write_bytes(make_genesis(time_ms=clock_ms() - PAST_MS).encode())
        with closing(Child(folder / "a", genesis)) as first, closing(first.peer_of(folder / "b")) as second:
            for child in (first, second):
                child.ask("wait", "peers", 1)
            yield cls(first, second)

    def round(self, statements: int) -> float:
        """Return the seconds that one block takes."""
        if statements:
            self._first.ask("submit", self._sequence, statements)
            self._sequence += statements
            self._second.ask("wait", "statements", statements)
        self._second.ask("tip")
        mined = self._first.ask("mine")
        arrived = self._second.read()
        if mined["height"] != arrived["height"] or mined["statements"] != statements:
            raise RuntimeError(f"expected block and tip to agree, got {mined} and {arrived}")
        return float(arrived["arrived"] - mined["started"])


# litecoind: two daemons that are connected, and one apart that solves the blocks.


class Rpc:
    """JSON-RPC to one daemon over a connection that stays open."""

    def __init__(self, port: int, cookie: Path) -> None:
        self._port, self._cookie = port, cookie
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STEP_SECONDS_MAX)

    def __call__(self, method: str, *parameters: Any) -> Any:
        token = base64.b64encode(self._cookie.read_bytes()).decode()
        body = json.dumps({"id": 1, "method": method, "params": parameters})
        self._connection.request("POST", "/", body, {"Authorization": f"Basic {token}"})
        found = json.loads(self._connection.getresponse().read())
        if found["error"] is not None:
            raise RuntimeError(f"{method}: expected a result, got {found['error']}")
        return found["result"]

    def another(self) -> Rpc:
        """Return another connection to the same daemon."""
        return Rpc(self._port, self._cookie)


@contextmanager
def daemon(folder: Path, *options: str) -> Iterator[tuple[Rpc, int]]:
    """Run `litecoind` until the context ends; yields its RPC and the port for peers."""
    folder.mkdir()
    rpc_port, port = free_ports(2)
    fixed = ("-fallbackfee=0.0001", "-listenonion=0", "-dnsseed=0", "-rpcservertimeout=600")
    places = (f"-datadir={folder}", f"-rpcport={rpc_port}", f"-port={port}")
    process = subprocess.Popen(
        ["litecoind", "-regtest", *places, *fixed, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        rpc = Rpc(rpc_port, folder / "regtest" / ".cookie")
        wait_until(lambda: answers(rpc), seconds=STEP_SECONDS_MAX, what="litecoind answers")
        yield rpc.another(), port
    finally:
        process.kill()  # in order it would wait for open connections; nothing of it is kept
        process.wait(STEP_SECONDS_MAX)


def answers(rpc: Rpc) -> bool:
    """Tell whether a daemon is up."""
    try:
        rpc.another()("getblockcount")
    except (OSError, RuntimeError, http.client.HTTPException, ValueError):
        return False
    return True


class Litecoin:
    """Two daemons that are peers, and a third that solves blocks and knows nobody."""

    name = "litecoind"

    def __init__(self, first: Rpc, second: Rpc, solver: Rpc) -> None:
        self._first, self._second, self._solver = first, second, solver
        first("createwallet", "spender")
        self._address = first("getnewaddress")
        self._call_seconds = statistics.median(self._empty_calls(50))
        self._grow(MATURE_BLOCKS + 10)

    def _empty_calls(self, count: int) -> Iterator[float]:
        for _ in range(count):
            started = time.monotonic()
            self._second("getblockcount")
            yield time.monotonic() - started

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Litecoin]:
        """Start all three and wait until two are connected."""
        with ExitStack() as stack:
            first, port = stack.enter_context(daemon(folder / "first", "-connect=0", "-listen=1", TRUSTING))
            second, _ = stack.enter_context(
                daemon(folder / "second", "-listen=0", f"-connect=127.0.0.1:{port}")
            )
            solver, _ = stack.enter_context(daemon(folder / "solver", "-listen=0", "-connect=0"))
            wait_until(lambda: second("getconnectioncount"), seconds=STEP_SECONDS_MAX, what="a connection")
            yield cls(first, second, solver)

    def _solve(self) -> str:
        block: str = self._solver("generatetoaddress", 1, self._address)[0]
        return str(self._solver("getblock", block, 0))

    def _grow(self, blocks: int) -> None:
        for _ in range(blocks):
            self._first("submitblock", self._solve())
        height = self._first("getblockcount")
        self._second("waitforblockheight", height, int(1_000 * STEP_SECONDS_MAX))

    def _fill(self, transactions: int) -> None:
        """Put as many transactions into all three mempools, each spending a coin of its own."""
        while len(self._first("listunspent", 1)) < transactions + 1:
            share = {self._first("getnewaddress"): COIN_SHARE for _ in range(OUTPUTS_PER_SPLIT)}
            self._pass_on(self._first("sendmany", "", share))
            self._grow(1)
        for _ in range(transactions):
            self._pass_on(self._first("sendtoaddress", self._address, COIN_SHARE / 2))
        wanted = set(self._first("getrawmempool"))
        wait_until(
            lambda: set(self._second("getrawmempool")) == wanted,
            seconds=STEP_SECONDS_MAX,
            what="all transactions at the other daemon",
        )

    def _pass_on(self, transaction: str) -> None:
        raw = self._first("gettransaction", transaction)["hex"]
        self._solver("sendrawtransaction", raw)

    def round(self, statements: int) -> float:
        """Return the seconds that one block takes."""
        if statements:
            self._fill(statements)
        block, height = self._solve(), self._first("getblockcount") + 1
        arrived: list[float] = []
        watcher = threading.Thread(target=self._watch, args=(height, arrived))
        watcher.start()
        started = time.monotonic()
        refused = self._first("submitblock", block)
        watcher.join(STEP_SECONDS_MAX)
        if refused is not None or not arrived:
            raise RuntimeError(f"submitblock: expected it at both daemons, got {refused}")
        return arrived[0] - started - self._call_seconds

    def _watch(self, height: int, arrived: list[float]) -> None:
        self._second.another()("waitforblockheight", height, int(1_000 * STEP_SECONDS_MAX))
        arrived.append(time.monotonic())


def main() -> None:
    """Measure and print."""
    numbers = [int(item) for item in sys.argv[1:]]
    rounds, sizes = (numbers or [40])[0], numbers[1:] or [0, 50]
    report: dict[str, Any] = {"rounds": rounds}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        networks: list[Facechain | Litecoin] = [stack.enter_context(Facechain.running(folder))]
        if shutil.which("litecoind") is None:
            print("litecoind: expected it on the PATH; only facechain is measured", file=sys.stderr)
        else:
            networks.append(stack.enter_context(Litecoin.running(folder)))
        for size in sizes:
            spans: dict[str, list[float]] = {network.name: [] for network in networks}
            for _ in range(rounds):
                for network in networks:
                    spans[network.name].append(network.round(size))
            for key, values in spans.items():
                report |= {f"{key}_{size}_{what}": figure for what, figure in milliseconds(values).items()}
            if len(networks) > 1:
                medians = [statistics.median(spans[network.name]) for network in networks]
                report[f"ratio_{size}"] = round(medians[0] / medians[1], 2)
    print(json.dumps(report))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        where, what = Path(sys.argv[2]), Genesis.decode(Path(sys.argv[3]).read_bytes())
        asyncio.run(serve(where, what, sys.argv[4]))
    else:
        main()
