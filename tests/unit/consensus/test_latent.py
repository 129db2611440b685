"""Latents: a function of (seed, index) alone, approximately standard normal, exact in binary32."""

from __future__ import annotations

import hashlib
import struct
import sys

import numpy as np
import pytest

from facechain.consensus.latent import MAX_INDEX, OFFSET, SCALE, latent_integers, latent_stream
from support.chain import seed

SEED = seed("latents")


def test_equals_the_definition_word_by_word() -> None:
    digest = hashlib.shake_256(b"facechain/latent/v1" + SEED + b"\x00\x00\x01\x02").digest(24 * 5)
    words = struct.unpack(">60H", digest)
    expected = [sum(words[12 * k : 12 * k + 12]) - 393_210 for k in range(5)]
    assert latent_integers(SEED, 0x102, 5).tolist() == expected
    assert latent_stream(SEED, 0x102, 5) == digest
    assert OFFSET == 393_210


def test_shorter_vector_is_a_prefix_of_a_longer_one() -> None:
    assert latent_integers(SEED, 3, 128)[:100] == latent_integers(SEED, 3, 100)


def test_machine_byte_order_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = latent_stream(SEED, 9, 64)
    native = latent_integers(SEED, 9, 64)
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    swapped = b"".join(stream[at + 1 : at + 2] + stream[at : at + 1] for at in range(0, len(stream), 2))
    monkeypatch.setattr("facechain.consensus.latent.latent_stream", lambda *_: swapped)
    assert latent_integers(SEED, 9, 64) == native


def test_indices_and_seeds_are_independent() -> None:
    drawn = {tuple(latent_integers(SEED, index, 8)) for index in range(200)}
    drawn |= {tuple(latent_integers(seed("others"), index, 8)) for index in range(200)}
    assert len(drawn) == 400


def test_values_are_standard_normal_and_exact_in_binary32() -> None:
    integers = np.array([latent_integers(SEED, index, 100) for index in range(500)])
    values = integers.astype(np.float32) / np.float32(SCALE)
    assert np.array_equal(values.astype(np.float64) * SCALE, integers)
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1) < 0.01
    assert float(np.abs(values).max()) <= 6


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((bytes(31), 0, 8), "seed: expected 32 bytes, got 31"),
        ((bytes(32), -1, 8), "generator index: expected 0 to"),
        ((bytes(32), MAX_INDEX + 1, 8), "generator index: expected 0 to"),
        ((bytes(32), 0, 0), "latent dimension: expected at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(arguments: tuple[bytes, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latent_integers(*arguments)
