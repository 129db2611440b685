"""The page docs/protocol.md a second time: encoding, signatures, trees, work, hashes, structures.

Written from the page alone, and sharing no code with the project; `reference` has the state and the rules.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

ZERO = bytes(32)
FOREVER = 2**64 - 1


class Rejected(Exception):
    """A rule is broken; `code` is its name on the page."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Malformed(Rejected):
    """Something does not decode."""

    def __init__(self) -> None:
        super().__init__("decode-error")


def require(holds: object, code: str) -> None:
    if not holds:
        raise Rejected(code)


# Hashing


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tagged(tag: str, *parts: bytes) -> bytes:
    return sha(bytes([len(tag)]) + tag.encode("ascii") + b"".join(parts))


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def pixel_hash(width: int, height: int, rgb: bytes) -> bytes:
    return tagged("facechain/pixels/v1", u32(width), u32(height), rgb)


def seed_commitment(seed: bytes) -> bytes:
    return tagged("facechain/seed/v1", seed)


def latent(seed: bytes, index: int, dimension: int) -> list[int]:
    """The integer values of the vector; z_k is value k / 65536."""
    stream = hashlib.shake_256(b"facechain/latent/v1" + seed + u32(index)).digest(24 * dimension)
    words = struct.unpack(f">{12 * dimension}H", stream)
    return [sum(words[12 * k : 12 * k + 12]) - 393210 for k in range(dimension)]


# Signatures

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
# The 14 encodings by their first 31 bytes and the last without its highest bit.
_SMALL = (
    "00" * 31 + "00",
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
)
_EIGHT = (
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)
SMALL_ORDER = {
    raw[:31] + bytes([raw[31] | sign]) for raw in map(bytes.fromhex, _SMALL + _EIGHT) for sign in (0, 0x80)
}


def canonical_point(point: bytes) -> bool:
    """Rules 1 to 3 for A or R."""
    if len(point) != 32 or point in SMALL_ORDER:
        return False
    y = int.from_bytes(point, "little") & (2**255 - 1)
    # x = 0 belongs to y = 1 and y = p - 1 only, which are of small order.
    return y < P


