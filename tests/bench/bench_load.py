"""A network under twice the load that it could ever take: what is sealed, what is refused, what is lost.

The floor is what the cores could do if they did nothing but verify each statement's signature once on every node:
cores × verifications a second ÷ nodes, measured first. Statements that register one image each are offered at
twice that for a minute, to all nodes evenly, through their HTTP APIs in requests of up to 256; each author goes on
at the first statement that was refused, at once and whatever Retry-After says. The program that offers them shares
the cores with the nodes; it signs beforehand, and what it costs is reported apart.

Reported, among others: statements that were acknowledged and are in a block of every node, per second of the load
and against the floor; answers by status and how long they took; processor time per sealed statement and node, from
the beginning of the load until nothing waits any more (it does not depend on what else the machine does, as rates
do); acknowledged statements that are in no block at the end (0 is expected); and how long after the load ended every
node took a whole request again, and all had one tip with everything in it.

Run: PYTHONPATH=tests python tests/bench/bench_load.py [NODES] [SECONDS] [MAX_OUTBOUND]     (20 nodes need 3 GiB)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from facechain.cli.network_presets import PRESETS
from facechain.consensus.encoding import pack
from facechain.consensus.kinds import Role
from facechain.consensus.params import Genesis, Grant
from facechain.consensus.payloads import ImageBatch
from facechain.consensus.records import Record, Records
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import Statement, group_id
from facechain.consensus.validation import check_statement
from facechain.node.api.limits import STATEMENTS_PER_REQUEST_MAX
from facechain.node.api.write_handlers import MANY
from facechain.node.config import NodeConfig
from facechain.node.data_dir import DataDir
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.keystore import Keystore
from facechain.node.private_files import create_private_file
from facechain.node.service import clock_ms
from support.chain import ADMIN, PRODUCER, ChainBuilder, keys, make_batch, seed
from support.node_processes import NodeProcess

AUTHORS_PER_NODE: Final = 4
AUTHORS_MIN: Final = 32
"""In small networks there are more for a node: each waits for the answer to its last request."""
LINKS_PER_NODE: Final = 3
DEFAULTS: Final = NodeConfig()
OFFERED: Final = 2.0
"""Times the floor."""
REQUESTS_PER_SECOND: Final = 1.0
"""Of one author, at least: slower networks are offered smaller requests."""
BEHIND_SECONDS_MAX: Final = 10.0
"""What an author could not offer in time, since a node took long over an answer, is offered later up to this much."""
SETTLE_SECONDS_MAX: Final = 60.0
ASK_SECONDS: Final = 0.1
"""Between two looks at the nodes after the load."""
MEASURED: Final = 2_000
PREPARED: Final = 0.35
"""Statements that are signed before the load begins, as a share of the floor; more are signed while it lasts."""
TOKEN: Final = "b" * 64
HEADERS: Final = {"Content-Type": MANY, "Authorization": f"Bearer {TOKEN}"}


@dataclass(slots=True)
class Author:
    """Somebody who hands statements to one node, in order."""

    key: LedgerKey
    api: str
    next: int = 0
    """Sequence of the first statement that is not acknowledged."""
    signed: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """Id and encoding of statements by sequence."""
    acknowledged: list[bytes] = field(default_factory=list)
    body: tuple[range, bytes] = (range(0), b"")
    """The last request: one that was refused is sent again as it is."""


def make_network(authors: Sequence[LedgerKey]) -> Genesis:
    """Return a genesis with a producer and many submitters, and blocks about every second."""
    granted = sorted([(Role.SUBMITTER, key.public) for key in authors] + [(Role.PRODUCER, PRODUCER.public)])
    return Genesis(
        name="load",
        params=PRESETS["test"],
        time_ms=clock_ms(),
        administrators=(ADMIN.public,),
        grants=tuple(Grant(role=role, subject=subject) for role, subject in granted),
    ).signed_by(ADMIN)


class Signer:
    """Makes statements that register one image each."""

    def __init__(self, genesis: Genesis) -> None:
        self._builder = ChainBuilder(genesis)
        _, self._header = make_batch(1, public=False)

    def sign(self, key: LedgerKey, sequence: int) -> Statement:
        """Sign one for an image that no other statement registers."""
        name = f"{key.public.hex()} {sequence}"
        record = Record(pixel_hash=seed(name), file_hash=seed(name + "f"), generator_index=0, cluster=0)
        payload = ImageBatch(records=Records.of([record]), perceptual=None, seed=None)
        root = payload.records.root()
        header = replace(self._header, records_root=root, group=group_id([root]))
        return self._builder.statement(key, payload, sequence=sequence, batch=header)

    def prepare(self, author: Author, sequences: Iterable[int]) -> None:
        """Sign an author's statements of these sequences where that is not done."""
        for sequence in sequences:
            if sequence not in author.signed:
                statement = self.sign(author.key, sequence)
                author.signed[sequence] = statement.id, statement.encode()

    def request(self, author: Author, count: int) -> tuple[range, bytes]:
        """Return the author's next request and the sequences in it."""
        wanted = range(author.next, author.next + count)
        if author.body[0] != wanted:
            self.prepare(author, wanted)
            author.body = wanted, pack([author.signed[sequence][1] for sequence in wanted])
        return author.body


