"""TLS of the peer port: the node's own self-signed certificate, and contexts that speak TLS 1.3 only.

The certificate names nobody: clients do not validate it, the handshake binds the node's identity to its hash.
"""

from __future__ import annotations

import datetime as dt
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ...consensus.hashing import sha256

CERTIFICATE_FILE: Final = "p2p-tls.pem"
"""Name of the file in the data directory; private key and certificate in one, so that they are always a pair."""

_SUBJECT: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "facechain node")])
# The end that RFC 5280 gives to certificates without one: nobody checks the dates, and clocks may be wrong.
_NOT_BEFORE: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


class TlsError(Exception):
    """The certificate file cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsIdentity:
    """A node's server certificate: where it is, and the SHA-256 of its DER form."""

    path: Path
    certificate_hash: bytes


def open_identity(directory: Path) -> TlsIdentity:
    """Return the identity kept in a data directory; makes one (mode 0600) when there is none.

    Raises:
        TlsError: the file is no certificate of this node, or others can read it.
    """
    path = directory / CERTIFICATE_FILE
    if not path.exists():
        _write_private(path, _make_pem())
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise TlsError(f"{path}: expected mode 0600, got {mode:04o}; run: chmod 600 {path}")
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise TlsError(
            f"{path}: expected a PEM key and certificate, got {error}; delete the file, a new one is made"
        ) from error
    return TlsIdentity(
        path=path, certificate_hash=sha256(certificate.public_bytes(serialization.Encoding.DER))
    )


def server_context(identity: TlsIdentity) -> ssl.SSLContext:
    """Return a TLS 1.3 server context; TlsError when key and certificate cannot be loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    try:
        context.load_cert_chain(identity.path)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(
            f"{identity.path}: expected a matching key and certificate, got {error}; "
            "delete the file, a new one is made"
        ) from error
    return context


def client_context() -> ssl.SSLContext:
    """Return a TLS 1.3 client context that takes every certificate (see the module's docstring)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _make_pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_SUBJECT)
        .issuer_name(_SUBJECT)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 so that it is there whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 by definition
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
