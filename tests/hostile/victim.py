"""`facechain` with some of its defences taken out, or with shorter times: what an attack is tried on to see it succeed.

    python victim.py NAME,NAME… node start …

The names are those of `defences.DEFENCES`. Without a name it is the plain command.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile.defences import DEFENCES


def main() -> None:
    """Change what is named, then run the command as it is."""
    for name in filter(None, sys.argv[1].split(",")):
        DEFENCES[name]()
    from facechain.cli.main import main as facechain

    sys.argv[:] = ["facechain", *sys.argv[2:]]
    facechain()


if __name__ == "__main__":
    main()