def verifications_per_second(genesis: Genesis, signer: Signer) -> float:
    """Measure the rules that need no state, the signature among them, in processor time of one core."""
    statements = [signer.sign(PRODUCER, number) for number in range(MEASURED)]
    started = time.process_time()
    for statement in statements:
        check_statement(statement, genesis.params, genesis.network_id)
    return MEASURED / (time.process_time() - started)


@dataclass(slots=True)
class Desk:
    """Hands statements over, and counts the answers."""

    signer: Signer
    session: aiohttp.ClientSession
    size: int
    """Statements in one request."""
    told: Counter[str] = field(default_factory=Counter)
    taken_ms: list[float] = field(default_factory=list)
    """How long requests took of which something was taken."""
    refused_ms: list[float] = field(default_factory=list)
    """How long the others took."""

    async def offer(self, author: Author, rate: float, until: float) -> None:
        """Hand over an author's statements at `rate` a second, as far as answers come in time."""
        interval = self.size / rate
        due = time.monotonic() + interval * (author.key.public[0] / 256)
        while (now := time.monotonic()) < until:
            if now < due:
                await asyncio.sleep(due - now)
            due = max(due + interval, time.monotonic() - BEHIND_SECONDS_MAX)
            await self.hand_over(author)

    async def hand_over(self, author: Author) -> None:
        """Send the author's next statements in one request and go by the answers."""
        wanted, body = self.signer.request(author, self.size)
        began = time.monotonic()
        async with self.session.post(f"{author.api}/v1/statements", data=body, headers=HEADERS) as response:
            answer = await response.json()
        took = (time.monotonic() - began) * 1_000
        self.told["offered"] += len(wanted)
        if "results" not in answer:
            self.told[str(response.status)] += len(wanted)
            self.refused_ms.append(took)
            return
        self.taken_ms.append(took)
        for sequence, result in zip(wanted, answer["results"], strict=True):
            self.told[str(result["status"])] += 1
            if "error" not in result:
                author.acknowledged.append(author.signed.pop(sequence)[0])
                author.next = sequence + 1


@dataclass(frozen=True, slots=True)
class Look:
    """One node's status."""

    height: int
    tip: str
    waiting: int

    @classmethod
    async def at(cls, session: aiohttp.ClientSession, api: str) -> Look:
        """Ask a node."""
        async with session.get(f"{api}/v1/status") as response:
            status = await response.json()
        return cls(status["height"], status["tip"], status["mempool"]["statements"])


async def look(session: aiohttp.ClientSession, apis: Sequence[str]) -> list[Look]:
    """Ask all nodes at once."""
    return list(await asyncio.gather(*(Look.at(session, api) for api in apis)))


async def until_at_rest(session: aiohttp.ClientSession, apis: Sequence[str]) -> bool:
    """Wait until all nodes have one tip and nothing waits, or for so long as is fair."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < deadline:
        found = await look(session, apis)
        if len({item.tip for item in found}) == 1 and not any(item.waiting for item in found):
            return True
        await asyncio.sleep(ASK_SECONDS)
    return False


async def sealed_ids(session: aiohttp.ClientSession, api: str) -> list[set[bytes]]:
    """Return the ids of the statements in every block of a node."""
    height = (await Look.at(session, api)).height
    blocks = []
    for number in range(height + 1):
        async with session.get(f"{api}/v1/blocks/{number}") as response:
            block = await response.json()
        blocks.append({bytes.fromhex(item["id"]) for item in block["statements"]})
    return blocks


async def until_taken(desk: Desk, authors: Sequence[Author]) -> None:
    """Hand statements to every node, again and again until each took as many as a whole request has."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    goal = {author.api: (author, author.next + desk.size) for author in authors}
    while goal and time.monotonic() < deadline:
        await asyncio.gather(*(desk.hand_over(author) for author, _ in goal.values()))
        goal = {api: (author, until) for api, (author, until) in goal.items() if author.next < until}
        await asyncio.sleep(ASK_SECONDS)


