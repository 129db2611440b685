"""Where the attacks take place: a victim, an honest miner and an honest second peer, all of them node processes.

Owns the processes, the keys of the network and what the attacker knows of its chain. The miner and the second peer
are connected to the victim and to nobody else: what one of them sends reaches the other through the victim, or
not at all. The attacker holds a producer's and a submitter's key, and addresses of loopback as it likes.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from facechain.cli.client import NodeClient
from facechain.consensus.apply import genesis_block
from facechain.consensus.block import Block, Body, SealedHeader, seal_header
from facechain.consensus.chain import BlockTree, HeaderNode
from facechain.consensus.kinds import Role
from facechain.consensus.params import Genesis
from facechain.consensus.payloads import AnyPayload, Cancel, Stage
from facechain.consensus.signing import LedgerKey, NodeKey
from facechain.consensus.statement import NEVER_EXPIRES, BatchHeader, Statement, sign_statement
from facechain.node.chainstate import ChainState
from facechain.node.data_dir import DataDir
from facechain.node.genesis_file import GenesisDocument, write_document
from facechain.node.keystore import Keystore
from facechain.node.service import clock_ms
from facechain.node.store.lmdb_store import LmdbStore
from facechain.node.store.memory import MemoryStore
from facechain.node.wire import messages as wire
from facechain.node.wire.limits import MAX_EQUIVOCATORS
from hostile.attacker import GONE, Answer, Identity, Peer
from support.chain import (
    ADMIN,
    KIND_OF,
    PRODUCER,
    SUBMITTER,
    keys,
    make_genesis,
    make_stage,
    seed,
    solve,
)
from support.node_processes import NodeProcess
from support.ports import free_ports
from support.statements import revoke

INSIDER, INSIDE_AUTHOR, REVOKED, TWO_FACED = keys(4, start=50)
"""The attacker's: a producer, a submitter, a submitter whose role is taken away before the first attack, and a producer
who is needed where nobody said two things yet."""
(BYSTANDER,) = keys(1, start=40)
"""An honest author beside the one whose statements show during an attack that the network works."""
AUTHORS: Final = keys(MAX_EQUIVOCATORS + 12, start=60)
"""More submitters of the attacker's."""
GAPPED: Final = keys(3, start=300)
"""Submitters of the attacker's who never say their first statement."""

AGE_MS: Final = 3_600_000
"""How old the network is, so that the attacker's chains have room before the present."""
SPACING_MS: Final = 2_000
HEARTBEAT_MS: Final = 1_500
MAX_REORG: Final = 12
CHUNK_MAX: Final = 65_536
SETTLE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1
LONG_BLOCKS: Final = 2_300
"""Of a chain that began long before the nodes did: more than one message of headers holds, nearly all of `AGE_MS`."""
VICTIM_SCRIPT: Final = Path(__file__).with_name("victim.py")


class PatientProcess(NodeProcess):
    """A node that may take long to start: the machine has other work."""

    start_seconds = 90.0


class Victim(PatientProcess):
    """A node whose named defences are taken out or changed; without any it is the plain command."""

    defences: Sequence[str] = ()

    def command(self) -> list[str]:
        """Start through `victim.py` where something is to be changed."""
        if not self.defences:
            return super().command()
        return [sys.executable, "-P", str(VICTIM_SCRIPT), ",".join(self.defences), *self.arguments]


def found(now_ms: int) -> Genesis:
    """Return the network's genesis."""
    return make_genesis(
        producers=(PRODUCER, INSIDER, TWO_FACED),
        submitters=(SUBMITTER, BYSTANDER, INSIDE_AUTHOR, REVOKED, *AUTHORS, *GAPPED),
        name="hostile",
        time_ms=now_ms - AGE_MS,
        spacing_ms=SPACING_MS,
        heartbeat_ms=HEARTBEAT_MS,
    )


