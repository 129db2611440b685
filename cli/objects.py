"""The images of a public batch, handed to the node so that its explorer has something to show.

Owns the upload. It is a courtesy: what a node does not take is said in the receipt and fails nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import CommandError

if TYPE_CHECKING:
    from ..consensus.records import Records
    from ..node.batch_folder import BatchFolder
    from .client_images import ImageClient
    from .outbox import Draft

UPLOADS_AT_ONCE: Final = 8

Progress = Callable[[str, int, int], None]


async def send_objects(
    client: ImageClient,
    draft: Draft,
    records: Records,
    folder: BatchFolder | None,
    on_progress: Progress,
) -> dict[str, Any]:
    """Upload every image once; return `sent`, and `skipped` with the reason when not all were taken."""
    from ..node.batch_folder import read_batch, read_objects
    from ..node.batch_source import BatchRejected

    total = len({record.file_hash for record in records})
    upload = _Upload(client, total, on_progress)
    try:
        if folder is None:
            folder = await asyncio.to_thread(read_batch, Path(draft.path))
        if folder.records != records:
            return {"sent": 0, "skipped": f"{draft.path} holds another batch now"}
        await upload.run(read_objects(folder))
    except BatchRejected as error:
        upload.refusal = error.diagnostics()
    except CommandError as error:
        upload.refusal = error.diagnostics()
    return (
        {"sent": upload.sent} if upload.refusal is None else {"sent": upload.sent, "skipped": upload.refusal}
    )


class _Upload:
    """Uploads from one iterator, several at a time, until one is refused."""

    def __init__(self, client: ImageClient, total: int, on_progress: Progress) -> None:
        self.client = client
        self.total = total
        self.on_progress = on_progress
        self.sent = 0
        self.refusal: str | None = None

    async def run(self, objects: Iterator[tuple[bytes, bytes]]) -> None:
        """Send everything; raises what reading the images raises."""
        workers = [asyncio.create_task(self._work(objects)) for _ in range(UPLOADS_AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, objects: Iterator[tuple[bytes, bytes]]) -> None:
        while self.refusal is None:
            item = next(objects, None)
            if item is None:
                return
            try:
                await self.client.put_object(*item)
            except CommandError as error:
                self.refusal = error.diagnostics()
                return
            self.sent += 1
            self.on_progress("images", self.sent, self.total)
