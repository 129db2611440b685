"""The paper's figures and tables one by one: where the page answers each, or why it cannot.

The numbers 8, 10 and 11 of the figures 4 to 12 and 3 and 5 of the tables 3 to 8 are known to this project; what
else the paper shows is listed by its subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BY_SUBJECT: Final = "by subject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One figure, table or figure in prose."""

    number: str
    """As the paper has it, where that is known."""
    subject: str
    section: str
    """Id of the page's section that answers it; empty where nothing can."""
    part: str
    """Which part of that section has to be there (`PARTS`); empty where nothing can answer."""
    remark: str = ""
    """What stands there instead, or why nothing does."""


PARTS: Final = {
    "claims": "",
    "samples": "a run folder with samples (facechain train)",
    "beside": "facechain report --faces DATA",
    "losses": "a run folder with statistics (facechain train)",
    "cost": "a run folder with statistics (facechain train)",
    "distances": "facechain evaluate --data DATA --out DIR",
    "pixels": "facechain evaluate --data DATA --out DIR",
    "levels": "facechain evaluate --data DATA --out DIR",
    "matrix": "facechain evaluate --checkpoint RUN, with the training state in RUN",
    "roc": "facechain evaluate --checkpoint RUN, with the training state in RUN",
    "others": "",
    "speed": "facechain evaluate --data DATA --out DIR",
    "codec": "facechain evaluate --data DATA --out DIR",
    "clustering": "facechain produce --out BATCH, then report --batch BATCH",
    "scatter": "facechain produce --out BATCH, then report --batch BATCH",
    "medoids": "facechain produce --out BATCH, then report --batch BATCH",
    "sizes": "facechain produce --out BATCH, then report --batch BATCH",
    "ablation": "facechain ablation --out DIR, then report --ablation DIR",
    "privacy": "facechain privacy-report RUN --data DATA",
    "expression": "facechain produce --expression, then report --batch BATCH",
    "mining": "facechain report --mining-blocks N",
    "sheet": "facechain submit --batch BATCH --wait 1 --json > FILE, then report --batch BATCH --receipt FILE",
    "trail": "facechain submit --batch BATCH --wait 1 --json > FILE, then report --batch BATCH --receipt FILE",
}
"""What a page can hold, and how a part that is not there gets there."""

CHECKLIST: Final = (
    Item(
        number="figure 8",
        subject="confusion matrix of the discriminator",
        section="discriminator",
        part="matrix",
        remark="the printed one adds up to 202,599 as if no image were generated",
    ),
    Item(
        number="figure 10",
        subject="blocks with their faces beside height and hash",
        section="ledger",
        part="sheet",
        remark="also on the explorer's page of a block",
    ),
    Item(
        number="figure 11",
        subject="one image with its trail through the chain",
        section="ledger",
        part="trail",
        remark="also on the explorer's page of an image; facechain audit checks it",
    ),
    Item(
        number="tables 3 and 5",
        subject="FID and Inception score",
        section="measured",
        part="distances",
        remark="our sources cite both tables for these and for the training's length, not which has what",
    ),
    Item(
        number="tables 3 and 5",
        subject="training: 30 epochs, 8 h 27 min",
        section="training",
        part="cost",
    ),
    Item(number=BY_SUBJECT, subject="grid of generated faces", section="faces", part="samples"),
    Item(
        number=BY_SUBJECT,
        subject="generated faces beside real ones",
        section="faces",
        part="beside",
        remark="photographs of real people: only where the operator asks for them",
    ),
    Item(number=BY_SUBJECT, subject="curves of the training losses", section="training", part="losses"),
    Item(number=BY_SUBJECT, subject="histograms of levels", section="pixels", part="levels"),
    Item(
        number=BY_SUBJECT,
        subject="moments of the histograms, entropy, UACI",
        section="pixels",
        part="pixels",
        remark="effect sizes with intervals instead of p-values",
    ),
    Item(
        number=BY_SUBJECT,
        subject="accuracy, precision, recall and F1",
        section="discriminator",
        part="matrix",
        remark="all from the one matrix",
    ),
    Item(number=BY_SUBJECT, subject="ROC curve, area .991", section="discriminator", part="roc"),
    Item(
        number=BY_SUBJECT,
        subject="comparison with other models (StyleGAN 44.11, ProGAN 45.42)",
        section="others",
        part="others",
        remark="figures that others published, with their source; measured here is this run alone",
    ),
    Item(
        number=BY_SUBJECT,
        subject="time for an image, 24.8 ms",
        section="speed",
        part="speed",
        remark="for several sizes of a call",
    ),
    Item(
        number=BY_SUBJECT,
        subject="times to encode and decode, 11.6 and 18.2 ms",
        section="speed",
        part="codec",
        remark="there is no encoder in the method; the times of PNG and of the commitment stand under their names",
    ),
    Item(
        number=BY_SUBJECT,
        subject="reconstruction error, MSE .0037",
        section="",
        part="",
        remark="cannot be answered: an unconditional generator has no original that belongs to an image",
    ),
    Item(number=BY_SUBJECT, subject="scatter of the clusters", section="clusters", part="scatter"),
    Item(number=BY_SUBJECT, subject="faces of the clusters", section="clusters", part="medoids"),
    Item(number=BY_SUBJECT, subject="sizes of the clusters", section="clusters", part="sizes"),
    Item(
        number=BY_SUBJECT,
        subject="clustering of 202,599 images, 32 min",
        section="clusters",
        part="clustering",
        remark="for this run's batch, clustered once more; 202,599 images: docs/benchmarks.md",
    ),
    Item(
        number=BY_SUBJECT,
        subject="ablation, in prose",
        section="ablation",
        part="ablation",
        remark="trained with several seeds",
    ),
    Item(
        number=BY_SUBJECT,
        subject="mining, four zeros, 1 h 14 min",
        section="mining",
        part="mining",
        remark="hash rate, difficulty, blocks and time of this machine",
    ),
    Item(number=BY_SUBJECT, subject="privacy, anonymity", section="privacy", part="privacy"),
    Item(
        number=BY_SUBJECT,
        subject="seven expressions",
        section="expression",
        part="expression",
        remark="shares that a classifier predicts; an accuracy cannot be answered without labels",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An item, and whether this page answers it."""

    item: Item
    state: str
    """`here`, `not measured` or `cannot be answered`."""
    how: str
    """The command that adds what is not measured."""


def answers(present: frozenset[str]) -> tuple[Answer, ...]:
    """Every item against the parts that a page has."""
    return tuple(_answer(item, present) for item in CHECKLIST)


def _answer(item: Item, present: frozenset[str]) -> Answer:
    if not item.part:
        return Answer(item=item, state="cannot be answered", how="")
    if item.part in present:
        return Answer(item=item, state="here", how="")
    return Answer(item=item, state="not measured", how=PARTS[item.part])
