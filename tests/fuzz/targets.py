"""The one table of targets: every decoder of the project by name.

Owns the families (modules that are imported only when one of their targets runs) and where an input is kept:
`corpus/NAME.xz` holds what the fuzzer found worth keeping, `regressions/NAME/` what once broke a target.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgpack

from .target import Target

FAMILIES: Final = ("consensus", "node", "file", "producer")
"""Prefixes of the modules that hold targets."""

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
REGRESSIONS: Final = HERE / "regressions"


def family(name: str) -> Mapping[str, Target]:
    """Return the targets of one family by name."""
    found: tuple[Target, ...] = import_module(f"fuzz.{name}_targets").TARGETS
    return MappingProxyType({target.name: target for target in found})


def all_targets() -> Mapping[str, Target]:
    """Return every target by name, in the order of the families."""
    return MappingProxyType({name: target for each in FAMILIES for name, target in family(each).items()})


def kept_inputs(name: str) -> list[bytes]:
    """Return the corpus of a target and what once broke it."""
    return [*read_corpus(name), *(path.read_bytes() for path in sorted((REGRESSIONS / name).glob("*")))]


def read_corpus(name: str) -> list[bytes]:
    """Return the inputs in a target's archive, none when there is none."""
    path = CORPUS / f"{name}.xz"
    if not path.exists():
        return []
    inputs: list[bytes] = msgpack.unpackb(lzma.decompress(path.read_bytes()))
    return inputs


def write_corpus(name: str, inputs: list[bytes]) -> None:
    """Replace a target's archive: one MessagePack array, packed as a whole since inputs resemble each other."""
    CORPUS.mkdir(exist_ok=True)
    ordered = sorted(set(inputs), key=lambda item: (len(item), item))
    (CORPUS / f"{name}.xz").write_bytes(lzma.compress(msgpack.packb(ordered), preset=9 | lzma.PRESET_EXTREME))
