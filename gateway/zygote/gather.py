"""Code that every worker runs is put together: into few pages, because running it writes to them.

Called by ``warm``, between two rehearsals. Why: CPython counts in a code object how often it ran and which way its
branches went, so a worker copies a page for a few words of each of the 250 functions that its start runs. What always
holds: each function does what it did; the watching is done in a process of its own, for watched code stays marked.
"""

import gc
import os
import struct
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, FunctionType
from typing import Any

from gateway.core import zygote_memory

_ID = struct.Struct("<Q")


def gather(play: Callable[[], None], packages: tuple[str, ...]) -> int:
    """Puts together what ``play`` runs, which is played in a fork, and all of ``packages``: they run in this process,
    between two forks. How many code objects that were."""
    functions = [one for one in gc.get_objects() if type(one) is FunctionType]
    wanted = _run_by(play)
    # In the order of the first call: what runs together lies together.
    place = {address: at for at, address in enumerate(wanted)}
    for one in functions:
        if f"{one.__module__}.".startswith(packages):
            place.setdefault(id(one.__code__), len(place))
    copies: dict[int, CodeType] = {}
    zygote_memory.fill_holes()
    for function in sorted(functions, key=lambda one: place.get(id(one.__code__), len(place))):
        code = function.__code__
        copy = _copied(code, place, copies)
        if copy is not code:
            function.__code__ = copy
    return len(copies)


def _copied(code: CodeType, wanted: dict[int, int], copies: dict[int, CodeType]) -> CodeType:
    """Itself, if neither it nor a function within it is wanted."""
    if (known := copies.get(id(code))) is not None:
        return known
    constants = tuple(_copied(one, wanted, copies) if type(one) is CodeType else one for one in code.co_consts)
    changed = any(one is not other for one, other in zip(constants, code.co_consts, strict=True))
    if not changed and id(code) not in wanted:
        return code
    copies[id(code)] = copy = code.replace(co_consts=constants)
    _kept.append(code)
    return copy


_kept: list[CodeType] = []
"""The originals: nothing is to lie where they do, for frames and caches may still know them."""


def _run_by(play: Callable[[], None]) -> list[int]:
    """Addresses of code objects, which a fork has where we have them."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            with os.fdopen(write, "wb") as pipe:
                pipe.writelines(map(_ID.pack, _watched(play)))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return [address for (address,) in _ID.iter_unpack(found)]


def _watched(play: Callable[[], None]) -> Iterable[int]:
    seen: dict[int, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen[id(frame.f_code)] = None

    sys.setprofile(note)
    try:
        # What is called in a new process is to be seen, too; this one waits.
        if (pid := os.fork()) != 0:
            os.waitpid(pid, 0)
            os._exit(0)
        play()
    finally:
        sys.setprofile(None)
    return list(seen)
