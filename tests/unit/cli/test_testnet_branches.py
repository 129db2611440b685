"""Where two chains part; what nodes answer is tried with real ones in tests/functional and tests/netns."""

import math

import pytest

from facechain.cli.testnet_branches import Tip, fork_height


@pytest.mark.parametrize("top", [0, 1, 2, 3, 10, 1_000, 1_000_000])
async def test_the_fork_point_is_found_in_few_questions(top: int) -> None:
    for parted in {0, 1, 2, top // 3, top // 2, top - 3, top - 1, top} & set(range(top + 1)):
        asked: list[int] = []

        async def differs(height: int, parted: int = parted, asked: list[int] = asked) -> bool:
            asked.append(height)
            return height > parted

        assert await fork_height(top, differs) == parted
        assert len(asked) <= 2 * math.log2(top - parted + 2) + 2
        assert len(asked) == len(set(asked))


def test_nodes_on_the_way_to_a_tip_are_behind() -> None:
    branch = Tip(height=10, hash=b"b", nodes=("node-1",)).as_branch()
    joined = branch.joined_by(Tip(height=7, hash=b"a", nodes=("node-2", "node-3")))
    assert joined.nodes == {"node-1": 0, "node-2": 3, "node-3": 3}
    assert (joined.height, joined.tip, joined.depth) == (10, b"b", None)
