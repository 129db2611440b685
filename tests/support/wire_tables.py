"""The tables of docs/wire.md, as the code has them."""

from __future__ import annotations

from facechain.node.wire.faults import Reason
from facechain.node.wire.fields import Blobs, Choice, Field, Fixed, Flag, Packed, Rows, Text, Uint, fields_of
from facechain.node.wire.limits import LIMITS
from facechain.node.wire.messages import MESSAGES


def shape(field: Field) -> str:
    """How docs/wire.md writes a field's shape."""
    match field:
        case Uint(bits):
            return f"u{bits}"
        case Fixed(size):
            return f"bin {size}"
        case Packed(size, items):
            return f"bin {size} × ≤{items}"
        case Blobs(size, items):
            return f"[bin ≤{size}] ≤{items}"
        case Text(size):
            return f"text ≤{size}"
        case Flag():
            return "bool"
        case Choice(choices):
            return "\\|".join(str(int(choice)) for choice in choices)
        case Rows(row, items):
            inner = ", ".join(f"{name} {shape(each)}" for name, each in fields_of(row))
            return f"[[{inner}]] ≤{items}"
        case _:
            raise TypeError(f"no notation for {field}")


def message_table() -> str:
    lines = ["| type | message | since | fields | bytes | rate | replies |", "|---|---|---|---|---|---|---|"]
    for spec in MESSAGES:
        fields = ", ".join(f"`{name}` {shape(field)}" for name, field in fields_of(spec.message))
        replies = ", ".join(reply.__name__ for reply in spec.replies)
        lines.append(
            f"| {spec.number:02x} | {spec.name} | {spec.since} | {fields or '–'} | {spec.max_bytes} | {spec.per_minute} "
            f"| {replies or '–'} |"
        )
    return "\n".join(lines)


def reason_table() -> str:
    return ", ".join(f"`{reason.value}`" for reason in Reason) + "."


def limit_table() -> str:
    lines = ["| limit | value | unit | scope | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.value:.15g} | {row.unit} | {row.scope} | {row.meaning} |" for row in LIMITS
    ]
    return "\n".join(lines)
