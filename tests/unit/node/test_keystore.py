"""Key files: form, modes, kinds, passphrases, names."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from facechain.consensus.signing import LedgerKey, NodeKey
from facechain.node import pkcs8
from facechain.node.keystore import (
    KeyFileInvalid,
    KeyKind,
    KeyNotFound,
    KeyRefused,
    Keystore,
    inspect_key_file,
    read_key_file,
    write_key_file,
)
from facechain.node.private_files import TooOpen, create_private_file, make_private_directory

PASSPHRASE = b"correct horse"
SEED = bytes(range(32))


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "data" / "keys")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def ask(_: str) -> bytes:
    return PASSPHRASE


def ask_nothing(what: str) -> bytes:
    raise AssertionError(f"asked for the passphrase of {what}")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_key_is_encrypted_private_and_comes_back(keystore: Keystore, open_umask: None) -> None:
    info = keystore.new("alice", PASSPHRASE)
    assert (mode(info.path), mode(keystore.folder)) == (0o600, 0o700)
    assert info.encrypted
    assert info.kind is KeyKind.LEDGER
    assert "ENCRYPTED" in info.path.read_text()
    assert keystore.open("alice", ask).public == info.public
    assert keystore.names() == ("alice",)
    assert [path.name for path in keystore.folder.iterdir()] == ["alice.pem"]


def test_private_seed_is_not_in_an_encrypted_file(keystore: Keystore) -> None:
    info = keystore.add("alice", LedgerKey.from_seed(SEED), PASSPHRASE)
    assert SEED.hex() not in info.path.read_text()
    assert keystore.open("alice", ask).private_key.private_bytes_raw() == SEED


def test_key_without_passphrase_asks_for_none(keystore: Keystore) -> None:
    assert not keystore.new("bob", None).encrypted
    keystore.open("bob", ask_nothing)


def test_wrong_passphrase_is_refused(keystore: Keystore) -> None:
    keystore.new("alice", PASSPHRASE)
    with pytest.raises(KeyRefused, match="key 'alice': expected its passphrase, got another one"):
        keystore.open("alice", lambda _: b"wrong")


def test_existing_key_is_never_overwritten(keystore: Keystore) -> None:
    before = keystore.new("alice", None).public
    with pytest.raises(KeyRefused, match="choose another name"):
        keystore.new("alice", None)
    assert keystore.info("alice").public == before
    assert [path.name for path in keystore.folder.iterdir()] == ["alice.pem"]


def test_unknown_key(keystore: Keystore) -> None:
    assert keystore.names() == ()
    with pytest.raises(KeyNotFound, match="key list"):
        keystore.open("nobody", ask_nothing)


@pytest.mark.parametrize(
    "name", ["", "../alice", "a/b", ".hidden", "x" * 65, "with space", "alice.pem", "-x"]
)
def test_bad_names_are_refused(keystore: Keystore, name: str) -> None:
    with pytest.raises(KeyFileInvalid, match="key name"):
        keystore.new(name, None)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o644])
def test_key_file_open_to_others_is_refused_with_the_command_to_run(keystore: Keystore, bits: int) -> None:
    path = keystore.new("alice", None).path
    path.chmod(bits)
    with pytest.raises(TooOpen, match=f"run: chmod 600 {path}"):
        keystore.open("alice", ask_nothing)


def test_folder_open_to_others_is_refused(keystore: Keystore) -> None:
    keystore.folder.mkdir(parents=True)
    keystore.folder.chmod(0o755)
    with pytest.raises(TooOpen, match="run: chmod 700"):
        keystore.new("alice", None)


def test_node_key_is_no_ledger_key_and_the_other_way_round(tmp_path: Path, keystore: Keystore) -> None:
    node_file = tmp_path / "node.pem"
    write_key_file(node_file, NodeKey.from_seed(SEED), None)
    assert inspect_key_file(node_file).kind is KeyKind.NODE
    assert read_key_file(node_file, NodeKey, ask_nothing).public == NodeKey.from_seed(SEED).public
    with pytest.raises(KeyRefused, match="expected a ledger key, got a node key"):
        read_key_file(node_file, LedgerKey, ask_nothing)
    with pytest.raises(KeyRefused, match="expected a ledger key, got a node key"):
        keystore.import_file("alice", node_file, ask=ask_nothing, passphrase=None)
    ledger_file = keystore.new("alice", None).path
    with pytest.raises(KeyRefused, match="expected a node key, got a ledger key"):
        read_key_file(ledger_file, NodeKey, ask_nothing)


def test_public_line_must_belong_to_the_private_key(keystore: Keystore) -> None:
    info = keystore.new("alice", None)
    text = info.path.read_text().replace(info.public.hex(), LedgerKey.from_seed(SEED).public.hex())
    info.path.write_text(text)
    with pytest.raises(KeyFileInvalid, match="the private key of"):
        keystore.open("alice", ask_nothing)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("Facechain-Key: ledger", "Facechain-Key: other"),
        lambda text: text.replace("Facechain-Key: ledger\n", ""),
        lambda text: text.replace("\nMI", "\nNI"),
        lambda text: "x" * 9_000,
        lambda text: "",
        lambda text: text.replace("Facechain-Public: ", "Facechain-Public: zz"),
    ],
)
def test_damaged_key_file_is_named_as_such(keystore: Keystore, change: object) -> None:
    path = keystore.new("alice", PASSPHRASE).path
    assert callable(change)
    path.write_text(change(path.read_text()))
    with pytest.raises(KeyFileInvalid, match="expected"):
        keystore.open("alice", ask)


def test_export_copies_and_import_brings_back(keystore: Keystore, tmp_path: Path, open_umask: None) -> None:
    info = keystore.new("alice", PASSPHRASE)
    target = tmp_path / "alice-copy.pem"
    keystore.export("alice", target)
    assert mode(target) == 0o600
    again = keystore.import_file("copy", target, ask=ask, passphrase=ask_nothing)
    assert (again.public, again.encrypted) == (info.public, True)
    assert keystore.open("copy", ask).public == info.public
    with pytest.raises(KeyRefused, match="existing file"):
        keystore.export("alice", target)


def test_key_of_another_program_can_be_imported(keystore: Keystore, tmp_path: Path) -> None:
    key = LedgerKey.from_seed(SEED)
    foreign = tmp_path / "foreign.pem"
    plain = key.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    create_private_file(foreign, plain)
    info = keystore.import_file("mine", foreign, ask=ask_nothing, passphrase=ask)
    assert (info.public, info.encrypted) == (key.public, True)
    assert not keystore.import_file("plain", foreign, ask=ask_nothing, passphrase=None).encrypted


def test_key_of_another_type_is_refused(keystore: Keystore, tmp_path: Path) -> None:
    elliptic = tmp_path / "p256.pem"
    content = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    create_private_file(elliptic, content)
    with pytest.raises(KeyFileInvalid, match="a key of another type"):
        keystore.import_file("mine", elliptic, ask=ask_nothing, passphrase=None)


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "alice.pem"
    write_key_file(path, LedgerKey.from_seed(SEED), PASSPHRASE)
    loaded = serialization.load_pem_private_key(path.read_bytes(), PASSPHRASE)
    assert loaded.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw) == (
        LedgerKey.from_seed(SEED).public
    )


@pytest.mark.parametrize("passphrase", [b"", b"x" * 1_024])
def test_passphrase_that_no_reader_takes_is_refused(passphrase: bytes) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1023 bytes"):
        pkcs8.encode_pem(LedgerKey.from_seed(SEED).private_key, passphrase)


def test_private_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_private_file(path, b"secret")
    for wanted, kind in ((path, FileExistsError), (tmp_path / "no" / "key", FileNotFoundError)):
        with pytest.raises(kind) as caught:
            create_private_file(wanted, b"other")
        assert caught.value.filename == str(wanted)
    assert (path.read_bytes(), [item.name for item in tmp_path.iterdir()]) == (b"secret", ["key"])


def test_private_folder_may_exist(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "b")
    make_private_directory(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_killed_writer_leaves_no_readable_rest(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; import facechain.node.private_files as p\n"
        "p.os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.umask(0); p.create_private_file(Path(sys.argv[1]), b'secret')"
    )
    layout = Path(__file__).parents[3] / ".layout"
    target = tmp_path / "key.pem"
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], env={"PYTHONPATH": str(layout)}, check=False
    )
    assert done.returncode == -9
    assert not target.exists()
    assert [mode(path) for path in tmp_path.iterdir()] == [0o600]
