"""Parts, headers and receipts, checked by the rules of the network."""

from dataclasses import replace
from pathlib import Path

import pytest

from facechain.cli.answers import Receipt
from facechain.cli.outbox import Draft
from facechain.cli.submission import (
    MISSING,
    Item,
    SubmissionReceipt,
    make_draft,
    part_header,
    records_per_part,
    split,
)
from facechain.consensus.kinds import Kind
from facechain.consensus.params import MIB, Params
from facechain.consensus.records import Records
from facechain.consensus.statement import ABSENT, NEVER_EXPIRES, group_id, sign_statement
from facechain.consensus.validation import check_statement
from facechain.node.batch_folder import BatchFolder, read_batch
from support.chain import SUBMITTER, easy_params, make_records, seed
from support.registry import make_png

NETWORK = bytes(32)


def folder(tmp_path: Path, count: int = 3) -> BatchFolder:
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(make_png(number))
    return read_batch(tmp_path)


def draft_of(batch: BatchFolder, *, private: bool = False) -> Draft:
    return make_draft(
        batch,
        author=SUBMITTER.public,
        network=NETWORK,
        key="",
        private=private,
        wait=0,
        with_objects=False,
    )


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize("limit", [4_096, 5_000, 65_536])
def test_parts_are_as_large_as_the_limits_allow_and_valid(
    tmp_path: Path, *, public: bool, limit: int
) -> None:
    params = easy_params(max_statement_bytes=limit)
    batch = replace(folder(tmp_path), seed=seed("batch"))
    each = records_per_part(params, public=public)
    records = make_records(2 * each + 1)
    looks = tuple(seed(f"look {number}") for number in range(len(records)))
    draft = draft_of(batch, private=not public)
    parts = split(draft, records, looks, params)
    assert [len(part.payload.records) for part in parts] == [each, each, 1]
    assert b"".join(part.payload.records.packed for part in parts) == records.packed
    for part in parts:
        header = part_header(draft, parts, part, {})
        assert header.group == group_id(item.records_root for item in parts)
        assert (header.part_index, header.part_count) == (part.index, 3)
        assert header.public is public
        statement = sign_statement(
            SUBMITTER,
            NETWORK,
            payload=part.payload,
            kind=Kind.IMAGE_BATCH,
            sequence=NEVER_EXPIRES,
            claimed_time_ms=NEVER_EXPIRES,
            batch=header,
        )
        check_statement(statement, params, NETWORK)
        if part.index == 0:
            assert limit - statement.size_bytes < 400, "room is wasted"


def test_the_tightest_of_three_limits_counts() -> None:
    assert records_per_part(Params(), public=True) == (MIB - 704) // 102
    tight = Params(max_author_bytes=5_000)
    assert records_per_part(tight, public=True) == records_per_part(
        Params(max_statement_bytes=5_000), public=True
    )


def test_a_plain_folder_states_nothing_that_it_does_not_know(tmp_path: Path) -> None:
    batch = folder(tmp_path)
    draft = draft_of(batch)
    (part,) = split(draft, batch.records, batch.looks, Params())
    header = part_header(draft, (part,), part, {})
    assert {header.model, header.clustering, header.filter, header.seed_commitment} == {ABSENT}
    assert part.payload.seed is None
    assert header.micro_batch == 0


def test_a_private_batch_shows_neither_look_nor_seed(tmp_path: Path) -> None:
    batch = replace(folder(tmp_path), seed=seed("batch"), public=True)
    for draft in (draft_of(batch, private=True), draft_of(replace(batch, public=False))):
        (part,) = split(draft, batch.records, batch.looks, Params())
        header = part_header(draft, (part,), part, {})
        assert (part.payload.perceptual, part.payload.seed) == (None, None)
        assert (header.public, header.perceptual_root) == (False, ABSENT)
        assert header.seed_commitment != ABSENT


def test_references_become_statement_ids(tmp_path: Path) -> None:
    batch = replace(folder(tmp_path), model="training", clustering="ab" * 32)
    draft = draft_of(batch)
    (part,) = split(draft, batch.records, batch.looks, Params())
    header = part_header(draft, (part,), part, {"training": seed("id")})
    assert (header.model, header.clustering) == (seed("id"), bytes.fromhex("ab" * 32))


def receipt(*levels: str) -> SubmissionReceipt:
    return SubmissionReceipt(
        network=NETWORK,
        author=SUBMITTER.public,
        group=bytes(32),
        images=2,
        stages=(),
        parts=tuple(
            Item(slot=f"part-{number}", label=f"part {number}", level=level, confirmations=number)
            for number, level in enumerate(levels)
        ),
        objects={"sent": 0},
    )


def test_a_receipt_is_at_the_level_of_its_lowest_part() -> None:
    assert receipt("confirmed", "sealed").level == "sealed"
    assert receipt("relayed", "queued", "confirmed").level == "queued"
    assert receipt("confirmed", MISSING).level == MISSING
    assert receipt("confirmed", MISSING).missing == ("part-1",)
    assert receipt("confirmed", Receipt.REFUSED).to_json()["complete"] is False
    assert receipt("confirmed", "confirmed").to_json()["confirmations"] == 0


def test_records_are_not_copied_when_there_is_one_part(tmp_path: Path) -> None:
    batch = folder(tmp_path)
    (part,) = split(draft_of(batch), batch.records, batch.looks, Params())
    assert part.payload.records == Records(batch.records.packed)
