"""The table of attacks, and the rows of the limits table that no attack can be about.

Owns names. An attack is an async function of the arena; it says what it saw, the runner says whether the node stood it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hostile.arena import Arena

IGNORED: Final = "ignored"
"""The reason where the rule is to pass over: an honest peer may do it too."""
HELD: Final = "held"
"""The reason where a limit of this node's own is to hold, whoever asks for more."""

MODULES: Final = (
    "handshake",
    "frames",
    "sizes",
    "traffic",
    "headers",
    "blocks",
    "statements",
    "equivocation",
    "addresses",
    "places",
    "clocks",
    "http",
    "queues",
    "long_chains",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an attack came to."""

    reason: str
    """The reason with which the offender was sent away, `IGNORED` or `HELD`; "" when nothing happened to it."""
    damage: str = ""
    """What the attack achieved."""
    is_broken: bool = False
    """Whether the attack itself failed, so that nothing is known."""


Strike = Callable[["Arena"], Awaitable[Seen]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One row."""

    name: str
    strike: Strike
    about: str
    covers: tuple[str, ...]
    """Rows of the limits table."""
    expects: str
    bans: bool
    """Whether the offender's key has to be on the ban list."""
    scaled: bool
    """Whether it runs against a node with shorter times and smaller memories (`defences.SCALED`)."""
    without: str
    """The defence (`defences.DEFENCES`) that is taken out to see the attack succeed."""
    slows: bool
    """Whether slow answers are what it is after."""
    is_long: bool
    """Whether it needs a chain that is longer than one message of headers (`arena.LONG_BLOCKS`)."""


ATTACKS: Final[dict[str, Attack]] = {}


def attack(
    *,
    expects: str,
    covers: tuple[str, ...] = (),
    bans: bool = False,
    scaled: bool = False,
    without: str,
    slows: bool = False,
    is_long: bool = False,
) -> Callable[[Strike], Strike]:
    """Register an attack under its function's name; the first line of its text is what it is about."""

    def register(strike: Strike) -> Strike:
        name = str(getattr(strike, "__name__", "")).replace("_", "-")
        if name in ATTACKS:
            raise ValueError(f"attack: expected a new name, got {name} again")
        ATTACKS[name] = Attack(
            name=name,
            strike=strike,
            about=(strike.__doc__ or "").strip().splitlines()[0],
            covers=covers,
            expects=expects,
            bans=bans,
            scaled=scaled,
            without=without,
            slows=slows,
            is_long=is_long,
        )
        return strike

    return register


def load() -> dict[str, Attack]:
    """Return all attacks, by name."""
    for module in MODULES:
        import_module(f"hostile.attacks.{module}")
    return ATTACKS


NO_ATTACK: Final[dict[str, str]] = {
    "block-relay": "whom the node dials for blocks alone; a peer can only wait for it (test_peer_outbound.py)",
    "anchors": "what the node tries first after a restart; a peer can neither see nor change it (test_peer_book.py)",
    "feeler": "the node's own pace of tests; no message changes it",
    "outbound-per-group": "counts public networks, of which loopback has none (test_peer_outbound.py, simulator)",
    "tried-buckets": "takes addresses in hundreds of public networks that answer (test_peer_book.py, properties)",
    "group-buckets": "takes many addresses of one public network that answer (test_peer_book.py, properties)",
    "tests": "takes two tried addresses of public networks on one place (test_peer_book.py)",
    "scored-peers": "no port shows the scores; what is remembered is counted in test_limits_in_use.py",
    "chunk": "how full this node makes its own answers; a peer can only ask",
    "pace": "how fast this node itself sends; a peer cannot raise it",
    "protected-group": "all of loopback's addresses are groups of their own and equal (test_peer_eviction.py)",
    "protected-ping": "all peers of one machine are equally near (test_peer_eviction.py)",
    "offence": "an hour; no port moves the node's clock (test_limits_in_use.py)",
}
"""Rows without an attack, and why."""
