"""Keys of `Table.META` under which the chain state keeps what is not a row of its own table."""

from typing import Final

NETWORK_KEY: Final = b"network"
"""Network id."""
GENESIS_KEY: Final = b"genesis"
"""The encoded genesis."""
CHECKPOINT_KEY: Final = b"checkpoint"
"""Height u64 of the highest checkpoint that was ever in force here: it outlives a reorganisation above it."""
PRUNED_KEY: Final = b"pruned"
"""Height u64 below which bodies were dropped."""
BASE_KEY: Final = b"base"
"""Height u64 of the snapshot that the store began with: there is no undo data at or below it."""
