"""A privacy record on one line: its statement, the attacks that succeed, and how many facts more there are.

Owns words. All of it is the author's word: a fact that does not read as `privacy-report` writes it is only counted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..consensus.payloads import Stage

_INTERVAL: Final = re.compile(r"mia_([a-z]+)_(\w+)_auc_interval")
_LEAST: Final = re.compile(r"[01](?:\.\d{1,9})?(?= to )")
_GUESSING: Final = 0.5
_GUARANTEE: Final = ("dp_delta", "dp_unit")


def privacy_line(stage: Stage) -> str:
    """Return what a privacy record comes to."""
    facts = dict(stage.details)
    parts, told = [stage.name], 0
    if all(name in facts for name in _GUARANTEE):
        parts[0] += f", δ = {facts['dp_delta']} per {facts['dp_unit']}"
        told += len(_GUARANTEE)
    attacks = _attacks(facts)
    if attacks:
        succeed = [f"{name} (AUC {auc})" for name, auc, least in attacks if least > _GUESSING]
        told += len(attacks)
        parts.append(
            f"attacks that succeed: {', '.join(succeed)}"
            if succeed
            else f"none of {len(attacks)} attacks succeeds"
        )
    if more := len(facts) - told:
        parts.append(f"{more} more {'fact' if more == 1 else 'facts'} with --json")
    return "; ".join(parts)


def _attacks(facts: Mapping[str, str]) -> list[tuple[str, str, float]]:
    """Return name, area and lower end of its interval of each attack that was measured."""
    found = []
    for key, value in sorted(facts.items()):
        name, least = _INTERVAL.fullmatch(key), _LEAST.match(value)
        auc = facts.get(key.removesuffix("_interval"))
        if name is not None and least is not None and auc is not None:
            unit, attack = name.groups()
            found.append((f"{attack.replace('_', ' ')} by {unit}", auc, float(least.group())))
    return found
