"""How each perturbation is done, that it really did something, and that the network recovers from it.

Owns the table from kind to action. An action returns the longest time that a recovery took in it; it raises
CheckFailedError when what it did had no effect (a partition whose sides still agree, a disk that still takes a block):
such a run would prove nothing.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from facechain.cli.errors import CheckFailedError
from facechain.node.protocol.peer_duplicates import CROSSING_SECONDS
from facechain.node.wire.handshake import PROTOCOL_VERSIONS
from netns import watch
from netns.founding import Network
from netns.hosts import ORDINARY, POLL_SECONDS, HostNode, Life
from netns.manifest import LARGE_SHIFT_SECONDS, SMALL_SHIFT_SECONDS, Kind, Perturbation
from netns.namespaces import Host
from netns.shifted_clock import write_offset

EFFECT_SECONDS: Final = 20.0
"""What is done to a node is to be seen within this time."""
CLOCK_TOLERANCE_SECONDS: Final = 2.0
RELAY_PROGRAM: Final = Path(__file__).with_name("relay.py")
RELAY_OPTIONS: Final = ("--latency-ms", "80", "--bytes-per-second", "65536", "--break-every", "5")
RELAY_END_SECONDS: Final = 10.0
OLD_VERSION: Final = PROTOCOL_VERSIONS[1] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What perturbations act on."""

    network: Network
    relay_host: Host
    scratch: Path
    old_release: Path | None
    """Where the last release with the previous wire version is, if it is at hand."""

    @property
    def nodes(self) -> tuple[HostNode, ...]:
        return self.network.nodes

    async def recovered(self) -> float:
        """See `watch.recovered`; from now on."""
        return await watch.recovered(self.nodes, since=time.monotonic())

    async def started(self, node: HostNode, life: Life = ORDINARY) -> float:
        """Start a node and return the seconds until the network had recovered, the start among them."""
        begin = time.monotonic()
        await node.start(life)
        return await watch.recovered(self.nodes, since=begin)

    async def seen(self, what: str, condition: Callable[[], Awaitable[object]]) -> None:
        """Wait until `condition` holds; CheckFailedError when it does not in time."""
        deadline = time.monotonic() + EFFECT_SECONDS
        while not await condition():
            if time.monotonic() > deadline:
                raise CheckFailedError(
                    "perturbation", expected=f"{what} within {EFFECT_SECONDS:g} s", got="no such effect"
                )
            await asyncio.sleep(POLL_SECONDS)


async def perturb(world: World, item: Perturbation) -> float:
    """Do it and return the seconds that the slowest recovery in it took."""
    return await ACTIONS[item.kind](world, item, world.nodes[item.target])


async def _kill(world: World, item: Perturbation, node: HostNode) -> float:
    await node.kill()
    await asyncio.sleep(item.hold_seconds)
    return await world.started(node)


async def _freeze(world: World, item: Perturbation, node: HostNode) -> float:
    node.signal(signal.SIGSTOP)
    await asyncio.sleep(item.hold_seconds)
    if await node.status() is not None:
        raise CheckFailedError(node.name, expected="silence while it is stopped", got="an answer")
    node.signal(signal.SIGCONT)
    return await world.recovered()


async def _partition(world: World, item: Perturbation, _: HostNode) -> float:
    near = [world.nodes[number] for number in item.side]
    far = [node for node in world.nodes if node not in near]
    for side, others in ((near, far), (far, near)):
        for node in side:
            node.host.shut_out([other.host.address for other in others], silently=item.silently)
    try:
        await asyncio.sleep(item.hold_seconds)

        async def are_apart() -> bool:
            both = watch.tips(await watch.look(near)), watch.tips(await watch.look(far))
            return not both[0] & both[1]

        await world.seen("different tips on the two sides", are_apart)
    finally:
        for node in world.nodes:
            node.host.let_in()
    return await world.recovered()


