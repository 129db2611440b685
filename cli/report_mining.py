"""Mines a few headers for a report, with the miner's own search: what a block costs on this machine, now."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..gan.report.mining import MinedBlocks

CHUNK = 2**20
"""Nonces of one call; the search stops at the first hit."""
SEARCHER = "facechain.node.mining.search on one core"


def mine_blocks(count: int) -> "MinedBlocks":
    """Mine `count` headers, each on the one before, at the paper's four zeros. Bodies are empty and nothing is sealed."""
    from ..consensus.block import HEADER_VERSION, Header
    from ..consensus.params import Params
    from ..consensus.work import target_to_bits
    from ..gan.report.mining import HEX, PAPER_ZERO_DIGITS, MinedBlocks
    from .submission import records_per_part

    target = HEX ** (64 - PAPER_ZERO_DIGITS)
    previous, hashes, seconds, processor = bytes(32), 0, [], time.process_time()
    for height in range(count):
        header = Header(
            version=HEADER_VERSION,
            height=height,
            previous=previous,
            body_root=bytes(32),
            state_root=bytes(32),
            time_ms=height,
            bits=target_to_bits(target),
            producer=bytes(32),
            nonce=0,
        )
        started = time.perf_counter()
        nonce = _find(header.midstate_prefix(), target)
        seconds.append(time.perf_counter() - started)
        hashes += nonce + 1
        previous = header.with_nonce(nonce).hash
    return MinedBlocks(
        zero_digits=PAPER_ZERO_DIGITS,
        hashes=hashes,
        block_seconds=tuple(seconds),
        processor_seconds=time.process_time() - processor,
        images_per_statement=records_per_part(Params(), public=True),
        searcher=SEARCHER,
    )


def _find(prefix: bytes, target: int) -> int:
    from ..node.mining.search import search

    start = 0
    while True:
        nonce = search(prefix, target, start, CHUNK)
        if nonce is not None:
            return nonce
        start += CHUNK
