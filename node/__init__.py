"""A peer: store, mempool, miner, transport, sync, HTTP API and explorer pages.

Owns everything that touches disk, clock and network around the rules of `facechain.consensus`.
Refuses to know how faces are made: it never imports `facechain.gan`, so a validator runs without torch.
"""
