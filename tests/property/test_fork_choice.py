"""Fork choice against a model that looks at every block anew after every event."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.consensus.chain import HeaderNode
from facechain.consensus.work import block_work
from support.trees import TreeBuilder


@dataclass
class ModelBlock:
    parent: int
    work: int
    height: int
    header: bool = False
    body: bool = False
    invalid: bool = False
    linked_at: int | None = None
    header_at: int = 0


@dataclass
class Model:
    """What is known of each block, and the rules of the choice written down directly."""

    blocks: list[ModelBlock] = field(default_factory=lambda: [ModelBlock(-1, 0, 0, True, True, False, 0)])
    tip: int = 0
    events: int = 0

    def chain(self, number: int) -> list[int]:
        found = []
        while number >= 0:
            found.append(number)
            number = self.blocks[number].parent
        return found

    def refused(self, number: int) -> bool:
        return any(self.blocks[item].invalid for item in self.chain(number))

    def complete(self, number: int) -> bool:
        return all(self.blocks[item].header and self.blocks[item].body for item in self.chain(number))

    def note_links(self) -> None:
        self.events += 1
        for number, block in enumerate(self.blocks):
            if block.linked_at is None and self.complete(number) and not self.refused(number):
                block.linked_at = self.events

    def better(self) -> list[int]:
        """Return the complete, valid blocks with more work than the tip."""
        work = self.blocks[self.tip].work
        return [
            number
            for number, block in enumerate(self.blocks)
            if block.linked_at is not None and not self.refused(number) and block.work > work
        ]

    def may_follow(self, number: int, checkpoint: int, max_reorg: int) -> bool:
        """Tell whether checkpoint and depth allow the way to a block."""
        active, tip = set(self.chain(self.tip)), self.blocks[self.tip]
        fork = max(self.blocks[item].height for item in self.chain(number) if item in active)
        extends = self.tip in self.chain(number)
        return extends or (fork >= checkpoint and tip.height - fork <= max_reorg)

    def best(self, checkpoint: int, max_reorg: int) -> set[int]:
        """Return the blocks that may be chosen next: most work, then first complete; empty: stay."""
        allowed = [
            (-self.blocks[number].work, self.blocks[number].linked_at or 0, number)
            for number in self.better()
            if self.may_follow(number, checkpoint, max_reorg)
        ]
        return {number for work, at, number in allowed if (work, at) == min(allowed)[:2]}

    def held_back(self, checkpoint: int, max_reorg: int) -> set[int]:
        """Return the ends of better chains that may not be followed."""
        better = self.better()
        ends = [number for number in better if not any(self.blocks[item].parent == number for item in better)]
        return {number for number in ends if not self.may_follow(number, checkpoint, max_reorg)}

    def forget(self, keep: set[int], below: int, best: int) -> set[int]:
        """Forget headers without a body from the leaves down; return which."""
        gone: set[int] = set()
        while True:
            known = {number for number, block in enumerate(self.blocks) if block.header}
            leaves = known - {0, *keep, best} - {self.blocks[number].parent for number in known}
            found = {
                number
                for number in leaves
                if not (self.blocks[number].body or self.refused(number)) and self.blocks[number].work < below
            }
            if not found:
                return gone
            for number in found:
                self.blocks[number].header = False
            gone |= found


class Pair:
    """The tree and the model, told the same things."""

    def __init__(self) -> None:
        self.build = TreeBuilder()
        self.model = Model()
        self.headers = 0

    @classmethod
    def of(cls, shape: list[tuple[int, bool]]) -> Pair:
        """Make the blocks of a tree; nobody knows them yet."""
        pair = cls()
        for back, heavy in shape:
            pair.make(max(len(pair.build.made) - 1 - back, 0), heavy)
        return pair

    def node(self, number: int) -> HeaderNode:
        return self.build.tree.nodes[self.build.made[number].hash]

    def number(self, node: HeaderNode) -> int:
        return next(n for n, sealed in enumerate(self.build.made) if sealed.hash == node.hash)

    def make(self, parent: int, heavy: bool) -> None:
        above = self.model.blocks[parent]
        sealed = self.build.make(parent, heavy=heavy)
        work = above.work + block_work(sealed.header.bits)
        self.model.blocks.append(ModelBlock(parent, work, above.height + 1))

    def header(self, number: int) -> None:
        block = self.model.blocks[number]
        if self.model.blocks[block.parent].header:
            self.build.tree.restore(self.build.made[number])
            if not block.header:
                self.headers += 1
                block.header, block.header_at = True, self.headers

    def line(self, number: int) -> None:
        """Let headers and bodies of a whole chain come, lowest first."""
        for item in reversed(self.model.chain(number)):
            if item:
                self.header(item)
                self.body(item)
                self.model.note_links()

    def body(self, number: int) -> None:
        block = self.model.blocks[number]
        if block.header:
            self.build.tree.mark_body(self.node(number))
            block.body = True

    def refuse(self, number: int) -> None:
        if not number or not self.model.blocks[number].header:
            return
        self.build.tree.mark_invalid(self.node(number))
        self.model.blocks[number].invalid = True
        if number in self.model.chain(self.model.tip):
            self.move(self.model.blocks[number].parent)

    def forget(self, first: int, second: int) -> None:
        keep = {first % len(self.build.made)}
        best = self.number(self.build.tree.best_header)
        below = second % 60
        gone = self.build.tree.forget_waiting({self.build.made[item].hash for item in keep}, below=below)
        numbers = {n for n, sealed in enumerate(self.build.made) if sealed.hash in gone}
        assert numbers == self.model.forget(keep, below, best)

    def move(self, number: int) -> None:
        self.build.tree.set_tip(self.node(number))
        self.model.tip = number

    def choose(self, checkpoint: int, max_reorg: int) -> None:
        found = self.build.tree.best_candidate(checkpoint_height=checkpoint, max_reorg=max_reorg)
        expected = self.model.best(checkpoint, max_reorg)
        assert ({self.number(found)} if found else set()) <= expected
        assert bool(found) == bool(expected)
        held_back = self.build.tree.refused_candidates(checkpoint_height=checkpoint, max_reorg=max_reorg)
        assert {self.number(node) for node in held_back} == self.model.held_back(checkpoint, max_reorg)
        assert len(held_back) == len(set(held_back))
        if found:
            self.move(self.number(found))

    def check(self) -> None:
        tree = self.build.tree
        assert [self.number(node) for node in reversed(tree.active)] == self.model.chain(self.model.tip)
        known = [n for n, block in enumerate(self.model.blocks) if block.header]
        valid = [n for n in known if not self.model.refused(n)]
        assert tree.best_header.chainwork == max(self.model.blocks[n].work for n in valid)
        assert {n for n in known if self.node(n).invalid} == set(known) - set(valid)
        wanted = [
            n
            for n in self.model.chain(self.number(tree.best_header))
            if not self.model.blocks[n].body and n not in self.model.chain(self.model.tip)
        ]
        assert [self.number(node) for node in tree.without_body(tree.best_header)] == wanted
        children = {n: [self.number(item) for item in self.node(n).children()] for n in known}
        for number in known:
            below = [n for n in known if self.model.blocks[n].parent == number]
            assert children[number] == sorted(below, key=lambda n: self.model.blocks[n].header_at)
        assert {self.number(node) for node in tree.chain_tips()} == {n for n in known if not children[n]}
        assert set(tree.nodes) == {self.build.made[n].hash for n in known}
        located = tree.locate(tree.locator(tree.best_header))
        assert tree.is_active(located)
        assert located.height <= tree.fork_point(tree.best_header).height


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["header", "body", "line", "line", "choose", "choose", "choose", "refuse", "rollback", "forget"]
        ),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
    ),
    min_size=5,
    max_size=60,
)
SHAPE = st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=25)
"""Of each block: how many blocks before the last one made its parent is, and whether it is heavy."""


@settings(max_examples=250)
@given(shape=SHAPE, events=EVENTS)
def test_same_choice_as_the_model(shape: list[tuple[int, bool]], events: list[tuple[str, int, int]]) -> None:
    pair = Pair.of(shape)
    for event, first, second in events:
        number = first % len(pair.build.made)
        if event == "header" and number:
            pair.header(number)
        elif event == "body" and number:
            pair.body(number)
        elif event == "refuse":
            pair.refuse(number)
        elif event == "rollback":
            active = pair.model.chain(pair.model.tip)
            pair.move(active[first % len(active)])
        elif event == "line":
            pair.line(number)
        elif event == "forget":
            pair.forget(first, second)
        elif event == "choose":
            tip = pair.model.blocks[pair.model.tip]
            pair.choose(max(tip.height - first % 6, 0), second % 4)
        pair.model.note_links()
        pair.check()
    for number in [*range(1, len(pair.build.made))] * 2:
        pair.header(number)
        pair.body(number)
        pair.model.note_links()
    pair.choose(0, 10**6)
    pair.check()
    valid = [block.work for number, block in enumerate(pair.model.blocks) if not pair.model.refused(number)]
    assert pair.build.tree.tip.chainwork == max(valid)


@settings(max_examples=100)
@given(shape=SHAPE, seed=st.randoms(use_true_random=False))
def test_every_order_of_arrival_ends_at_most_work(shape: list[tuple[int, bool]], seed: object) -> None:
    pair = Pair.of(shape)
    order = list(range(1, len(pair.build.made)))
    seed.shuffle(order)  # type: ignore[attr-defined]
    for number in order:
        for item in reversed(pair.model.chain(number)):
            if item:
                pair.header(item)
        pair.body(number)
        pair.model.note_links()
        pair.choose(0, 10**6)
    assert pair.build.tree.tip.chainwork == max(block.work for block in pair.model.blocks)
