"""The demonstration, step by step: every value that it reports was observed on the way.

Owns the order of the steps and their deadlines. What it starts are the same commands and processes that people
use; what it says about the chain is what the nodes answer.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .demo_faces import (
    ChainClient,
    Registered,
    change_one_pixel,
    files_by_pixel_hash,
    write_noise,
    write_sheet,
)
from .errors import CheckFailedError, ExitCode, NotFoundError
from .output import say
from .testnet_founding import PRODUCER
from .testnet_network import NodeView, TrialNetwork, have_one_tip
from .testnet_process import clean_environment, own_command
from .testnet_record import NodeRecord

NODES: Final = 4
IMAGES: Final = 1_000
CLUSTERS: Final = 125
BLOCKS_WITHOUT: Final = 3
"""So many blocks are mined while one validator is gone."""
PRODUCE_SECONDS: Final = 240.0
AUDIT_SECONDS: Final = 60.0
AGREE_SECONDS: Final = 60.0
MINE_SECONDS: Final = 60.0
CATCH_UP_SECONDS: Final = 60.0
HASH_DIGITS: Final = 16
NOT_RUN: Final = "not-run"
EXIT_CODES: Final = {"verified": ExitCode.OK, "not-found": ExitCode.NOT_FOUND, "altered": ExitCode.FAILED}
"""What an audit's exit code must be when its JSON says this."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was observed so far; the fields are those of the JSON line."""

    nodes: int = 0
    same_tip: bool = False
    height: int = 0
    images: int = 0
    clusters: int = 0
    audit_registered: str = NOT_RUN
    audit_altered: str = NOT_RUN
    audit_unknown: str = NOT_RUN
    restarted_node_caught_up: bool = False
    seconds: float = 0.0

    def failures(self) -> list[str]:
        """Return what is not as it must be, in words."""
        wanted = {
            "nodes": NODES,
            "same_tip": True,
            "images": IMAGES,
            "clusters": CLUSTERS,
            "audit_registered": "verified",
            "audit_altered": "altered",
            "audit_unknown": "not-found",
            "restarted_node_caught_up": True,
        }
        found = asdict(self)
        return [
            f"{name} {found[name]} instead of {value}"
            for name, value in wanted.items()
            if found[name] != value
        ]


