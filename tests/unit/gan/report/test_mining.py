import pytest

from facechain.cli.report_mining import mine_blocks
from facechain.consensus.block import Header
from facechain.consensus.records import RECORD_BYTES
from facechain.gan.report.mining import MinedBlocks, rows
from facechain.node.mining import search as miner


def test_what_the_papers_hour_would_have_taken_follows_from_its_zeros() -> None:
    mined = MinedBlocks(
        zero_digits=4,
        hashes=6_000_000,
        block_seconds=(2.0, 4.0),
        processor_seconds=3.0,
        images_per_statement=10_000,
        searcher="made up",
    )
    assert mined.hashes_per_second == 2_000_000
    told = dict(rows(mined, statements=5, heights=(8, 9, 9)))
    assert told["this run's batch"] == "5 statements, sealed in 2 blocks, 8 to 9"
    assert told["as the paper mines, a block for each of 202,599 images"].startswith(
        "1.33e+10 hashes: 1 h 51 min"
    )
    assert told["what 1 h 14 min would take"].startswith("2.99 million hashes a second")
    assert told["time"] == "6.00 s: 3000.0 ms a block, 4000 the longest"
    assert told["as registered here, 202,599 images in one batch"].startswith(
        "21 statements, each of at most 10,000"
    )


def test_a_batch_without_a_receipt_has_no_blocks() -> None:
    mined = MinedBlocks(
        zero_digits=4,
        hashes=1,
        block_seconds=(1.0,),
        processor_seconds=1.0,
        images_per_statement=1,
        searcher="made up",
    )
    assert "this run's batch" not in dict(rows(mined, statements=0, heights=()))
    assert dict(rows(mined, statements=2, heights=()))["this run's batch"].startswith("2 statements, not on")


def test_each_mined_header_meets_the_papers_zeros_and_builds_on_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    searched: list[tuple[bytes, int]] = []
    real = miner.search

    def watched(prefix: bytes, target: int, start: int, count: int) -> int | None:
        found = real(prefix, target, start, count)
        if found is not None:
            searched.append((prefix, found))
        return found

    monkeypatch.setattr(miner, "search", watched)
    mined = mine_blocks(3)
    assert len(mined.block_seconds) == len(searched) == 3
    assert mined.processor_seconds > 0
    assert mined.images_per_statement * RECORD_BYTES < 2**20
    assert mined.hashes == sum(nonce + 1 for _, nonce in searched)
    hashes = [Header.decode(prefix + nonce.to_bytes(8, "big")).hash for prefix, nonce in searched]
    assert all(found.hex().startswith("0000") for found in hashes)
    assert [Header.decode(prefix + bytes(8)).previous for prefix, _ in searched[1:]] == hashes[:-1]
