"""A classifier as one safetensors file that describes itself: configuration, training and selection inside.

Kernels and matrices are stored as float16, the small vectors (biases, normalisation) as float32. What is measured
is what was read back, so a number belongs to the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from ..checkpoints import read_model, write_model
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
    about = {
        "format": FORMAT,
        "classes": list(CLASSES),
        "config": json.loads(to_json(config)),
        "images_seen": images_seen,
        "training_digest": training_digest,
    }
    write_model(path, {name: _stored(value) for name, value in module.state_dict().items()}, about)


def load_classifier(path: Path | None) -> LoadedClassifier:
    """Read a classifier file or the one of a run folder, in float32 on the CPU; None is the embedded one.

    Raises:
        CheckpointError: the file is missing, damaged, or of another format.
    """
    chosen = EMBEDDED if path is None else path
    if chosen.is_dir():
        chosen = chosen / EXPRESSION_FILE
    _check_size(chosen)
    found = read_model(chosen, what="expression classifier", form=FORMAT)
    if found.about.get("classes") != list(CLASSES):
        raise CheckpointError(
            f"{chosen} tells other classes apart",
            expected=", ".join(CLASSES),
            got=str(found.about.get("classes")),
        )
    config = from_json(json.dumps(found.about.get("config")))
    module = ExpressionClassifier(config.classifier)
    found.fill(module)
    return LoadedClassifier(
        module=module.to(memory_format=torch.channels_last),
        config=config,
        images_seen=int(str(found.about.get("images_seen", 0))),
        training_digest=str(found.about.get("training_digest", "")),
        digest=found.digest,
        path=chosen,
    )


def _check_size(path: Path) -> None:
    if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
        raise CheckpointError(
            "classifier file too large", expected=f"at most {MAX_FILE_BYTES} bytes", got=str(path)
        )


def _stored(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() and value.ndim > 1 else value
