"""Mutations that keep the form: a changed value in canonical MessagePack, a changed chunk with its checksum.

Owns the making of inputs that plain changes of bytes would hardly ever reach. Everything follows from the
`random.Random` that is handed in, so the fuzzer and hypothesis share it.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, Final

import msgpack

from .target import Form

PREFIXES: Final = (0, 1, 10)
"""Bytes before the MessagePack: none, a frame's type, the start of a proof file."""

NUMBERS: Final = (
    0,
    1,
    63,
    64,
    127,
    128,
    255,
    256,
    2**16 - 1,
    2**16,
    2**31,
    2**32 - 1,
    2**32,
    2**63,
    2**64 - 1,
)
TEXTS: Final = (
    "",
    "x",
    "\0",
    "\x1b[31m",
    "é",
    "\u202e",
    "𝄞",
    "0x00",
    "-1",
    "a" * 300,
    "/",
    "..",
    "facechain",
)
FRAGMENTS: Final = (
    *("1e999", "NaN", "-0", "0.0", "1" * 5_000, "[" * 2_000, '{"a":' * 1_500, "null", "true", '"\\ud800"'),
    *("1979-05-27T07:32:00Z", "'''", '"""', "\\u0000", "\n", "=", "[[a]]", "\ufeff", "0x", "{", "]"),
)
CHUNKS: Final = (
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"PLTE",
    b"tRNS",
    b"acTL",
    b"iCCP",
    b"tEXt",
    b"zTXt",
    b"VP8L",
    b"VP8X",
)

Mutate = Callable[[bytes, Random], bytes]


def mutate(form: Form, data: bytes, random: Random) -> bytes:
    """Return a changed input of the same form, or with changed bytes when `data` has not that form."""
    changed = _BY_FORM[form](data, random) if random.random() < 0.8 else None
    return mutate_bytes(data, random) if changed is None else changed


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Change, insert, remove or repeat a few bytes."""
    for _ in range(random.choice((1, 1, 2, 4))):
        start = random.randint(0, len(data))
        end = min(len(data), start + random.choice((0, 1, 1, 2, 4, 8, 32)))
        put = random.choice(
            (b"", random.randbytes(1), random.randbytes(4), data[start:end] * 2, b"\xff", b"\0")
        )
        data = data[:start] + put + data[end:]
    return data


def mutate_packed(data: bytes, random: Random) -> bytes | None:
    """Change a value in MessagePack and pack it again; None when there is none."""
    for prefix in PREFIXES:
        try:
            value = msgpack.unpackb(data[prefix:], strict_map_key=False)
            return data[:prefix] + bytes(msgpack.packb(_changed(value, random)))
        except (ValueError, TypeError, OverflowError, RecursionError):
            continue
    return None


def _mutate_json(data: bytes, random: Random) -> bytes | None:
    for prefix in PREFIXES[:2]:
        try:
            value = json.loads(data[prefix:])
            text = json.dumps(_changed(value, random), ensure_ascii=random.random() < 0.5, default=str)
        except (ValueError, RecursionError):
            continue
        if random.random() < 0.2:
            return data[:prefix] + _mutate_text(text.encode(errors="surrogatepass"), random)
        return data[:prefix] + text.encode(errors="surrogatepass")
    return None


def _mutate_text(data: bytes, random: Random) -> bytes:
    """Put a fragment that parsers stumble over in the place of a few bytes or of a value."""
    start = random.randint(0, len(data))
    if random.random() < 0.5:
        start = 1 + max(data.rfind(b":", 0, start), data.rfind(b"=", 0, start))
    end = data.find(random.choice((b"\n", b",", b"}", b"]")), start) if random.random() < 0.7 else start
    fragment = random.choice(FRAGMENTS).encode()
    return data[:start] + fragment + data[max(start, end) :]


def _changed(value: Any, random: Random) -> Any:
    """Return a value with one change somewhere in it."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        return _changed_object(value, random)
    if isinstance(value, list) and value and random.random() < 0.9:
        return _changed_list(value, random)
    return _changed_scalar(value, random)


def _changed_object(value: dict[Any, Any], random: Random) -> dict[Any, Any]:
    name = random.choice(list(value))
    match random.randrange(8):
        case 0:
            return {key: item for key, item in value.items() if key != name}
        case 1:
            return {**value, random.choice(TEXTS): value[name]}
        case _:
            return {**value, name: _changed(value[name], random)}


