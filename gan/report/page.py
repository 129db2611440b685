"""The page: one HTML file that needs nothing else, on a screen and on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...consensus.kinds import StageType
from .claims import CLAIMS, Claim
from .collect import Gathered

TEMPLATE = "report.html"
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A claim and what stands against it here."""

    claim: Claim
    ours: tuple[str, ...]


def render(gathered: Gathered) -> str:
    """The whole page."""
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            data=gathered,
            rows=[Row(claim=claim, ours=tuple(_answers(claim, gathered))) for claim in CLAIMS],
            measures=_measures(gathered.evaluation),
            judgement=_judgement(gathered.evaluation),
            speed=_list(gathered.evaluation, "speed"),
            privacy=gathered.stage(StageType.PRIVACY),
            filter=gathered.stage(StageType.FILTER),
            clustering=gathered.stage(StageType.CLUSTERING),
            training=gathered.stage(StageType.TRAINING),
        )
    )


def _answers(claim: Claim, gathered: Gathered) -> Iterable[str]:
    found: list[str] = []
    for pattern in claim.figures:
        found += _figures(pattern, gathered)
    return found or ([NOT_MEASURED] if claim.figures else ["—"])


def _figures(pattern: str, gathered: Gathered) -> list[str]:
    if pattern == "training":
        cost = gathered.cost
        return (
            [f"{cost.images:,} images in {cost.hours:.2f} h, {cost.images_per_second:,.0f} a second"]
            if cost
            else []
        )
    if pattern == "discriminator":
        told = _judgement(gathered.evaluation)
        if told is None:
            return []
        names = ("accuracy", "precision", "recall")
        return [*(f"{name} {told[name]['value']}" for name in names), f"F1 {told['f1']}, area {told['auc']}"]
    if pattern == "speed":
        return [
            f"{item['latency_ms']} ms a call of {item['batch']} ({item['images_per_second']:,} images/s)"
            for item in _list(gathered.evaluation, "speed")
        ]
    if pattern in ("clustering", "privacy"):
        record = gathered.stage(StageType.CLUSTERING if pattern == "clustering" else StageType.PRIVACY)
        return [record.name] if record else []
    return [
        show_measure(measure)
        for measure in _measures(gathered.evaluation)
        if measure["name"] == pattern or (pattern.endswith("*") and measure["name"].startswith(pattern[:-1]))
    ]


def show_measure(measure: Mapping[str, Any]) -> str:
    """One figure in a line."""
    interval = measure.get("interval")
    between = f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
    against = f" against {measure['right']}" if measure.get("right") else ""
    stamp = f" — {measure['stamp']}" if measure.get("stamp") else ""
    return f"{measure['name']} {measure['value']:.4g}{between}: {measure['left']}{against}{stamp}"


def _measures(evaluation: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    return _list(evaluation, "measures")


def _judgement(evaluation: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    told = evaluation.get("discriminator") if evaluation else None
    return told if isinstance(told, dict) else None


def _list(evaluation: Mapping[str, Any] | None, name: str) -> Sequence[Mapping[str, Any]]:
    found = evaluation.get(name) if evaluation else None
    return found if isinstance(found, list) else ()


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
