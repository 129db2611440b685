"""Joins an evaluation with an earlier one of the same generator, as when a slow network is asked with fewer faces.

Each figure says its own number of images, so those of two evaluations can stand in one document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..documents import read_document
from ..errors import ReportError
from .evaluate import REPORT_FILE, Evaluation
from .judgement import Judgement
from .measure import Measure

SAME: Final = ("generator_sha256", "data_sha256", "split", "resizer", "seed")
"""What two evaluations have to agree on."""


def join_earlier(found: Evaluation, earlier: Mapping[str, Any]) -> Evaluation:
    """`found` with the figures of an earlier document that `found` has not itself, before its own.

    Raises:
        ReportError: the document is damaged, or of another generator, data set, split or seed.
    """
    for name in SAME:
        if earlier.get(name) != found.facts[name]:
            raise ReportError(
                f"the earlier evaluation is of another {name}",
                expected=str(found.facts[name]),
                got=str(earlier.get(name)),
            )
    own = {measure.name for measure in found.measures}
    told = earlier.get("discriminator")
    try:
        measures = [Measure.from_json(item) for item in earlier["measures"]]
        judgement = Judgement.from_json(told) if isinstance(told, dict) else None
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(
            "the earlier evaluation is damaged", expected="what evaluate --out wrote", got=repr(error)
        ) from error
    kept = tuple(measure for measure in measures if measure.name not in own)
    return replace(found, measures=(*kept, *found.measures), judgement=found.judgement or judgement)


def read_earlier(folder: Path) -> dict[str, Any]:
    """The document that `evaluate --out` wrote into a folder.

    Raises:
        ReportError: there is none, or it is damaged.
    """
    document = read_document(folder / REPORT_FILE)
    if document is None:
        raise ReportError("no earlier evaluation", expected=f"a folder with {REPORT_FILE}", got=str(folder))
    return document
