"""The page's tables that put an evaluation beside the paper: verdicts, pixels, and every figure in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Evaluation = Mapping[str, Any]

VERDICTS: Final = (
    ("accuracy", ".947", ".9895"),
    ("precision", ".948", ".9879"),
    ("recall", ".938", ".9914"),
    ("f1", ".943", ".9897"),
    ("auc", ".991", "not to be had from a matrix"),
)
"""Name, as the paper prints it, and as it follows from the matrix that the paper prints."""

STATISTICS: Final = (
    ("mean", "close"),
    ("deviation", "62.17 and 61.93"),
    ("skewness", "close"),
    ("kurtosis", "close"),
    ("entropy", "7.28 ± .17 and 7.31 ± .19"),
)
"""Name, and what is known of the paper's figures for generated and real images."""
PAIRS: Final = ("real-real", "real-fake", "fake-fake")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of the confusion matrix."""

    count: int
    share: float
    """Of its row, 0..1."""

    @property
    def shade(self) -> int:
        """How dark it is drawn, in percent."""
        return round(self.share * 70)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """One row of the confusion matrix."""

    truth: str
    told_real: Cell
    told_fake: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of texts."""

    name: str
    cells: tuple[str, ...]


def measures_of(evaluation: Evaluation | None) -> Sequence[Mapping[str, Any]]:
    """All measures; none without an evaluation."""
    return list_of(evaluation, "measures")


def judgement_of(evaluation: Evaluation | None) -> Mapping[str, Any] | None:
    """The discriminator's verdicts; None where they were not taken."""
    told = evaluation.get("discriminator") if evaluation else None
    return told if isinstance(told, dict) else None


def list_of(evaluation: Evaluation | None, name: str) -> Sequence[Mapping[str, Any]]:
    """A list of the document; empty where it is not there."""
    found = evaluation.get(name) if evaluation else None
    return found if isinstance(found, list) else ()


def codec_of(evaluation: Evaluation | None) -> Mapping[str, Any] | None:
    """Times of PNG and commitment; None in documents from before they were taken."""
    told = evaluation.get("codec") if evaluation else None
    return told if isinstance(told, dict) else None


def show_measure(measure: Mapping[str, Any]) -> str:
    """One figure in a line."""
    against = f" against {measure['right']}" if measure.get("right") else ""
    stamp = f" — {measure['stamp']}" if measure.get("stamp") else ""
    return f"{measure['name']} {show_value(measure)}: {measure['left']}{against}{stamp}"


def show_value(measure: Mapping[str, Any]) -> str:
    """Value and interval."""
    interval = measure.get("interval")
    between = f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
    return f"{measure['value']:.4g}{between}"


def spaces_of(evaluation: Evaluation | None) -> tuple[tuple[str, str], ...]:
    """Each feature network with the hash of its weights, and its resizer; once each."""
    found = ((item["space"], item.get("resizer", "")) for item in measures_of(evaluation) if "space" in item)
    return tuple(dict.fromkeys(found))


def matrix_rows(judgement: Mapping[str, Any]) -> tuple[MatrixRow, ...]:
    """The confusion matrix, each cell with its share of the row."""
    rows = []
    for truth, key, of in (
        ("held-out people", "real", "held_out_real"),
        ("fresh fakes", "fake", "fresh_fakes"),
    ):
        counts = judgement["confusion"][key]
        whole = max(int(judgement[of]), 1)
        real, fake = (
            Cell(count=int(counts[name]), share=int(counts[name]) / whole) for name in ("real", "fake")
        )
        rows.append(MatrixRow(truth=f"{truth} ({judgement[of]:,})", told_real=real, told_fake=fake))
    return tuple(rows)


def verdict_lines(judgement: Mapping[str, Any]) -> tuple[Line, ...]:
    """Printed by the paper, following from its matrix, and of this run."""
    return tuple(
        Line(
            name={"f1": "F1", "auc": "area under the ROC curve"}.get(name, name),
            cells=(printed, follows, _verdict(judgement[name])),
        )
        for name, printed, follows in VERDICTS
    )


def pixel_lines(evaluation: Evaluation | None) -> tuple[Line, ...]:
    """Per statistic: the paper's, of generated faces, of real ones, and the effect size."""
    measures = measures_of(evaluation)
    lines = []
    for name, paper in STATISTICS:
        both = [measure for measure in measures if measure["name"] == f"pixel_{name}"]
        effect = [measure for measure in measures if measure["name"] == f"effect_{name}"]
        if len(both) == 2 and effect:
            cells = (paper, *(show_value(measure) for measure in (*both, *effect)))
            lines.append(Line(name=name, cells=cells))
    return tuple(lines)


def uaci_lines(evaluation: Evaluation | None) -> tuple[Line, ...]:
    """UACI of each kind of pairs, and the effect size against pairs of real faces."""
    measures = measures_of(evaluation)
    lines = []
    for kind in PAIRS:
        value, effect = (
            next((item for item in measures if item["name"] == name and item["left"].startswith(kind)), None)
            for name in ("uaci", "effect_uaci")
        )
        if value is not None:
            lines.append(
                Line(name=value["left"], cells=(show_value(value), show_value(effect) if effect else "—"))
            )
    return tuple(lines)


def _verdict(told: object) -> str:
    if not isinstance(told, dict):
        return str(told)
    low, high = told["interval"]
    return f"{told['value']} [{low}, {high}]"