def _changed_list(value: list[Any], random: Random) -> list[Any]:
    at = random.randrange(len(value))
    item = value[at]
    match random.randrange(10):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return value[:at] + [item] * random.choice((2, 3, 70)) + value[at + 1 :]
        case 2:
            other = random.randrange(len(value))
            return [value[{at: other, other: at}.get(index, index)] for index in range(len(value))]
        case 3:
            return [*value[:at], _any(random), *value[at:]]
        case _:
            return [*value[:at], _changed(item, random), *value[at + 1 :]]


def _changed_scalar(value: Any, random: Random) -> Any:
    if random.random() < 0.15:
        return _any(random)
    match value:
        case bool() | None:
            return random.choice((None, True, False, 0, 1))
        case int():
            return random.choice((max(0, value - 1), min(2**64 - 1, value + 1), *random.sample(NUMBERS, 3)))
        case bytes():
            inner = mutate_packed(value, random) if random.random() < 0.8 else None
            return mutate_bytes(value, random) if inner is None else inner
        case str():
            cut = random.randint(0, len(value))
            return value[:cut] + random.choice(TEXTS) + value[cut + random.randint(0, 2) :]
        case _:
            return _any(random)


def _any(random: Random) -> Any:
    size = random.choice((0, 1, 31, 32, 33, 64, 70, 140))
    return random.choice(
        (
            None,
            True,
            random.choice(NUMBERS),
            random.choice(TEXTS),
            random.randbytes(size),
            [],
            [[]] * 60,
            [[[[[[]]]]]],
        )
    )


def _mutate_image(data: bytes, random: Random) -> bytes | None:
    if data.startswith(b"RIFF"):
        return _mutate_riff(data, random)
    chunks, position = [], 8
    while position + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        chunks.append((name, data[position + 8 : position + 8 + size]))
        position += 12 + size
    changed = _changed_chunks(chunks, random)
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in changed
    )
    return data[:8] + b"".join(packed)


def _mutate_riff(data: bytes, random: Random) -> bytes | None:
    chunks, position = [], 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        chunks.append((name, data[position + 8 : position + 8 + size]))
        position += 8 + size + (size & 1)
    changed = _changed_chunks(chunks, random)
    packed = b"".join(
        name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1) for name, body in changed
    )
    return b"RIFF" + struct.pack("<I", len(packed) + 4) + data[8:12] + packed


def _changed_chunks(chunks: list[tuple[bytes, bytes]], random: Random) -> list[tuple[bytes, bytes]]:
    if not chunks:
        return chunks
    at = random.randrange(len(chunks))
    name, body = chunks[at]
    match random.randrange(6):
        case 0:
            new = [(random.choice(CHUNKS), body)]
        case 1:
            new = [(name, body)] * random.choice((0, 2, 3))
        case 2:
            new = [(random.choice(CHUNKS), random.randbytes(random.choice((0, 4, 13)))), (name, body)]
        case 3 if name == b"IDAT":
            new = [(name, zlib.compress(random.randbytes(random.choice((1, 100))) * random.choice((1, 30))))]
        case _:
            new = [(name, mutate_bytes(body, random))]
    return chunks[:at] + new + chunks[at + 1 :]


def _mutate_zip(data: bytes, random: Random) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    except Exception:  # noqa: BLE001 - any damage at all
        return None
    if not members:
        return None
    at = random.randrange(len(members))
    name, content = members[at]
    form = Form.JSON if name.endswith(".json") else Form.IMAGE if name.endswith(".png") else Form.BYTES
    match random.randrange(6):
        case 0:
            members[at] = (
                random.choice(("../a.png", "a:b", "x/" + name, ".hidden", "é.png", "a/", name * 40)),
                content,
            )
        case 1:
            members.append((name, content))
        case 2:
            del members[at]
        case _:
            members[at] = (name, mutate(form, content, random))
    output = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with warnings.catch_warnings(), zipfile.ZipFile(output, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name that is there twice is what is wanted here
        for member, body in members:
            archive.writestr(member, body)
    return output.getvalue()


_BY_FORM: Final[Mapping[Form, Callable[[bytes, Random], bytes | None]]] = MappingProxyType(
    {
        Form.BYTES: mutate_bytes,
        Form.PACKED: mutate_packed,
        Form.JSON: _mutate_json,
        Form.TEXT: _mutate_text,
        Form.IMAGE: _mutate_image,
        Form.ZIP: _mutate_zip,
    }
)
