"""Checkpoints: a generator as safetensors that describes itself, and the full training state.

A training state holds tensors and plain values only and is loaded with `weights_only=True`.
Every file is written beside its final name and renamed, so a killed run leaves no torn file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import TrainingConfig, from_json, to_json
from .errors import CheckpointError, ConfigError
from .networks import make_generator

FORMAT = "facechain-generator-1"
METADATA_KEY = "facechain"
"""All in one entry: safetensors writes several in an order that changes from run to run."""
GENERATOR_FILE = "generator.safetensors"
STATE_FILE = "train_state.pt"
CHECKPOINTS = "checkpoints"
KEPT_STATES = 2
NAME_DIGITS = 9
READABLE = 0o644
"""Generators are published; safetensors would leave them to their owner alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A network's weights, in float32 on the CPU, and what their file says about them."""

    about: Mapping[str, object]
    weights: Mapping[str, Tensor]
    digest: bytes
    """SHA-256 of the file, 32 bytes."""
    path: Path

    def fill(self, module: torch.nn.Module) -> None:
        """Put the weights into a module that only infers from now on.

        Raises:
            CheckpointError: they are not those of such a module.
        """
        try:
            module.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path} does not fit its own configuration", got=str(error)
            ) from error
        module.eval().requires_grad_(requires_grad=False)


def write_model(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Write weights as safetensors with a description; its `format` is what `read_model` asks for."""
    tensors = {name: value.cpu().contiguous() for name, value in weights.items()}
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    path.chmod(READABLE)


def read_model(path: Path, *, what: str, form: str) -> ModelFile:
    """Read a file of `write_model` whose format is `form`; `what` names its content in errors.

    Raises:
        CheckpointError: the file is missing, damaged, or of another format.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot read the {what}", expected="a safetensors file", got=f"{path}: {error}"
        ) from error
    try:
        about: object = json.loads(metadata.get(METADATA_KEY, "null"))
    except ValueError:
        about = None
    if not isinstance(about, dict) or about.get("format") != form:
        raise CheckpointError(f"{path} is no {what}", expected=form, got="other metadata")
    widened = {n: value.float() if value.is_floating_point() else value for n, value in weights.items()}
    return ModelFile(about=about, weights=widened, digest=digest, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedGenerator:
    """A generator ready to use, with what its file says about it."""

    module: torch.nn.Module
    config: TrainingConfig
    images_seen: int
    digest: bytes
    """SHA-256 of the checkpoint file, 32 bytes: names the exact weights."""
    path: Path


def save_generator(
    path: Path,
    module: torch.nn.Module,
    config: TrainingConfig,
    *,
    images_seen: int,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a generator and its configuration as safetensors."""
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    about = {"format": FORMAT, "config": json.loads(to_json(config)), "images_seen": images_seen}
    write_model(path, weights, about)


def load_generator(path: Path) -> LoadedGenerator:
    """Read a generator for inference, in float32 on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or of another format.
    """
    found = read_model(path, what="generator", form=FORMAT)
    config = from_json(json.dumps(found.about.get("config")))
    module = make_generator(config.generator)
    found.fill(module)
    return LoadedGenerator(
        module=module,
        config=config,
        images_seen=int(str(found.about.get("images_seen", 0))),
        digest=found.digest,
        path=path,
    )


def checkpoint_folder(run: Path, images_seen: int) -> Path:
    """Folder of the checkpoint taken after so many images."""
    return run / CHECKPOINTS / f"{images_seen:0{NAME_DIGITS}d}"


def save_state(path: Path, state: Mapping[str, object]) -> None:
    """Write a training state (tensors and plain values)."""
    write_atomically(path, lambda temporary: torch.save(dict(state), temporary))


def load_state(path: Path) -> dict[str, object]:
    """Read a training state without running any code from it."""
    try:
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen unrelated types for a damaged file
        raise CheckpointError("cannot read the training state", got=f"{path}: {error}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError("not a training state", expected="a dictionary", got=str(path))
    return loaded


def newest_state(run: Path) -> Path | None:
    """The latest training state of a run, if there is one."""
    found = sorted((run / CHECKPOINTS).glob(f"*/{STATE_FILE}"))
    return found[-1] if found else None


def state_to_resume(run: Path, *, resume: bool) -> Path | None:
    """The training state that a run goes on from, None for a run that begins.

    Raises:
        ConfigError: the folder holds a run and is to get a new one, or holds none and is to go on.
    """
    newest = newest_state(run)
    if newest is not None and not resume:
        raise ConfigError(
            "the run folder holds a run",
            expected="a new folder",
            got=str(run),
            hint="add --resume to continue it",
        )
    if newest is None and resume:
        raise ConfigError(
            "there is nothing to resume",
            expected="a run folder with a checkpoint",
            got=f"none in {run}",
            hint="check --out, or leave --resume out to start",
        )
    return newest


def drop_old_states(run: Path) -> None:
    """Keep the newest few training states; the (small) generators all stay."""
    for old in sorted((run / CHECKPOINTS).glob(f"*/{STATE_FILE}"))[:-KEPT_STATES]:
        old.unlink()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary sibling of `path`, sync it, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def state_tensors(state: Mapping[str, object], name: str) -> dict[str, Tensor]:
    """A named state dictionary inside a training state."""
    found = state.get(name)
    if not isinstance(found, dict):
        raise CheckpointError("training state lacks a part", expected=name, got=str(sorted(state)))
    return found