async def _empty_store(world: World, item: Perturbation, node: HostNode) -> float:
    identity = await _identity(node)
    await node.kill()
    node.empty_store()
    await asyncio.sleep(item.hold_seconds)
    seconds = await world.started(node)
    if await _identity(node) != identity:
        raise CheckFailedError(node.name, expected="its old identity", got="another one")
    await world.network.authors[item.target].offer_again()
    return seconds


async def _identity(node: HostNode) -> Any:
    status = await node.status()
    return None if status is None else status.content["node_key"]


async def _old_wire(world: World, item: Perturbation, node: HostNode) -> float:
    return await _upgrade(world, item, node, Life(wire_version=OLD_VERSION))


async def _old_release(world: World, item: Perturbation, node: HostNode) -> float:
    if world.old_release is None:
        raise CheckFailedError("old release", expected="its files", got="none")
    await node.stop()
    node.empty_store()  # one that the old release makes, as a store that has once been upgraded need not be for it
    return await _upgrade(world, item, node, Life(code=world.old_release))


async def _upgrade(world: World, item: Perturbation, node: HostNode, before: Life) -> float:
    """Live for a while in the old way, keeping up, then be started in the ordinary one."""
    slowest = 0.0
    for life, version in ((before, OLD_VERSION), (ORDINARY, PROTOCOL_VERSIONS[1])):
        if node.runs():
            await node.stop()
        slowest = max(slowest, await world.started(node, life))
        await world.network.authors[item.target].offer_again()
        spoken = await node.spoken_version(world.network.network_id)
        if spoken != version:
            raise CheckFailedError(node.name, expected=f"wire version {version}", got=str(spoken))
        await asyncio.sleep(item.hold_seconds)
    return slowest


async def _disk_full(world: World, item: Perturbation, node: HostNode) -> float:
    async def fails() -> bool:
        node.fill_disk()
        status = await node.status()
        return status is not None and status.content["store"]["state"] == "failing"

    try:
        await world.seen(f"{node.name} says that its store fails", fails)
        await asyncio.sleep(item.hold_seconds)
    finally:
        node.free_disk()
    return await world.recovered()


async def _clock_off(world: World, item: Perturbation, node: HostNode) -> float:
    return await _shifted(world, item, node, SMALL_SHIFT_SECONDS if item.ahead else -SMALL_SHIFT_SECONDS)


async def _clock_wrong(world: World, item: Perturbation, node: HostNode) -> float:
    ahead = item.ahead and not node.mines  # see _miner_ahead
    return await _shifted(world, item, node, LARGE_SHIFT_SECONDS if ahead else -LARGE_SHIFT_SECONDS)


async def _shifted(world: World, item: Perturbation, node: HostNode, seconds: int) -> float:
    """Start it with a clock that is off, and set the clock right while it runs."""
    file = world.scratch / f"{node.name}.clock"
    write_offset(file, 1_000 * seconds)
    await node.stop()
    slowest = 0.0
    if 1_000 * abs(seconds) < world.network.future_limit_ms:
        slowest = await world.started(node, Life(clock=file))
    else:
        await node.start(Life(clock=file))
    await asyncio.sleep(item.hold_seconds)
    await world.seen(f"the clock of {node.name} is off by {seconds} s", lambda: _is_off(node, seconds))
    write_offset(file, 0)
    await world.seen(f"the clock of {node.name} is right", lambda: _is_off(node, 0))
    return max(slowest, await world.recovered())


async def _is_off(node: HostNode, seconds: int) -> bool:
    status = await node.status()
    if status is None:
        return False
    off = int(status.content["now_ms"]) / 1_000 - time.time()
    return abs(off - seconds) < CLOCK_TOLERANCE_SECONDS


