"""The audit of one uploaded image against this node's chain: by its pixels, by its bytes, then by its look.

Owns the verdict that the audit page shows. It trusts this node's own chain; a proof that anybody can check
elsewhere is what `/v1/evidence` hands out.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ...consensus.image import (
    ImageRejected,
    decode_for_look,
    decode_image,
    file_hash,
    pixel_hash,
)
from ...consensus.perceptual import is_telling, perceptual_hash
from ..api.limits import (
    CLAIMS_MAX,
    IMAGE_PREVIEW_BYTES_MAX,
    LOOK_BITS,
    LOOK_MATCH_DISTANCE,
    LOOK_PAIRS_MEASURED,
)
from ..api.snapshot import Snapshot
from ..api.views.images import claim_view, nearest_looks

NEAREST_SHOWN: Final = 3


class Verdict(StrEnum):
    """What an audit says."""

    VERIFIED = "verified"
    ALTERED = "altered"
    NOT_FOUND = "not-found"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An uploaded file, looked at before the chain is asked."""

    file_hash: bytes
    pixel_hash: bytes | None
    """None when the file cannot be registered as it is."""
    look: bytes | None
    """None when no picture could be made of it."""
    width: int = 0
    height: int = 0
    rejected: str = ""
    """Why the file has no pixel hash."""
    preview: str = ""
    """The file as a data URL, when it is small."""


def examine(data: bytes) -> Upload:
    """Hash and decode an uploaded file. Never raises on hostile bytes."""
    try:
        pixels = decode_image(data)
    except ImageRejected as error:
        other = decode_for_look(data)
        return Upload(
            file_hash=file_hash(data),
            pixel_hash=None,
            look=None if other is None else perceptual_hash(other),
            width=0 if other is None else other.width,
            height=0 if other is None else other.height,
            rejected=error.diagnostics(),
        )
    return Upload(
        file_hash=file_hash(data),
        pixel_hash=pixel_hash(pixels),
        look=perceptual_hash(pixels),
        width=pixels.width,
        height=pixels.height,
        preview=_data_url(data, pixels.media_type),
    )


def _data_url(data: bytes, media_type: str) -> str:
    if len(data) > IMAGE_PREVIEW_BYTES_MAX:
        return ""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def audit(snapshot: Snapshot, upload: Upload) -> dict[str, Any]:
    """Return the verdict on an examined file, with the claims or the nearest registered images."""
    chain = snapshot.chain
    places: tuple[Any, ...] = ()
    matched = ""
    if upload.pixel_hash is not None:
        places, matched = chain.claims_of_pixels(upload.pixel_hash, limit=CLAIMS_MAX), "pixels"
    if not places:
        places, matched = chain.claims_of_file(upload.file_hash, limit=CLAIMS_MAX), "file"
    common = {
        "height": snapshot.height,
        "threshold": LOOK_MATCH_DISTANCE,
        "look_bits": LOOK_BITS,
        "pairs_measured": LOOK_PAIRS_MEASURED,
        "upload": upload,
    }
    if places:
        claims = [claim_view(snapshot, place) for place in places]
        return {**common, "verdict": Verdict.VERIFIED, "matched": matched, "claims": claims, "nearest": []}
    if upload.look is None:
        return {**common, "verdict": Verdict.UNREADABLE, "matched": "", "claims": [], "nearest": []}
    found = nearest_looks(snapshot, upload.look, max_distance=LOOK_BITS, limit=NEAREST_SHOWN)[0]
    nearest = [{"distance": distance, "claim": claim_view(snapshot, place)} for distance, place in found]
    is_altered = bool(found) and is_telling(upload.look) and found[0][0] <= LOOK_MATCH_DISTANCE
    verdict = Verdict.ALTERED if is_altered else Verdict.NOT_FOUND
    return {
        **common,
        "verdict": verdict,
        "matched": "look" if is_altered else "",
        "claims": [],
        "nearest": nearest,
    }
