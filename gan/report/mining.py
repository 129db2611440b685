"""What a measured search for blocks says about the paper's hour and fourteen minutes. The search itself is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PAPER_IMAGES: Final = 202_599
PAPER_SECONDS: Final = 74 * 60
PAPER_ZERO_DIGITS: Final = 4
HEX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedBlocks:
    """A chain of headers that was mined for the page, and who mined it."""

    zero_digits: int
    """Leading zero hex digits that each hash was to have."""
    hashes: int
    """Tried in all."""
    block_seconds: tuple[float, ...]
    """Of each block, in order, by the clock."""
    processor_seconds: float
    """That the search took in all: what other programs do meanwhile does not count."""
    images_per_statement: int
    """That a batch statement of this project registers at most."""
    searcher: str
    """What searched, and on how many cores."""

    @property
    def seconds(self) -> float:
        """In all."""
        return sum(self.block_seconds)

    @property
    def hashes_per_second(self) -> float:
        """Of processor time, over the whole search."""
        return self.hashes / max(self.processor_seconds, 1e-9)


def rows(mined: MinedBlocks, *, statements: int, heights: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Name and text of each line of the page's table.

    Args:
        mined: the search.
        statements: of the batch, its stages included; 0 without one.
        heights: blocks in which the receipt places them.
    """
    rate = mined.hashes_per_second
    expected = HEX**mined.zero_digits
    paper_hashes = PAPER_IMAGES * HEX**PAPER_ZERO_DIGITS
    slowest = max(mined.block_seconds) * 1000
    found = [
        ("search", mined.searcher),
        ("difficulty", f"{mined.zero_digits} leading zero hex digits: {expected:,} hashes expected a block"),
        ("blocks mined for this page", f"{len(mined.block_seconds)}, each on the one before"),
        ("hashes", f"{mined.hashes:,}: {mined.hashes / len(mined.block_seconds):,.0f} a block"),
        (
            "time",
            f"{mined.seconds:.2f} s: {mined.seconds * 1000 / len(mined.block_seconds):.1f} ms a block, {slowest:.0f} the longest",
        ),
        ("hash rate", f"{rate / 1e6:.2f} million a second of processor time"),
    ]
    if statements:
        where = f", sealed in {_heights(heights)}" if heights else ", not on a chain yet"
        found.append(("this run's batch", f"{statements} statements{where}"))
    found += [
        (
            "as the paper mines, a block for each of 202,599 images",
            f"{paper_hashes:.3g} hashes: {_duration(paper_hashes / rate)} at the rate above",
        ),
        (
            "as registered here, 202,599 images in one batch",
            f"{-(-PAPER_IMAGES // mined.images_per_statement)} statements, each of at most {mined.images_per_statement:,} images",
        ),
        (
            "what 1 h 14 min would take",
            f"{paper_hashes / PAPER_SECONDS / 1e6:.2f} million hashes a second; the text also says that a subset was mined",
        ),
    ]
    return tuple(found)


def _heights(heights: Sequence[int]) -> str:
    known = sorted(set(heights))
    if len(known) == 1:
        return f"block {known[0]}"
    return f"{len(known)} blocks, {known[0]} to {known[-1]}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
