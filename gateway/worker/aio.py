"""Runs coroutines: one event loop per worker, and nothing left of an invocation after its answer.

Called by ``adapter``; ``limits`` asks it where an interrupted coroutine waits. A coroutine that never really waits is
finished by its task's eager first step, without a turn of the loop. What always holds after ``run``: no task of the
invocation is alive, or the loop that it sits on never turns again.
"""

import asyncio
import contextlib
from asyncio import events
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any

CLEANUP_S_MAX = 1.0
"""What cancelled tasks may take; then their loop is given up with them."""
_AWAITS_MAX = 1_000
_TURNS_MAX = 8
_INNARDS = frozenset(("asyncio.base_events", "asyncio.events", "asyncio.selector_events", "selectors"))
"""An exception that is raised in one of these reaches no coroutine."""


class _Loop(asyncio.SelectorEventLoop):
    """Says that it runs during a first step, too: asyncio starts tasks eagerly only then."""

    stepping = False

    def is_running(self) -> bool:
        return self.stepping or super().is_running()


class Runner:
    def __init__(self) -> None:
        self._loop: _Loop | None = None
        self._task: asyncio.Task[Any] | None = None
        self.exceeded: BaseException | None = None
        """What a coroutine that was cancelled for want of a better way is to raise."""

    @property
    def is_open(self) -> bool:
        return self._loop is not None

    def open(self) -> list[int]:
        """Makes the loop now, unless there is one; its descriptors."""
        loop = self._loop or self._make()
        descriptors: list[int] = [loop._selector.fileno(), loop._ssock.fileno(), loop._csock.fileno()]  # type: ignore[attr-defined]
        return descriptors

    def _make(self) -> _Loop:
        loop = self._loop = _Loop()
        asyncio.set_event_loop(loop)
        return loop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = self._loop or self._make()
        task: asyncio.Task[Any] | None = None
        try:
            events._set_running_loop(loop)
            loop.stepping = True
            try:
                task = asyncio.Task(coroutine, loop=loop, eager_start=True)
            finally:
                loop.stepping = False
                events._set_running_loop(None)
            if task.done():
                return task.result()
            self._task = task
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                if self.exceeded is not None:
                    raise self.exceeded from None
                raise
        finally:
            self._task = self.exceeded = None
            if left := asyncio.all_tasks(loop):
                self._cancel(loop, left)

    def _cancel(self, loop: _Loop, left: set[asyncio.Task[Any]]) -> None:
        for task in left:
            task.cancel()
        # What the tasks raise has nobody to go to; KeyboardInterrupt and SystemExit of theirs included.
        with contextlib.suppress(BaseException):
            loop.run_until_complete(asyncio.wait(left, timeout=CLEANUP_S_MAX))
        if asyncio.all_tasks(loop):
            self._loop = None

    def suspended(self, frame: FrameType | None) -> "Suspended | None":
        """The handler's coroutine, if it is not what runs in ``frame``: it waits, or something else has its turn."""
        loop, task = self._loop, self._task
        if loop is None or task is None or task.done():
            return None
        # Not asyncio.current_task: that is still the task when its step has ended and asyncio puts it away.
        running = getattr(task.get_coro(), "cr_frame", None)
        outer = frame
        while outer is not None:
            if outer is running:
                return None
            outer = outer.f_back
        return Suspended(self, loop, task, in_loop=frame is not None and frame.f_globals.get("__name__") in _INNARDS)


class Suspended:
    """A coroutine that waits for something, and is to be woken by an exception."""

    def __init__(self, runner: Runner, loop: _Loop, task: asyncio.Task[Any], *, in_loop: bool) -> None:
        self._runner = runner
        self._turns = 0
        self._loop = loop
        self._task = task
        self._in_loop = in_loop

    def frames(self) -> Iterator[tuple[FrameType, int]]:
        """The innermost first, as ``traceback.walk_stack`` gives them."""
        found: list[tuple[FrameType, int]] = []
        awaited: Any = self._task.get_coro()
        while awaited is not None and len(found) < _AWAITS_MAX:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
            if frame is not None:
                found.append((frame, frame.f_lineno))
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
        return reversed(found)

    def throw(self, error: BaseException) -> bool:
        """Raises ``error`` in the coroutine, at its await, as soon as the loop turns. False: what runs now is neither
        that coroutine nor the loop itself and must be interrupted, too."""
        self._loop.call_soon_threadsafe(self._wake, error)
        return self._in_loop

    def _wake(self, error: BaseException) -> None:
        """What the coroutine waits for, through all tasks between, fails with ``error``."""
        waiter: Any = self._task._fut_waiter  # type: ignore[attr-defined]
        for _ in range(_AWAITS_MAX):
            if not isinstance(waiter, asyncio.Task):
                break
            waiter = waiter._fut_waiter  # type: ignore[attr-defined]
        if self._task.done():
            return
        if waiter is None or waiter.done():
            # Its turn is due: after it there is something that it waits for, or it has ended, or it only yields.
            self._turns += 1
            if self._turns == _TURNS_MAX:
                self._runner.exceeded = error
                self._task.cancel()
            elif self._turns < _TURNS_MAX:
                self._loop.call_soon(self._wake, error)
        else:
            waiter.set_exception(error)