async def _miner_ahead(world: World, item: Perturbation, node: HostNode) -> float:
    """Let a miner make blocks that nobody else can take yet; the others go on without it, and nobody is to blame."""
    others = [other for other in world.nodes if other is not node]
    limit_ms = world.network.future_limit_ms

    async def is_alone() -> bool:
        status = await node.status()
        if status is None or int(status.content["tip_time_ms"]) - 1_000 * time.time() <= limit_ms:
            return False
        return status.tip not in watch.tips(await watch.look(others))

    file = world.scratch / f"{node.name}.clock"
    write_offset(file, 1_000 * LARGE_SHIFT_SECONDS)
    await node.stop()
    await node.start(Life(clock=file))
    await world.seen(
        f"the clock of {node.name} is {LARGE_SHIFT_SECONDS} s ahead",
        lambda: _is_off(node, LARGE_SHIFT_SECONDS),
    )
    await world.seen(f"{node.name} has a block of its own that is too far ahead", is_alone)
    without = await watch.recovered(others, since=time.monotonic())
    await asyncio.sleep(item.hold_seconds)
    write_offset(file, 0)
    await world.seen(f"the clock of {node.name} is right", lambda: _is_off(node, 0))
    return max(without, await world.recovered())


async def _slow_link(world: World, item: Perturbation, node: HostNode) -> float:
    await asyncio.sleep(
        CROSSING_SECONDS
    )  # so that no connection is so young that a second one seems to cross it
    relay = _start_relay(world.relay_host, world.nodes[item.helper].peer)
    others = [other.host.address for other in world.nodes if other is not node]
    try:
        port = "" if relay.stderr is None else await asyncio.to_thread(relay.stderr.readline)
        if not port.strip().isdigit():
            raise CheckFailedError("relay", expected="its port", got=port)
        via = f"{world.relay_host.address}:{port.strip()}"
        node.host.shut_out(others, silently=item.silently)
        async with node.admin() as client:
            await client.call("POST", "/v1/peers", content={"peer": via})
        await world.seen(f"{node.name} is connected by the relay", lambda: _is_connected(node, via))
        slowest = await world.recovered()
        await asyncio.sleep(item.hold_seconds)
        slowest = max(slowest, await world.recovered())
        async with node.admin() as client:
            await client.call("DELETE", "/v1/peers", query={"peer": via})
    finally:
        node.host.let_in()
        relay.terminate()
        output, _ = await asyncio.to_thread(relay.communicate, None, RELAY_END_SECONDS)
    counts = json.loads(output)
    if not (counts["broken"] and counts["passed_bytes"]):
        raise CheckFailedError("relay", expected="bytes passed on and connections broken", got=str(counts))
    return max(slowest, await world.recovered())


def _start_relay(host: Host, target: str) -> subprocess.Popen[str]:
    """Start a relay at a port of its own: an address that led to another node before would be taken for that one."""
    listen = f"{host.address}:0"
    command = [sys.executable, str(RELAY_PROGRAM), "--listen", listen, "--to", target, *RELAY_OPTIONS]
    return subprocess.Popen(host.inside(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def _is_connected(node: HostNode, peer: str) -> bool:
    """Tell whether a connection to the address is open.

    Connections that silent filters hold up stay in the list until they time out; nothing passes on them.
    """
    async with node.client() as client:
        return peer in [item["address"] for item in (await client.get("/v1/peers"))["peers"]]


ACTIONS: Final[Mapping[Kind, Callable[[World, Perturbation, HostNode], Awaitable[float]]]] = {
    Kind.KILL: _kill,
    Kind.FREEZE: _freeze,
    Kind.PARTITION: _partition,
    Kind.EMPTY_STORE: _empty_store,
    Kind.OLD_WIRE: _old_wire,
    Kind.OLD_RELEASE: _old_release,
    Kind.DISK_FULL: _disk_full,
    Kind.CLOCK_OFF: _clock_off,
    Kind.CLOCK_WRONG: _clock_wrong,
    Kind.MINER_AHEAD: _miner_ahead,
    Kind.SLOW_LINK: _slow_link,
}
