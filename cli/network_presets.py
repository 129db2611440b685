"""Sets of consensus parameters to found a network with, by name.

Owns the table only; a network's rules are what its genesis says, whatever preset it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..consensus.params import Params, Retarget

STANDARD: Final = "standard"

PRESETS: Final[Mapping[str, Params]] = MappingProxyType(
    {
        STANDARD: Params(),
        # The paper's difficulty: four leading zero hex digits, whoever mines and however fast.
        "paper": Params(retarget=Retarget.FIXED, fixed_digits=4, producer_share=0, producer_window=0),
        # Blocks about every second from one core; the target follows within a minute. 4,096 hashes to start.
        "test": Params(
            spacing_ms=1_000,
            half_life_ms=60_000,
            pow_limit_bits=0x1F100000,
            heartbeat_ms=900,
            future_limit_ms=7_500,
        ),
    }
)
"""Every preset passes `check_params`."""
