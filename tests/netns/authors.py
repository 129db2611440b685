"""Those who submit: each has a key and one node that it hands its statements to, one after the other.

Owns what was acknowledged. A statement that was not acknowledged is offered again, the same bytes, until it is; one that
was acknowledged is the network's to keep, and is never offered again. The one exception is a node whose disk was lost
(`offer_again`): what it alone had is gone, and a submitter's outbox is there for that.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from facechain.cli.answers import Receipt
from facechain.cli.client import NodeRefused
from facechain.cli.errors import CommandError
from facechain.consensus.kinds import Kind
from facechain.consensus.payloads import AnyPayload, Cancel
from facechain.consensus.signing import LedgerKey
from facechain.consensus.statement import BatchHeader, Statement, sign_statement
from netns.hosts import HostNode
from support.chain import make_batch

PAUSE_SECONDS: Final = (1.0, 4.0)
RETRY_SECONDS: Final = 0.5
CANCELS: Final = 0.3
"""Share of statements that are a Cancel; the others are batches of one image."""
OFFER_SECONDS: Final = 10.0


@dataclass(slots=True, kw_only=True)
class Author:
    """One who submits."""

    home: HostNode
    key: LedgerKey
    network_id: bytes
    seed: int
    acknowledged: list[Statement] = field(default_factory=list)
    """In the order of their sequence, which is their place in the list."""
    again: int = 0
    """Statements offered again after their node lost its disk."""
    answers: Counter[str] = field(default_factory=Counter)
    """How often a statement was not taken, by the answer's code."""

    async def write(self, stop: asyncio.Event) -> None:
        """Submit until told to stop."""
        source = random.Random(self.seed)
        while not stop.is_set():
            statement = self._next(source)
            if await self._deliver(statement, stop):
                self.acknowledged.append(statement)
            await _pause(stop, source.uniform(*PAUSE_SECONDS))

    async def _deliver(self, statement: Statement, stop: asyncio.Event) -> bool:
        """Offer a statement until it is acknowledged; False when told to stop before that."""
        while not stop.is_set():
            if await self._offer(statement):
                return True
            await _pause(stop, RETRY_SECONDS)
        return False

    def _next(self, source: random.Random) -> Statement:
        sequence = len(self.acknowledged)
        if source.random() < CANCELS:
            return self._sign(sequence, Cancel(note=f"number {sequence}"), Kind.CANCEL, None)
        payload, header = make_batch(1, name=f"{self.home.name} {self.seed} {sequence}")
        return self._sign(sequence, payload, Kind.IMAGE_BATCH, header)

    def _sign(self, sequence: int, payload: AnyPayload, kind: Kind, batch: BatchHeader | None) -> Statement:
        return sign_statement(
            self.key,
            self.network_id,
            payload=payload,
            kind=kind,
            sequence=sequence,
            claimed_time_ms=time.time_ns() // 1_000_000,
            batch=batch,
        )

    async def _offer(self, statement: Statement) -> bool:
        """Hand in a statement; tell whether the node acknowledged it."""
        try:
            async with self.home.client(OFFER_SECONDS) as client:
                found = await client.submit(statement)
        except NodeRefused as refusal:
            self.answers[refusal.code] += 1
            return False
        except CommandError as error:
            self.answers[type(error).__name__] += 1
            return False
        return found.receipt is not Receipt.REFUSED

    async def offer_again(self) -> None:
        """Hand in what the node does not have of all that it acknowledged, in order."""
        async with self.home.client(OFFER_SECONDS) as client:
            following = (await client.account(self.key.public)).next_sequence
        for statement in self.acknowledged[following:]:
            self.again += 1
            await self._deliver(statement, asyncio.Event())


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
