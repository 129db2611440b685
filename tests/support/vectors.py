"""Published and golden test vectors: JSON files in tests/vectors, each naming its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

VECTORS: Final = Path(__file__).parent.parent / "vectors"


def load(name: str) -> dict[str, Any]:
    """Return tests/vectors/`name`.json."""
    content: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return content
