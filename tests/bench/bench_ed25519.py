"""Cost of verifying signatures with both libraries, side by side; prints one JSON line.

Each round times every way once, in turn, so that a busy machine is busy for all of them; the figures are medians over
the rounds, in processor time. `two_threads` is the throughput of two threads against that of one, in wall time: 2 is
what two idle cores could give. `holds_lock` is how much of one long call another thread stood still for: near 1 when
the library keeps the interpreter's lock.
`connect` is what a statement of a full block costs in all (decoding and every rule), with either library.

Run: PYTHONPATH=.layout:tests python tests/bench/bench_ed25519.py [SIGNATURES]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Thread

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from facechain.consensus import ed25519
from facechain.consensus.block import Body
from facechain.consensus.payloads import Cancel
from facechain.consensus.validation import check_body, connect_block
from support.chain import SUBMITTER, ChainBuilder, keys, seed

ROUNDS = 15
STATEMENTS = 200
LONG_BYTES = 1 << 25
KEYS = 8
"""Few keys sign most of a chain."""

Case = tuple[bytes, bytes, bytes]


def _cases(count: int) -> list[Case]:
    """Return (public key, signature, message of the size that statements sign)."""
    signers = keys(KEYS)
    made = []
    for number in range(count):
        signer = signers[number % KEYS]
        message = b"facechain/statement/v1" + bytes(32) + seed(f"bench {number}")
        made.append((signer.public, signer.private_key.sign(message), message))
    return made


@cache
def _cached_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


@cache
def _cached_verify_key(public: bytes) -> VerifyKey:
    return VerifyKey(public)


def _byte_checks(public: bytes, signature: bytes, message: bytes) -> None:
    # A refused S, so that everything before the library runs, and nothing after.
    ed25519.verify(public, signature[:32] + b"\xff" * 32, message)


WAYS: dict[str, Callable[[bytes, bytes, bytes], object]] = {
    "cryptography": lambda key, signature, message: Ed25519PublicKey.from_public_bytes(key).verify(
        signature, message
    ),
    "cryptography, kept key": lambda key, signature, message: _cached_key(key).verify(signature, message),
    "PyNaCl, crypto_sign_open": lambda key, signature, message: crypto_sign_open(signature + message, key),
    "PyNaCl, VerifyKey": lambda key, signature, message: VerifyKey(key).verify(message, signature),
    "PyNaCl, kept VerifyKey": lambda key, signature, message: _cached_verify_key(key).verify(
        message, signature
    ),
    "byte checks alone": _byte_checks,
    "ours": ed25519.verify,
}


def _run(way: Callable[[bytes, bytes, bytes], object], cases: Iterable[Case]) -> None:
    for public, signature, message in cases:
        way(public, signature, message)


def _seconds(
    way: Callable[[bytes, bytes, bytes], object],
    cases: list[Case],
    clock: Callable[[], float] = time.thread_time,
) -> float:
    start = clock()
    _run(way, cases)
    return clock() - start


def _seconds_of_two(
    way: Callable[[bytes, bytes, bytes], object], cases: list[Case], pool: ThreadPoolExecutor
) -> float:
    start = time.perf_counter()
    list(pool.map(lambda part: _run(way, part), (cases, cases)))
    return time.perf_counter() - start


def _held_share(way: Callable[[bytes, bytes, bytes], object]) -> float:
    """Return the share of a call over `LONG_BYTES` for which this thread did not get on."""
    signer = keys(1)[0]
    message = bytes(LONG_BYTES)
    signature = signer.private_key.sign(message)
    times: list[float] = []

    def call() -> None:
        times.append(time.perf_counter())
        way(signer.public, signature, message)
        times.append(time.perf_counter())

    thread = Thread(target=call)
    longest, last = 0.0, time.perf_counter()
    thread.start()
    while thread.is_alive():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    return longest / (times[1] - times[0])


def _open_with_cryptography(signed: bytes, public: bytes) -> bytes:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed[:64], signed[64:])
    except InvalidSignature:
        raise BadSignatureError from None
    return signed[64:]


class _FullBlock:
    """A block of `STATEMENTS` small statements, connected again and again."""

    def __init__(self) -> None:
        self.chain = ChainBuilder()
        self.parent = self.chain.tip
        self.block = self.chain.mine(
            [self.chain.statement(SUBMITTER, Cancel(note="bench")) for _ in range(STATEMENTS)]
        )
        self.body = self.block.body.encode()

    def connect(self) -> float:
        """Return the seconds for decoding and checking the block."""
        chain, header = self.chain, self.block.header
        start = time.thread_time()
        body = Body.decode(self.body, max_bytes=len(self.body))
        check_body(header, body, chain.params, parent_time_ms=self.parent.header.time_ms)
        connect_block(chain.state(self.parent), header, body, chain.params, chain.network_id)
        return time.thread_time() - start


def _connect_figures() -> dict[str, float]:
    block = _FullBlock()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(block.connect())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ed25519, "crypto_sign_open", _open_with_cryptography)
            theirs.append(block.connect())
    ratio = statistics.median(their / our for their, our in zip(theirs, ours, strict=True))
    return {
        "us_per_statement": round(statistics.median(ours) / STATEMENTS * 1e6, 1),
        "cryptography_us_per_statement": round(statistics.median(theirs) / STATEMENTS * 1e6, 1),
        "cryptography_against_ours": round(ratio, 2),
    }


def main(signatures: int) -> None:
    cases = _cases(signatures)
    alone: dict[str, list[float]] = {name: [] for name in WAYS}
    speedup: dict[str, list[float]] = {name: [] for name in WAYS}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                alone[name].append(_seconds(way, cases))
                one = _seconds(way, cases, time.perf_counter)
                speedup[name].append(2 * one / _seconds_of_two(way, cases, pool))
    figures = {
        name: {
            "us": round(statistics.median(alone[name]) / signatures * 1e6, 1),
            "against_ours": round(
                statistics.median(
                    theirs / ours for theirs, ours in zip(alone[name], alone["ours"], strict=True)
                ),
                2,
            ),
            "two_threads": round(statistics.median(speedup[name]), 2),
            "holds_lock": round(statistics.median(_held_share(way) for _ in range(3)), 2),
        }
        for name, way in WAYS.items()
    }
    result = {
        "bench": "ed25519",
        "signatures": signatures,
        "rounds": ROUNDS,
        "openssl": backend.openssl_version_text(),
        "ways": figures,
        "connect": _connect_figures(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
