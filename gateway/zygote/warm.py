"""What every worker needs is imported here, once, before the first fork; then the heap is made quiet.

Called by ``__main__``: ``warm`` first, ``settle`` last. Starting a worker must neither exec Python nor import the
standard library again: a fork of a warm interpreter is a millisecond, its imports would be fifty. What always holds
afterwards: one thread; a rehearsed, immortal and frozen heap, so that neither the collector nor the counting of
references nor the specialising of code touches, and so copies, pages that are shared with the workers.
"""

import gc
import importlib
import sys
from pathlib import Path

from gateway.core import zygote_memory
from gateway.core.binding import CoreError
from gateway.worker import fresh
from gateway.zygote import gather, rehearsal
from gateway.zygote.spawner import Spawner

STANDARD = (
    "abc",
    "argparse",
    "array",
    "ast",
    "asyncio",
    "base64",
    "binascii",
    "bisect",
    "calendar",
    "cmath",
    "codecs",
    "collections",
    "collections.abc",
    "concurrent.futures",
    "concurrent.futures.thread",
    "contextlib",
    "contextvars",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "email.message",
    "email.utils",
    "enum",
    "errno",
    "fnmatch",
    "fractions",
    "functools",
    "glob",
    "gzip",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "html.parser",
    "http",
    "http.client",
    "http.cookies",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "linecache",
    "locale",
    "logging",
    "math",
    "mimetypes",
    "numbers",
    "operator",
    "os",
    "pathlib",
    "pickle",
    "platform",
    "pprint",
    "queue",
    "random",
    "re",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "statistics",
    "string",
    "struct",
    "subprocess",
    "sysconfig",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "timeit",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "urllib.error",
    "urllib.parse",
    "urllib.request",
    "uuid",
    "warnings",
    "weakref",
    "xml.etree.ElementTree",
    "zipfile",
    "zlib",
    "zoneinfo",
)

OURS = (
    "msgspec",
    "msgspec.inspect",
    "msgspec.json",
    "msgspec.structs",
    "tailcut",
    "tailcut._handler",
    "tailcut._warmup",
    "gateway.contract.worker",
    "gateway.core.worker_loop",
    "gateway.zygote.child",
    "gateway.worker.main",
)

OPTIONAL = frozenset({"sqlite3", "ssl"})
"""Missing in some builds of CPython."""


class WarmError(Exception):
    """The zygote cannot be forked from safely."""


def warm() -> None:
    """Imports, and one thread after them."""
    for name in (*STANDARD, *OURS):
        try:
            importlib.import_module(name)
        except ImportError:
            if name not in OPTIONAL:
                raise
    threads = _threads()
    if threads != 1:
        raise WarmError(
            f"{threads} threads after the imports, only one may be: a fork copies only the thread that forks"
        )


def settle(spawner: Spawner | None = None) -> None:
    """Just before the first fork: what a worker would do first is done, and nothing writes to what is shared. With
    ``spawner``, returns in the zygote; its workers come from here, too, and do not return."""
    rehearsal.rehearse()
    gather.gather(rehearsal.whole_start, ("gateway.zygote.", "gateway.cgroup.", "gateway.core."))
    # Copies of code have learnt nothing yet.
    rehearsal.rehearse()
    if spawner is not None:
        spawner.rehearse()
    gc.collect()
    fresh.learn(rehearsal.Loop())
    if fresh.layout_known(rehearsal.Loop()):
        # Counting references would copy the page that the object lies on, into each worker.
        zygote_memory.immortalise()
    zygote_memory.fill_holes()
    gc.freeze()
    if spawner is not None and spawner.prepare():
        return
    try:
        zygote_memory.share()
    except CoreError as error:
        sys.stderr.write(f"zygote: workers start more slowly and fresh state is not to be had: {error}\n")


def _threads() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("\nThreads:")[2].split(maxsplit=1)[0])