def valid_key(key: bytes) -> bool:
    if not canonical_point(key):
        return False
    y = int.from_bytes(key, "little") & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    return square == 0 or pow(square, (P - 1) // 2, P) == 1


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    if len(signature) != 64 or not canonical_point(key) or not canonical_point(signature[:32]):
        return False
    if int.from_bytes(signature[32:], "little") >= L or not valid_key(key):
        return False
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


def to_sign(purpose: str, network: bytes, *parts: bytes) -> bytes:
    return f"facechain/{purpose}/v1".encode("ascii") + network + b"".join(parts)


# Trees


def node(left: bytes, right: bytes) -> bytes:
    return sha(b"\x01" + left + right)


def merkle(leaves: Sequence[bytes]) -> bytes:
    """The Merkle root over the leaves' data."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\x00" + leaves[0])
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node(merkle(leaves[:split]), merkle(leaves[split:]))


class History:
    """The growing Merkle tree: the roots of the perfect subtrees, largest first."""

    def __init__(self, peaks: tuple[tuple[int, bytes], ...] = ()) -> None:
        self.peaks = peaks

    def append(self, data: bytes) -> History:
        peaks, level, top = list(self.peaks), 0, sha(b"\x00" + data)
        while peaks and peaks[-1][0] == level:
            top, level = node(peaks.pop()[1], top), level + 1
        return History((*peaks, (level, top)))

    def root(self) -> bytes:
        if not self.peaks:
            return sha(b"")
        root = self.peaks[-1][1]
        for _, peak in reversed(self.peaks[:-1]):
            root = node(peak, root)
        return root


def sparse_root(entries: Mapping[bytes, bytes]) -> bytes:
    """The root over (32-byte path, value)."""

    def subtree(some: list[tuple[bytes, bytes]], depth: int) -> bytes:
        if not some:
            return ZERO
        if len(some) == 1:
            return sha(b"\x00" + some[0][0] + sha(some[0][1]))
        sides: tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]] = ([], [])
        for item in some:
            sides[item[0][depth // 8] >> (7 - depth % 8) & 1].append(item)
        return node(subtree(sides[0], depth + 1), subtree(sides[1], depth + 1))

    return subtree(list(entries.items()), 0)


# Work and retarget


def to_bits(target: int) -> int:
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size < 3 else target >> 8 * (size - 3)
    if mantissa & 0x800000:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def to_target(bits: int) -> int:
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    target = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    if bits & 0x800000 or not 0 < target < 2**256 or to_bits(target) != bits:
        raise Malformed
    return target


def work(bits: int) -> int:
    return 2**256 // to_target(bits)


def asert(*, anchor: int, spacing: int, half_life: int, elapsed: int, blocks: int, limit: int) -> int:
    """The bits after the block that is `elapsed` after the anchor's parent and `blocks` past the anchor."""
    ahead = (elapsed - spacing * (blocks + 1)) * 65536
    x = abs(ahead) // half_life * (1 if ahead >= 0 else -1)
    shifts, fraction = divmod(x, 65536)
    cubic = 195766423245049 * fraction + 971821376 * fraction**2 + 5127 * fraction**3
    target = to_target(anchor) * (65536 + (cubic + 2**47 >> 48))
    # From 272 on it is above every limit; a header's time is any u64.
    target = target << min(shifts, 272) - 16 if shifts >= 16 else target >> 16 - shifts
    return to_bits(min(max(target, 1), to_target(limit)))


# Encoding

HIDDEN = {*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A)}
# First byte: what follows, the width of the number after it, the least number that needs that width.
_WIDE = (
    ("uint", 0xCC, ((1, 2**7), (2, 2**8), (4, 2**16), (8, 2**32))),
    ("bin", 0xC4, ((1, 0), (2, 2**8), (4, 2**16))),
    ("text", 0xD9, ((1, 2**5), (2, 2**8), (4, 2**16))),
    ("array", 0xDC, ((2, 2**4), (4, 2**16))),
)
HEADS = {first + at: (name, *size) for name, first, sizes in _WIDE for at, size in enumerate(sizes)}


