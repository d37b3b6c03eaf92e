"""Runs coroutines: one event loop per worker, and nothing left of an invocation after its answer.

Called by ``adapter``. A coroutine that never really waits is finished by its task's eager first step, without a turn of
the loop. What always holds after ``run``: no task of the invocation is alive, or the loop that it sits on never turns
again.
"""

import asyncio
import contextlib
from asyncio import events
from collections.abc import Coroutine
from typing import Any

CLEANUP_S_MAX = 1.0
"""What cancelled tasks may take; then their loop is given up with them."""


class _Loop(asyncio.SelectorEventLoop):
    """Says that it runs during a first step, too: asyncio starts tasks eagerly only then."""

    stepping = False

    def is_running(self) -> bool:
        return self.stepping or super().is_running()


class Runner:
    def __init__(self) -> None:
        self._loop: _Loop | None = None

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
            return task.result() if task.done() else loop.run_until_complete(task)
        finally:
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
