"""The soft signal, as the handler sees it: an exception at the point where the handler is.

``install`` is called by gateway/zygote/child.py before the jail closes, ``Interrupter`` is made by ``main``. The
gateway has sent the signal; libzigcore has checked that it means the invocation that runs (runtime/soft.zig).
What always holds: before the exception is raised the gateway knows where the handler was; a signal that comes too late
does nothing; whatever goes wrong here, the gateway's grace ends and the worker is killed.
"""

import contextlib
import signal
import traceback
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import FrameType
from typing import Protocol

from tailcut._limits import CpuLimitExceeded, TimeLimitExceeded

from gateway.worker.aio import Runner
from gateway.worker.failure import Describer

SIGNAL = signal.SIGXCPU
"""soft_signal of zigcore/src/pool/frame.zig"""
_KINDS: dict[int, type[CpuLimitExceeded | TimeLimitExceeded]] = {1: TimeLimitExceeded, 2: CpuLimitExceeded}


class Loop(Protocol):
    def soft_take(self) -> tuple[int, int]: ...

    def soft_say(self, traceback: bytes) -> None: ...


_interrupt: Callable[[FrameType | None], None] | None = None
"""Of this worker; None until its function is imported."""


def install(catch: Callable[[], None]) -> None:
    """``catch`` puts libzigcore's C handler, which looks at the signal first, in front of CPython's."""
    signal.signal(SIGNAL, _on_signal)
    catch()


def _on_signal(_number: int, frame: FrameType | None) -> None:
    if _interrupt is not None:
        _interrupt(frame)


class Interrupter:
    """Raises the exception of the limit that was crossed."""

    def __init__(self, loop: Loop, describer: Describer, runner: Runner) -> None:
        self._loop = loop
        self._describer = describer
        self._runner = runner

    def activate(self) -> None:
        global _interrupt  # noqa: PLW0603 (a process has one handler of a signal)
        _interrupt = self

    def __call__(self, frame: FrameType | None) -> None:
        kind, allowed_ns = self._loop.soft_take()
        if kind not in _KINDS:
            return
        exceeded = _KINDS[kind]
        allowed = timedelta(microseconds=allowed_ns / 1000)
        waiting = self._runner.suspended(frame)
        frames = traceback.walk_stack(frame) if waiting is None else waiting.frames()
        self._say(frames, exceeded(allowed))
        if waiting is not None and waiting.throw(exceeded(allowed)):
            return
        raise exceeded(allowed)

    def _say(self, frames: Iterable[tuple[FrameType, int]], error: BaseException) -> None:
        text = b""
        # Deep in a recursion, or out of memory, the word alone must do, which has been said: a second one is a lie.
        with contextlib.suppress(Exception):
            text = self._describer.interrupted(frames, error)
        if text:
            self._loop.soft_say(text)
