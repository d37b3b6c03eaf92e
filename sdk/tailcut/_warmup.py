"""Work that a worker does once, when it starts, and that every call then finds done.

``warmup`` is exported by ``tailcut``; the server's worker calls what was registered, in order, after the import and
before the state that calls start from is kept. What always holds: importing this does no work.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["warmup"]

_registered: list[Callable[[], Any]] = []


def warmup[Function: Callable[[], Any]](function: Function) -> Function:
    """Decorates a function without parameters, plain or ``async``: fill caches, load models, call the handler once.

    In ``fresh`` and ``forked`` state this is the last thing that calls have in common. What it raises fails the start.
    """
    _registered.append(function)
    return function
