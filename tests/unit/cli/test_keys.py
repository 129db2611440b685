"""`facechain key` in process: outputs, exit codes, where passphrases come from."""

import json
import stat
from pathlib import Path

import pytest

from facechain.cli.main import run
from facechain.consensus.signing import LedgerKey, NodeKey
from facechain.node.keystore import Keystore, write_key_file
from support.commands import Capture, failure, output

SEED = bytes(range(32))


@pytest.fixture(autouse=True)
def keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keystore:
    monkeypatch.setenv("FACECHAIN_DATA_DIR", str(tmp_path / "data"))
    return Keystore(tmp_path / "data" / "keys")


def test_new_list_show(keystore: Keystore, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACECHAIN_PASSPHRASE", "hunter")
    made = output(capsys, "key", "new", "alice")
    assert made["encrypted"]
    assert keystore.open("alice", lambda _: b"hunter").public.hex() == made["public_key"]
    assert output(capsys, "key", "list") == [made]
    assert run(["key", "show", "alice"]) == 0
    assert capsys.readouterr().out == f"{made['public_key']}\n"
    assert run(["key", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["alice", made["public_key"], "yes"]


def test_key_without_passphrase_is_warned_about_on_stderr(capsys: Capture) -> None:
    assert run(["key", "new", "trial", "--no-passphrase", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["encrypted"] is False
    assert err.startswith("warning: key trial has no passphrase")


def test_no_output_ever_holds_the_private_key(keystore: Keystore, tmp_path: Path, capsys: Capture) -> None:
    keystore.add("alice", LedgerKey.from_seed(SEED), b"x")
    for command in (["show", "alice"], ["list"], ["export", "alice", "--out", str(tmp_path / "copy.pem")]):
        for more in ([], ["--json"]):
            run(["key", *command, *more])
    out, err = capsys.readouterr()
    assert SEED.hex() not in out + err
    assert "PRIVATE" not in out + err


def test_passphrase_file_loses_one_line_end(keystore: Keystore, tmp_path: Path, capsys: Capture) -> None:
    for number, (content, passphrase) in enumerate(
        ((b"pw\n", b"pw"), (b"pw\r\n", b"pw"), (b"p w\n\n", b"p w\n"), (b"pw", b"pw"))
    ):
        file = tmp_path / "passphrase"
        file.write_bytes(content)
        told = output(capsys, "key", "new", f"k{number}", "--passphrase-file", str(file))
        key = keystore.open(f"k{number}", lambda _, given=passphrase: given)  # type: ignore[misc]
        assert key.public.hex() == told["public_key"]


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 2_000])
def test_unusable_passphrase_is_a_usage_error(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(content)
    code, err = failure(capsys, "key", "new", "alice", "--passphrase-file", str(file))
    assert (code, "1 to 1023 bytes" in err) == (3, True)


def test_without_terminal_the_ways_to_give_a_passphrase_are_named(capsys: Capture) -> None:
    code, err = failure(capsys, "key", "new", "alice")
    assert code == 3
    assert "expected a passphrase file, FACECHAIN_PASSPHRASE or a terminal" in err
    assert err.endswith("name a file with --passphrase-file\n")


def test_without_terminal_the_ways_to_give_a_copy_s_passphrase_are_named(
    tmp_path: Path, capsys: Capture
) -> None:
    assert run(["key", "new", "bare", "--no-passphrase"]) == 0
    capsys.readouterr()
    code, err = failure(capsys, "key", "export", "bare", "--out", str(tmp_path / "bare.pem"))
    assert code == 3
    assert "expected a passphrase file, FACECHAIN_NEW_PASSPHRASE or a terminal" in err
    assert err.endswith("name a file with --new-passphrase-file\n")


def test_name_that_is_taken_is_refused_before_the_passphrase(keystore: Keystore, capsys: Capture) -> None:
    keystore.new("alice", None)
    code, err = failure(capsys, "key", "new", "alice")
    assert (code, "choose another name" in err) == (5, True)


@pytest.mark.parametrize(
    "arguments, code", [(["show", "nobody"], 1), (["new", "a/b"], 3), (["import", "x", "/nonexistent"], 3)]
)
def test_names_that_mean_nothing(arguments: list[str], code: int, capsys: Capture) -> None:
    assert failure(capsys, "key", *arguments)[0] == code


def test_export_keeps_the_passphrase(
    keystore: Keystore, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore.add("alice", LedgerKey.from_seed(SEED), b"old")
    target = tmp_path / "copy.pem"
    output(capsys, "key", "export", "alice", "--out", str(target))
    assert target.read_bytes() == keystore.path("alice").read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    code, err = failure(capsys, "key", "export", "alice", "--out", str(target))
    assert (code, "existing file" in err) == (5, True)
    monkeypatch.setenv("FACECHAIN_PASSPHRASE", "old")
    assert output(capsys, "key", "import", "bob", str(target))["encrypted"]
    assert keystore.open("bob", lambda _: b"old").public == LedgerKey.from_seed(SEED).public


def test_export_under_a_new_passphrase(
    keystore: Keystore, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore.add("alice", LedgerKey.from_seed(SEED), b"old")
    monkeypatch.setenv("FACECHAIN_PASSPHRASE", "old")
    monkeypatch.setenv("FACECHAIN_NEW_PASSPHRASE", "new")
    target = tmp_path / "copy.pem"
    output(capsys, "key", "export", "alice", "--out", str(target), "--new-passphrase")
    code, err = failure(capsys, "key", "import", "bob", str(target))
    assert (code, "expected its passphrase, got another one" in err) == (5, True)
    monkeypatch.setenv("FACECHAIN_PASSPHRASE", "new")
    output(capsys, "key", "import", "bob", str(target))


def test_export_of_an_unencrypted_key_is_encrypted(
    keystore: Keystore, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore.new("trial", None)
    monkeypatch.setenv("FACECHAIN_NEW_PASSPHRASE", "new")
    assert output(capsys, "key", "export", "trial", "--out", str(tmp_path / "copy.pem"))["encrypted"]


def test_key_file_that_others_may_read_is_refused(keystore: Keystore, capsys: Capture) -> None:
    path = keystore.new("alice", None).path
    path.chmod(0o644)
    code, err = failure(capsys, "key", "show", "alice")
    assert (code, f"run: chmod 600 {path}" in err) == (5, True)


def test_node_key_is_not_imported(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "node.pem"
    write_key_file(path, NodeKey.from_seed(SEED), None)
    code, err = failure(capsys, "key", "import", "alice", str(path))
    assert (code, "expected a ledger key, got a node key" in err) == (5, True)


def test_list_shows_the_good_keys_beside_the_bad_ones(keystore: Keystore, capsys: Capture) -> None:
    for name in ("a", "b", "c"):
        keystore.new(name, None)
    keystore.path("a").chmod(0o644)
    keystore.path("b").write_text("junk")
    assert run(["key", "list", "--json"]) == 5
    out, err = capsys.readouterr()
    assert [item["name"] for item in json.loads(out)] == ["c"]
    assert (err.count("error: "), err.count("chmod 600"), err.count("b.pem")) == (2, 1, 1)


@pytest.mark.parametrize("command", ["new", "list", "show", "export", "import"])
def test_help_has_examples(command: str, capsys: Capture) -> None:
    assert run(["key", command, "-h"]) == 0
    assert f"Examples:\n    facechain key {command}" in capsys.readouterr().out
