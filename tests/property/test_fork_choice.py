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

    def best(self, checkpoint: int, max_reorg: int) -> set[int]:
        """Return the blocks that may be chosen next: most work, then first complete; empty: stay."""
        active = set(self.chain(self.tip))
        tip = self.blocks[self.tip]
        allowed = []
        for number, block in enumerate(self.blocks):
            if block.linked_at is None or self.refused(number) or block.work <= tip.work:
                continue
            fork = max(self.blocks[item].height for item in self.chain(number) if item in active)
            extends = self.tip in self.chain(number)
            if extends or (fork >= checkpoint and tip.height - fork <= max_reorg):
                allowed.append((-block.work, block.linked_at, number))
        return {number for work, at, number in allowed if (work, at) == min(allowed)[:2]}


class Pair:
    """The tree and the model, told the same things."""

    def __init__(self) -> None:
        self.build = TreeBuilder()
        self.model = Model()

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
            block.header = True

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

    def move(self, number: int) -> None:
        self.build.tree.set_tip(self.node(number))
        self.model.tip = number

    def choose(self, checkpoint: int, max_reorg: int) -> None:
        found = self.build.tree.best_candidate(checkpoint_height=checkpoint, max_reorg=max_reorg)
        expected = self.model.best(checkpoint, max_reorg)
        assert ({self.number(found)} if found else set()) <= expected
        assert bool(found) == bool(expected)
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
        assert [self.number(node) for node in tree.missing_bodies(limit=3)] == wanted[::-1][:3]
        located = tree.locate(tree.locator(tree.best_header))
        assert tree.is_active(located)
        assert located.height <= tree.fork_point(tree.best_header).height


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["header", "header", "body", "body", "choose", "choose", "refuse", "rollback"]),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
    ),
    max_size=60,
)


@settings(max_examples=250)
@given(
    shape=st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), min_size=1, max_size=20),
    events=EVENTS,
)
def test_same_choice_as_the_model(shape: list[tuple[int, bool]], events: list[tuple[str, int, int]]) -> None:
    pair = Pair()
    for parent, heavy in shape:
        pair.make(parent % len(pair.build.made), heavy)
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
        elif event == "choose":
            pair.choose(first % 4, second % 6)
        pair.model.note_links()
        pair.check()
    for number in [*range(1, len(pair.build.made))] * 2:
        pair.header(number)
        pair.body(number)
        pair.model.note_links()
    pair.choose(0, 10**6)
    pair.check()


@settings(max_examples=100)
@given(
    shape=st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), min_size=1, max_size=15),
    seed=st.randoms(use_true_random=False),
)
def test_every_order_of_arrival_ends_at_most_work(shape: list[tuple[int, bool]], seed: object) -> None:
    pair = Pair()
    for parent, heavy in shape:
        pair.make(parent % len(pair.build.made), heavy)
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