class Cursor:
    """A place in bytes that are being read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise Malformed
        self.at += count
        return self.data[self.at - count : self.at]

    def head(self) -> tuple[str, int]:
        first = self.take(1)[0]
        for start, end, name in ((0, 0x80, "uint"), (0x90, 0xA0, "array"), (0xA0, 0xC0, "text")):
            if start <= first < end:
                return name, first - start
        if first not in HEADS:
            raise Malformed
        name, width, least = HEADS[first]
        number = int.from_bytes(self.take(width), "big")
        if number < least:
            raise Malformed
        return name, number

    def value(self, arrays: int = 0) -> Any:
        single = {b"\xc0": None, b"\xc2": False, b"\xc3": True}
        if (byte := self.data[self.at : self.at + 1]) in single:
            self.take(1)
            return single[byte]
        name, number = self.head()
        if name == "uint":
            return number
        if name == "array":
            if arrays == 6 or number > len(self.data) - self.at:
                raise Malformed
            return [self.value(arrays + 1) for _ in range(number)]
        raw = self.take(number)
        try:
            return raw if name == "bin" else raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed from None


Shape = Callable[[Any], bool]


def uint(bits: int, among: range | None = None) -> Shape:
    return lambda v: type(v) is int and (v in among if among else v < 2**bits)


def blob(most: int, least: int = 0) -> Shape:
    return lambda v: isinstance(v, bytes) and least <= len(v) <= most


def text(most: int) -> Shape:
    return lambda v: isinstance(v, str) and len(v.encode()) <= most and HIDDEN.isdisjoint(map(ord, v))


def boolean(v: Any) -> bool:
    return isinstance(v, bool)


def optional(shape: Shape) -> Shape:
    return lambda v: v is None or shape(v)


def array(shape: Shape, most: int = 64) -> Shape:
    return lambda v: isinstance(v, list) and len(v) <= most and all(map(shape, v))


def fields(*shapes: Shape) -> Shape:
    return lambda v: (
        isinstance(v, list)
        and len(v) == len(shapes)
        and all(shape(x) for shape, x in zip(shapes, v, strict=True))
    )


def decode(shape: Shape, data: bytes) -> Any:
    cursor = Cursor(data)
    value = cursor.value()
    if cursor.at != len(data) or not shape(value):
        raise Malformed
    return value


def encode(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return _lead("uint", value)
    if isinstance(value, bytes):
        return _lead("bin", len(value)) + value
    if isinstance(value, str):
        return _lead("text", len(value.encode())) + value.encode()
    return _lead("array", len(value)) + b"".join(map(encode, value))


def _lead(name: str, number: int) -> bytes:
    small, base = {"uint": (2**7, 0), "bin": (0, 0), "text": (2**5, 0xA0), "array": (2**4, 0x90)}[name]
    if number < small:
        return bytes([base + number])
    heads = (
        (byte, width) for byte, (kind, width, _) in HEADS.items() if kind == name and number < 256**width
    )
    byte, width = next(heads)
    return bytes([byte]) + number.to_bytes(width, "big")


# Structures

BIN32 = blob(32, 32)
BIN64 = blob(64, 64)
U8, U16, U32, U64 = uint(8), uint(16), uint(32), uint(64)
BATCH, STAGE, PROPOSE, APPROVE, ROTATE, GRANT, RETRACT, ATTEST, CHECKPOINT, CANCEL, UPGRADE = range(1, 12)
ADMIN, PRODUCER, SUBMITTER, VIEWER = range(1, 5)
TRAINING, CLUSTERING, FILTER = 2, 5, 6
ALLOWED = {
    **dict.fromkeys((BATCH, STAGE, GRANT), (PRODUCER, SUBMITTER)),
    **dict.fromkeys((PROPOSE, APPROVE, CHECKPOINT, UPGRADE), (ADMIN,)),
    **dict.fromkeys((ROTATE, ATTEST, CANCEL), (ADMIN, PRODUCER, SUBMITTER, VIEWER)),
    RETRACT: (ADMIN, PRODUCER, SUBMITTER),
}
RECORD = 70
RECORDS = 2**20


BATCH_FIELDS = (
    *(
        "count",
        "records_root",
        "perceptual_root",
        "width",
        "height",
        "public",
        "model",
        "clustering",
        "filter",
    ),
    *("commitment", "micro_batch", "manifest", "group", "part", "parts"),
)


class Statement(NamedTuple):
    """A statement, decoded but for its payload."""

    size: int
    id: bytes
    leaf: bytes
    signature: bytes
    payload: bytes
    kind: int
    author: bytes
    sequence: int
    time: int
    until: int
    payload_hash: bytes
    batch: dict[str, Any] | None


class Header(NamedTuple):
    """A block's header."""

    version: int
    height: int
    previous: bytes
    body_root: bytes
    state_root: bytes
    time: int
    bits: int
    producer: bytes
    nonce: int


