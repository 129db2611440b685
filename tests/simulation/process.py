"""The event loop of one simulated process: asyncio as a node uses it, on virtual time and without threads.

Ready callbacks run in the order in which they became ready, timers when the scheduler's clock reaches them, and
work for a thread is done later at one instant: what the loop does meanwhile comes before or after it, as it may in
life. A loop ends with its process; what its tasks would still do is done at once, to a store that is closed and
connections that are gone, so that nothing of it is left for the next life.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar, cast

from .events import AT_ONCE_MAX, Violation
from .links import Crash, Host

T = TypeVar("T")

RESOLUTION_SECONDS: Final = 1e-6
"""Timers this close to now are due, since sums of times are rounded; and waiting takes at least as long."""
CANCELLED_MAX: Final = 64
"""Cancelled timers that are kept before the heap is cleaned."""
BURIAL_ROUNDS_MAX: Final = 50
"""Tasks that were cancelled so often and still go on will never end."""


class ProcessTask(asyncio.Task[T]):
    """A task with a hash of its own, since sets of tasks are walked in the order of their hashes."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, T], **options: Any) -> None:
        self.number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class ProcessLoop:
    """See the module's text. Made for one life of a host; has what tasks, futures and the node ask of a loop."""

    def __init__(self, host: Host, *, work_seconds: Callable[[object], float]) -> None:
        """`work_seconds` draws how long a job of an executor takes."""
        self.host = host
        self.life = host.life
        self.ended = False
        self._self = cast("asyncio.AbstractEventLoop", self)
        self._is_buried = False
        self._events = host.events
        self._work_seconds = work_seconds
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = count()
        self._cancelled = 0
        self._timer_at: float | None = None
        self._is_planned = False
        self._is_running = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_limit = 64

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._events.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_buried

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nobody waits for what failed: a fault of the node, unless its process is gone anyway."""
        error = context.get("exception")
        if not self.ended and not isinstance(error, Crash):
            self._events.fail(Violation(f"{self.host.name}: {context.get('message')}: {error!r}"))

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._self, context)
        self._ready.append(handle)
        if not self._is_running and not self._is_planned and not self.ended:
            self._is_planned = True
            self._events.after(0, partial(self.host.enter, self.life, self._turn))
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + max(delay, RESOLUTION_SECONDS), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self._self, context)
        timer._scheduled = True  # type: ignore[attr-defined]  # as BaseEventLoop does, to hear of its end
        heapq.heappush(self._timers, (when, next(self._order), timer))
        self._plan_timer()
        return timer

    def _timer_handle_cancelled(self, _timer: asyncio.TimerHandle) -> None:
        self._cancelled += 1
        if self._cancelled > CANCELLED_MAX and 2 * self._cancelled > len(self._timers):
            self._timers = [item for item in self._timers if not item[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = ProcessTask(next(self._order), coro, loop=self._self, name=name or "task", context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._tasks_limit:
            self._tasks = [item for item in self._tasks if not item.done()]
            self._tasks_limit = 64 + 2 * len(self._tasks)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Do work somewhere in the time that it takes, and tell of it at the end of that time."""
        future = self.create_future()
        if self.ended:
            return future
        seconds = self._work_seconds(executor)
        at = self._events.random.random() * seconds
        self.host.after(at, partial(self._work, future, partial(func, *args), seconds - at))
        return future

    def _work(self, future: asyncio.Future[Any], work: Callable[[], Any], rest: float) -> None:
        try:
            tell = partial(future.set_result, work())
        except Exception as error:  # noqa: BLE001 - it is told to whoever waits for the work
            tell = partial(future.set_exception, error)
        self.host.after(rest, partial(self._tell, future, tell))

    @staticmethod
    def _tell(future: asyncio.Future[Any], tell: Callable[[], object]) -> None:
        if not future.done():
            tell()

    # Running.

    def _turn(self) -> None:
        self._is_planned = False
        self._run_ready()

    def _run_ready(self) -> None:
        asyncio_events._set_running_loop(self._self)
        self._is_running = True
        was_alive = not self.ended
        turns = 0
        try:
            while self._ready and not (was_alive and self.ended):
                turns += 1
                if turns > AT_ONCE_MAX:
                    raise Violation(f"{self.host.name}: time stands still: {self._ready[0]}")
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            self._is_running = False
            asyncio_events._set_running_loop(None)

    def _plan_timer(self) -> None:
        if not self._timers or self.ended:
            return
        at = self._timers[0][0]
        if self._timer_at is None or at < self._timer_at:
            self._timer_at = at
            self._events.after(
                at - self._events.now, partial(self.host.enter, self.life, partial(self._on_time, at))
            )

    def _on_time(self, planned: float) -> None:
        if self._timer_at != planned:
            return  # another timer came before this one and planned anew
        self._timer_at = None
        while self._timers and self._timers[0][0] <= self._events.now + RESOLUTION_SECONDS:
            timer = heapq.heappop(self._timers)[2]
            timer._scheduled = False  # type: ignore[attr-defined]
            if timer.cancelled():
                self._cancelled -= 1
            else:
                self._ready.append(timer)
        self._plan_timer()
        self._turn()

    def end(self) -> None:
        """The process is gone: nothing of this loop happens any more."""
        if not self.ended:
            self.ended = True
            self._events.after(0, self.bury)

    def bury(self) -> None:
        """Let every task see its end, at once; none of it is part of the run."""
        if self._is_buried:
            return
        self.ended = self._is_buried = True
        self._timers.clear()
        for _ in range(BURIAL_ROUNDS_MAX):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                self._ready.clear()
                return
            for task in left:
                task.cancel()
            self._run_ready()
        names = [task.get_name() for task in self._tasks if not task.done()]
        raise Violation(f"{self.host.name}: tasks that do not end when they are cancelled: {names}")
