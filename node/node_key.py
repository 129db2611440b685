"""The node's own identity key.

Owns its file, `node-key.pem` in the data directory. The key is made at the first start and is not
encrypted: a node must be able to start by itself, and the key signs handshakes only.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..consensus.signing import NodeKey
from .keystore import KeyRefused, read_key_file, write_key_file

NODE_KEY_FILE = "node-key.pem"


def open_node_key(data_dir: Path) -> NodeKey:
    """Return the node's identity key; makes one when there is none.

    Raises:
        KeyRefused, KeyFileInvalid, TooOpen: the file cannot be used.
    """
    path = data_dir / NODE_KEY_FILE
    if not path.exists():
        write_key_file(path, NodeKey(Ed25519PrivateKey.generate()), None)
    return read_key_file(path, NodeKey, _no_passphrase)


def _no_passphrase(name: str) -> bytes:
    raise KeyRefused(name, expected="a node key without a passphrase", got="an encrypted one")
