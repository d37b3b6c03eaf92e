"""The worker's side of libzigcore: the loop that serves invocations, and the way out for lines of output.

Called by gateway/zygote/child.py in the forked worker. What always holds: ``attach`` comes first; ``run`` returns only
when the gateway has closed the channel, and raises ``CoreError`` when what came on it was not ours.
"""

from collections.abc import Callable
from typing import Any

from gateway.core import binding
from gateway.core._zigcore_abi import ffi  # type: ignore[import-not-found,unused-ignore]

HEAD_ALWAYS = 1

Answer = bytes | tuple[int, bytes, bytes]
"""JSON of a 200, or status, header block, body."""
Invoke = Callable[[bytes, bytes | None], Answer]
Describe = Callable[[BaseException], bytes]


class WorkerLoop:
    """One per worker process."""

    def __init__(self, channel_fd: int) -> None:
        self._library = binding.load()
        self._log = self._library.zc_worker_log
        binding.check(self._library.zc_worker_attach(channel_fd))

    def run(self, shared_fd: int, invoke: Invoke, failure: Describe, ready: bytes, *, head_always: bool) -> None:
        """Sends ``ready`` and serves. ``failure`` turns what ``invoke`` raised into a failure block."""
        error: Any = ffi.new("zc_error *")
        pointer = ffi.cast
        status = self._library.zc_worker_run(
            shared_fd,
            # CPython's id() is the object's address; both callables outlive the call.
            pointer("void *", id(invoke)),
            pointer("void *", id(failure)),
            HEAD_ALWAYS if head_always else 0,
            ready,
            len(ready),
            error,
        )
        binding.check(status, error)

    def log(self, stream: int, line: bytes) -> bool:
        """Sends a line (without its newline, at most 8 KiB); False when the invocation may say no more."""
        return bool(self._log(stream, line, len(line)) == binding.Status.OK)

    def failed(self, document: bytes) -> None:
        """The one word of a worker that cannot start."""
        binding.check(self._library.zc_worker_failed(document, len(document)))
