"""A network under twice the load that it could ever take: what is sealed, what is refused, what is lost.

The floor is what the cores could do if they did nothing but verify each statement's signature once on every node:
cores × verifications a second ÷ nodes, measured first. Statements that register one image each are offered at
twice that for a minute, to all nodes evenly, through their HTTP APIs in requests of up to 256; each author goes on
at the first statement that was refused. The programs that offer them share the cores with the nodes.

Reported: what was sealed at every node a second while the load lasted, against the floor; answers by status;
acknowledged statements that are in no block at the end (0 is expected); and how long after the load ended all nodes
had one tip and had sealed a statement that was then handed to each.

Run: PYTHONPATH=tests python tests/bench/bench_load.py [NODES] [SECONDS]     (more than 4 nodes need memory)
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

from facechain.cli.client import NodeClient
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
from facechain.node.data_dir import DataDir
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.keystore import Keystore
from facechain.node.private_files import create_private_file
from facechain.node.service import clock_ms
from support.chain import ADMIN, PRODUCER, ChainBuilder, keys, make_batch, seed
from support.deadline import POLL_SECONDS
from support.node_processes import NodeProcess

AUTHORS_PER_NODE: Final = 4
LINKS_PER_NODE: Final = 3
OFFERED: Final = 2.0
"""Times the floor."""
SETTLE_SECONDS_MAX: Final = 300.0
MEASURED: Final = 2_000
PREPARED: Final = 2_000
"""Statements that every author signs before the load begins."""
TOKEN: Final = "b" * 64


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


def verifications_per_second(genesis: Genesis, signer: Signer) -> float:
    """Measure the rules that need no state, the signature among them, for statements of one image."""
    statements = [signer.sign(PRODUCER, number) for number in range(MEASURED)]
    started = time.perf_counter()
    for statement in statements:
        check_statement(statement, genesis.params, genesis.network_id)
    return MEASURED / (time.perf_counter() - started)


@dataclass(slots=True)
class Desk:
    """Hands statements over, and counts the answers."""

    signer: Signer
    session: aiohttp.ClientSession
    told: Counter[str] = field(default_factory=Counter)

    async def offer(self, author: Author, rate: float, until: float) -> None:
        """Hand over an author's statements at `rate` a second, as far as answers come in time."""
        interval = STATEMENTS_PER_REQUEST_MAX / rate
        due = time.monotonic()
        while (now := time.monotonic()) < until:
            if now < due:
                await asyncio.sleep(due - now)
            due = max(due + interval, time.monotonic() - interval)
            await self.hand_over(author, STATEMENTS_PER_REQUEST_MAX)

    async def hand_over(self, author: Author, count: int) -> None:
        """Send the author's next statements in one request and go by the answers."""
        wanted = range(author.next, author.next + count)
        self.signer.prepare(author, wanted)
        body = pack([author.signed[sequence][1] for sequence in wanted])
        headers = {"Content-Type": MANY, "Authorization": f"Bearer {TOKEN}"}
        async with self.session.post(f"{author.api}/v1/statements", data=body, headers=headers) as response:
            answer = await response.json()
            self.told["offered"] += count
            if "results" not in answer:
                self.told[str(response.status)] += count
                return
        for sequence, result in zip(wanted, answer["results"], strict=True):
            self.told[str(result["status"])] += 1
            if "error" not in result:
                author.acknowledged.append(author.signed.pop(sequence)[0])
                author.next = sequence + 1


@dataclass(slots=True)
class Watch:
    """The ids of all statements in the blocks of one node, as far as they were read."""

    api: str
    hashes: list[str] = field(default_factory=list)
    sealed: list[set[bytes]] = field(default_factory=list)

    async def read(self) -> str:
        """Read the blocks that are new, also after a reorganisation; return the tip."""
        async with NodeClient(self.api) as client:
            status = await client.status()
            start = len(self.hashes)
            while start and (await client.block(start - 1)).hash.hex() != self.hashes[start - 1]:
                start -= 1
            del self.hashes[start:], self.sealed[start:]
            for height in range(start, status.height + 1):
                block = await client.get(f"/v1/blocks/{height}")
                self.hashes.append(block["hash"])
                self.sealed.append({bytes.fromhex(item["id"]) for item in block["statements"]})
        return self.hashes[-1]

    def count(self, ids: AbstractSet[bytes]) -> int:
        """Count those of `ids` that are in a block."""
        return sum(len(ids & block) for block in self.sealed)


