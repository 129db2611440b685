"""An audit: what a node says about an image, verified here.

Owns the search (exact hash first, then the look) and the verdict. The node is a source of evidence and of hints
only: each claim's evidence is checked in this process, an image that the node sends is hashed, and a distance is
computed again from pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from .errors import CommandError, ExitCode, NotFoundError

if TYPE_CHECKING:
    from ..consensus.light import LightClient
    from ..consensus.proofs import Subject, Verdict
    from ..consensus.records import Record
    from ..consensus.story import Story
    from .audited_image import AuditedImage
    from .client_images import ImageClient, LookMatch

CLAIMS_MAX: Final = 16
"""Claims of one image whose evidence is fetched and verified, the oldest first."""

LOOKS_ASKED: Final = 4
"""Nearest images that are compared with an altered copy."""


class Result(StrEnum):
    """The outcome of an audit."""

    VERIFIED = "verified"
    ALTERED = "altered"
    NOT_FOUND = "not-found"
    FAILED = "failed"

    @property
    def exit_code(self) -> ExitCode:
        """Return what a shell is told."""
        codes = {Result.VERIFIED: ExitCode.OK, Result.NOT_FOUND: ExitCode.NOT_FOUND}
        return codes.get(self, ExitCode.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One registration with the verdict on its evidence."""

    proof: bytes
    """The proof file, for `facechain verify`."""
    verdict: Verdict
    story: Story | None
    """What verified evidence tells; None when a layer failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """The registered image that an altered copy looks like."""

    distance: int
    """Differing bits of the looks, of 256."""
    recomputed: bool
    """From the registered pixels; False when the node does not hold the image, so that it is the node's word."""
    pixel_hash: bytes
    file_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All that an audit found."""

    result: Result
    digest: bytes
    """The hash that was searched for."""
    image: AuditedImage | None
    network_trusted: bool
    claims: tuple[Claim, ...]
    """Of the image itself or, for an altered copy, of the registered image."""
    likeness: Likeness | None = None

    @property
    def primary(self) -> Claim | None:
        """Return the oldest verified claim, else the oldest one."""
        return next(
            (claim for claim in self.claims if claim.verdict.is_verified), next(iter(self.claims), None)
        )


async def audit_hash(client: ImageClient, digest: bytes, *, trusted: bytes | None) -> Audit:
    """Audit a pixel hash or file hash."""

    def subject(record: Record) -> Subject:
        from ..consensus.proofs import Subject

        if record.file_hash == digest != record.pixel_hash:
            return Subject(file_hash=digest)
        return Subject(pixel_hash=digest)

    claims = await _claims(client, digest, subject, trusted)
    return _exact(claims, digest, None, trusted) or Audit(
        result=Result.NOT_FOUND, digest=digest, image=None, network_trusted=trusted is not None, claims=()
    )


async def audit_image(client: ImageClient, image: AuditedImage, *, trusted: bytes | None) -> Audit:
    """Audit an image: by its hashes, then by its look."""
    from ..consensus.proofs import Subject

    digest = image.pixel_hash or image.file_hash
    own = Subject(pixel_hash=image.pixel_hash, file_hash=image.file_hash)
    claims = await _claims(client, digest, lambda _: own, trusted)
    found = _exact(claims, digest, image, trusted)
    if found is not None:
        return found
    likeness = await _nearest(client, image)
    claims = ()
    if likeness is not None:
        about = Subject(
            pixel_hash=likeness.pixel_hash, file_hash=likeness.file_hash if likeness.recomputed else None
        )
        claims = await _claims(client, likeness.pixel_hash, lambda _: about, trusted)
    altered = any(claim.verdict.is_verified for claim in claims)
    return Audit(
        result=Result.ALTERED if altered else Result.NOT_FOUND,
        digest=digest,
        image=image,
        network_trusted=trusted is not None,
        claims=claims if altered else (),
        likeness=likeness if altered else None,
    )


def _exact(
    claims: tuple[Claim, ...], digest: bytes, image: AuditedImage | None, trusted: bytes | None
) -> Audit | None:
    if not claims:
        return None
    verified = any(claim.verdict.is_verified for claim in claims)
    return Audit(
        result=Result.VERIFIED if verified else Result.FAILED,
        digest=digest,
        image=image,
        network_trusted=trusted is not None,
        claims=claims,
    )


async def _claims(
    client: ImageClient, digest: bytes, subject: Callable[[Record], Subject], trusted: bytes | None
) -> tuple[Claim, ...]:
    """Fetch and verify the evidence of every claim of a hash, the oldest first."""
    count = min(await client.claims(digest), CLAIMS_MAX)
    return tuple(
        [check_proof(await _evidence(client, digest, number), subject, trusted) for number in range(count)]
    )


async def _evidence(client: ImageClient, digest: bytes, number: int) -> bytes:
    try:
        return await client.evidence(digest, number)
    except NotFoundError as error:
        # The node has just named this claim: it is registered, but this node cannot prove it.
        raise Unproven(error.message) from error


class Unproven(CommandError):
    """A node names a registration and does not hand out what proves it."""

    exit_code = ExitCode.FAILED

    def __init__(self, reason: str) -> None:
        """Keep the node's reason."""
        super().__init__(
            f"the node names a registration but cannot prove it: {reason}", advice="ask another node"
        )


def check_proof(
    proof: bytes,
    subject: Callable[[Record], Subject],
    trusted: bytes | None,
    headers: LightClient | None = None,
) -> Claim:
    """Verify one proof file, which may come from anybody; DecodeError when it is none.

    With ``headers``, its tip must be on that chain.
    """
    from ..consensus.evidence import Evidence
    from ..consensus.proofs import verify_evidence
    from ..consensus.records import Record
    from ..consensus.story import tell_story

    evidence = Evidence.decode(proof)
    about = subject(Record.decode(evidence.record.record))
    verdict = verify_evidence(evidence, network_id=trusted, subject=about, headers=headers)
    return Claim(proof=proof, verdict=verdict, story=tell_story(evidence) if verdict.is_verified else None)


async def _nearest(client: ImageClient, image: AuditedImage) -> Likeness | None:
    """Return the registered image that looks most like this one, None when none is near enough."""
    from ..consensus.perceptual import MATCH_DISTANCE, is_telling

    if not is_telling(image.look):
        return None
    matches = await client.looks(image.look, max_distance=MATCH_DISTANCE, limit=LOOKS_ASKED)
    found = [await _compare(client, image, match) for match in matches]
    near = [item for item in found if item is not None and item.distance <= MATCH_DISTANCE]
    return min(near, key=lambda item: (not item.recomputed, item.distance), default=None)


async def _compare(client: ImageClient, image: AuditedImage, match: LookMatch) -> Likeness | None:
    """Compute the distance from the registered pixels; None when the node's image is not the registered one."""
    from ..consensus.image import ImageRejected, decode_image, file_hash, pixel_hash
    from ..consensus.perceptual import hamming, perceptual_hash

    data = await client.image_object(match.file_hash)
    distance = match.distance
    if data is not None:
        try:
            pixels = decode_image(data)
        except ImageRejected:
            return None
        if (file_hash(data), pixel_hash(pixels)) != (match.file_hash, match.pixel_hash):
            return None
        distance = hamming(image.look, perceptual_hash(pixels))
    return Likeness(
        distance=distance,
        recomputed=data is not None,
        pixel_hash=match.pixel_hash,
        file_hash=match.file_hash,
    )
