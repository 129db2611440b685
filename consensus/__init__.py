"""The rules every node must agree on, byte for byte.

Owns data structures, encodings, proofs, validity rules, chain state and fork choice. Refuses to do
input or output: no clock, no randomness, no network, no database; `now` and entropy are arguments.
"""