@dataclass
class Mirror:
    """The attacker's copy of the victim's chain."""

    genesis: Genesis

    def __post_init__(self) -> None:
        self.chain = ChainState.open(MemoryStore.open(), self.genesis)

    def take(self, block: Block) -> None:
        """Follow one block."""
        self.chain.accept_block(block, now_ms=2 * clock_ms())

    def blocks(self) -> list[Block]:
        """Return the active chain from block 1 on."""
        found = [self.chain.block(node.hash) for node in self.chain.tree.active[1:]]
        return [block for block in found if block is not None]

    def fork(self, height: int | None = None) -> tuple[BlockTree, HeaderNode]:
        """Return a tree of the chain's headers up to some height (default: the tip), and the last of them."""
        tree = BlockTree(genesis_block(self.genesis)[0].sealed, self.genesis.params)
        parent = tree.tip
        for node in self.chain.tree.active[1 : None if height is None else height + 1]:
            sealed = self.chain.sealed_header(node.hash)
            if sealed is not None:
                parent = tree.add_header(sealed)
        return tree, parent

    def below(self, height: int) -> Mirror:
        """Return a copy that knows the chain up to some height only."""
        lower = Mirror(self.genesis)
        for block in self.blocks()[:height]:
            lower.take(block)
        return lower

    def mine_past(self, blocks: int) -> None:
        """Seal empty blocks one after the other, as close as they may be, as the honest miner."""
        for _ in range(blocks):
            self.mine(now_ms=self.chain.tree.tip.time_ms + HEARTBEAT_MS, key=PRODUCER)

    def mine(
        self, statements: Sequence[Statement] = (), *, now_ms: int | None = None, key: LedgerKey = INSIDER
    ) -> Block:
        """Seal the next block, valid in every way, and follow it."""
        block = self.draft(statements, now_ms=now_ms, key=key)
        self.take(block)
        return block

    def draft(
        self, statements: Sequence[Statement] = (), *, now_ms: int | None = None, key: LedgerKey = INSIDER
    ) -> Block:
        """Seal the next block without following it."""
        earliest = self.chain.tree.tip.time_ms + HEARTBEAT_MS
        now = max(clock_ms(), earliest) if now_ms is None else now_ms
        made = self.chain.make_template(statements, producer=key.public, now_ms=now)
        return Block(seal_header(key, self.genesis.network_id, solve(made.header)), made.body)

    def sequence(self, key: LedgerKey) -> int:
        """Return the next sequence number of an author."""
        with self.chain.view() as state:
            return state.next_sequence(key.public)


