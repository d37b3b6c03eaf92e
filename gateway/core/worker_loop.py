"""The worker's side of libzigcore: the loop that serves invocations, and the way out for lines of output.

Called by gateway/zygote/child.py in the forked worker. What always holds: ``attach`` comes first; ``run`` returns only
when the gateway has closed the channel, and raises ``CoreError`` when what came on it was not ours.
"""

from collections.abc import Callable
from typing import Any

from gateway.core import binding
from gateway.core._zigcore_abi import ffi  # type: ignore[import-not-found,unused-ignore]

HEAD_ALWAYS = 1
FRESH = 2
FORKED = 4

Answer = bytes | tuple[int, bytes, bytes]
"""JSON of a 200, or status, header block, body."""
Invoke = Callable[[bytes, bytes | None], Answer]
Describe = Callable[[BaseException], bytes]


def forget_ignored_signals() -> None:
    """In the zygote: also those that Python has no name for. Python's own memory of them is the caller's to keep."""
    binding.load().zc_signals_default()


def catch_soft_signal() -> None:
    """Before the jail closes. From here on the soft signal comes to Python only if it means the running invocation."""
    error: Any = ffi.new("zc_error *")
    binding.check(binding.load().zc_worker_soft_install(error), error)


class WorkerLoop:
    """One per worker process."""

    def __init__(self, channel_fd: int) -> None:
        self._library = binding.load()
        self._log = self._library.zc_worker_log
        binding.check(self._library.zc_worker_attach(channel_fd))

    def prepare(self, known: list[int], random_address: int) -> str:
        """Whether invocations can start from the state of now: empty, or why not. ``known``: descriptors that may be
        open although they are no files; ``random_address``: of the generator behind ``random.random``, or 0."""
        error: Any = ffi.new("zc_error *")
        status = self._library.zc_worker_prepare(known, len(known), random_address, error)
        return "" if status == binding.Status.OK else ffi.string(error.text).decode("utf-8", "replace")

    def known(self, descriptors: list[int]) -> None:
        """Of an event loop, which the processes of a worker that forks may share."""
        binding.check(self._library.zc_worker_known(descriptors, len(descriptors)))

    def memory(self, address: int, size: int) -> bytes:
        """The process's own memory: to check the layout of an object before anything relies on it."""
        return memory_of_this_process(address, size)

    def immortalise(self) -> int:
        """Makes what lives now immortal; the layout of objects has been checked. How many objects that were."""
        return int(self._library.zc_worker_immortalise())

    def run(
        self,
        shared_fd: int,
        invoke: Invoke,
        failure: Describe,
        ready: bytes,
        *,
        head_always: bool,
        fresh: bool = False,
        forked: bool = False,
        refresh: Callable[[], None] | None = None,
    ) -> None:
        """Sends ``ready`` and serves. ``failure`` turns what ``invoke`` raised into a failure block.

        ``fresh``: each invocation starts from the state of now, after ``refresh``; ``prepare`` has said that it can.
        ``forked``: each runs in a process of its own."""
        error: Any = ffi.new("zc_error *")
        pointer = ffi.cast
        status = self._library.zc_worker_run(
            shared_fd,
            # CPython's id() is the object's address; both callables outlive the call.
            pointer("void *", id(invoke)),
            pointer("void *", id(failure)),
            ffi.NULL if refresh is None else pointer("void *", id(refresh)),
            HEAD_ALWAYS * head_always | FRESH * fresh | FORKED * forked,
            ready,
            len(ready),
            error,
        )
        binding.check(status, error)

    def soft_take(self) -> tuple[int, int]:
        """Which limit the running invocation has crossed (0: none, 1: wall clock, 2: CPU), and what was allowed, ns."""
        allowed_ns: Any = ffi.new("uint64_t *")
        return self._library.zc_worker_soft_take(allowed_ns), allowed_ns[0]

    def soft_say(self, traceback: bytes) -> None:
        """Tells the gateway where the handler is interrupted; a gateway that is gone need not know."""
        self._library.zc_worker_soft_say(traceback, len(traceback))

    def log(self, stream: int, line: bytes) -> bool:
        """Sends a line (without its newline, at most 8 KiB); False when the invocation may say no more."""
        return bool(self._log(stream, line, len(line)) == binding.Status.OK)

    def failed(self, document: bytes) -> None:
        """The one word of a worker that cannot start."""
        binding.check(self._library.zc_worker_failed(document, len(document)))


def memory_of_this_process(address: int, size: int) -> bytes:
    return bytes(ffi.buffer(ffi.cast("char *", address), size))
