"""The seven classes of FER2013 and their order, which is the order of every table and tensor here."""

from __future__ import annotations

from typing import Final

CLASSES: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Names by class number, as FER2013 counts them."""

CLASS_NUMBERS: Final = {name: number for number, name in enumerate(CLASSES)}
