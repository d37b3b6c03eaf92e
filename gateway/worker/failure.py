"""Exceptions as failure blocks and start failures: type, message, and the tenant's part of the traceback.

Called by ``main`` for every exception of a handler, SystemExit and KeyboardInterrupt included. What always holds: it
returns, whatever an exception's own ``__str__`` does; texts are bounded, what was cut says so.
"""

import errno
import importlib
import os
import struct
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any

from gateway.contract.worker import StartFailed
from gateway.worker.loader import StartError

TYPE_BYTES_MAX = 256
MESSAGE_BYTES_MAX = 4 * 1024
TRACEBACK_BYTES_MAX = 16 * 1024
ARGUMENT_BYTES_MAX = 512
ARGUMENTS_MAX = 60
"""A block has at most 64 entries (limits.failure_entries_max); four are taken."""
_CHAIN_MAX = 32
_ENTRY = struct.Struct("<HH")
_SERVER_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120
_IMPORTLIB_FOLDER = os.path.dirname(importlib.__file__) + os.sep  # noqa: PTH120


class InvalidArguments(Exception):  # noqa: N818 (the problem type's name)
    """The caller's fault, not the function's: 422. ``arguments`` are (name, what is wrong)."""

    def __init__(self, message: str, arguments: list[tuple[str, str]]) -> None:
        super().__init__(message)
        self.message = message
        self.arguments = arguments


class Describer:
    def __init__(self, code_path: str) -> None:
        self._prefix = code_path.rstrip("/") + "/"

    def block(self, error: BaseException) -> bytes:
        """The entries of a failure frame, in the order of frame.zig."""
        if isinstance(error, InvalidArguments):
            return _entries(
                ("kind", "invalid-arguments", TYPE_BYTES_MAX),
                ("type", "InvalidArguments", TYPE_BYTES_MAX),
                ("message", error.message, MESSAGE_BYTES_MAX),
                *(("argument", f"{name}\0{wrong}", ARGUMENT_BYTES_MAX) for name, wrong in _bounded(error.arguments)),
            )
        kind = "memory-limit" if is_want_of_memory(error) else "function-error"
        return _entries(
            ("kind", kind, TYPE_BYTES_MAX),
            ("type", type_name(error), TYPE_BYTES_MAX),
            ("message", message_of(error), MESSAGE_BYTES_MAX),
            ("traceback", self.traceback(error), TRACEBACK_BYTES_MAX),
        )

    def start_failed(self, error: BaseException) -> StartFailed:
        if isinstance(error, StartError):
            return StartFailed(error.kind, cut(str(error), MESSAGE_BYTES_MAX).decode(errors="replace"), "")
        message = message_of(error)
        if isinstance(error, ModuleNotFoundError):
            message += ": it is neither in the bundle nor among its locked requirements"
        return StartFailed(
            type_name(error),
            cut(message, MESSAGE_BYTES_MAX).decode(errors="replace"),
            cut(self.traceback(error), TRACEBACK_BYTES_MAX).decode(errors="replace"),
        )

    def traceback(self, error: BaseException) -> str:
        try:
            described = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
            self._strip(described, _CHAIN_MAX)
            return "".join(described.format()).replace(self._prefix, "")
        except BaseException as trouble:  # noqa: BLE001 (an exception may be built to break its description)
            return f"(no traceback: describing {type_name(error)} raised {type_name(trouble)})\n"

    def interrupted(self, frames: Iterable[tuple[FrameType, int]], error: BaseException) -> bytes:
        """Where the handler was when ``error`` was about to be raised there; ``frames``: the innermost first."""
        stack = traceback.StackSummary.extract(iter(reversed(list(frames))))
        first = next((at for at, frame in enumerate(stack) if frame.filename.startswith(self._prefix)), 0)
        stack[:] = [frame for frame in stack[first:] if not _is_servers(frame.filename)]
        lines = ["Traceback (most recent call last):\n", *stack.format(), f"{full_name(error)}: {message_of(error)}\n"]
        return cut("".join(lines).replace(self._prefix, ""), TRACEBACK_BYTES_MAX)

    def _strip(self, described: Any, left: int) -> None:
        """Takes the server's frames, and those that lead to the tenant's first, out of the whole chain."""
        if described is None or left == 0:
            return
        frames = list(described.stack)
        first = next((at for at, frame in enumerate(frames) if frame.filename.startswith(self._prefix)), 0)
        described.stack[:] = [frame for frame in frames[first:] if not _is_servers(frame.filename)]
        self._strip(described.__cause__, left - 1)
        self._strip(described.__context__, left - 1)
        for each in described.exceptions or ():
            self._strip(each, left - 1)


def is_want_of_memory(error: BaseException) -> bool:
    """``mmap`` and the like raise OSError (ENOMEM) where Python's own objects raise MemoryError."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def full_name(error: BaseException) -> str:
    return f"tailcut.{type(error).__qualname__}"


def type_name(error: BaseException) -> str:
    return type(error).__qualname__


def message_of(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as trouble:  # noqa: BLE001 (any __str__ of the tenant's)
        return f"(str() of it raised {type(trouble).__qualname__})"
    if isinstance(error, SystemExit):
        return f"the handler called sys.exit({text}): return a value, or raise an exception"
    return text


def cut(text: str, bytes_max: int) -> bytes:
    """UTF-8 of at most ``bytes_max``; the middle of a longer one is left out, with a mark that says so."""
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= bytes_max:
        return raw
    mark = f"\n… {len(raw) - bytes_max} bytes or more left out …\n".encode()
    half = (bytes_max - len(mark)) // 2
    if half <= 0:
        return raw[:bytes_max].decode(errors="ignore").encode()
    return raw[:half].decode(errors="ignore").encode() + mark + raw[-half:].decode(errors="ignore").encode()


def _bounded(arguments: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if len(arguments) <= ARGUMENTS_MAX:
        return arguments
    more = len(arguments) - ARGUMENTS_MAX + 1
    return [*arguments[: ARGUMENTS_MAX - 1], ("…", f"{more} more")]


def _entries(*entries: tuple[str, str, int]) -> bytes:
    parts: list[bytes] = []
    for name, value, bytes_max in entries:
        raw = cut(value, bytes_max)
        parts += (_ENTRY.pack(len(name), len(raw)), name.encode(), raw)
    return b"".join(parts)


def _is_servers(filename: str) -> bool:
    return filename.startswith((_SERVER_FOLDER, _IMPORTLIB_FOLDER, "<frozen importlib", "<frozen runpy"))
