"""Bad input of every sort to real processes: one clear line, the right exit code, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facechain.cli.client import NodeClient
from facechain.cli.testnet_founding import PRODUCER, found_testnet
from facechain.cli.testnet_process import clean_environment, own_command
from facechain.cli.testnet_record import NetworkRecord
from facechain.consensus.kinds import StageType
from facechain.gan.batchfolder import BatchFacts, encode_images, write_batch
from facechain.gan.stages import StageRecord
from support.deadline import wait_until
from support.node_processes import ANY_PORT, NodeProcess, error_line
from support.pictures import make_picture
from support.ports import free_ports

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
SECONDS = 30
HOUR_NS = 3_600 * 10**9
LIKE_AN_HOUR_SECONDS = 3_000
"""The blocks are younger than the network, the network is younger than ten minutes."""
UNKNOWN = "ab" * 32


@dataclass(kw_only=True)
class World:
    """A mining node with one registered picture, and a place for bad things."""

    root: Path
    network: NetworkRecord
    node: NodeProcess
    ended: Path
    registered: Path
    batch: bytes = b""
    open: ExitStack = field(default_factory=ExitStack)

    def submit(self, path: Path, *options: str) -> tuple[str, ...]:
        return ("submit", "--batch", str(path), "--key", PRODUCER, "--api", self.node.api, *options)

    def audit(self, subject: object) -> tuple[str, ...]:
        return ("audit", str(subject), "--api", self.node.api)

    def start(self, folder: Path, *options: str) -> tuple[str, ...]:
        """Return the command line of another node of the network."""
        given = {"--listen": ANY_PORT, "--api": ANY_PORT, "--genesis": str(self.network.genesis_file)}
        given |= dict(zip(options[::2], options[1::2], strict=True))
        words = tuple(word for pair in given.items() for word in pair)
        return ("node", "start", "--data-dir", str(folder), *words)

    def folder(self, **files: bytes) -> Path:
        folder = self.root / "batch"
        folder.mkdir()
        for name, data in files.items():
            (folder / f"{name}.png").write_bytes(data)
        return folder

    def archive(self, members: dict[str, bytes]) -> Path:
        path = self.root / "batch.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path

    def stopped_node(self) -> Path:
        """Return the data directory of a node that has run and ended."""
        return shutil.copytree(self.ended, self.root / "node")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("bad-input")
    network = found_testnet(root / "network", count=2, mines=True)
    with NodeProcess(network.root / "node-2", network.genesis_file) as other:
        assert other.end() == 0
    registered = root / "registered"
    registered.mkdir()
    (registered / "face.png").write_bytes(make_picture(1).data)
    mining = ("--mine", "--mining-key", PRODUCER)
    with NodeProcess(network.root / "node-1", network.genesis_file, *mining) as node:
        world = World(root=root, network=network, node=node, ended=other.data_dir, registered=registered)
        done = call(world, world.submit(registered, "--wait", "1", "--json"))
        assert done.returncode == 0, done.stderr
        yield replace(world, batch=bytes.fromhex(json.loads(done.stdout)["batches"][0]))


@pytest.fixture
def world(shared: World, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield replace(shared, root=tmp_path, open=stack)


def call(
    world: World,
    arguments: tuple[str, ...],
    *,
    prepare: Callable[[], None] | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command as the person of the network."""
    own = {"FACECHAIN_DATA_DIR": str(world.network.wallet.root), **variables}
    return subprocess.run(
        own_command(*arguments),
        env=clean_environment(own),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        preexec_fn=prepare,
    )


