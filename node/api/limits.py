"""Every limit of the HTTP API and the explorer that is not one of the wire's (`node/wire/limits.py`).

Owns numbers only; all of them are this node's policy.
"""

from __future__ import annotations

from typing import Final

from ...consensus.perceptual import MATCH_DISTANCE, MATCH_FALSE_RATE_BOUND, MATCH_PAIRS_MEASURED

READER_THREADS: Final = 4
"""Threads in which the API reads the store, so that the event loop never waits for a disk."""

BLOCKS_PER_PAGE: Final = 20
BLOCKS_PER_PAGE_MAX: Final = 200

CLAIMS_MAX: Final = 100
"""Registrations of one image that one answer lists, oldest first."""

TRAIL_STEPS_MAX: Final = 64
"""Statements that one trail follows."""

LOOKS_FOUND_DEFAULT: Final = 5
LOOKS_FOUND_MAX: Final = 50
LOOK_BITS: Final = 256
LOOKS_SCANNED_MAX: Final = 2_000_000
"""Perceptual hashes that one search goes through, oldest batch first; an answer says when there were more."""

BAN_SECONDS_MAX: Final = 10 * 365 * 86_400
"""Longest ban: ten years."""

PROPOSALS_MAX: Final = 500
UPGRADE_REQUESTS_MAX: Final = 500
ROLE_ENTRIES_MAX: Final = 5_000
BATCHES_BY_ROOT_MAX: Final = 100

BLOCK_COUNTS_KEPT: Final = 4_096
"""Blocks whose counts (statements, images, bytes) are remembered, so that a list need not decode their bodies."""

REQUESTS_MAX: Final = 256
"""Requests under way at a time, event streams not counted; more are sent away with 503."""

STATEMENTS_PER_REQUEST_MAX: Final = 256
"""Statements in one `application/x-facechain-statements` body."""

OBJECT_BYTES_MAX: Final = 4 << 20
"""One image of the object folder."""

OBJECT_QUOTA_BYTES: Final = 2 << 30
"""All images of the object folder."""

READ_BODY_SECONDS: Final = 30.0
"""For the whole body of a request to arrive."""

IDLE_SECONDS: Final = 20.0
"""For a request line and its headers to arrive, on a new or a kept connection."""

SHUTDOWN_SECONDS: Final = 3.0
"""For requests under way to end when the node stops."""

EVENT_KEEPALIVE_SECONDS: Final = 15.0
"""Between two comments on a silent event stream, so that proxies keep it open."""

RETRY_AFTER_SECONDS: Final = 10
"""For clients that were sent away because this node is busy."""

FACES_PER_PAGE: Final = 120
"""Faces on one page of a block or batch."""

NEWEST_FACES: Final = 18
"""Faces that the first page shows."""

SEARCH_CHARACTERS_MAX: Final = 200
IMAGE_PREVIEW_BYTES_MAX: Final = 512 << 10
"""Largest uploaded image that the audit page shows back."""

LOOK_MATCH_DISTANCE: Final = MATCH_DISTANCE
LOOK_PAIRS_MEASURED: Final = MATCH_PAIRS_MEASURED
LOOK_FALSE_MATCH_BOUND: Final = MATCH_FALSE_RATE_BOUND
"""When an image is called an altered copy, and how often that is wrong; chosen in `consensus/perceptual.py`."""
