"""One target under atheris: python -m fuzz.process FAMILY TARGET [libFuzzer's arguments].

Owns the instrumentation, which must come before anything of the project is imported.
"""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from random import Random

import atheris


def main() -> None:
    """Fuzz until libFuzzer's limits; its last lines on stderr are the statistics."""
    family_name, name, *arguments = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.disable()
    with atheris.instrument_imports(include=["facechain"]):
        from fuzz.target import warm_up
        from fuzz.targets import family

        target = family(family_name)[name]
        warm_up(target)  # also imports what is imported late
    from fuzz.mutation import mutate
    from fuzz.target import check

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(target.form, data, random)[:max_size]

    def run(data: bytes) -> None:
        check(target, data)

    # libFuzzer starts itself again, through a shell, when it merges a corpus.
    itself = shlex.join([sys.executable, "-m", "fuzz.process", family_name, name])
    atheris.Setup([itself, *arguments], run, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
