"""From the outbox to a node: stages first, then parts, each signed, kept, offered and followed.

Owns the order of these steps and what happens when a node refuses, forgets or is busy. A statement is written to
the outbox before it is offered. What the node knows already is not said again: neither a statement that was
offered before, nor a stage or a part that the same author has on the chain. Sequence numbers are the node's to
tell, so a statement whose number was used up meanwhile is signed anew, with everything that builds on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .answers import Receipt
from .client import NodeRefused
from .errors import CheckFailedError, CommandError, NotFoundError, RefusedError
from .objects import send_objects
from .submission import MISSING, Item, Part, SubmissionReceipt, part_header, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..consensus.params import Genesis
    from ..consensus.payloads import AnyPayload
    from ..consensus.signing import LedgerKey
    from ..consensus.statement import BatchHeader, Statement
    from ..node.batch_folder import BatchFolder
    from ..node.batch_stages import StageDraft
    from .answers import StatementStatus
    from .client_images import ImageClient
    from .outbox import Draft, Group, Outbox

POLL_SECONDS: Final = 0.25
SIGNINGS_MAX: Final = 8
"""Times that one statement is signed in a row because its sequence number was taken."""

TAKEN: Final = frozenset({"bad-sequence", "sequence-taken", "sequence-gap"})
"""Refusals that another sequence number mends."""

KEPT: Final = "the batch is kept in the outbox, run `facechain submit --resume`"

pause = asyncio.sleep
"""How time passes between two questions to a node."""

Progress = Callable[[str, int, int], None]
"""Called with (step, done, in all)."""


class Delivery:
    """One group on its way through one node."""

    def __init__(
        self,
        client: ImageClient,
        outbox: Outbox,
        group: Group,
        *,
        open_key: Callable[[], LedgerKey],
        timeout_seconds: float,
        folder: BatchFolder | None = None,
        with_objects: bool | None = None,
        on_progress: Progress = lambda *_: None,
    ) -> None:
        """`folder`: the images, when they were read already; otherwise they are read again to be uploaded.

        `with_objects`: whether to upload them; None leaves it to what was asked for at first.
        """
        self._with_objects = with_objects
        self._client = client
        self._outbox = outbox
        self._group = group
        self._open_key = open_key
        self._timeout_seconds = timeout_seconds
        self._folder = folder
        self._on_progress = on_progress
        self._key: LedgerKey | None = None
        self.receipt: SubmissionReceipt | None = None
        """What is known so far; there as soon as the node has named its network."""

    async def run(self, *, wait: int) -> SubmissionReceipt:
        """Say everything and return the receipt; with `wait`, once that many blocks confirm every part.

        Raises:
            CommandError: the node cannot be reached, refuses, or time is up; `receipt` says what is missing.
        """
        self._deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        genesis = await self._client.genesis()
        self.draft = self._join(genesis)
        self.genesis = genesis
        before = self._group.receipt()
        self._said_before = bool(before and before["complete"])
        records = self._group.records()
        self.parts = split(self.draft, records, self._group.looks(), genesis.params)
        self._stage_items = tuple(
            Item(slot=f"stage-{number:04d}", label=stage.label)
            for number, stage in enumerate(self.draft.stages)
        )
        self._part_items = tuple(
            Item(
                slot=f"part-{part.index:04d}",
                label=f"part {part.index + 1} of {len(self.parts)}",
                images=len(part.payload.records),
            )
            for part in self.parts
        )
        self._objects: dict[str, Any] = dict(before["objects"]) if before else {"sent": 0}
        self._note()
        try:
            await self._say_all()
            await self._send_objects()
            await self._wait(wait)
        finally:
            self._note()
            if self.receipt is not None:
                self._group.keep_receipt(self.receipt.to_json())
        return self._note()

    def _join(self, genesis: Genesis) -> Draft:
        """Return the draft, bound to the node's network; RefusedError when it is bound to another."""
        draft = self._group.draft()
        if draft.network is None:
            self._group.set_network(genesis.network_id)
            return self._group.draft()
        if draft.network != genesis.network_id:
            raise RefusedError(
                f"node at {self._client.api}",
                expected=f"the network of this batch, {draft.network.hex()}",
                got=f"{genesis.network_id.hex()} ({genesis.name})",
                advice="check --api and --data-dir",
            )
        return draft

    def _note(self) -> SubmissionReceipt:
        from ..consensus.statement import group_id

        self.receipt = SubmissionReceipt(
            network=self.genesis.network_id,
            author=self.draft.author,
            group=group_id(part.records_root for part in self.parts),
            images=sum(item.images for item in self._part_items),
            stages=self._stage_items,
            parts=self._part_items,
            objects=self._objects,
        )
        return self.receipt

    async def _say_all(self) -> None:
        """See that the node holds every stage and every part, in order."""
        ids: dict[str, bytes] = {}
        steps = len(self._stage_items) + len(self._part_items)
        for number, (stage, item) in enumerate(zip(self.draft.stages, self._stage_items, strict=True)):
            await self._say_stage(stage, item, ids)
            self._on_progress("submit", number + 1, steps)
        for part, item in zip(self.parts, self._part_items, strict=True):
            await self._say_part(part, item, ids)
            self._on_progress("submit", len(self._stage_items) + part.index + 1, steps)

    async def _say_stage(self, stage: StageDraft, item: Item, ids: dict[str, bytes]) -> None:
        network, author = self.genesis.network_id, self.draft.author
        payload = stage.payload(ids)
        encoded = payload.encode()
        kept = self._group.statement(item.slot)
        known = self._outbox.stage_id(network, author, encoded)
        await self._say(
            item,
            payload,
            None,
            kept=kept if kept is not None and kept.payload == encoded else None,
            others=() if known is None else (known,),
        )
        if item.id is not None:
            ids[item.label] = item.id
            if known != item.id:
                self._outbox.keep_stage(network, author, encoded, item.id)

    async def _say_part(self, part: Part, item: Item, ids: dict[str, bytes]) -> None:
        header = part_header(self.draft, self.parts, part, ids)
        kept = self._group.statement(item.slot)
        if kept is not None and kept.header.batch != header:
            kept = None
        others: Sequence[bytes] = ()
        if kept is None:
            others = await self._client.batches_by_root(self.draft.author, part.records_root)
        await self._say(item, part.payload, header, kept=kept, others=others)

    async def _say(
        self,
        item: Item,
        payload: AnyPayload,
        header: BatchHeader | None,
        *,
        kept: Statement | None,
        others: Sequence[bytes],
    ) -> None:
        """See that the node holds one statement: `kept`, one of `others`, or a new one."""
        if kept is not None and await self._is_held(item, kept.id):
            item.reused = self._said_before
            return None
        for other in others:
            if await self._is_held(item, other):
                item.reused = True
                return None
        statement = kept
        for _ in range(SIGNINGS_MAX):
            if statement is None:
                statement = await self._sign(item.slot, payload, header)
            try:
                return _update(item, await self._offer(statement))
            except NodeRefused as error:
                item.level = Receipt.REFUSED
                if error.code not in TAKEN:
                    raise
                statement = None
        raise RefusedError(
            f"{item.label}: sequence number",
            expected="one that is free",
            got="another author of this key each time",
        )

    async def _is_held(self, item: Item, statement_id: bytes) -> bool:
        try:
            status = await self._client.statement(statement_id)
        except NotFoundError:
            item.level = MISSING
            return False
        if status.receipt is Receipt.REFUSED:
            item.level = Receipt.REFUSED
            return False
        _update(item, status)
        return True

    async def _sign(self, slot: str, payload: AnyPayload, header: BatchHeader | None) -> Statement:
        """Sign with the author's next sequence number and write the statement to the outbox."""
        from ..consensus.kinds import Kind
        from ..consensus.statement import sign_statement

        if self._key is None:
            self._key = self._open_key()
        account = await self._client.account(self._key.public)
        statement = sign_statement(
            self._key,
            self.genesis.network_id,
            payload=payload,
            kind=Kind.STAGE if header is None else Kind.IMAGE_BATCH,
            sequence=account.next_sequence,
            claimed_time_ms=time.time_ns() // 1_000_000,
            batch=header,
        )
        self._group.keep_statement(slot, statement)
        return statement

    async def _offer(self, statement: Statement) -> StatementStatus:
        """Hand a statement in; wait as long as the node asks for when it is busy."""
        while True:
            try:
                return await self._client.submit(statement)
            except NodeRefused as error:
                seconds = error.retry_after_seconds
                if seconds is None or seconds > self._seconds_left():
                    raise
                await pause(seconds)

    def _seconds_left(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    async def _send_objects(self) -> None:
        draft = self.draft
        wanted = draft.with_objects if self._with_objects is None else self._with_objects
        if not draft.public or not wanted:
            self._objects = {"sent": 0, "skipped": "not asked for" if draft.public else "a private batch"}
            return
        if self._objects.get("sent") and not self._objects.get("skipped"):
            return
        self._objects = await send_objects(
            self._client, draft, self._group.records(), self._folder, self._on_progress
        )

    async def _wait(self, wait: int) -> None:
        """Follow the parts until `wait` blocks confirm each; say again what the node has forgotten."""
        while any(item.confirmations < wait for item in self._part_items):
            done = min(item.confirmations for item in self._part_items)
            self._on_progress("wait", done, wait)
            if self._seconds_left() < POLL_SECONDS:
                raise CheckFailedError(
                    "batch",
                    expected=f"{wait} confirmations within {self._timeout_seconds:g} s",
                    got=f"{done}, {self._note().level}",
                    advice="the node keeps it; run `facechain submit --resume` to follow it further",
                )
            await pause(POLL_SECONDS)
            await self._say_all()
        if wait:
            self._on_progress("wait", wait, wait)


def _update(item: Item, status: StatementStatus) -> None:
    item.id = status.id
    item.level = status.receipt
    item.height = status.height
    item.confirmations = status.confirmations


def kept_in_outbox(error: CommandError) -> CommandError:
    """Say of an error that it lost nothing."""
    error.advice = KEPT if error.advice is None else f"{error.advice}; {KEPT}"
    return error
