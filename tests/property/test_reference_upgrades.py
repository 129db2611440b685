"""Schedules of versions, drawn at random: the project's code and the page's second reading must agree."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from facechain.consensus.payloads import ProtocolUpgrade
from facechain.consensus.statement import Statement
from support.agreement import A0, A1, A2, P0, Pair, quorum_genesis

KNOWN = frozenset(range(1, 60))


@pytest.mark.parametrize("seed", range(3))
def test_schedules_get_the_same_verdicts(seed: int) -> None:
    pair, draw = Pair.of(quorum_genesis(), KNOWN), random.Random(seed)
    chain, in_force = pair.chain, set()
    while chain.height < 40:
        kept: list[Statement] = []
        now = chain.view().schedule().version_at(chain.height + 1)
        asked = ProtocolUpgrade(
            version=now + draw.choice((-1, 0, 1, 2)), activation_height=chain.height + draw.randrange(1, 6)
        )
        for key in draw.sample((A0, A1, A2), draw.randrange(4)):
            chain._waiting.update(item.author for item in kept)
            payload = asked if draw.random() < 0.8 else replace(asked, version=now + 1)
            made = pair.say(key, payload)
            if pair.judge_statements("a request", *kept, made) is None:
                kept.append(made)
        block = chain.forge(kept, key=P0)
        true_version = block.header.version
        for version in (0, true_version - 1, true_version, true_version + 1, 60):
            other = chain.forge(kept, key=P0, version=version)
            wanted = "unknown-version" if version not in KNOWN else "bad-version"
            wanted_here = None if version == true_version else wanted
            assert pair.judge_block(other, f"version {version}") == wanted_here
        pair.mine(*kept)
        in_force.add(true_version)
    assert len(in_force) >= 3
    assert pair.reference.state.versions is not None
    assert pair.reference.state.versions.decisions >= 4
    assert {code for found in pair.verdicts for code in found} >= {"state-conflict", "bad-version"}
    pair.count(200)


def test_both_stop_where_a_version_begins_that_they_do_not_know() -> None:
    pair = Pair.of(quorum_genesis())
    upgrade = ProtocolUpgrade(version=2, activation_height=3)
    pair.mine(pair.say(A0, upgrade), pair.say(A1, upgrade))
    pair.mine()
    for version, code in ((1, "bad-version"), (2, "unknown-version")):
        assert pair.judge_block(pair.chain.forge(key=P0, version=version), f"version {version}") == code