@dataclass(slots=True)
class Meter:
    """Processor time: of this program, of the nodes, and of their mining workers."""

    nodes: Sequence[NodeProcess]
    began: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def start(self) -> None:
        """Count from now on."""
        self.began = self._read()

    def since(self) -> tuple[float, float, float]:
        """Return seconds of this program, of all nodes, of all mining workers."""
        now = self._read()
        return now[0] - self.began[0], now[1] - self.began[1], now[2] - self.began[2]

    def _read(self) -> tuple[float, float, float]:
        pids = [node.pid for node in self.nodes]
        children = [child for pid in pids for child in _children(pid)]
        return time.process_time(), sum(map(_seconds, pids)), sum(map(_seconds, children))


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def _seconds(pid: int) -> float:
    """Return user and system time of a process, all its threads (proc(5), fields 14 and 15 of stat)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def quantiles_ms(times: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(times)
    if not ordered:
        return {}
    return {
        name: round(ordered[int(share * (len(ordered) - 1))], 1)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


async def load(
    authors: Sequence[Author], signer: Signer, meter: Meter, *, floor: float, seconds: float
) -> dict[str, Any]:
    """Offer, look, let the network settle, and look again."""
    apis = sorted({author.api for author in authors})
    rate = OFFERED * floor / len(authors)
    size = min(STATEMENTS_PER_REQUEST_MAX, max(1, int(rate / REQUESTS_PER_SECOND)))
    timeout = aiohttp.ClientTimeout(total=SETTLE_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await until_at_rest(session, apis)
        desk = Desk(signer, session, size)
        meter.start()
        began = time.monotonic()
        await asyncio.gather(*(desk.offer(author, rate, began + seconds) for author in authors))
        ended = time.monotonic()
        lasted = ended - began
        generator = meter.since()[0]
        at_end = await look(session, apis)
        acknowledged: AbstractSet[bytes] = {item for author in authors for item in author.acknowledged}
        await until_taken(Desk(signer, session, size), authors)
        accepted_again = time.monotonic() - ended
        settled = await until_at_rest(session, apis)
        recovered = time.monotonic() - ended
        _, nodes, mining = meter.since()
        everything = {item for author in authors for item in author.acknowledged}
        blocks = await sealed_ids(session, apis[0])
    found = set().union(*blocks)
    in_time = blocks[: 1 + min(item.height for item in at_end)]
    sealed = len(acknowledged & set().union(*in_time))
    return {
        "seconds": round(lasted, 1),
        "request_size": size,
        "answers": dict(sorted(desk.told.items())),
        "offered_of_floor": round(desk.told["offered"] / lasted / floor, 2),
        "acknowledged_per_second": round(len(acknowledged) / lasted, 1),
        "sealed_per_second": round(sealed / lasted, 1),
        "sealed_of_floor": round(sealed / lasted / floor, 3),
        "blocks": len(in_time) - 1,
        "waiting_at_end": max(item.waiting for item in at_end),
        "accepted_again_seconds": round(accepted_again, 1),
        "recovered_seconds": round(recovered, 1),
        "one_tip": settled,
        "lost": len(everything - found),
        "node_us_per_statement": round(nodes / len(found) / len(meter.nodes) * 1e6, 1),
        "nodes_share": round(nodes / lasted / (os.cpu_count() or 1), 2),
        "mining_share": round(mining / lasted / (os.cpu_count() or 1), 3),
        "generator_share": round(generator / lasted / (os.cpu_count() or 1), 3),
        "generator_us_per_statement": round(generator / len(found) * 1e6, 1),
        "taken_ms": quantiles_ms(desk.taken_ms),
        "refused_ms": quantiles_ms(desk.refused_ms),
    }


def main() -> None:
    """Measure and print."""
    numbers = [int(item) for item in sys.argv[1:4]]
    nodes, seconds, outbound = [*numbers, *(4, 60, DEFAULTS.max_outbound)[len(numbers) :]]
    authors = keys(max(AUTHORS_MIN, nodes * AUTHORS_PER_NODE), start=100)
    genesis = make_network(authors)
    signer = Signer(genesis)
    cores = os.cpu_count() or 1
    verified = verifications_per_second(genesis, signer)
    floor = cores * verified / nodes
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        running = start_network(Path(name), genesis, nodes, outbound, stack)
        people = [Author(key, running[number % nodes].api) for number, key in enumerate(authors)]
        for author in people:
            signer.prepare(author, range(int(PREPARED * floor * seconds / len(people))))
        began = os.getloadavg()[0]
        report = asyncio.run(load(people, signer, Meter(running), floor=floor, seconds=seconds))
    facts: dict[str, Any] = {
        "nodes": nodes,
        "max_outbound": outbound,
        "cores": cores,
        "verified_per_second": round(verified),
        "floor": round(floor, 1),
    }
    print(json.dumps(facts | report | {"load_average_before": began}))


def start_network(
    root: Path, genesis: Genesis, count: int, outbound: int, stack: ExitStack
) -> list[NodeProcess]:
    """Start nodes, the first of which mines; each is connected with some of those before it, and seeks `outbound` more."""
    path = root / "genesis.json"
    write_document(path, GenesisDocument.of(genesis))
    running: list[NodeProcess] = []
    for number in range(count):
        layout = DataDir(root=root / f"node-{number}").create()
        create_private_file(layout.api_token_file, f"{TOKEN}\n".encode())
        layout.config_file.write_text(f"max_outbound = {outbound}\n")
        options: list[str] = []
        if number == 0:
            Keystore(layout.keys).add("producer", PRODUCER, None)
            options = ["--mine", "--mining-key", "producer"]
        else:
            near = running[-LINKS_PER_NODE:]
            options = ["--peers", ",".join(node.peer for node in near)]
        running.append(stack.enter_context(NodeProcess(layout.root, path, *options)))
    return running


if __name__ == "__main__":
    main()
