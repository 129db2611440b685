"""The tree of known headers and the choice of the best chain.

Owns headers in memory, which of them have a body, which are invalid, and from these the best
candidate and the way there. It holds no state and no bodies: the node's chain state executes a
:class:`ReorgPlan` against its store and reports back what was connected or refused.

Fork choice: most cumulative work among chains whose bodies are all here; of equal work the one
that was complete first. A chain that leaves the active one below the highest accepted checkpoint,
or deeper than ``max_reorg``, is not followed.

Source: ``docs/protocol.md``, section "Fork choice".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, takewhile

from .block import SealedHeader, unpack_header
from .errors import RuleViolation, Temporary
from .params import MEDIAN_TIME_SPAN, Params
from .upgrade import SUPPORTED_VERSIONS
from .validation import HeaderContext, check_header, median_time_past, next_bits
from .work import block_work

LOCATOR_DENSE = 10
"""A locator names this many hashes one by one before its steps double (as in Bitcoin)."""

UNLIMITED_REORG = 2**63


PRODUCERS_SHARED_MAX = 4096
"""Producer keys of which headers share one copy; past this the table starts anew, so that it stays small."""

_work = lru_cache(maxsize=1024)(block_work)


class HeaderNode:
    """One known header: what fork choice and header checks need of it, and not the header itself.

    A node of a large chain costs 345 to 390 bytes with all it refers to (``docs/benchmarks.md``), so a field
    more is a decision: 12 fields fill 128 bytes, a thirteenth costs 16.
    """

    __slots__ = (
        "anchor_time_ms",
        "arrival",
        "chainwork",
        "has_body",
        "hash",
        "height",
        "invalid",
        "newest_child",
        "older_sibling",
        "parent",
        "producer",
        "time_ms",
    )

    def __init__(
        self,
        *,
        block_hash: bytes,
        height: int,
        time_ms: int,
        producer: bytes,
        chainwork: int,
        parent: HeaderNode | None,
    ) -> None:
        """Describe a header; :meth:`BlockTree.restore` hangs it below its parent."""
        self.hash = block_hash
        self.height = height
        self.time_ms = time_ms
        self.producer = producer
        self.chainwork = chainwork
        """Sum of :func:`block_work` over the chain up to here; block 0 has none."""
        self.parent = parent
        """None for the root alone."""
        self.newest_child: HeaderNode | None = None
        self.older_sibling: HeaderNode | None = None
        """The children of a node are a list that is linked through them: see :meth:`children`."""
        self.anchor_time_ms: int | None = _anchor_time(height, time_ms, parent)
        self.has_body = False
        self.invalid = False
        self.arrival = 0
        """Orders nodes of equal work by when they became linked; 0: not linked.

        A chain that is linked block by block shares one number, since its nodes differ in work.
        """

    @property
    def linked(self) -> bool:
        """Tell whether all bodies from block 0 to here are known and none is invalid."""
        return self.arrival > 0

    def children(self) -> list[HeaderNode]:
        """Return the known children in the order in which they came."""
        found = []
        child = self.newest_child
        while child is not None:
            found.append(child)
            child = child.older_sibling
        found.reverse()
        return found

    def ancestors(self) -> Iterator[HeaderNode]:
        """Yield this node, its parent, and so on down to block 0."""
        node: HeaderNode | None = self
        while node is not None:
            yield node
            node = node.parent


def _anchor_time(height: int, time_ms: int, parent: HeaderNode | None) -> int | None:
    if height == 1:
        return time_ms
    return None if parent is None else parent.anchor_time_ms


def context_headers(params: Params) -> int:
    """Return how many of a header's nearest ancestors its rules look at."""
    return max(MEDIAN_TIME_SPAN, params.producer_window)


def header_context(parent: HeaderNode, params: Params) -> HeaderContext:
    """Summarise the ancestors of a header whose parent is ``parent``."""
    line = list(islice(parent.ancestors(), context_headers(params)))
    share = max(params.producer_window - 1, 0)
    return HeaderContext(
        parent_hash=parent.hash,
        parent_time_ms=parent.time_ms,
        height=parent.height + 1,
        median_time_ms=median_time_past([node.time_ms for node in reversed(line)]),
        bits=next_bits(
            params,
            parent_height=parent.height,
            parent_time_ms=parent.time_ms,
            anchor_time_ms=parent.anchor_time_ms,
        ),
        recent_producers=tuple(node.producer for node in line[:share] if node.height > 0),
    )


