"""Private keys (Ed25519, X25519) as PKCS#8 in PEM, with or without a passphrase.

Owns the byte form of a private key at rest. Encryption is PBES2 (RFC 8018) with scrypt and AES-256-CBC: the
library's own writer stretches a passphrase with 2,048 rounds of PBKDF2 only, which a single graphics card
undoes at millions of guesses a second. Readers other than this one (OpenSSL among them) understand it.
"""

import base64
import binascii
import os
from typing import Final

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

SCRYPT_N: Final = 2**14
SCRYPT_R: Final = 8
SCRYPT_P: Final = 5
"""Cost of one guess: 16 MiB and about 0.2 s. More memory would pass the 32 MiB that OpenSSL reads by default."""

SALT_BYTES: Final = 16
CIPHER_KEY_BYTES: Final = 32
MAX_PASSPHRASE_BYTES: Final = 1_023
"""The longest that the library's reader takes."""

PLAIN_LABEL: Final = "PRIVATE KEY"
ENCRYPTED_LABEL: Final = "ENCRYPTED PRIVATE KEY"

_LINE: Final = 64
_INTEGER, _OCTETS, _OBJECT, _SEQUENCE = 0x02, 0x04, 0x06, 0x30
_PBES2: Final = bytes.fromhex("2a864886f70d01050d")
_SCRYPT: Final = bytes.fromhex("2b06010401da47040b")
_AES_256_CBC: Final = bytes.fromhex("60864801650304012a")


class WrongPassphrase(Exception):
    """The passphrase does not open the key."""


class NotPkcs8(Exception):
    """The text is no PEM of a private key of the wanted type; the message says what was wrong."""


def encode_pem(key: Ed25519PrivateKey | X25519PrivateKey, passphrase: bytes | None) -> str:
    """Return `key` as PEM text, encrypted when there is a passphrase (1 to 1,023 bytes; ValueError)."""
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if passphrase is None:
        return _pem(PLAIN_LABEL, plain)
    if not 1 <= len(passphrase) <= MAX_PASSPHRASE_BYTES:
        raise ValueError(f"passphrase: expected 1 to {MAX_PASSPHRASE_BYTES} bytes, got {len(passphrase)}")
    return _pem(ENCRYPTED_LABEL, _encrypt(plain, passphrase))


def decode_pem(text: str, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Read an Ed25519 key from PEM text; text before the PEM block is ignored.

    Raises:
        WrongPassphrase: the key is encrypted, and not with this passphrase.
        NotPkcs8: anything else.
    """
    key = _load(text, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise NotPkcs8(f"a key of another type: {type(key).__name__}")
    return key


def decode_view_pem(text: str, passphrase: bytes | None) -> X25519PrivateKey:
    """Read an X25519 key; raises as `decode_pem`."""
    key = _load(text, passphrase)
    if not isinstance(key, X25519PrivateKey):
        raise NotPkcs8(f"a key of another type: {type(key).__name__}")
    return key


def _load(text: str, passphrase: bytes | None) -> object:
    encrypted = is_encrypted(text)
    try:
        return serialization.load_pem_private_key(pem_block(text).encode(), passphrase if encrypted else None)
    except (ValueError, TypeError) as error:
        if encrypted and _decodes(text):
            raise WrongPassphrase from error
        raise NotPkcs8("damaged or cut short") from error
    except Exception as error:  # the library's own classes for what it does not support
        raise NotPkcs8(f"not readable: {type(error).__name__}") from error


def is_encrypted(text: str) -> bool:
    """Tell whether the PEM block in `text` needs a passphrase; NotPkcs8 when there is none."""
    return pem_block(text).startswith(f"-----BEGIN {ENCRYPTED_LABEL}-----")


def pem_block(text: str) -> str:
    """Return the one PKCS#8 block in `text`; NotPkcs8 when there is none."""
    for label in (ENCRYPTED_LABEL, PLAIN_LABEL):
        begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
        _, found, rest = text.partition(begin)
        if found:
            body, closed, _ = rest.partition(end)
            if not closed:
                raise NotPkcs8("cut short: no END line")
            return f"{begin}{body}{end}\n"
    raise NotPkcs8("no private key in PEM form")


def _decodes(text: str) -> bool:
    """Tell whether the block is whole: base64 that holds one DER sequence of the length it states."""
    lines = pem_block(text).split("\n")
    try:
        der = base64.b64decode("".join(line.strip() for line in lines[1:-2]), validate=True)
    except binascii.Error:
        return False
    if len(der) < 3 or der[0] != _SEQUENCE:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    width = der[1] & 0x7F
    return len(der) == 2 + width + int.from_bytes(der[2 : 2 + width], "big")


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    salt, vector = os.urandom(SALT_BYTES), os.urandom(algorithms.AES.block_size // 8)
    stretched = Scrypt(salt=salt, length=CIPHER_KEY_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    encryptor = Cipher(algorithms.AES(stretched.derive(passphrase)), modes.CBC(vector)).encryptor()
    padder = padding.PKCS7(algorithms.AES.block_size).padder()
    ciphertext = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    costs = (_integer(cost) for cost in (SCRYPT_N, SCRYPT_R, SCRYPT_P, CIPHER_KEY_BYTES))
    kdf = _der(
        _SEQUENCE, _der(_OBJECT, _SCRYPT), _der(_SEQUENCE, _der(_OCTETS, salt), *costs)
    )  # RFC 7914, section 7
    cipher = _der(_SEQUENCE, _der(_OBJECT, _AES_256_CBC), _der(_OCTETS, vector))
    scheme = _der(_SEQUENCE, _der(_OBJECT, _PBES2), _der(_SEQUENCE, kdf, cipher))
    return _der(_SEQUENCE, scheme, _der(_OCTETS, ciphertext))


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    width = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(width))) + width + content


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))
