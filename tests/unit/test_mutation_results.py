"""The kept results of mutation testing and what docs/testing.md says of them belong together."""

import json
import re
from collections import Counter

from mutation.mutate import EXPLANATIONS, RESULTS, ROOT, ROW, explained, suite_of, unexplained

MODULES = json.loads(RESULTS.read_text())["modules"]
PROMISED = [f"consensus/{name}.py" for name in ("validation", "work", "merkle", "chain")]


def test_promised_modules_were_examined() -> None:
    assert set(PROMISED) <= set(MODULES)
    for module, entry in MODULES.items():
        assert (ROOT / module).is_file()
        assert suite_of(module)
        assert re.fullmatch("[0-9a-f]{40}", entry["commit"]), module
        assert entry["mutants"] == entry["killed"] + entry["timeout"] + len(entry["survivors"])


def test_every_survivor_is_explained_and_nothing_else_is() -> None:
    for module, entry in MODULES.items():
        found = Counter((item["function"], item["was"], item["becomes"]) for item in entry["survivors"])
        assert explained(module) == found, module
        assert unexplained(module, entry["survivors"]) == []


def test_explained_modules_have_results() -> None:
    rows = [ROW.match(line) for line in EXPLANATIONS.read_text().splitlines()]
    assert {row["module"] for row in rows if row} <= set(MODULES)
