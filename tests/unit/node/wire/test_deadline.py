"""A deadline of every frame: one timer, however often it begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from facechain.node.wire import deadline as module
from facechain.node.wire.deadline import Deadline


@dataclass
class Timer:
    due: float
    look: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Loop:
    """An event loop of which only time passes."""

    now: float = 100.0
    timers: list[Timer] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, look: Callable[[], None]) -> Timer:
        self.timers.append(Timer(due, look))
        return self.timers[-1]

    def pass_time(self, until: float) -> None:
        """Let timers go off that are due, each at its time."""
        while self.timers and min(timer.due for timer in self.timers) <= until:
            timer = min(self.timers, key=lambda item: item.due)
            self.timers.remove(timer)
            self.now = timer.due
            if not timer.is_cancelled:
                timer.look()
        self.now = until


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()

    class Asyncio:
        TimerHandle = asyncio.TimerHandle

        @staticmethod
        def get_running_loop() -> Any:
            return made

    monkeypatch.setattr(module, "asyncio", Asyncio)
    return made


def test_it_ends_what_takes_too_long_once(loop: Loop) -> None:
    ends: list[float] = []
    deadline = Deadline(10.0, lambda: ends.append(loop.now))
    deadline.begin()
    loop.pass_time(109.0)
    assert ends == []
    loop.pass_time(300.0)
    assert ends == [110.0]
    deadline.begin()
    loop.pass_time(400.0)
    assert ends == [110.0, 310.0]


def test_many_frames_share_one_timer(loop: Loop) -> None:
    ends: list[float] = []
    deadline = Deadline(10.0, lambda: ends.append(loop.now))
    for number in range(100):
        loop.pass_time(100.0 + number)
        deadline.begin()
        assert len(loop.timers) == 1
        if number < 99:
            deadline.end()
    loop.pass_time(208.0)
    assert ends == [], "the last frame began at 199"
    loop.pass_time(210.0)
    assert ends == [209.0]


def test_what_ended_in_time_is_left_alone(loop: Loop) -> None:
    ends: list[float] = []
    deadline = Deadline(10.0, lambda: ends.append(loop.now))
    deadline.begin()
    deadline.end()
    loop.pass_time(200.0)
    assert ends == []
    assert loop.timers == []


def test_no_timer_outlives_it(loop: Loop) -> None:
    ends: list[float] = []
    deadline = Deadline(10.0, lambda: ends.append(loop.now))
    deadline.begin()
    deadline.close()
    assert all(timer.is_cancelled for timer in loop.timers)
    loop.pass_time(200.0)
    assert ends == []
