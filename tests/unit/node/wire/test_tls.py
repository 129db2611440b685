"""The node's own certificate: made once, private, and refused with a way out when it is damaged."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from facechain.node.wire.tls import CERTIFICATE_FILE, TlsError, client_context, open_identity, server_context


def test_an_identity_is_made_once_and_private(tmp_path: Path) -> None:
    first = open_identity(tmp_path / "data")
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert open_identity(tmp_path / "data") == first
    assert [path.name for path in first.path.parent.iterdir()] == [CERTIFICATE_FILE]
    pem = first.path.read_text().partition("-----END PRIVATE KEY-----\n")[2]
    assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() == first.certificate_hash
    assert open_identity(tmp_path / "other").certificate_hash != first.certificate_hash


def test_a_certificate_that_others_can_read_is_refused(tmp_path: Path) -> None:
    identity = open_identity(tmp_path)
    identity.path.chmod(0o640)
    with pytest.raises(TlsError, match="expected mode 0600, got 0640; run: chmod 600"):
        open_identity(tmp_path)


def test_a_damaged_certificate_is_refused_with_a_way_out(tmp_path: Path) -> None:
    identity = open_identity(tmp_path)
    identity.path.write_bytes(identity.path.read_bytes()[:300])
    with pytest.raises(TlsError, match="delete the file, a new one is made"):
        open_identity(tmp_path)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    mine, other = open_identity(tmp_path / "a"), open_identity(tmp_path / "b")
    marker = "-----END PRIVATE KEY-----\n"
    key = other.path.read_text().partition(marker)[0] + marker
    mine.path.write_text(key + mine.path.read_text().partition(marker)[2])
    with pytest.raises(TlsError, match="expected a matching key and certificate"):
        server_context(open_identity(tmp_path / "a"))


def test_contexts_speak_tls_1_3_only(tmp_path: Path) -> None:
    for context in (server_context(open_identity(tmp_path)), client_context()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert client_context().verify_mode is ssl.CERT_NONE
