"""The secret of a private run: who is in which step, and the noise, as functions of (secret, step).

Differential privacy holds against those who do not know this randomness, so it comes from a key that the
operating system draws, never from the public seed, and never goes into a checkpoint. Repeating a step
after a kill repeats its draws, so it spends nothing anew. The key is removed when the run is over.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray
from torch import Tensor

FOLDER = "secret"
KEY_FILE = "noise.key"
SALT_FILE = "dataset.salt"
KEY_BYTES = 32
SUMMED = 4
"""Gaussians per value of noise: what is known of the rounding of one tells too much (arXiv 2107.10138)."""
UNIT_BITS = 53
_NONCE = bytes(16)
_COMMITMENT = b"facechain/dataset-commitment/v1"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Secret:
    """A 32-byte key and what is drawn from it."""

    key: bytes

    def words(self, purpose: str, step: int, count: int) -> NDArray[np.uint64]:
        """(count,) uniform 64-bit words of one purpose and step."""
        derived = hmac.digest(self.key, f"facechain/private/{purpose}/{step}".encode(), "sha256")
        stream = Cipher(ChaCha20(derived, _NONCE), mode=None).encryptor().update(bytes(8 * count))
        return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)

    def sample(self, step: int, *, records: int, rate: float) -> NDArray[np.int64]:
        """Numbers of the records in a step, each with probability `rate` on its own, ascending."""
        threshold = np.uint64(min(int(rate * 2.0**64), 2**64 - 1))
        return np.flatnonzero(self.words("sample", step, records) < threshold)

    def noise(self, step: int, count: int) -> Tensor:
        """(count,) float64 standard normal values."""
        half = -(-count // 2)
        words = self.words("noise", step, 2 * SUMMED * half) >> np.uint64(64 - UNIT_BITS)
        units = (torch.from_numpy(words.astype(np.float64)) + 0.5).mul_(2.0**-UNIT_BITS)
        radius, angle = units.view(2, SUMMED, half)
        radius = radius.log().mul_(-2.0).sqrt_()
        angle = angle * (2.0 * torch.pi)
        both = torch.cat([(radius * angle.cos()).sum(0), (radius * angle.sin()).sum(0)])
        values: Tensor = both[:count] / SUMMED**0.5
        return values

    @property
    def fingerprint(self) -> str:
        """Tells one key from another and nothing about it."""
        return hmac.digest(self.key, b"facechain/private/fingerprint", "sha256").hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFolder:
    """RUN/secret: for the operator's eyes; no command copies, stores or submits it."""

    path: Path

    @classmethod
    def of(cls, run: Path) -> Self:
        """The folder of a run, whether or not it exists."""
        return cls(path=run / FOLDER)

    def create(self) -> Secret:
        """Draw a new key and a new salt, readable by their owner alone."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write(SALT_FILE, secrets.token_bytes(KEY_BYTES))
        self._write(KEY_FILE, secrets.token_bytes(KEY_BYTES))
        return Secret(key=(self.path / KEY_FILE).read_bytes())

    def read(self) -> Secret | None:
        """The run's key; None when the run is over or somebody removed it."""
        path = self.path / KEY_FILE
        return Secret(key=path.read_bytes()) if path.exists() else None

    def commit(self, digest: str) -> bytes:
        """Salted commitment to a data set's hex digest.

        The digest itself would let whoever has all records but one find out which one is missing.
        """
        salt = (self.path / SALT_FILE).read_bytes()
        return hashlib.sha256(_COMMITMENT + salt + bytes.fromhex(digest)).digest()

    def end(self) -> None:
        """Remove the key: nothing needs it any more, and who has it can take the noise off."""
        (self.path / KEY_FILE).unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
