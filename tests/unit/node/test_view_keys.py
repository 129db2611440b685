"""Viewers' keys at rest, and wrapped keys against RFC 9180 done by hand."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from facechain.node import pkcs8
from facechain.node.keystore import KeyFileInvalid, KeyRefused
from facechain.node.private_files import TooOpen, create_private_file
from facechain.node.view_keys import (
    WRAPPED_BYTES,
    Grant,
    WrappedKeyInvalid,
    public_bytes,
    read_view_key,
    unwrap,
    wrap,
    write_view_key,
)
from support.chain import seed

KEY = X25519PrivateKey.from_private_bytes(seed("view key"))
GRANT = Grant(network_id=seed("network"), batch=seed("batch"), viewer=seed("viewer"))
SECRET = seed("content key")


def nobody(name: str) -> bytes:
    raise AssertionError(f"asked for the passphrase of {name}")


def expand(key: bytes, label: bytes, info: bytes, size: int, suite: bytes) -> bytes:
    """LabeledExpand of RFC 9180, section 4, for at most one block of SHA-256."""
    labeled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(key, labeled + b"\x01", hashlib.sha256)[:size]


def extract(salt: bytes, label: bytes, key: bytes, suite: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + key, hashlib.sha256)


def open_by_hand(wrapped: bytes, private: X25519PrivateKey, info: bytes) -> bytes:
    """Sections 4.1 and 5.1 of RFC 9180: KEM 0x0020, KDF 0x0001, AEAD 0x0003, base mode, one message."""
    sent, ciphertext = wrapped[:32], wrapped[32:]
    kem = b"KEM" + bytes.fromhex("0020")
    shared = private.exchange(X25519PublicKey.from_public_bytes(sent))
    both = sent + public_bytes(private)
    secret = expand(extract(b"", b"eae_prk", shared, kem), b"shared_secret", both, 32, kem)
    suite = b"HPKE" + bytes.fromhex("002000010003")
    context = b"\x00" + extract(b"", b"psk_id_hash", b"", suite) + extract(b"", b"info_hash", info, suite)
    schedule = extract(secret, b"secret", b"", suite)
    cipher = ChaCha20Poly1305(expand(schedule, b"key", context, 32, suite))
    return cipher.decrypt(expand(schedule, b"base_nonce", context, 12, suite), ciphertext, b"")


def test_a_wrapped_key_is_what_the_page_says() -> None:
    wrapped = wrap(SECRET, public_bytes(KEY), GRANT)
    assert len(wrapped) == WRAPPED_BYTES
    info = b"facechain/view-key/v1" + GRANT.network_id + GRANT.batch + GRANT.viewer
    assert open_by_hand(wrapped, KEY, info) == SECRET
    assert unwrap(wrapped, KEY, GRANT) == SECRET


def test_a_wrapped_key_is_for_one_viewer_batch_and_network() -> None:
    wrapped = wrap(SECRET, public_bytes(KEY), GRANT)
    for name in ("network_id", "batch", "viewer"):
        with pytest.raises(WrappedKeyInvalid):
            unwrap(wrapped, KEY, replace(GRANT, **{name: bytes(32)}))
    with pytest.raises(WrappedKeyInvalid):
        unwrap(wrapped, X25519PrivateKey.from_private_bytes(seed("other")), GRANT)
    for changed in (wrapped[:-1], wrapped + b"\0", b"", wrapped[:40] + b"\0" + wrapped[41:], bytes(80)):
        with pytest.raises(WrappedKeyInvalid) as caught:
            unwrap(changed, KEY, GRANT)
    assert "expected one for this viewer" in caught.value.diagnostics()


def test_a_key_of_small_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r".*"):
        wrap(SECRET, bytes(32), GRANT)


def test_a_key_file_keeps_the_key(tmp_path: Path) -> None:
    plain, locked = tmp_path / "plain.pem", tmp_path / "locked.pem"
    write_view_key(plain, KEY, None)
    write_view_key(locked, KEY, b"open sesame")
    assert plain.stat().st_mode & 0o777 == 0o600
    assert public_bytes(read_view_key(plain, nobody)) == public_bytes(KEY)
    assert public_bytes(read_view_key(locked, lambda _: b"open sesame")) == public_bytes(KEY)
    with pytest.raises(KeyRefused, match="passphrase"):
        read_view_key(locked, lambda _: b"another")
    with pytest.raises(KeyRefused, match="a name that is free"):
        write_view_key(plain, KEY, None)


def test_what_is_no_view_key_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    create_private_file(other, pkcs8.encode_pem(Ed25519PrivateKey.generate(), None).encode())
    with pytest.raises(KeyFileInvalid, match="a key of another type"):
        read_view_key(other, nobody)
    text = tmp_path / "text.pem"
    create_private_file(text, b"\xff nothing")
    with pytest.raises(KeyFileInvalid, match="no private key"):
        read_view_key(text, nobody)
    text.chmod(0o644)
    with pytest.raises(TooOpen):
        read_view_key(text, nobody)