HEADER_LAYOUT = struct.Struct(">IQ32s32s32sQI32sQ")
WIRE = fields(blob(1024), BIN64, blob(16_777_216))
BATCH_HEADER = fields(
    *(U32, BIN32, BIN32, U16, U16, boolean, *[BIN32] * 4, U32, BIN32, BIN32, U32, U32),
)
STATEMENT = fields(uint(8, range(1, 12)), BIN32, U64, U64, U64, BIN32, optional(BATCH_HEADER))
BODY = fields(array(blob(2**32), 2**20))
PAYLOADS = {
    BATCH: fields(blob(RECORD * RECORDS, RECORD), optional(blob(32 * RECORDS)), optional(BIN32)),
    STAGE: fields(
        *(uint(8, range(1, 8)), BIN32, array(BIN32, 16), text(128)),
        array(fields(text(64), text(1024))),
    ),
    PROPOSE: fields(
        *(uint(8, range(1, 3)), uint(8, range(1, 5)), BIN32, optional(BIN32), optional(U64), text(512)),
    ),
    APPROVE: fields(BIN32),
    ROTATE: fields(BIN32, BIN64),
    GRANT: fields(BIN32, BIN32, blob(512)),
    RETRACT: fields(BIN32, optional(U32), text(512)),
    ATTEST: fields(BIN32, U32, BIN32, text(512)),
    CHECKPOINT: fields(U64, BIN32),
    CANCEL: fields(text(512)),
    UPGRADE: fields(U32, U64),
}
UNSIGNED = fields(
    *(text(64), U32, text(64), fields(*[U64] * 14), U64),
    *(array(BIN32), array(fields(uint(8, range(2, 4)), BIN32), 1024)),
)
GENESIS = fields(blob(65_536), array(BIN64))


def parse_statement(wire: bytes) -> Statement:
    raw, signature, payload = decode(WIRE, wire)
    kind, *rest, batch = decode(STATEMENT, raw)
    if (batch is not None) != (kind == BATCH):
        raise Malformed
    named = None if batch is None else dict(zip(BATCH_FIELDS, batch, strict=True))
    if named is not None and named["part"] >= named["parts"]:
        raise Malformed
    derived = (len(wire), sha(raw), sha(raw + signature), signature, payload)
    return Statement._make((*derived, kind, *rest, named))


def parse_body(body: bytes) -> list[Statement]:
    return [parse_statement(wire) for wire in decode(BODY, body)[0]]


def body_root(statements: Sequence[Statement]) -> bytes:
    sizes = u64(len(statements)) + u64(sum(one.size for one in statements))
    return tagged("facechain/body/v1", sizes, merkle([one.leaf for one in statements]))


def parse_payload(one: Statement, network: bytes) -> Any:
    """The payload's fields, when no rule of its kind is broken that needs no state."""
    try:
        value, ok = decode(PAYLOADS[one.kind], one.payload), True
    except Malformed:
        raise Rejected("bad-payload") from None
    if one.batch is not None:
        ok = good_batch(one.batch, *value)
    elif one.kind == STAGE:
        ok = all(low.encode() < high.encode() for (low, _), (high, _) in pairwise(value[4]))
    elif one.kind == PROPOSE:
        action, role, subject, encryption, suspect, _ = value
        ok = (encryption is not None) == (action == 1 and role == VIEWER)
        ok = ok and (valid_key(subject) and suspect is None if action == 1 else True)
    elif one.kind == ROTATE:
        ok = verify(value[0], value[1], to_sign("key-rotate", network, one.author))
    require(ok, "bad-payload")
    return value


def good_batch(batch: Mapping[str, Any], records: bytes, column: bytes | None, seed: bytes | None) -> bool:
    rows = [records[at : at + RECORD] for at in range(0, len(records), RECORD)]
    hashes = [column[at : at + 32] for at in range(0, len(column), 32)] if column is not None else []
    ok: bool = len(records) == RECORD * batch["count"] and merkle(rows) == batch["records_root"]
    ok = ok and batch["perceptual_root"] == (ZERO if column is None else merkle(hashes))
    ok = ok and (column is None or (batch["public"] and len(column) == 32 * batch["count"]))
    ok = ok and min(batch["width"], batch["height"]) > 0
    if seed is not None:
        return ok and batch["public"] and seed_commitment(seed) == batch["commitment"]
    return ok and (not batch["public"] or batch["commitment"] == ZERO)