@dataclass(frozen=True, slots=True)
class ReorgPlan:
    """The way from the active tip to another one."""

    fork: HeaderNode
    disconnect: tuple[HeaderNode, ...]
    """Active blocks above the fork point, highest first."""
    connect: tuple[HeaderNode, ...]
    """Blocks to connect, lowest first."""


class BlockTree:
    """All known headers. The active chain is a list, so lookups by height are O(1)."""

    def __init__(
        self, genesis: SealedHeader, params: Params, *, versions: Container[int] = SUPPORTED_VERSIONS
    ) -> None:
        """Start with block 0 as the active tip."""
        self._params = params
        self._versions = versions
        header = genesis.header
        root = HeaderNode(
            block_hash=header.hash,
            height=header.height,
            time_ms=header.time_ms,
            producer=header.producer,
            chainwork=0,
            parent=None,
        )
        root.has_body = True
        root.arrival = 1
        self.active: list[HeaderNode] = [root]
        self.nodes: dict[bytes, HeaderNode] = {root.hash: root}
        self.best_header = root
        """Most work among headers that are not known to be invalid, bodies or not."""
        self._candidates: set[HeaderNode] = set()
        """Ends of linked chains with more work than the tip had when they came."""
        self._arrivals = 1
        self._last_linked = root
        self._producers: dict[bytes, bytes] = {}

    @property
    def tip(self) -> HeaderNode:
        """Return the tip of the active chain."""
        return self.active[-1]

    def get(self, block_hash: bytes) -> HeaderNode | None:
        """Return a known header."""
        return self.nodes.get(block_hash)

    def is_active(self, node: HeaderNode) -> bool:
        """Tell whether a node is on the active chain."""
        return node.height < len(self.active) and self.active[node.height] is node

    def context(self, parent: HeaderNode) -> HeaderContext:
        """Summarise the ancestors of a header whose parent is ``parent``."""
        return header_context(parent, self._params)

    def add_header(self, sealed: SealedHeader) -> HeaderNode:
        """Check a header against its ancestors and add it.

        A known header is returned as it is, which may be ``invalid``. Seal, clock and checkpoints are the caller's to check first.

        Raises:
            Temporary: missing-parent.
            RuleViolation: bad-prevblk when the parent is invalid, or any rule of ``check_header``.
        """
        if sealed.hash not in self.nodes:
            self.check_header(sealed)
        return self.restore(sealed)

    def check_header(self, sealed: SealedHeader) -> None:
        """Check a header that is not known against its ancestors; nothing is added.

        Raises:
            Temporary, RuleViolation: as :meth:`add_header`.
        """
        parent = self.nodes.get(sealed.header.previous)
        if parent is None:
            raise Temporary("missing-parent", expected="a known parent", got=sealed.header.previous.hex())
        if parent.invalid:
            raise RuleViolation("bad-prevblk", expected="a valid parent", got=parent.hash.hex())
        check_header(sealed.header, self.context(parent), self._params, self._versions)

    def restore(self, sealed: SealedHeader) -> HeaderNode:
        """Add a header that was checked before, as when a store is opened; its parent must be known.

        A header below an invalid one is invalid too, and a known one is returned as it is.
        """
        known = self.nodes.get(sealed.hash)
        if known is not None:
            return known
        header = sealed.header
        return self._attach(
            sealed.hash,
            header.previous,
            height=header.height,
            time_ms=header.time_ms,
            bits=header.bits,
            producer=header.producer,
        )

    def restore_encoded(self, block_hash: bytes, data: bytes) -> HeaderNode:
        """Add a stored header that is not known yet from its 160 bytes, whose hash is ``block_hash``.

        As :meth:`restore`, without the objects in between: a store of 100,000 blocks opens in a second.

        Raises:
            DecodeError: not 160 bytes, or bits that no header may carry.
        """
        _, height, previous, _, _, time_ms, bits, producer, _ = unpack_header(data)
        return self._attach(
            block_hash, previous, height=height, time_ms=time_ms, bits=bits, producer=producer
        )

    def _attach(
        self, block_hash: bytes, previous: bytes, *, height: int, time_ms: int, bits: int, producer: bytes
    ) -> HeaderNode:
        parent = self.nodes[previous]
        sibling = parent.newest_child
        node = HeaderNode(
            block_hash=block_hash,
            height=height if sibling is None else sibling.height,  # the same number: one object for both
            time_ms=time_ms,
            producer=self._shared(producer),
            chainwork=parent.chainwork + _work(bits),
            parent=parent,
        )
        node.invalid = parent.invalid
        node.older_sibling = sibling
        parent.newest_child = node
        self.nodes[block_hash] = node
        if not node.invalid and node.chainwork > self.best_header.chainwork:
            self.best_header = node
        return node

    def _shared(self, producer: bytes) -> bytes:
        """Return the one copy of a producer's key that all its headers refer to."""
        if len(self._producers) >= PRODUCERS_SHARED_MAX:
            self._producers.clear()
        return self._producers.setdefault(producer, producer)

    def mark_body(self, node: HeaderNode) -> None:
        """Note that a block's body is at hand; descendants that waited for it become candidates."""
        node.has_body = True
        waiting = deque([node])
        while waiting:
            item = waiting.popleft()
            parent = item.parent
            if item.linked or item.invalid or not item.has_body or parent is None or not parent.linked:
                continue
            if parent is not self._last_linked:
                self._arrivals += 1
            self._last_linked = item
            item.arrival = self._arrivals
            # Of one chain only its end is a candidate: it has the most work, and the same fork point.
            self._candidates.discard(parent)
            if item.chainwork > self.tip.chainwork:
                self._candidates.add(item)
            waiting.extend(item.children())

    def mark_invalid(self, node: HeaderNode) -> tuple[HeaderNode, ...]:
        """Refuse a block and all its descendants for good; return them.

        When the block is active, the caller moves the tip below it (:meth:`set_tip`) next.
        """
        refused = []
        waiting = [node]
        while waiting:
            item = waiting.pop()
            refused.append(item)
            item.invalid = True
            item.arrival = 0
            self._candidates.discard(item)
            waiting.extend(item.children())
        if node.parent is not None and self._ends_better_chain(node.parent, self.tip.chainwork):
            self._candidates.add(node.parent)
        if self.best_header.invalid:
            valid = (item for item in self.nodes.values() if not item.invalid)
            self.best_header = max(valid, key=lambda item: item.chainwork)
        return tuple(refused)

    @staticmethod
    def _ends_better_chain(node: HeaderNode, work: int) -> bool:
        """Tell whether a node is linked, has more than ``work``, and no linked child."""
        return node.linked and node.chainwork > work and not any(child.linked for child in node.children())

    def without_body(self, node: HeaderNode) -> tuple[HeaderNode, ...]:
        """Return the blocks from ``node`` down to the first complete one whose bodies are not here."""
        above = takewhile(lambda item: not item.linked, node.ancestors())
        return tuple(item for item in above if not item.has_body)

    def forget_waiting(self, keep: Collection[bytes], *, below: int) -> tuple[bytes, ...]:
        """Drop headers without a body, and without a child that stays, whose chainwork is under ``below``.

        Those in ``keep`` stay, and so do their ancestors. Returns the hashes of what was dropped.
        """
        gone: dict[HeaderNode, None] = {}
        for node in sorted(self.nodes.values(), key=lambda item: -item.height):
            if (
                node.parent is None
                or node.has_body
                or node.invalid
                or node.chainwork >= below
                or node.hash in keep
                or node is self.best_header
                or any(child not in gone for child in node.children())
            ):
                continue
            gone[node] = None
        for node in gone:
            del self.nodes[node.hash]
        for parent in {node.parent for node in gone if node.parent is not None}:
            self._relink(parent, gone)
        return tuple(node.hash for node in gone)

    @staticmethod
    def _relink(parent: HeaderNode, gone: Collection[HeaderNode]) -> None:
        """Take children out of their parent's list: all at once, for they may be many."""
        stay = [child for child in parent.children() if child not in gone]
        parent.newest_child = None
        for child in stay:
            child.older_sibling = parent.newest_child
            parent.newest_child = child

    def best_candidate(
        self, *, checkpoint_height: int = 0, max_reorg: int = UNLIMITED_REORG
    ) -> HeaderNode | None:
        """Return the node to move to, or None when the tip is best.

        Candidates with less work than the tip are forgotten: they come back as ancestors of a better one.
        """
        work = self.tip.chainwork
        self._candidates = {node for node in self._candidates if node.chainwork > work}
        for node in sorted(self._candidates, key=lambda item: (-item.chainwork, item.arrival)):
            if self._refusal(node, checkpoint_height, max_reorg) is None:
                return node
        return None

    def refused_candidates(self, *, checkpoint_height: int, max_reorg: int) -> tuple[HeaderNode, ...]:
        """Return chains with more work that the checkpoint or ``max_reorg`` keeps this node from."""
        better = (node for node in self._candidates if node.chainwork > self.tip.chainwork)
        return tuple(node for node in better if self._refusal(node, checkpoint_height, max_reorg))

    def check_reorg(self, node: HeaderNode, *, checkpoint_height: int, max_reorg: int) -> None:
        """Say why a node does not move to ``node``, whatever its work.

        Raises:
            RuleViolation: below-checkpoint or max-reorg.
        """
        refusal = self._refusal(node, checkpoint_height, max_reorg)
        if refusal is not None:
            raise refusal

    def _refusal(self, node: HeaderNode, checkpoint_height: int, max_reorg: int) -> RuleViolation | None:
        tip, fork = self.tip, self.fork_point(node)
        if fork is tip:
            return None
        if fork.height < checkpoint_height:
            return RuleViolation(
                "below-checkpoint", expected=f"a fork at height {checkpoint_height} or above", got=fork.height
            )
        if tip.height - fork.height > max_reorg:
            return RuleViolation(
                "max-reorg", expected=f"at most {max_reorg} blocks disconnected", got=tip.height - fork.height
            )
        return None

    def fork_point(self, node: HeaderNode) -> HeaderNode:
        """Return the last common block of the active chain and the chain of ``node``."""
        return next(item for item in node.ancestors() if self.is_active(item))

    def plan(self, target: HeaderNode) -> ReorgPlan:
        """Return the blocks to disconnect and to connect on the way to ``target``."""
        connect = []
        fork = target
        while not self.is_active(fork):
            connect.append(fork)
            if fork.parent is None:
                raise ValueError("block: expected one of this tree, got one of another")
            fork = fork.parent
        return ReorgPlan(
            fork=fork,
            disconnect=tuple(reversed(self.active[fork.height + 1 :])),
            connect=tuple(reversed(connect)),
        )

    def set_tip(self, node: HeaderNode) -> None:
        """Make ``node`` the active tip.

        A step to less work (an operator's rollback, a reorganisation that met an invalid block half-way)
        brings back the candidates that :meth:`best_candidate` had forgotten, the old tip among them.
        """
        plan = self.plan(node)
        steps_down = node.chainwork < self.tip.chainwork
        del self.active[plan.fork.height + 1 :]
        self.active.extend(plan.connect)
        if steps_down:
            self._candidates = {
                item for item in self.nodes.values() if self._ends_better_chain(item, node.chainwork)
            }

    def locator(self, node: HeaderNode | None = None) -> tuple[bytes, ...]:
        """Name the chain of ``node`` (default: the best header) with few hashes, newest first."""
        item = node or self.best_header
        hashes = [item.hash]
        step = 1
        while item.height > 0:
            item = self._ancestor(item, max(item.height - step, 0))
            hashes.append(item.hash)
            if len(hashes) >= LOCATOR_DENSE:
                step *= 2
        return tuple(hashes)

    def _ancestor(self, node: HeaderNode, height: int) -> HeaderNode:
        """Return the ancestor at a height: one by one on a side chain, at once on the active one."""
        return next(
            item if item.height == height else self.active[height]
            for item in node.ancestors()
            if item.height == height or self.is_active(item)
        )

    def locate(self, locator: tuple[bytes, ...]) -> HeaderNode:
        """Return the first named block that is on the active chain; block 0 when none is."""
        for block_hash in locator:
            node = self.nodes.get(block_hash)
            if node is not None and self.is_active(node):
                return node
        return self.active[0]

    def after(self, node: HeaderNode, *, limit: int, stop: bytes = b"") -> tuple[HeaderNode, ...]:
        """Return up to ``limit`` active blocks above ``node``, up to and including hash ``stop``."""
        found = []
        for item in self.active[node.height + 1 : node.height + 1 + limit]:
            found.append(item)
            if item.hash == stop:
                break
        return tuple(found)

    def chain_tips(self) -> tuple[HeaderNode, ...]:
        """Return every header without children, most work first."""
        leaves = (node for node in self.nodes.values() if node.newest_child is None)
        return tuple(sorted(leaves, key=lambda node: (-node.chainwork, node.arrival)))