def png_of_size(width: int, height: int) -> bytes:
    """Return a small file that says it is large."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", b""),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def truncated(world: World) -> tuple[str, ...]:
    return world.submit(world.folder(a=make_picture(2).data, b=make_picture(3).data[:-300]))


def too_wide(world: World) -> tuple[str, ...]:
    return world.submit(world.folder(wide=png_of_size(40_000, 32)))


def too_wide_audit(world: World) -> tuple[str, ...]:
    path = world.root / "wide.png"
    path.write_bytes(png_of_size(40_000, 32))
    return world.audit(path)


def two_sizes(world: World) -> tuple[str, ...]:
    return world.submit(world.folder(a=make_picture(2).data, b=make_picture(3, side=48).data))


def jpeg(world: World) -> tuple[str, ...]:
    folder = world.folder()
    with Image.open(world.registered / "face.png") as image:
        image.save(folder / "face.jpg")
    return world.submit(folder)


def path_out_of_the_archive(world: World) -> tuple[str, ...]:
    return world.submit(world.archive({"../face.png": make_picture(2).data}))


def zip_bomb(world: World) -> tuple[str, ...]:
    return world.submit(world.archive({"face.png": bytes(80_000_000)}))


def unreadable(world: World) -> tuple[str, ...]:
    folder = world.folder(a=make_picture(2).data)
    folder.chmod(0)
    world.open.callback(folder.chmod, 0o700)
    return world.submit(folder)


def unreadable_part(world: World) -> tuple[str, ...]:
    folder = world.folder(a=make_picture(2).data)
    inner = folder / "inner"
    inner.mkdir()
    (inner / "b.png").write_bytes(make_picture(3).data)
    inner.chmod(0)
    world.open.callback(inner.chmod, 0o700)
    return world.submit(folder)


def changed_record(world: World) -> tuple[str, ...]:
    stage = StageRecord(label="training", stage_type=StageType.TRAINING, name="a model")
    faces = np.random.default_rng(5).integers(0, 256, size=(3, 32, 32, 3), dtype=np.uint8)
    folder = write_batch(
        world.root / "batch",
        encode_images(range(3), faces),
        labels=[0] * 3,
        facts=BatchFacts(
            public=True,
            seed=bytes(32),
            micro_batch=64,
            stages=(stage,),
            model="training",
            clustering=None,
            filter=None,
            store=None,
        ),
    )
    path = folder / "records.bin"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    return world.submit(folder)


def new_key(world: World, passphrase: str) -> None:
    done = call(world, ("key", "new", world.root.name), FACECHAIN_PASSPHRASE=passphrase)
    assert done.returncode == 0, done.stderr


def wrong_passphrase(world: World) -> tuple[str, ...]:
    new_key(world, "correct horse")
    return (*world.submit(world.registered), "--key", world.root.name)


def node_down(world: World) -> tuple[str, ...]:
    return (
        *world.submit(world.folder(a=make_picture(4).data)),
        "--api",
        f"http://127.0.0.1:{free_ports(1)[0]}",
    )


def peer_of_another_network(world: World) -> tuple[str, ...]:
    other = found_testnet(world.root / "other", count=1, mines=False)
    return world.start(world.root / "node", "--genesis", str(other.genesis_file), "--peers", world.node.peer)


def config(world: World, text: str) -> tuple[str, ...]:
    path = world.root / "config.toml"
    path.write_text(text)
    return ("node", "start", "--config", str(path))


def bad_toml(world: World) -> tuple[str, ...]:
    return config(world, "listen = \n")


def unknown_key(world: World) -> tuple[str, ...]:
    return config(world, "minig = true\n")


def wrong_type(world: World) -> tuple[str, ...]:
    return config(world, "max_inbound = 'many'\n")


def taken(world: World, option: str) -> tuple[str, ...]:
    server = world.open.enter_context(socket.create_server(("127.0.0.1", 0)))
    return world.start(world.root / "node", option, f"127.0.0.1:{server.getsockname()[1]}")


def taken_peer_port(world: World) -> tuple[str, ...]:
    return taken(world, "--listen")


def taken_api_port(world: World) -> tuple[str, ...]:
    return taken(world, "--api")


def store_of_another_network(world: World) -> tuple[str, ...]:
    other = found_testnet(world.root / "other", count=1, mines=False)
    return world.start(world.stopped_node(), "--genesis", str(other.genesis_file))


def store_in_use(world: World) -> tuple[str, ...]:
    return world.start(world.node.data_dir)


def truncated_store(world: World) -> tuple[str, ...]:
    folder = world.stopped_node()
    path = folder / "store" / "data.mdb"
    os.truncate(path, path.stat().st_size // 2)
    return world.start(folder)


def store_of_zeros(world: World) -> tuple[str, ...]:
    folder = world.stopped_node()
    path = folder / "store" / "data.mdb"
    path.write_bytes(bytes(path.stat().st_size))
    return world.start(folder)


def no_genesis(world: World) -> tuple[str, ...]:
    return world.start(world.root / "node", "--genesis", str(world.root / "none.json"))


def damaged_genesis(world: World) -> tuple[str, ...]:
    path = world.root / "genesis.json"
    path.write_bytes(world.network.genesis_file.read_bytes().replace(b"testnet", b"tested", 1))
    return world.start(world.root / "node", "--genesis", str(path))


def empty_folder(world: World) -> tuple[str, ...]:
    return world.submit(world.folder())


def garbage_text(world: World) -> tuple[str, ...]:
    return world.audit("what is this")


def garbage_file(world: World) -> tuple[str, ...]:
    path = world.root / "face.png"
    path.write_bytes(b"no image at all")
    return world.audit(path)


def garbage_proof(world: World) -> tuple[str, ...]:
    path = world.root / "face.fcproof"
    path.write_bytes(b"no proof at all")
    return ("verify", str(world.registered / "face.png"), str(path))


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is wrong, the exit code, and words that the line must hold: what was expected, what came, what to do."""

    make: Callable[[World], tuple[str, ...]]
    code: int
    words: tuple[str, ...]


def case(make: Callable[[World], tuple[str, ...]], code: int, *words: str) -> Case:
    return Case(make=make, code=code, words=words)


