"""`facechain key` and `facechain network` as programs: prompts on a terminal, passphrases, exit codes."""

import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from facechain.node.keystore import Keystore

COMMAND = (
    sys.executable,
    "-W",
    "error",
    "-c",
    "import sys; from facechain.cli.main import main; sys.argv[0] = 'facechain'; main()",
)
LAYOUT = Path(__file__).parents[2] / ".layout"
PASSPHRASE = "correct horse"


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(LAYOUT), "FACECHAIN_DATA_DIR": str(data_dir), **more}


def facechain(data_dir: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(data_dir, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def at_terminal(
    arguments: Sequence[str], dialogue: Sequence[tuple[str, str]], env: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command on a terminal of its own, answering each prompt once it is there; its code and screen."""
    master, slave = pty.openpty()
    # A new session whose controlling terminal is the pty: getpass asks /dev/tty.
    starter = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter, *COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
    )
    os.close(slave)
    screen, position, waiting = "", 0, list(dialogue)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 1.0)[0]:
            continue
        try:
            seen = os.read(master, 4_096)
        except OSError:  # Linux's end of file on a terminal whose program has gone
            break
        if not seen:
            break
        screen += seen.decode()
        if waiting and waiting[0][0] in screen[position:]:
            position = len(screen)
            os.write(master, f"{waiting.pop(0)[1]}\n".encode())
    os.close(master)
    return process.wait(timeout=30), screen


def test_prompt_makes_and_opens_a_key_and_echoes_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    code, screen = at_terminal(
        ("key", "new", "alice"),
        (("New passphrase for key alice", PASSPHRASE), ("Repeat for confirmation", PASSPHRASE)),
        environment(data_dir),
    )
    assert code == 0, screen
    assert PASSPHRASE not in screen
    path = data_dir / "keys" / "alice.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Keystore(data_dir / "keys").open("alice", lambda _: PASSPHRASE.encode()).public

    genesis = tmp_path / "genesis.json"
    command = ("network", "init", "--name", "trial", "--admin", "alice", "--out", str(genesis))
    code, screen = at_terminal(command, (("Passphrase of key alice", "wrong"),), environment(data_dir))
    assert code == 5
    assert "expected its passphrase, got another one" in screen
    assert not genesis.exists()
    code, screen = at_terminal(command, (("Passphrase of key alice", PASSPHRASE),), environment(data_dir))
    assert code == 0, screen
    assert facechain(data_dir, "network", "show", str(genesis)).returncode == 0


def test_passphrases_that_differ_are_asked_for_again(tmp_path: Path) -> None:
    dialogue = (
        ("New passphrase", "one"),
        ("Repeat", "two"),
        ("New passphrase", "three"),
        ("Repeat", "three"),
    )
    code, screen = at_terminal(("key", "new", "alice"), dialogue, environment(tmp_path / "data"))
    assert code == 0, screen
    assert Keystore(tmp_path / "data" / "keys").open("alice", lambda _: b"three").public


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("key", "show", "nobody"), 1, r"error: key 'nobody': expected a key file at .*, got none; .*"),
        (("key", "new", "bad/name"), 3, r"error: key name: expected .*, got 'bad/name'"),
        (("key", "new", "alice"), 3, r"error: new passphrase for key alice: expected .*; .*"),
        (("role", "list", "--api", "127.0.0.1:1"), 4, r"error: node at http://127.0.0.1:1: .* refused; .*"),
    ],
)
def test_failures_are_one_line_and_a_code(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    done = facechain(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(message + r"\n", done.stderr), done.stderr


def test_wrong_passphrase_is_refused_in_one_line(tmp_path: Path) -> None:
    facechain(tmp_path, "key", "new", "alice", FACECHAIN_PASSPHRASE="right")
    command = ("network", "init", "--name", "n", "--admin", "alice", "--out", str(tmp_path / "g.json"))
    done = facechain(tmp_path, *command, FACECHAIN_PASSPHRASE="wrong")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "error: key 'alice': expected its passphrase, got another one; try again\n"


def test_every_option_has_an_environment_variable(tmp_path: Path) -> None:
    done = facechain(tmp_path, "key", "new", "alice", FACECHAIN_KEY_NEW_NO_PASSPHRASE="1")
    assert done.returncode == 0, done.stderr
    done = facechain(tmp_path, "key", "list", FACECHAIN_KEY_LIST_JSON="1")
    assert done.stdout.startswith("["), done.stderr
    settings = {"NAME": "n", "ADMIN": "alice", "PARAM": "quorum=1 spacing-ms=20000", "DRY_RUN": "yes"}
    variables = {f"FACECHAIN_NETWORK_INIT_{name}": value for name, value in settings.items()}
    done = facechain(tmp_path, "network", "init", **variables)
    assert '"spacing_ms": 20000' in done.stdout, done.stderr


def test_openssl_format_can_be_imported(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    source = tmp_path / "theirs.pem"
    source.touch(mode=0o600)
    source.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"theirs"),
        )
    )
    done = facechain(tmp_path, "key", "import", "mine", str(source), FACECHAIN_PASSPHRASE="theirs")
    assert done.returncode == 0, done.stderr
    assert key.public_key().public_bytes_raw().hex() in done.stdout
