"""The page: one HTML file that needs nothing else, on a screen and on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...consensus.kinds import StageType
from .checklist import PARTS, answers
from .claims import CLAIMS, Claim
from .collect import Gathered
from .mining import rows as mining_rows
from .published import PUBLISHED
from .tables import (
    codec_of,
    judgement_of,
    list_of,
    matrix_rows,
    measures_of,
    pixel_lines,
    show_measure,
    spaces_of,
    uaci_lines,
    verdict_lines,
)

TEMPLATE = "report.html"
NOT_MEASURED = "not measured"
SECTIONS = (
    ("statements", "The paper's statements, and this run"),
    ("checklist", "The paper's figures and tables, one by one"),
    ("faces", "Faces"),
    ("training", "Training and its cost"),
    ("measured", "Distances in features"),
    ("discriminator", "The discriminator, from one matrix"),
    ("pixels", "Pixels"),
    ("others", "What others published"),
    ("speed", "Speed"),
    ("clusters", "Clusters"),
    ("ablation", "Ablation"),
    ("privacy", "Privacy"),
    ("expression", "Expression"),
    ("mining", "Mining"),
    ("ledger", "On the ledger"),
)
"""Id and heading of each section, in order; the table of contents has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A claim and what stands against it here."""

    claim: Claim
    ours: tuple[str, ...]


def render(gathered: Gathered) -> str:
    """The whole page."""
    evaluation = gathered.evaluation
    judgement = judgement_of(evaluation)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            data=gathered,
            sections=SECTIONS,
            headings=dict(SECTIONS),
            how=PARTS,
            rows=[Row(claim=claim, ours=tuple(_answers(claim, gathered))) for claim in CLAIMS],
            checklist=answers(present_parts(gathered)),
            measures=[measure for measure in measures_of(evaluation) if "space" in measure],
            spaces=spaces_of(evaluation),
            judgement=judgement,
            matrix=matrix_rows(judgement) if judgement else (),
            verdicts=verdict_lines(judgement) if judgement else (),
            pixels=pixel_lines(evaluation),
            uaci=uaci_lines(evaluation),
            published=PUBLISHED,
            speed=list_of(evaluation, "speed"),
            codec=codec_of(evaluation),
            mining=_mining(gathered),
            privacy=gathered.stage(StageType.PRIVACY),
            filter=gathered.stage(StageType.FILTER),
            clustering=gathered.stage(StageType.CLUSTERING),
        )
    )


def present_parts(gathered: Gathered) -> frozenset[str]:
    """Which of `checklist.PARTS` a page of this has."""
    pictures, evaluation = gathered.pictures, gathered.evaluation
    there = {
        "claims": True,
        "others": True,
        "beside": "samples" in pictures and "real" in pictures,
        "cost": gathered.cost,
        "distances": any(item["name"].startswith(("fid", "fd_")) for item in measures_of(evaluation)),
        "pixels": pixel_lines(evaluation),
        "matrix": judgement_of(evaluation),
        "speed": list_of(evaluation, "speed"),
        "codec": codec_of(evaluation),
        "clustering": gathered.clustered,
        "ablation": gathered.ablation,
        "privacy": gathered.stage(StageType.PRIVACY),
        "expression": gathered.expressions,
        "mining": gathered.mined,
        "trail": gathered.trail,
    }
    return frozenset(name for name in PARTS if there.get(name, name in pictures))


def _answers(claim: Claim, gathered: Gathered) -> Iterable[str]:
    found: list[str] = []
    for pattern in claim.figures:
        found += _figures(pattern, gathered)
    return found or ([NOT_MEASURED] if claim.figures else ["—"])


def _figures(pattern: str, gathered: Gathered) -> list[str]:
    if pattern == "discriminator":
        return _verdict_words(gathered)
    if pattern in _WORDS:
        found = _WORDS[pattern](gathered)
        return [found] if found else []
    if pattern == "speed":
        return [
            f"{item['latency_ms']} ms a call of {item['batch']} ({item['images_per_second']:,} images/s)"
            for item in list_of(gathered.evaluation, "speed")
        ]
    return [
        show_measure(measure)
        for measure in measures_of(gathered.evaluation)
        if measure["name"] == pattern or (pattern.endswith("*") and measure["name"].startswith(pattern[:-1]))
    ]


def _verdict_words(gathered: Gathered) -> list[str]:
    told = judgement_of(gathered.evaluation)
    if told is None:
        return []
    return [
        *(f"{name} {told[name]['value']}" for name in ("accuracy", "precision", "recall")),
        f"F1 {told['f1']}, area {told['auc']['value']}",
    ]


def _training_words(gathered: Gathered) -> str:
    cost = gathered.cost
    if cost is None:
        return ""
    return f"{cost.images:,} images in {cost.hours:.2f} h, {cost.images_per_second:,.0f} a second"


def _codec_words(gathered: Gathered) -> str:
    codec = codec_of(gathered.evaluation)
    if codec is None:
        return ""
    return (
        f"PNG: {codec['png_encode_ms']} ms to encode, {codec['png_decode_ms']} ms to decode; commitment "
        f"{codec['commit_ms']} ms an image"
    )


def _mining_words(gathered: Gathered) -> str:
    mined = gathered.mined
    if mined is None:
        return ""
    each = mined.seconds * 1000 / len(mined.block_seconds)
    return f"{each:.1f} ms a block at {mined.zero_digits} zeros, {mined.hashes_per_second / 1e6:.2f} million hashes/s"


def _clustering_words(gathered: Gathered) -> str:
    told = gathered.clustered
    if told is None:
        return ""
    return f"{told.images:,} images into {told.clusters} in {told.seconds:.2f} s ({told.processor_seconds:.2f} s of processor time)"


def _stage_words(kind: StageType, gathered: Gathered) -> str:
    record = gathered.stage(kind)
    return record.name if record else ""


_WORDS: Final[Mapping[str, Callable[[Gathered], str]]] = {
    "training": _training_words,
    "codec": _codec_words,
    "mining": _mining_words,
    "clustering": _clustering_words,
    "privacy": lambda gathered: _stage_words(StageType.PRIVACY, gathered),
    "expression": lambda gathered: (
        f"predicted of {gathered.expressions.n} faces: see Expression" if gathered.expressions else ""
    ),
}


def _mining(gathered: Gathered) -> tuple[tuple[str, str], ...]:
    if gathered.mined is None:
        return ()
    statements = len(gathered.anchored) + len(gathered.parts)
    return mining_rows(gathered.mined, statements=statements, heights=gathered.heights)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = show_measure
    return environment