CASES = (
    case(truncated, 3, "b.png", "expected", "got"),
    case(too_wide, 3, "wide.png", "8192", "40000"),
    case(too_wide_audit, 3, "wide.png", "8192", "40000"),
    case(two_sizes, 3, "b.png", "32 x 32", "48 x 48"),
    case(jpeg, 3, "face.jpg", "PNG", "JPEG"),
    case(empty_folder, 3, "batch", "expected at least one image", "got none"),
    case(path_out_of_the_archive, 3, "../face.png", "expected", "leads out"),
    case(zip_bomb, 3, "face.png", "expected at most 67108864 bytes", "got more"),
    case(unreadable, 3, "--batch", "/batch", "is not readable"),
    case(unreadable_part, 3, "inner", "expected a folder that can be read", "Permission denied"),
    case(changed_record, 3, "00000001.png", "expected pixel hash", "got"),
    case(wrong_passphrase, 5, "passphrase", "expected", "got"),
    case(node_down, 4, "http://127.0.0.1:", "expected an answer", "Connection refused", "--resume"),
    case(peer_of_another_network, 5, "expected network", "got"),
    case(bad_toml, 3, "config.toml", "expected TOML", "line 1"),
    case(unknown_key, 3, "config.toml", "'minig'", "did you mean"),
    case(wrong_type, 3, "config.toml", "max_inbound", "expected", "'many'"),
    case(taken_peer_port, 5, "127.0.0.1:", "expected a free address", "in use", "choose another"),
    case(taken_api_port, 5, "127.0.0.1:", "expected a free address", "in use", "choose another"),
    case(store_of_another_network, 5, "expected", "got"),
    case(store_in_use, 5, "in use by process", "choose another --data-dir"),
    case(truncated_store, 2, "store", "expected", "got"),
    case(store_of_zeros, 2, "store", "expected", "got"),
    case(no_genesis, 3, "none.json", "expected", "got nothing", "network init"),
    case(damaged_genesis, 2, "genesis.json", "expected", "got"),
    case(garbage_text, 3, "expected an image file or 64 hex digits", "'what is this'"),
    case(garbage_file, 3, "face.png", "expected", "got"),
    case(garbage_proof, 3, "face.fcproof", "expected", "got"),
)


def obey_permissions() -> None:
    """Take from root what would let it read everything, so that a mode of 0 means something."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.make.__name__)
def test_bad_input_is_one_clear_line(world: World, bad: Case) -> None:
    arguments = bad.make(world)
    done = call(world, arguments, prepare=obey_permissions, FACECHAIN_PASSPHRASE="not the one")
    assert done.returncode == bad.code, done.stderr
    assert done.stdout == ""
    line = error_line(done)
    assert not [word for word in bad.words if word not in line], line
    assert still_there(world)


def still_there(world: World) -> bool:
    """Tell whether the node still has what it acknowledged first."""

    async def ask() -> bool:
        async with NodeClient(world.node.api) as client:
            return (await client.statement(world.batch)).confirmations > 0

    return asyncio.run(ask())


def test_an_unknown_hash_is_not_found(world: World) -> None:
    done = call(world, world.audit(UNKNOWN))
    assert (done.returncode, done.stderr) == (1, "")
    assert "NOT FOUND" in done.stdout
    assert UNKNOWN in done.stdout


def small_files_only() -> None:
    """Let the disk be full from the second KiB of every file on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_024, resource.RLIM_INFINITY))


def test_a_full_disk_is_one_clear_line_and_the_batch_goes_through_later(world: World) -> None:
    folder = world.root / "many"
    folder.mkdir()
    for number in range(10, 40):
        (folder / f"{number}.png").write_bytes(make_picture(number).data)
    done = call(world, world.submit(folder), prepare=small_files_only)
    assert done.returncode == 5, done.stderr
    assert "outbox" in error_line(done)
    done = call(world, world.submit(folder, "--wait", "1", "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 30
    assert still_there(world)


SKEWED = """
import sys, time
now, skew = time.time_ns, int(sys.argv.pop(1))
time.time_ns = lambda: now() + skew
time.time = lambda: time.time_ns() / 1e9
from facechain.cli.main import main
main()
"""


def test_a_clock_that_is_an_hour_behind_is_told(world: World) -> None:
    folder = world.root / "node"
    command = world.start(folder, "--peers", world.node.peer)
    with (world.root / "output").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", SKEWED, str(-HOUR_NS), *command],
            env=clean_environment(),
            stdout=output,
            stderr=output,
        )
        try:
            line = wait_until(
                lambda: next(iter(re.findall(r".*clock.*", (world.root / "output").read_text())), None),
                seconds=SECONDS,
                what="a word on the clock",
            )
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
    assert "WARNING" in line
    assert int(re.findall(r"got (\d+) s", line)[0]) > LIKE_AN_HOUR_SECONDS, line
    assert "Traceback" not in (world.root / "output").read_text()
    assert still_there(world)


def test_nothing_acknowledged_is_lost_when_the_node_dies_after_its_word(
    shared: World, tmp_path: Path
) -> None:
    folder = tmp_path / "late"
    folder.mkdir()
    (folder / "face.png").write_bytes(make_picture(99).data)
    done = call(shared, shared.submit(folder, "--json"))
    assert done.returncode == 0, done.stderr
    assert shared.node.end(signal.SIGKILL) == -signal.SIGKILL
    shutil.rmtree(shared.network.wallet.root / "outbox")
    with shared.node:
        wait_until(
            lambda: call(shared, shared.audit(folder / "face.png")).returncode == 0,
            seconds=20,
            what="the batch that was acknowledged is registered",
        )
        assert still_there(shared)
