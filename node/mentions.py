"""What is said on the chain about a batch or a model: retractions, attestations, measurements.

Owns which of these statements are told when there are more than anybody wants to read: each author has a share,
and of the statements in a share the oldest are told. What stands cannot be pushed out by what is said later, and
whoever says bad things of a model cannot be drowned by the same author's next ones. It judges none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final

from ..consensus.kinds import Kind
from ..consensus.payloads import Attestation, Retract, Stage
from ..consensus.statement import ABSENT, Statement
from ..consensus.story import MEASUREMENTS
from .chain_index import ChainReader, Place

RETRACTIONS_TOLD: Final = 4
"""Of one target, one of each author. Nobody but the target's author and administrators can withdraw anything."""

ATTESTATIONS_TOLD: Final = 8
"""Of one record by others than the batch's author, one of each."""

MEASUREMENTS_EACH: Final = 3
"""Of one model by one author, for each type of stage."""

STRANGERS_MEASUREMENTS_TOLD: Final = 16
"""Of one model, by others than its author, together."""

BLOCKS_OPENED_MAX: Final = 1_024
"""Blocks that one search for attestations or measurements opens, from the oldest on."""

Mention = tuple[Place, Statement]


class Mentions:
    """Searches in one snapshot of the active chain; the block opened last is kept, since mentions come together."""

    def __init__(self, chain: ChainReader) -> None:
        """Read through `chain`, whose reader must stay open."""
        self._chain = chain
        self._height = -1
        self._statements: tuple[Statement | None, ...] = ()

    def retractions(self, target: bytes, record: int | None = None) -> tuple[Mention, ...]:
        """Return who withdrew a statement, or one record of a batch; all blocks are searched."""
        found: dict[bytes, Mention] = {}
        for place, statement in self._naming(target, Kind.RETRACT, blocks_max=None):
            payload = statement.decode_payload()
            if isinstance(payload, Retract) and payload.record == record:
                found.setdefault(statement.author, (place, statement))
            if len(found) == RETRACTIONS_TOLD:
                break
        return tuple(found.values())

    def attestations(self, batch: Statement, record: int, pixel_hash: bytes) -> tuple[Mention, ...]:
        """Return who attests one record with these pixels; the batch's own author comes last."""
        found: dict[bytes, Mention] = {}
        own: dict[bytes, Mention] = {}
        for place, statement in self._naming(batch.id, Kind.ATTESTATION, blocks_max=BLOCKS_OPENED_MAX):
            payload = statement.decode_payload()
            if not isinstance(payload, Attestation) or (payload.record, payload.pixel_hash) != (
                record,
                pixel_hash,
            ):
                continue
            (own if statement.author == batch.author else found).setdefault(
                statement.author, (place, statement)
            )
            if own and len(found) >= ATTESTATIONS_TOLD:
                break
        return (*islice(found.values(), ATTESTATIONS_TOLD), *own.values())

    def measurements(self, model: bytes, author: bytes) -> tuple[tuple[Mention, ...], tuple[Mention, ...]]:
        """Return what the model's author measured of it, and what others did."""
        own: list[Mention] = []
        others: list[Mention] = []
        shares: Counter[tuple[bytes, int]] = Counter()
        search = () if model == ABSENT else self._naming(model, Kind.STAGE, blocks_max=BLOCKS_OPENED_MAX)
        for place, statement in search:
            payload = statement.decode_payload()
            if not isinstance(payload, Stage) or payload.stage_type not in MEASUREMENTS:
                continue
            share = (statement.author, int(payload.stage_type))
            is_own = statement.author == author
            if shares[share] >= MEASUREMENTS_EACH or not (
                is_own or len(others) < STRANGERS_MEASUREMENTS_TOLD
            ):
                continue
            shares[share] += 1
            (own if is_own else others).append((place, statement))
        return tuple(own), tuple(others)

    def _naming(self, target: bytes, kind: Kind, *, blocks_max: int | None) -> Iterator[Mention]:
        opened = 0
        for place in self._chain.naming(target, kind):
            if place.height != self._height:
                if opened == blocks_max:
                    return
                opened += 1
                self._height, self._statements = place.height, self._chain.statements_at(place.height)
            statement = self._statements[place.index] if place.index < len(self._statements) else None
            if statement is not None:
                yield place, statement
