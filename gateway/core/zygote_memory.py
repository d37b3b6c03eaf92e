"""What libzigcore does to the zygote's memory before its first fork, so that workers share it and go on sharing it.

Called by gateway/zygote/warm.py, in the order of this file. What always holds: the process has one thread; no object
and no address changes.
"""

from typing import Any

from gateway.core import binding
from gateway.core._zigcore_abi import ffi  # type: ignore[import-not-found,unused-ignore]


def immortalise() -> int:
    """Counting references to what lives now writes nothing any more. The layout of objects has been checked."""
    return int(binding.load().zc_worker_immortalise())


def fill_holes() -> int:
    """Blocks that are allocated from now on lie together. How many bytes that took."""
    return int(binding.load().zc_zygote_fill())


def share() -> None:
    """The memory becomes a file that forks map until they write. CoreError where the kernel cannot tell written pages
    (Linux before 6.7): then a fork shares as it always does."""
    error = ffi.new("zc_error *")
    binding.check(binding.load().zc_zygote_share(error), error)


ORDERS_FD = 64
"""Where zigcore/src/runtime/template.zig finds its socket, and below the PID namespace to come back to."""
PROCESSES_FD = 65


def template(*, jailed: bool) -> tuple[int, bytes, list[int]]:
    """The same as ``share``, and forks what workers are forked from. In the zygote: its pid. In a worker: 0, its order
    and the descriptors that came with it. CoreError: nothing has changed."""
    error: Any = ffi.new("zc_error *")
    order: Any = ffi.new("zc_order *")
    pid: Any = ffi.new("int *")
    binding.check(binding.load().zc_zygote_template(jailed, order, pid, error), error)
    return (
        pid[0],
        bytes(ffi.buffer(order.bytes, order.bytes_count)),
        list(order.descriptors[0 : order.descriptors_count]),
    )
