"""How a node is changed before its command runs: constants, defaults and functions of its modules.

Owns the means, and no change in particular: those are in `defences.py`. Only the process of `victim.py` uses them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

Change = Callable[[], None]


def part(path: str) -> Any:
    """Return a module of the node, or a class in it (`module:Class`), whose parts are about to be replaced."""
    module, _, name = path.partition(":")
    target: Any = import_module(f"facechain.{module}")
    return getattr(target, name) if name else target


def set_default(path: str, name: str, value: object) -> None:
    """Give a keyword argument of a class's constructor another default."""
    part(path).__init__.__kwdefaults__[name] = value


def constants(module: str, **values: float) -> Change:
    """Give constants of a module other values, also where a module that is loaded took them from there."""

    def change() -> None:
        table = part(module)
        for name, value in values.items():
            getattr(table, name)
            setattr(table, name, value)
            for other in [item for key, item in sys.modules.items() if key.startswith("facechain.")]:
                if name in vars(other):
                    setattr(other, name, value)

    return change


def limits(**values: float) -> Change:
    """Give constants of `wire.limits` other values."""
    return constants("node.wire.limits", **values)


def api_limits(**values: float) -> Change:
    """Give constants of `api.limits` other values."""
    return constants("node.api.limits", **values)


def default(path: str, **values: object) -> Change:
    """Give keyword arguments of a class's constructor other defaults."""

    def change() -> None:
        for name, value in values.items():
            set_default(path, name, value)

    return change


def timeouts(**seconds: float) -> Change:
    """Give fields of `Timeouts` other defaults."""
    return default(
        "node.wire.limits:Timeouts", **{f"{name}_seconds": value for name, value in seconds.items()}
    )


def patched(path: str, **attributes: Any) -> Change:
    """Replace attributes of a module, or of a class in it (`module:Class`)."""

    def change() -> None:
        target = part(path)
        for attribute, value in attributes.items():
            getattr(target, attribute)
            setattr(target, attribute, value)

    return change


def wrapped(path: str, name: str, around: Callable[..., Any]) -> Change:
    """Replace a function by `around`, which is given the old one before the arguments."""

    def change() -> None:
        target = part(path)
        known = getattr(target, name)

        def function(*arguments: Any, **named: Any) -> Any:
            return around(known, *arguments, **named)

        setattr(target, name, function)

    return change


def together(*changes: Change) -> Change:
    """Make several changes, in order."""

    def change() -> None:
        for item in changes:
            item()

    return change


def sync_limits(**values: float) -> Change:
    """Give fields of the synchroniser's limits other values."""

    def change() -> None:
        known = part("node.protocol.sync_peer").DEFAULT_LIMITS
        changed = replace(known, **values)
        for module in [item for key, item in sys.modules.items() if key.startswith("facechain.")]:
            if vars(module).get("DEFAULT_LIMITS") is known:
                vars(module)["DEFAULT_LIMITS"] = changed

    return change


def relay_limits(**values: float) -> Change:
    """Give fields of the relay's limits other values."""

    def change() -> None:
        relay = part("node.protocol.relay")
        start = relay.Relay.__init__
        start.__defaults__ = tuple(
            replace(item, **values) if isinstance(item, relay.RelayLimits) else item
            for item in start.__defaults__
        )

    return change


def nothing(*_: Any, **__: Any) -> None:
    """Stand in for a check."""


def yes(*_: Any, **__: Any) -> bool:
    """Stand in for a question."""
    return True
