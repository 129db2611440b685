"""The tables of docs/protocol.md say what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from facechain.consensus import block, encoding, image, params, payloads, state, statement
from facechain.consensus.errors import RULES
from facechain.consensus.kinds import PERMISSIONS, Kind, Role, RoleAction, StageType
from facechain.consensus.params import _RANGES, _WIDTHS, Params
from facechain.consensus.signing import Purpose

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def tables(title: str) -> list[list[list[str]]]:
    """Return the tables of a section as rows of cells, without their heads."""
    found: list[list[list[str]]] = []
    inside = False
    for line in section(title).splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
            inside = True
        found[-1].append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return [rows[2:] for rows in found]


def test_rules() -> None:
    (rows,) = tables("Validity")
    words = {True: "yes", False: "no"}
    assert rows == [
        [rule.code, words[rule.permanent], words[rule.punish], words[rule.cacheable], rule.summary]
        for rule in RULES.values()
    ]


def test_every_rule_that_is_raised_here_is_in_the_order_of_checks() -> None:
    text = section("Validity") + section("State transition") + section("Fork choice")
    assert all(f"`{code}`" in text for code in RULES if code != "missing-parent")


def test_kinds_and_roles() -> None:
    rows = tables("Statements")[-1]
    assert rows == [
        [str(int(kind)), kind.label, ", ".join(role.label for role in sorted(PERMISSIONS[kind]))]
        for kind in Kind
    ]
    text = " ".join(section("Statements").split())
    for title, numbers in (("Roles", Role), ("Stage types", StageType), ("Role actions", RoleAction)):
        listed = ", ".join(f"{int(item)} {item.label}" for item in numbers)
        assert f"{title}: {listed}." in text


def test_payload_fields() -> None:
    rows = tables("Payloads")[0]
    assert [row[0] for row in rows] == [kind.label for kind in Kind]
    for kind, (_, listed) in zip(Kind, rows, strict=True):
        names = [item.name for item in fields(payloads.PAYLOADS[kind])]
        outside_brackets, depth = "", 0
        for letter in listed:
            depth += (letter == "[") - (letter == "]")
            outside_brackets += letter if not depth else ""
        assert len(outside_brackets.split(",")) == len(names), kind.label


def test_batch_header_fields() -> None:
    text = section("Statements").split("batch header = [", 1)[1].split("]", 1)[0]
    names = [" ".join(field.split()[:-1]) for field in text.split(",")]
    code = [item.name.replace("_", " ") for item in fields(statement.BatchHeader)]
    assert [name.replace("-", " ").removeprefix("batch ") for name in names] == code


def test_header_layout() -> None:
    rows = tables("Blocks")[0]
    ends = [int(offset) + int(size) for offset, size, _ in rows]
    assert [int(row[0]) for row in rows] == [0, *ends[:-1]]
    assert ends[-1] == block.HEADER_BYTES
    names = [item.name for item in fields(block.Header) if item.init]
    assert [row[2].split()[0].rstrip(":").replace("time", "time_ms") for row in rows] == [
        name.split("_")[0] if name.endswith("_root") else name for name in names
    ]
    assert int(rows[-1][0]) == block.NONCE_OFFSET


def test_parameters() -> None:
    rows = tables("Genesis and parameters")[0]
    expected = []
    for name, width in _WIDTHS.items():
        least, most = _RANGES.get(name, ("-", "-"))
        expected.append([name, f"u{width}", str(int(getattr(Params(), name))), str(least), str(most)])
    assert [row[:5] for row in rows] == expected
    assert f"This is draft {params.PROTOCOL_DRAFT}." in PAGE


def test_state_parts() -> None:
    first, second = tables("State")
    assert [row[0] for row in first] == list(state.SUB_ROOTS)
    assert {row[0] for row in second} == {bucket.value for bucket in state.TREES}


def test_purposes() -> None:
    rows = tables("Signatures")[0]
    assert [row[0] for row in rows] == [purpose.value for purpose in Purpose]


def test_limits_and_tags_are_named() -> None:
    numbers = [
        payloads.MAX_BATCH_RECORDS,
        payloads.MAX_PAYLOAD_BYTES,
        payloads.MAX_VALUE_BYTES,
        payloads.MAX_NOTE_BYTES,
        payloads.MAX_STAGE_INPUTS,
        payloads.MAX_STAGE_DETAILS,
        payloads.MAX_NAME_BYTES,
        payloads.MAX_WRAPPED_KEY_BYTES,
        statement.MAX_HEADER_BYTES,
        block.MAX_BODY_STATEMENTS,
        params.MAX_GENESIS_BYTES,
        params.MAX_ADMINISTRATORS,
        params.MAX_GRANTS,
        params.MAX_NETWORK_NAME_BYTES,
        state.MAX_INTERVALS,
        image.MAX_FILE_BYTES,
        image.MAX_SIDE_PIXELS,
        image.MAX_PIXELS,
        image.MAX_CHUNKS,
        encoding.MAX_ITEMS_DEFAULT,
        encoding.MAX_DEPTH,
    ]
    for number in numbers:
        assert f"{number:,}" in PAGE
    tags = (
        statement.SEED_TAG,
        statement.GROUP_TAG,
        block.BODY_TAG,
        params.GENESIS_TAG,
        image.PIXEL_HASH_TAG,
        "facechain/latent/v1",
    )
    for tag in tags:
        assert f'"{tag}"' in PAGE
    for first, last in encoding._FORBIDDEN_RANGES:
        assert f"{first:04x}–{last:04x}" in PAGE


def test_image_codes() -> None:
    codes = {row[0] for row in tables("Images")[0]}
    source = Path(image.__file__).read_text(encoding="utf-8")
    assert codes == {part.split('"', 1)[0] for part in source.split('"')[1::2] if part.startswith("image-")}
