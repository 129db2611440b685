"""What `facechain expression` prints: scores of labelled faces, distributions of faces without labels."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .output import columns, facts

if TYPE_CHECKING:
    from ..gan.expression.checkpoints import LoadedClassifier
    from ..gan.expression.distribution import Distribution
    from ..gan.expression.faces import LabelledFaces
    from ..gan.expression.scores import Scores

DIGITS = 4


def scores_content(scores: "Scores", faces: "LabelledFaces", loaded: "LoadedClassifier") -> dict[str, Any]:
    """Return the JSON form of an evaluation; n, accuracy and macro_f1 come first."""
    from ..gan.expression.faces import PREPARATION, SELECTION

    return {
        **headline(scores),
        "calibration_error": round(scores.calibration_error, DIGITS),
        "per_class": {
            item.name: {
                "n": item.support,
                **{key: round(getattr(item, key), DIGITS) for key in ("precision", "recall", "f1")},
            }
            for item in scores.per_class
        },
        "confusion": scores.confusion.tolist(),
        "usage": faces.usage_counts(),
        "chose_the_checkpoint": SELECTION in faces.usages and faces.digest == loaded.training_digest,
        "data_digest": faces.digest,
        "preparation": PREPARATION,
        "classifier_sha256": loaded.digest.hex(),
    }


def headline(scores: "Scores") -> dict[str, Any]:
    """Return what an evaluation comes down to."""
    return {
        "n": scores.n,
        "accuracy": round(scores.accuracy, DIGITS),
        "macro_f1": round(scores.macro_f1, DIGITS),
        "accuracy_interval_95": _rounded(scores.accuracy_interval),
        "macro_f1_interval_95": _rounded(scores.macro_f1_interval),
    }


def score_lines(scores: "Scores", content: dict[str, Any]) -> list[str]:
    """Return the tables of an evaluation for people."""
    names = [item.name for item in scores.per_class]
    classes = columns(
        ("class", "n", "precision", "recall", "F1"),
        (
            (item.name, str(item.support), *(_share(v) for v in (item.precision, item.recall, item.f1)))
            for item in scores.per_class
        ),
    )
    confusion = columns(
        ("label \\ predicted", *names),
        (
            (name, *(str(count) for count in row))
            for name, row in zip(names, scores.confusion.tolist(), strict=True)
        ),
    )
    summary = [
        ("images", scores.n),
        ("accuracy", _with_interval(scores.accuracy, scores.accuracy_interval)),
        ("macro-F1", _with_interval(scores.macro_f1, scores.macro_f1_interval)),
        ("calibration error", _share(scores.calibration_error)),
        ("classifier sha256", content["classifier_sha256"]),
    ]
    fresh = content.get("without_training_copies")
    if fresh is not None:
        copies = scores.n - fresh["n"]
        summary.append(("training copies", f"{copies} of these images are also in Training, pixel for pixel"))
        summary.append(("accuracy without", _with_interval(fresh["accuracy"], fresh["accuracy_interval_95"])))
        summary.append(("macro-F1 without", _with_interval(fresh["macro_f1"], fresh["macro_f1_interval_95"])))
    if content["chose_the_checkpoint"]:
        summary.append(("note", "these images chose the checkpoint, so unseen ones may score lower"))
    return [*classes, "", *confusion, "", *facts(summary)]


def distribution_content(found: "Distribution", classifier: bytes, written: list[str]) -> dict[str, Any]:
    """Return the JSON form of a distribution."""
    from ..gan.expression.distribution import NOTE

    return {
        "n": found.n,
        "confidence": round(found.confidence, DIGITS),
        "confidence_interval_95": _rounded(found.confidence_interval),
        "classes": {
            item.name: {
                key: _rounded(value) if isinstance(value, tuple) else round(value, DIGITS)
                for key, value in asdict(item).items()
                if key != "name"
            }
            for item in found.classes
        },
        "classifier_sha256": classifier.hex(),
        "written": written,
        "note": NOTE,
    }


def distribution_lines(found: "Distribution", content: dict[str, Any]) -> list[str]:
    """Return the table of a distribution for people."""
    table = columns(
        ("class", "mean probability", "95%", "most probable for", "share", "95%"),
        (
            (
                item.name,
                _share(item.probability),
                _interval(item.probability_interval),
                str(item.top),
                _share(item.top_share),
                _interval(item.top_share_interval),
            )
            for item in found.classes
        ),
    )
    summary = [
        ("images", found.n),
        ("mean confidence", _with_interval(found.confidence, found.confidence_interval)),
        ("classifier sha256", content["classifier_sha256"]),
        *(("written", path) for path in content["written"]),
        ("note", content["note"]),
    ]
    return [*table, "", *facts(summary)]


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]


def _share(value: float) -> str:
    return f"{value:.3f}"


def _interval(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f}–{pair[1]:.3f}"


def _with_interval(value: float, pair: Sequence[float]) -> str:
    return f"{_share(value)} (95%: {_interval(pair)})"
