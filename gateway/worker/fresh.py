"""Makes a worker ready for fresh state: every invocation finds what the import left, nothing of another invocation.

Called by ``main`` once the function is imported; the work is libzigcore's (zigcore/src/runtime/checkpoint.zig). Here is
what only Python can know: which build this is, where its generators of random numbers are, what is open on purpose.
What always holds: a function that asked for fresh state never runs without: what cannot be put back fails the start and
says why.
"""

import gc
import os
import random
import struct
import sys
import tempfile
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

_GC_THRESHOLD = 50_000
"""Objects until the cyclic collector first looks: short invocations end before, and with them their garbage."""
_HEAD_BYTES = 16
"""PyObject_HEAD of a build with the GIL."""
_WORDS = 624
_IMMORTAL_VERSIONS = ((3, 12), (3, 13))
_CODE_FIELDS = {
    "co_consts": 24,
    "co_names": 32,
    "co_exceptiontable": 40,
    "co_filename": 112,
    "co_name": 120,
    "co_qualname": 128,
    "co_linetable": 136,
}
"""zigcore/src/runtime/immortal.zig relies on these; the two fields between have no attribute."""


class Loop(Protocol):
    def prepare(self, known: list[int], random_address: int) -> str: ...

    def memory(self, address: int, size: int) -> bytes: ...

    def immortalise(self) -> int: ...


class FreshStateUnavailable(Exception):  # noqa: N818 (its owner reads it as a sentence)
    """The function asks for fresh state (``state = "fresh"``), and this worker cannot give it. The message says why."""


def prepare(loop: Loop, known: list[int]) -> Callable[[], None] | None:
    """What is to be called before each invocation. ``known``: descriptors that are open on purpose. The garbage of
    the import has been collected."""
    if "t" in sys.abiflags:
        raise FreshStateUnavailable("this is a free-threaded build of CPython")
    # A generator that starts anew in each invocation must not repeat the import's names.
    tempfile._name_sequence = None  # type: ignore[attr-defined]
    generator = _generator(loop)
    if generator:
        # libzigcore seeds it before each invocation; of this it does not know.
        random._inst.gauss_next = None  # type: ignore[attr-defined]
    else:
        random.seed()
    reason = loop.prepare(known, generator)
    if reason:
        raise FreshStateUnavailable(reason)
    # Objects that the zygote froze are immortal already, and stay out of sight: looking at them would copy them.
    if layout_known(loop):
        loop.immortalise()
    refresh = _refresher(generator != 0)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])
    return refresh


def learn(loop: Loop) -> None:
    """In the zygote, once: what every worker would find out again, and copy pages for."""
    _learnt["layout"] = layout_known(loop)
    _learnt["generator"] = _generator(loop)


_learnt: dict[str, int] = {}


def _generator(loop: Loop) -> int:
    """Address of the Mersenne Twister behind ``random.random`` if its memory is as expected, or 0."""
    instance = random._inst
    # Objects stay where the zygote made them; tenant code may have put another one there.
    if id(instance) == _learnt.get("generator"):
        return id(instance)
    *words, index = random.getstate()[1]
    found = struct.unpack(f"<i{_WORDS}I", loop.memory(id(instance) + _HEAD_BYTES, 4 * (_WORDS + 1)))
    return id(instance) if found == (index, *words) else 0


def layout_known(loop: Loop) -> bool:
    """Whether code objects look as runtime/immortal.zig assumes, and the build counts references as 3.12 does."""
    if "layout" in _learnt:
        return bool(_learnt["layout"])
    if sys.version_info[:2] not in _IMMORTAL_VERSIONS or hasattr(sys, "gettotalrefcount"):
        return False
    code = layout_known.__code__
    (none_count,) = struct.unpack("<Q", loop.memory(id(None), 8))
    return none_count == 0xFFFF_FFFF and all(
        struct.unpack("<Q", loop.memory(id(code) + offset, 8))[0] == id(getattr(code, name))
        for name, offset in _CODE_FIELDS.items()
    )


def _refresher(generator_known: bool) -> Callable[[], None] | None:
    """Seeds what the checkpoint would repeat and libzigcore does not know; None when there is nothing."""
    calls: list[Callable[[], None]] = []
    if not generator_known:
        calls.append(random.seed)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        calls.append(numpy_random.seed)
    ssl = sys.modules.get("ssl")
    # OpenSSL's generator is started by the first context; one that is not started yet starts anew in each invocation.
    if ssl is not None and _ssl_used(ssl):
        calls.append(lambda: ssl.RAND_add(os.urandom(32), 32.0))
    if not calls:
        return None

    def refresh() -> None:
        for call in calls:
            call()

    return refresh


def _ssl_used(ssl: ModuleType) -> bool:
    """By the types of all objects, without a step of Python for each of them."""
    types = {id(kind): kind for kind in _kinds(ssl.SSLContext) | _kinds(ssl.SSLSocket)}
    return not types.keys().isdisjoint(map(id, map(type, gc.get_objects())))


def _kinds(kind: type) -> set[type]:
    return {kind}.union(*map(_kinds, type.__subclasses__(kind)))
