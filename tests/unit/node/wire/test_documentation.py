"""docs/wire.md says what the code does: every row of every table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.wire_tables import limit_table, message_table, reason_table

PAGE = Path(__file__).parents[4] / "docs" / "wire.md"


@pytest.mark.parametrize("table", [message_table, reason_table, limit_table])
def test_the_page_has_the_tables_of_the_code(table: Callable[[], str]) -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    missing = [line for line in table().splitlines() if line not in page]
    assert missing == []
