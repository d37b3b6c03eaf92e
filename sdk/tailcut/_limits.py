"""What a handler sees when its invocation crosses a limit. The standard library only: this runs inside every worker.

Exported by ``tailcut``; raised by the worker at the point where the handler is. Subclasses of BaseException, so that an
``except Exception`` around a loop does not swallow them.
"""

from datetime import timedelta

__all__ = ["CpuLimitExceeded", "TimeLimitExceeded"]


class _LimitExceeded(BaseException):
    """What is left is a short grace to clean up, some tens of milliseconds; then the process is killed."""

    what = ""

    def __init__(self, allowed: timedelta = timedelta(0)) -> None:
        super().__init__(allowed)
        self.allowed = allowed

    def __str__(self) -> str:
        return f"the invocation has used its {round(self.allowed / timedelta(milliseconds=1))} ms of {self.what}"


class CpuLimitExceeded(_LimitExceeded):
    """The invocation has used the CPU time that it may use, all its threads together. ``allowed``: how much that is."""

    what = "CPU"


class TimeLimitExceeded(_LimitExceeded):
    """The invocation has run as long as it may, by the wall clock. ``allowed``: how long that is."""

    what = "wall-clock time"