class Arena:
    """See the module's text. An async context manager; `restart` puts another victim in the first one's place."""

    def __init__(
        self, root: Path, *, seed_number: int, defences: Sequence[str] = (), is_long: bool = False
    ) -> None:
        """`is_long`: the chain has `LONG_BLOCKS` blocks from the start."""
        self.root = root
        self.is_long = is_long
        self.random = random.Random(seed_number)
        self.genesis = found(clock_ms())
        self.genesis_file = root / "genesis.json"
        self.port = free_ports(1)[0]
        self.serial = 0
        self.lives = 0
        self.patience_seconds = math.inf
        """Longest wait for a reason."""
        self._first = defences
        self.peers: list[Peer] = []
        self._stack = AsyncExitStack()
        self._nodes = ExitStack()
        self._victim_stack = ExitStack()

    async def __aenter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        write_document(self.genesis_file, GenesisDocument.of(self.genesis))
        self.mirror = Mirror(self.genesis)
        if self.is_long:
            await asyncio.to_thread(self._mine_past)
        self.session = await self._stack.enter_async_context(aiohttp.ClientSession())
        await self.restart(self._first)
        self.miner = self._honest("miner", "--mine", "--mining-key", "producer")
        self.second = self._honest("second")
        await self._settle()
        await self._revoke()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()
        await self._stack.aclose()
        self._victim_stack.close()
        self._nodes.close()

    # Nodes.

    def _prepare(self, folder: Path, settings: str) -> Path:
        layout = DataDir(root=folder).create()
        layout.config_file.write_text(settings, encoding="utf-8")
        if folder.name == "miner":
            Keystore(layout.keys).add("producer", PRODUCER, None)
        return folder

    def _mine_past(self) -> None:
        """Give the miner a long chain to begin with."""
        self.mirror.mine_past(LONG_BLOCKS)
        layout = DataDir(root=self.root / "miner").create()
        with LmdbStore.open(layout.store) as store:
            chain = ChainState.open(store, self.genesis)
            for block in self.mirror.blocks():
                chain.accept_header(block.sealed, now_ms=clock_ms())
                chain.accept_body(block)
            chain.advance()

    def _honest(self, name: str, *options: str) -> NodeProcess:
        folder = self._prepare(self.root / name, "max_outbound = 0\n")
        process = PatientProcess(folder, self.genesis_file, "--peers", f"127.0.0.1:{self.port}", *options)
        return self._nodes.enter_context(process)

    async def restart(self, defences: Sequence[str]) -> None:
        """Start a victim with an empty store in the place of the one that runs, and wait until all are connected."""
        await self.leave()
        self._victim_stack.close()
        self.lives += 1
        folder = self._prepare(self.root / f"victim-{self.lives}", f"max_reorg = {MAX_REORG}\n")
        victim = Victim(folder, self.genesis_file, listen=f"127.0.0.1:{self.port}")
        victim.defences = defences
        self.victim = await asyncio.to_thread(self._victim_stack.enter_context, victim)
        if self.lives > 1:
            await self._dial_again()
            await self._settle()

    async def _dial_again(self) -> None:
        """Have the honest peers come back at once, however often the victim was away."""
        for node in (self.miner, self.second):
            async with self.admin(node) as client:
                await client.call("POST", "/v1/peers", content={"peer": f"127.0.0.1:{self.port}"})

    async def _settle(self) -> None:
        if not await self.within(self.is_settled, SETTLE_SECONDS):
            raise RuntimeError(
                f"arena: expected connected peers and one tip within {SETTLE_SECONDS:g} s, got none"
            )

    async def is_settled(self) -> bool:
        """Tell whether both honest peers are connected to the victim and all three have one tip."""
        try:
            tips = [(await self.ask(node, "/v1/status")).get("tip") for node in self.nodes]
            connected = await self.honest_peers()
        except (aiohttp.ClientError, OSError):
            return False
        return None not in tips and len(set(tips)) == 1 and len(connected) == 2

    @property
    def nodes(self) -> tuple[NodeProcess, ...]:
        """Victim, miner and second peer."""
        return self.victim, self.miner, self.second

    async def _revoke(self) -> None:
        """Take the role of one submitter away."""
        statement = self.sign(ADMIN, revoke(Role.SUBMITTER, REVOKED), sequence=0)
        async with self.client(self.miner) as client:
            await client.submit(statement)
            await client.wait(statement.id, confirmations=2, timeout_seconds=SETTLE_SECONDS)

    # The HTTP API.

    async def ask(self, node: NodeProcess, path: str) -> Any:
        """Return the JSON of a GET."""
        async with self.session.get(node.api + path) as response:
            return await response.json()

    async def status(self) -> dict[str, Any]:
        """Return the victim's status."""
        answer: dict[str, Any] = await self.ask(self.victim, "/v1/status")
        return answer

    def client(self, node: NodeProcess) -> NodeClient:
        """Return a client that holds the node's token."""
        token = DataDir(root=node.data_dir).api_token_file.read_text().strip()
        return NodeClient(node.api, token=token)

    def admin(self, node: NodeProcess) -> NodeClient:
        """Return a client that holds the operator's token of the node."""
        token = DataDir(root=node.data_dir).admin_token_file.read_text().strip()
        return NodeClient(node.api, token=token)

    async def connected(self) -> dict[str, dict[str, Any]]:
        """Return the victim's peers by node key."""
        answer = await self.ask(self.victim, "/v1/peers")
        return {peer["node_key"]: peer for peer in answer["peers"]}

    async def known_addresses(self) -> int:
        """Return the size of the victim's address book."""
        answer = await self.ask(self.victim, "/v1/peers")
        return int(answer["addresses"]["known"])

    async def honest_peers(self) -> dict[str, float]:
        """Return since how long the honest peers are connected."""
        answers = [await self.ask(node, "/v1/status") for node in (self.miner, self.second)]
        keys_of = [str(answer.get("node_key")) for answer in answers]
        peers = await self.connected()
        return {key: float(peers[key]["connected_seconds"]) for key in keys_of if key in peers}

    async def bans(self) -> dict[str, dict[str, Any]]:
        """Return the victim's bans by what they are about."""
        return {item["peer"]: item for item in (await self.ask(self.victim, "/v1/bans"))["bans"]}

    async def ban_of(self, identity: Identity, seconds: float = 3.0) -> str:
        """Return why a key is banned, "" when it is not within some time."""
        name = identity.key.public.hex()
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            found = (await self.bans()).get(name)
            if found is not None or asyncio.get_running_loop().time() > deadline:
                return "" if found is None else str(found["reason"])
            await asyncio.sleep(POLL_SECONDS)

    def logged_end(self, identity: Identity) -> str:
        """Return the reason with which the victim's log says that a connection ended, "" when it does not."""
        log = (self.victim.data_dir / "output.log").read_text(encoding="utf-8", errors="replace")
        lines = [
            line for line in log.splitlines() if f"peer {identity.source}:" in line and " ended: " in line
        ]
        return lines[-1].split(" ended: ", 1)[1].split(":", 1)[0] if lines else ""

    async def reason(self, peer: Peer, seconds: float) -> str:
        """Return why the victim sent a peer away, "" when it did not.

        A goodbye can get lost where the attacker still sends while the victim closes: then the log tells.
        """
        said = await peer.reason(min(seconds, self.patience_seconds))
        if said != GONE:
            return said

        async def logged() -> bool:
            return bool(self.logged_end(peer.identity))

        await self.within(logged, 3.0)
        return self.logged_end(peer.identity) or said

    async def within(self, condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        """Tell whether something becomes true in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not await condition():
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def grown(self, height: int) -> None:
        """Wait until the victim's chain has some height."""

        async def is_grown() -> bool:
            return bool((await self.status())["height"] >= height)

        if not await self.within(is_grown, SETTLE_SECONDS):
            raise RuntimeError(f"arena: expected height {height} within {SETTLE_SECONDS:g} s")

    # Attackers.

    @property
    def address(self) -> tuple[str, int]:
        """Where the victim's peers connect."""
        return "127.0.0.1", self.port

    @property
    def api_address(self) -> tuple[str, int]:
        """Where the victim's HTTP API is."""
        host, _, port = str(self.victim.addresses["api"]).rpartition(":")
        return host, int(port)

    def source(self, number: int | None = None) -> str:
        """Return an address of loopback that nobody used before."""
        self.serial += number is None
        serial = self.serial if number is None else number
        return f"127.66.{serial // 250}.{serial % 250 + 1}"

    def identity(self, **changes: Any) -> Identity:
        """Return a new attacker."""
        source = changes.pop("source", None) or self.source()
        key = NodeKey.from_seed(self.random.randbytes(32))
        return Identity(key=key, source=source, network_id=self.genesis.network_id, **changes)

    async def join(
        self,
        answers: Mapping[type[Any], Answer] | None = None,
        identity: Identity | None = None,
        **handshake: Any,
    ) -> Peer:
        """Connect as an attacker; closed at the end of the attack."""
        peer = await Peer.open(self.address, identity or self.identity(), answers, **handshake)
        self.peers.append(peer)
        return peer

    async def leave(self) -> None:
        """Cut every connection of the attacker."""
        for peer in self.peers:
            await peer.close()
        self.peers.clear()

    # What the attacker knows and makes.

    async def learn(self) -> Mirror:
        """Read the victim's chain over the wire, as any peer may."""
        reader = await Peer.open(self.address, self.identity())
        while True:
            before = len(reader.all(wire.Headers))
            locator = self.mirror.chain.tree.locator()
            await reader.send(wire.GetHeaders(locator=locator, stop_hash=bytes(32)))
            if not await reader.hear(wire.Headers, 10.0, before + 1):
                break
            fresh = [SealedHeader.decode(item) for item in reader.all(wire.Headers)[-1].sealed_headers]
            fresh = [item for item in fresh if self.mirror.chain.tree.get(item.hash) is None]
            for sealed in fresh:
                block = await self._fetch(reader, sealed)
                if block is not None:
                    self.mirror.take(block)
            if not fresh:
                break
        await reader.close()
        return self.mirror

    async def _fetch(self, reader: Peer, sealed: SealedHeader) -> Block | None:
        body = Body(())
        while body.root() != sealed.header.body_root:
            before = reader.counts[wire.BodyChunk]
            start = len(body.statements)
            await reader.send(wire.GetBody(block_hash=sealed.hash, start=start, with_leaves=start == 0))
            if not await reader.hear(wire.BodyChunk, 10.0, before + 1):
                return None
            chunk = reader.all(wire.BodyChunk)[-1]
            if not chunk.statements:
                return None
            body = Body((*body.statements, *(Statement.decode(item) for item in chunk.statements)))
        return Block(sealed, body)

    def sign(
        self,
        key: LedgerKey,
        payload: AnyPayload,
        *,
        sequence: int | None = None,
        valid_until_height: int = NEVER_EXPIRES,
        batch: BatchHeader | None = None,
    ) -> Statement:
        """Sign a statement of the network."""
        return sign_statement(
            key,
            self.genesis.network_id,
            payload=payload,
            kind=KIND_OF[type(payload)],
            sequence=self.mirror.sequence(key) if sequence is None else sequence,
            claimed_time_ms=clock_ms(),
            valid_until_height=valid_until_height,
            batch=batch,
        )

    def note(self) -> Cancel:
        """Return a payload that was never said before."""
        return Cancel(note=self.random.randbytes(8).hex())

    def claim(self) -> Stage:
        """Return a payload that was never said before and that gives nothing up."""
        return make_stage(name=self.random.randbytes(8).hex())

    def hash(self) -> bytes:
        """Return a hash of nothing."""
        return seed(self.random.randbytes(8).hex())
