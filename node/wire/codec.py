"""Frames: one type byte, then the canonical MessagePack positional array of the message's fields.

Order of the checks on a received frame: known type, size limit of the type, canonical form, fields. Nothing is
parsed before its size is known to be allowed.
"""

from __future__ import annotations

from typing import Any, Final, cast

from ...consensus.encoding import MAX_ITEMS_DEFAULT, pack, unpack
from ...consensus.errors import DecodeError
from .faults import PeerFault, Reason
from .fields import fields_of, put_fields, take_fields
from .limits import MAX_DETAIL_BYTES, MAX_REASON_BYTES
from .messages import BY_NUMBER, BY_TYPE, Disconnect, Message, MessageSpec


def _bounds(message: type[Any]) -> tuple[int, int]:
    fields = [field for _, field in fields_of(message)]
    return (
        max((MAX_ITEMS_DEFAULT, *(field.max_items for field in fields))),
        1 + max((field.depth for field in fields), default=0),
    )


_BOUNDS: Final = {message: _bounds(message) for message in BY_TYPE}
"""By type: the most elements that an array of its frames can have, and the most arrays in each other."""


def encode(message: Message) -> bytes:
    """Return the frame of a message.

    Raises:
        ValueError: a field is out of its shape or the frame above its type's limit; nothing may send it.
    """
    spec = BY_TYPE[type(message)]
    try:
        frame = bytes((spec.number,)) + pack(put_fields(message))
    except (DecodeError, OverflowError, TypeError) as error:
        raise ValueError(f"{spec.name} cannot be sent: {error}") from error
    if len(frame) > spec.max_bytes:
        raise ValueError(f"{spec.name}: expected a frame of at most {spec.max_bytes} bytes, got {len(frame)}")
    return frame


def disconnect_frame(reason: str, detail: str = "") -> bytes:
    """Return the frame of a Disconnect; both texts are cut and cleaned so that it can always be sent."""
    return encode(
        Disconnect(reason=_plain(reason, MAX_REASON_BYTES), detail=_plain(detail, MAX_DETAIL_BYTES))
    )


def frame_spec(frame: bytes) -> MessageSpec:
    """Return the table row of a received frame after checking its type and size, without parsing it.

    Raises:
        PeerFault: unknown-message or oversized-message.
    """
    spec = BY_NUMBER.get(frame[0]) if frame else None
    if spec is None:
        got = f"type {frame[0]:#04x}" if frame else "an empty frame"
        raise PeerFault(Reason.UNKNOWN_MESSAGE, f"expected a message type of this draft, got {got}")
    if len(frame) > spec.max_bytes:
        raise PeerFault(
            Reason.OVERSIZED_MESSAGE,
            f"{spec.name}: expected a frame of at most {spec.max_bytes} bytes, got {len(frame)}",
        )
    return spec


def decode_fields(spec: MessageSpec, frame: bytes) -> Message:
    """Decode a frame that passed `frame_spec`; DecodeError when it is not the canonical form of its type."""
    max_items, depth = _BOUNDS[spec.message]
    value = unpack(frame[1:], max_bytes=spec.max_bytes, max_items=max_items, max_depth=depth)
    return cast("Message", take_fields(spec.message, value, spec.name))


def decode(frame: bytes) -> Message:
    """Decode one frame; PeerFault on its type or size, DecodeError on its content."""
    return decode_fields(frame_spec(frame), frame)


def _plain(text: str, max_bytes: int) -> str:
    """Return `text` in printable ASCII, cut to `max_bytes`."""
    return "".join(
        character if character.isascii() and character.isprintable() else "?" for character in text
    )[:max_bytes]