async def until_sealed(watches: Sequence[Watch], ids: AbstractSet[bytes]) -> None:
    """Wait until all nodes have one tip and every statement of `ids` in a block, or for so long as is fair."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < deadline:
        tips = {await watch.read() for watch in watches}
        if len(tips) == 1 and all(watch.count(ids) == len(ids) for watch in watches):
            return
        await asyncio.sleep(POLL_SECONDS)


async def probe(desk: Desk, authors: Sequence[Author]) -> set[bytes]:
    """Hand one statement to every node, again and again until it is taken; return their ids."""
    found: set[bytes] = set()
    waiting = {author.api: author for author in authors}
    while waiting:
        for api, author in list(waiting.items()):
            known = len(author.acknowledged)
            await desk.hand_over(author, 1)
            if len(author.acknowledged) > known:
                found.update(author.acknowledged[known:])
                del waiting[api]
        await asyncio.sleep(POLL_SECONDS)
    return found


async def load(authors: Sequence[Author], signer: Signer, floor: float, seconds: float) -> dict[str, Any]:
    """Offer, look, let the network settle, and look again."""
    watches = [Watch(api) for api in sorted({author.api for author in authors})]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SETTLE_SECONDS_MAX)) as session:
        desk = Desk(signer, session)
        began = time.monotonic()
        rate = OFFERED * floor / len(authors)
        await asyncio.gather(*(desk.offer(author, rate, began + seconds) for author in authors))
        ended = time.monotonic()
        lasted = ended - began
        ids = {item for author in authors for item in author.acknowledged}
        await asyncio.gather(*(watch.read() for watch in watches))
        acknowledged, sealed = len(ids), min(watch.count(ids) for watch in watches)
        probes = await probe(Desk(signer, session), authors)
        accepted_again = time.monotonic() - ended
        await until_sealed(watches, probes)
        recovered = time.monotonic() - ended
    ids |= probes
    await until_sealed(watches, ids)
    return {
        "seconds": round(lasted, 1),
        "answers": dict(sorted(desk.told.items())),
        "offered_of_floor": round(desk.told["offered"] / lasted / floor, 2),
        "acknowledged_per_second": round(acknowledged / lasted, 1),
        "sealed_per_second": round(sealed / lasted, 1),
        "sealed_of_floor": round(sealed / lasted / floor, 3),
        "blocks": len(watches[0].hashes) - 1,
        "accepted_again_seconds": round(accepted_again, 1),
        "recovered_seconds": round(recovered, 1),
        "drained_seconds": round(time.monotonic() - ended, 1),
        "lost": len(ids) - min(watch.count(ids) for watch in watches),
    }


def main() -> None:
    """Measure and print."""
    numbers = [int(item) for item in sys.argv[1:3]]
    nodes, seconds = [*numbers, *(4, 60)[len(numbers) :]]
    authors = keys(nodes * AUTHORS_PER_NODE, start=100)
    genesis = make_network(authors)
    signer = Signer(genesis)
    cores = os.cpu_count() or 1
    verified = verifications_per_second(genesis, signer)
    floor = cores * verified / nodes
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        running = start_network(Path(name), genesis, nodes, stack)
        apis = [node.api for node in running]
        people = [Author(key, apis[number % nodes]) for number, key in enumerate(authors)]
        for author in people:
            signer.prepare(author, range(PREPARED))
        report = asyncio.run(load(people, signer, floor, seconds))
    facts = {"nodes": nodes, "cores": cores, "verified_per_second": round(verified), "floor": round(floor, 1)}
    print(json.dumps(facts | report))


def start_network(root: Path, genesis: Genesis, count: int, stack: ExitStack) -> list[NodeProcess]:
    """Start nodes, the first of which mines; each is connected with some of those before it."""
    path = root / "genesis.json"
    write_document(path, GenesisDocument.of(genesis))
    running: list[NodeProcess] = []
    for number in range(count):
        layout = DataDir(root=root / f"node-{number}").create()
        create_private_file(layout.api_token_file, f"{TOKEN}\n".encode())
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
