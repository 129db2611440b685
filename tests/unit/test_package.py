"""The four folders are importable under one package, with one version."""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import facechain


def test_version_is_the_distributions() -> None:
    assert version("facechain-node") == facechain.__version__


@pytest.mark.parametrize("name", ["consensus", "node", "gan", "cli"])
def test_folder_is_a_subpackage(name: str) -> None:
    module = import_module(f"facechain.{name}")
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent.name == name
    assert module.__doc__
