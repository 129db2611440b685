"""The quickest attacks on one real node, and the table of attacks beside the table of limits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from facechain.node.wire.limits import LIMITS
from hostile.arena import Arena
from hostile.check_hostile import RECORD, Range
from hostile.defences import DEFENCES, SCALED
from hostile.registry import NO_ATTACK, Attack, load

IN_CI = (
    "identity-theft",
    "oversized-frame",
    "nesting-bomb",
    "decompression-bomb",
    "ban-evasion",
    "headers-without-work",
    "mutated-body",
    "forged-statements",
    "writes-without-the-token",
)
SECONDS = 300
"""For all of it on a machine that is busy; alone it takes half a minute."""
PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row.name)
def test_every_row_of_the_limits_table_has_an_attack_or_a_reason_why_there_is_none(row: object) -> None:
    name = str(getattr(row, "name", ""))
    attacks = [item.name for item in load().values() if name in item.covers]
    assert bool(attacks) != (name in NO_ATTACK), (
        f"{name}: attacked by {attacks}, reason {NO_ATTACK.get(name)}"
    )


def test_attacks_cover_rows_and_name_defences_that_exist() -> None:
    rows = {row.name for row in LIMITS}
    assert set(NO_ATTACK) <= rows
    for item in load().values():
        assert set(item.covers) <= rows, item.name
        assert item.without in DEFENCES, item.name
        assert item.about.endswith("."), item.name
    assert DEFENCES.keys() - {item.without for item in load().values()} == {SCALED}
    assert len(load()) >= 30


def test_every_attack_was_seen_to_succeed_without_its_defence() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    seen = {item["name"]: item["without"] for item in record["items"] if not item["survived"]}
    assert seen == {item.name: item.without for item in load().values()}
    for item in record["items"]:
        assert re.fullmatch("[0-9a-f]{8,}", item["commit"]), (
            f"{item['name']}: expected a commit without changes"
        )


def row_of(item: Attack) -> str:
    expected = f"`{item.expects}`{', ban' if item.bans else ''}"
    return f"| `{item.name}` | {item.about} | {expected} | {', '.join(item.covers) or '–'} | {item.without} |"


def test_the_page_lists_every_attack() -> None:
    text = PAGE.read_text(encoding="utf-8")
    missing = [row_of(item) for item in load().values() if row_of(item) not in text]
    assert not missing, "\n".join(missing)


@pytest.mark.timeout(SECONDS)
async def test_a_node_stands_the_quickest_attacks(tmp_path: Path) -> None:
    attacks = load()
    async with Arena(tmp_path, seed_number=1) as arena:
        place = Range(arena, without_defence=False)
        try:
            items = [await place.run(attacks[name], judges_time=False) for name in IN_CI]
        finally:
            place.close()
    assert [(item.name, item.faults) for item in items if not item.survived] == []


@pytest.mark.timeout(SECONDS)
async def test_an_attack_on_a_node_without_its_defence_is_seen_to_succeed(tmp_path: Path) -> None:
    defences = ("handshake-signature",)
    async with Arena(tmp_path, seed_number=1, defences=defences) as arena:
        place = Range(arena, without_defence=True)
        try:
            item = await place.run(load()["identity-theft"], judges_time=False)
        finally:
            place.close()
    assert not item.survived
    assert "the miner's connection was replaced" in item.damage
