import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from facechain.consensus.image import decode_image
from facechain.consensus.latent import latent_integers
from facechain.gan.checkpoints import LoadedGenerator
from facechain.gan.device import Device
from facechain.gan.errors import ConfigError
from facechain.gan.generation import Renderer, encode_png, write_images
from facechain.gan.latents import derive_seed, latent_batch, parse_seed

SEED = bytes(range(32))
SCRIPT = """
import sys
import threading
from pathlib import Path
from facechain.gan.checkpoints import load_generator
from facechain.gan.device import open_device
from facechain.gan.generation import Renderer, write_images
import torch
torch.set_num_threads(int(sys.argv[3]))
renderer = Renderer(load_generator(Path(sys.argv[1])), seed=bytes(range(32)),
                    device=open_device("cpu", bf16=False), micro_batch=16)
write_images(renderer, Path(sys.argv[2]), count=20)
"""


def test_vectorised_latents_are_the_protocols() -> None:
    indices = [0, 1, 2, 63, 64, 1_000_000, 2**32 - 1]
    found = latent_batch(SEED, indices, 100)
    assert found.dtype == np.float32
    for row, index in zip(found, indices, strict=True):
        exact = [value / 65_536 for value in latent_integers(SEED, index, 100)]
        assert row.astype(np.float64).tolist() == exact


def test_latents_are_close_to_normal() -> None:
    found = latent_batch(SEED, range(500), 100)
    assert abs(float(found.mean())) < 0.02
    assert abs(float(found.std()) - 1) < 0.02


def test_seeds_from_text() -> None:
    assert parse_seed("ab" * 32) == bytes.fromhex("ab" * 32)
    assert len(parse_seed("7")) == 32
    assert parse_seed("7") != parse_seed("8")
    assert len(parse_seed("zz" * 32)) == 32
    assert derive_seed(SEED, "a") != derive_seed(SEED, "b")
    with pytest.raises(ConfigError):
        parse_seed("")


def test_an_image_does_not_depend_on_which_others_are_wanted(loaded: LoadedGenerator, cpu: Device) -> None:
    renderer = Renderer(loaded, seed=SEED, device=cpu, micro_batch=16)
    everything = {index: pixels.tobytes() for index, pixels in renderer.render(range(40))}
    some = {index: pixels.tobytes() for index, pixels in renderer.render([3, 17, 39])}
    assert some == {index: everything[index] for index in (3, 17, 39)}
    assert len(set(everything.values())) == 40


def test_workers_change_the_order_of_work_and_nothing_else(loaded: LoadedGenerator, cpu: Device) -> None:
    one, three = (
        Renderer(loaded, seed=SEED, device=cpu, micro_batch=4, workers=workers) for workers in (1, 3)
    )
    indices = [*range(5), 9, *range(20, 41)]
    alone, together = ([(i, p.tobytes()) for i, p in r.render(indices)] for r in (one, three))
    assert together == alone


def test_who_stops_listening_stops_the_rendering(loaded: LoadedGenerator, cpu: Device) -> None:
    rendered = Renderer(loaded, seed=SEED, device=cpu, micro_batch=1, workers=2).render(range(100_000))
    assert next(rendered)[0] == 0
    rendered.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("render") for thread in threading.enumerate())


def test_renderer_refuses_disorder_and_bad_micro_batches(loaded: LoadedGenerator, cpu: Device) -> None:
    renderer = Renderer(loaded, seed=SEED, device=cpu)
    for indices in ([2, 1], [1, 1], [-1], [2**32 - 1, 2**32]):
        wrong = f"expected ascending ones from 0 to 4294967295, got {indices[0]} to {indices[-1]}"
        with pytest.raises(ConfigError, match=wrong):
            list(renderer.render(indices))
    with pytest.raises(ConfigError, match="micro-batch"):
        Renderer(loaded, seed=SEED, device=cpu, micro_batch=0)


def test_two_processes_write_the_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    for name, threads in (("a", "1"), ("b", "2")):
        subprocess.run(
            [
                sys.executable,
                "-c",
                SCRIPT,
                str(run_folder / "generator.safetensors"),
                str(tmp_path / name),
                threads,
            ],
            check=True,
            timeout=60,
            env={"PYTHONPATH": str(Path(__file__).parents[3] / ".layout"), "PATH": "/usr/bin:/bin"},
        )
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 21
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_written_images_are_lossless_and_listed(loaded: LoadedGenerator, cpu: Device, tmp_path: Path) -> None:
    renderer = Renderer(loaded, seed=SEED, device=cpu, micro_batch=8)
    write_images(renderer, tmp_path / "out", count=5, first=6)
    files = sorted((tmp_path / "out").glob("*.png"))
    assert [file.name for file in files] == [f"{index:08d}.png" for index in range(6, 11)]
    for file, (_, pixels) in zip(files, renderer.render(range(6, 11)), strict=True):
        assert decode_image(file.read_bytes()).rgb == pixels.tobytes()
        assert file.read_bytes() == encode_png(pixels)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [item["size"] for item in manifest["objects"]] == [file.stat().st_size for file in files]
    with pytest.raises(ConfigError, match="holds images"):
        write_images(renderer, tmp_path / "out", count=1)
