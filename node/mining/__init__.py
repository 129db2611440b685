"""The miner: a search for nonces, processes that run it, and the loop that turns templates into blocks."""