class Demonstration:
    """One run. `run` raises at the first step that fails; `end` leaves nothing behind."""

    def __init__(self, *, root: Path, sheet: Path) -> None:
        """`root` is an empty folder of its own; `sheet` is where the contact sheet goes."""
        self.root = root
        self.sheet = sheet
        self.outcome = Outcome()
        self._network: TrialNetwork | None = None
        self._batch = root / "batch"
        self._started = time.monotonic()

    @property
    def network(self) -> TrialNetwork:
        """The network; RuntimeError before the first step."""
        if self._network is None:
            raise RuntimeError("demo: expected a network, got a step before the first one")
        return self._network

    def say(self, text: str) -> None:
        """Tell on stderr how far it is."""
        say(f"[{time.monotonic() - self._started:5.1f} s] {text}")

    def run(self) -> None:
        """Take all steps."""
        self._start_network()
        self._produce()
        files = files_by_pixel_hash(self._batch)
        registered = self._agree(next(iter(files)))
        self._audit(registered, files)
        self._kill_and_restart()
        faces = write_sheet(self.sheet, registered, files)
        self.say(f"6/6 contact sheet of {faces} faces with block and hash: {self.sheet}")

    def end(self, *, keep: bool) -> None:
        """End the nodes and remove the folder, unless they are to be kept; stop the clock."""
        try:
            if keep and self._network is not None:
                say(f"left running; end it with: facechain testnet down --dir {self.network.record.root}")
                say(f"faces and pictures stay in {self.root}")
                return
            if self._network is not None:
                self.network.stop()
                self.say("all nodes ended")
            shutil.rmtree(self.root)
        finally:
            self.outcome.seconds = round(time.monotonic() - self._started, 1)

    # The steps.

    def _start_network(self) -> None:
        self.say(f"1/6 starting {NODES} nodes: a producing miner and {NODES - 1} validators")
        self._network = TrialNetwork.found(self.root / "network", count=NODES, mines=True)
        self.network.start_all()
        views = self.network.wait_connected()
        self.outcome.nodes = sum(view.status is not None for view in views)
        self.say(f"    all connected; explorer while this runs: {views[0].node.url}/")

    def _produce(self) -> None:
        miner, *_ = self.network.nodes
        self.say(f"2/6 producing {IMAGES:,} faces in {CLUSTERS} clusters with the embedded generator")
        done = self._command(
            *("produce", "--count", str(IMAGES), "--clusters", str(CLUSTERS), "--out", str(self._batch)),
            *("--key", PRODUCER, "--data-dir", str(self.network.record.wallet.root), "--api", str(miner.url)),
            *("--wait", "1", "--json"),
            seconds=PRODUCE_SECONDS,
            show=True,
        )
        if done.returncode != ExitCode.OK:
            raise CheckFailedError("facechain produce", expected="exit code 0", got=done.returncode)

    def _agree(self, face: bytes) -> Registered:
        """Wait until all nodes have the batch in the same block, and the same tip."""
        self.say("3/6 waiting until every node has the block")
        found = asyncio.run(self._registered_everywhere(face))
        registered = found[0]
        if any(other != registered for other in found):
            raise CheckFailedError("the batch", expected="one block on all nodes", got="different ones")
        views = self._wait_for_one_tip(registered.height)
        self.outcome.same_tip = have_one_tip(views)
        self.outcome.images, self.outcome.clusters = len(registered.records), registered.clusters
        self.say(
            f"    {len(registered.records):,} images in {registered.clusters} clusters are in block "
            f"{registered.height} {registered.block_hash.hex()[:HASH_DIGITS]}… of all {len(found)} nodes"
        )
        return registered

    async def _registered_everywhere(self, face: bytes) -> list[Registered]:
        return list(
            await asyncio.gather(*(_wait_for_batch(str(node.url), face) for node in self.network.nodes))
        )

    def _audit(self, registered: Registered, files: dict[bytes, Path]) -> None:
        self.say("4/6 auditing: a face by hash and by file, one with a changed pixel, one that nobody made")
        _, second, third, fourth = self.network.nodes
        face = registered.records[len(registered.records) // 2].pixel_hash
        altered, unknown = self.root / "altered.png", self.root / "unknown.png"
        width, height = change_one_pixel(files[face], altered)
        write_noise(unknown, width=width, height=height)
        by_hash = self._verdict(face.hex(), second)
        by_file = self._verdict(str(files[face]), third)
        self.outcome.audit_registered = by_hash if by_hash == by_file else f"{by_hash}, {by_file}"
        self.outcome.audit_altered = self._verdict(str(altered), fourth, original=face)
        self.outcome.audit_unknown = self._verdict(str(unknown), second)

    def _verdict(self, what: str, node: NodeRecord, *, original: bytes | None = None) -> str:
        """Run `facechain audit` against a node; its exit code, its JSON and the expected original must agree."""
        wallet = str(self.network.record.wallet.root)
        done = self._command(
            *("audit", what, "--api", str(node.url), "--data-dir", wallet, "--json"), seconds=AUDIT_SECONDS
        )
        try:
            content: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise CheckFailedError(
                f"facechain audit {what}", expected="JSON", got=done.stderr.strip() or "nothing"
            ) from None
        result, match = str(content["result"]), content["match"]
        name = Path(what).name if "/" in what else f"{what[:HASH_DIGITS]}…"
        self.say(f"    {name} at {node.name}: {result} (exit code {done.returncode})")
        self.say(f"        {content['headline']}")
        if EXIT_CODES.get(result) != done.returncode:
            return f"{result} with exit code {done.returncode}"
        if original is not None and (match is None or match["pixel_hash"] != original.hex()):
            return f"{result}, of another image"
        return result

    def _kill_and_restart(self) -> None:
        victim = self.network.nodes[-1]
        before = self._wait_for_one_tip(0)[-1]
        self.say(f"5/6 killing {victim.name} (SIGKILL) at height {_height(before)}")
        self.network.kill(victim.name)
        mark = _height(before) + BLOCKS_WITHOUT
        views = self.network.wait(
            lambda found: not found[-1].is_running and min(map(_height, found[:-1])) >= mark,
            seconds=MINE_SECONDS,
            what=f"height {mark} without {victim.name}",
        )
        self.say(f"    the others are at height {_height(views[0])}; starting it again")
        self.network.start([victim.name])
        views = self._wait_for_one_tip(mark)
        restarted = views[-1]
        self.outcome.restarted_node_caught_up = (
            have_one_tip(views)
            and _height(restarted) >= mark
            and restarted.node.process != before.node.process
        )
        self.outcome.height = _height(restarted)
        self.say(f"    it caught up: all {len(views)} nodes are at height {_height(restarted)} with one tip")

    def _wait_for_one_tip(self, height: int) -> tuple[NodeView, ...]:
        return self.network.wait(
            lambda views: have_one_tip(views) and _height(views[0]) >= height,
            seconds=CATCH_UP_SECONDS,
            what=f"one tip at height {height} or more",
        )

    def _command(
        self, *arguments: str, seconds: float, show: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of facechain; `show` passes its talk on."""
        try:
            return subprocess.run(
                own_command(*arguments),
                env=clean_environment(),
                cwd=self.root,
                stdout=subprocess.PIPE,
                stderr=None if show else subprocess.PIPE,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CheckFailedError(
                f"facechain {arguments[0]}", expected=f"an end within {seconds:g} s", got="none"
            ) from None


async def _wait_for_batch(url: str, face: bytes) -> Registered:
    """Return the batch with a face once the node at `url` has it."""
    deadline = time.monotonic() + AGREE_SECONDS
    async with ChainClient(url) as client:
        while True:
            try:
                return await client.registered(face)
            except NotFoundError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)


def _height(view: NodeView) -> int:
    """Return the height of a node's tip, -1 while it does not answer."""
    return -1 if view.status is None else view.status.height
