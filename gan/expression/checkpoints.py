"""A classifier as one safetensors file that describes itself: configuration, training and selection inside.

Kernels and matrices are stored as float16, the small vectors (biases, normalisation) as float32. What is measured
is what was read back, so a number belongs to the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..checkpoints import METADATA_KEY, READABLE, write_atomically
from ..errors import CheckpointError
from .classes import CLASSES
from .config import ExpressionConfig, from_json, to_json
from .network import ExpressionClassifier

FORMAT: Final = "facechain-expression-1"
EXPRESSION_FILE: Final = "expression.safetensors"
EMBEDDED: Final = Path(__file__).parent.parent / "assets" / EXPRESSION_FILE
MAX_FILE_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedClassifier:
    """A classifier ready to use, with what its file says about it."""

    module: ExpressionClassifier
    config: ExpressionConfig
    images_seen: int
    training_digest: str
    """SHA-256 over the data set that it was trained on, hex."""
    digest: bytes
    """SHA-256 of the file, 32 bytes: names the exact weights."""
    path: Path


def save_classifier(
    path: Path, module: torch.nn.Module, config: ExpressionConfig, *, images_seen: int, training_digest: str
) -> None:
    """Write a classifier and its configuration as safetensors."""
    tensors = {name: _stored(value).cpu().contiguous() for name, value in module.state_dict().items()}
    about = {
        "format": FORMAT,
        "classes": list(CLASSES),
        "config": json.loads(to_json(config)),
        "images_seen": images_seen,
        "training_digest": training_digest,
    }
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    path.chmod(READABLE)


def load_classifier(path: Path | None) -> LoadedClassifier:
    """Read a classifier file or the one of a run folder, in float32 on the CPU; None is the embedded one.

    Raises:
        CheckpointError: the file is missing, damaged, or of another format.
    """
    chosen = EMBEDDED if path is None else path
    if chosen.is_dir():
        chosen = chosen / EXPRESSION_FILE
    try:
        if chosen.stat().st_size > MAX_FILE_BYTES:
            raise CheckpointError(
                "classifier file too large", expected=f"at most {MAX_FILE_BYTES} bytes", got=str(chosen)
            )
        digest = hashlib.sha256(chosen.read_bytes()).digest()
        with safe_open(chosen, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            "cannot read the classifier", expected="a safetensors file", got=f"{chosen}: {error}"
        ) from error
    about = _read_metadata(chosen, metadata)
    config = from_json(json.dumps(about.get("config")))
    module = ExpressionClassifier(config.classifier)
    try:
        module.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{chosen} does not fit its own configuration", got=str(error)) from error
    module.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    return LoadedClassifier(
        module=module,
        config=config,
        images_seen=int(str(about.get("images_seen", 0))),
        training_digest=str(about.get("training_digest", "")),
        digest=digest,
        path=chosen,
    )


def _stored(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() and value.ndim > 1 else value


def _read_metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, object]:
    try:
        about: object = json.loads(metadata.get(METADATA_KEY, "null"))
    except ValueError:
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no expression classifier", expected=FORMAT, got="other metadata")
    if about.get("classes") != list(CLASSES):
        raise CheckpointError(
            f"{path} tells other classes apart", expected=", ".join(CLASSES), got=str(about.get("classes"))
        )
    return about
