# ruff: noqa: E501 (a table of programs: one line each)
"""Everything that a handler can change, changed: the next invocation of a fresh worker does not see it, that of a warm
one does (so each of these tests can fail)."""

import json
from pathlib import Path

import pytest

from tests.support.frames import Worker, wait_until
from tests.worker.conftest import Start

# Name → what the handler evaluates as the state it found, and what it then does. Both see the same globals.
CHANGES: dict[str, tuple[str, str, str]] = {
    "module global": ("x = [0]", "x[0]", "x[0] += 1"),
    "rebound global": ("x = 'import'", "x", "globals()['x'] = 'changed'"),
    "deleted global": ("x = 1", "'x' in globals()", "globals().pop('x', None)"),
    "growing dict": ("x = {}", "len(x)", "x.update({n: str(n) * 50 for n in range(len(x), len(x) + 5000)})"),
    "shrinking dict": ("x = {n: n for n in range(9999)}", "len(x)", "[x.popitem() for _ in range(100)]"),
    "growing list": ("x = list(range(200_000))", "len(x)", "x.extend(range(300_000))"),
    "class attribute": ("class C: n = 0", "C.n", "C.n += 1"),
    "new class attribute": ("class C: pass", "hasattr(C, 'a')", "setattr(C, 'a', 1)"),
    "method of a class": ("class C:\n    def f(self): return 'import'", "C().f()", "setattr(C, 'f', lambda s: 2)"),
    "closure": (
        "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\nup = make()",
        "up.__closure__[0].cell_contents",
        "up()",
    ),
    "default argument": ("def f(a=[]): a.append(1); return len(a)", "len(f.__defaults__[0])", "f()"),
    "generator": ("g = (n for n in range(10**9))", "next(g)", "next(g)"),
    "builtins": ("import builtins", "hasattr(builtins, 'added')", "setattr(builtins, 'added', 1)"),
    "sys.modules": ("import sys", "'colorsys' in sys.modules", "__import__('colorsys')"),
    "sys.path": ("import sys", "len(sys.path)", "sys.path.append('/nowhere')"),
    "lru_cache": (
        "import functools\n@functools.lru_cache\ndef f(a): return a",
        "f.cache_info().currsize",
        "[f(n) for n in range(50)]",
    ),
    "environ": ("import os", "os.environ.get('ADDED')", "os.environ.update(ADDED='1')"),
    "environ of C": (
        "import ctypes, os\ngetenv = ctypes.CDLL(None).getenv\ngetenv.restype = ctypes.c_char_p",
        "repr(getenv(b'ADDED'))",
        "os.environ.update(ADDED='1' * 5000)",
    ),
    "working directory": ("import os", "os.getcwd() == '/'", "os.chdir('/')"),
    "umask": ("import os\ndef umask():\n    old = os.umask(0)\n    os.umask(old)\n    return old", "umask()", "os.umask(0o022)"),
    "signal handler": (
        "import signal",
        "str(signal.getsignal(signal.SIGUSR1))",
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    ),
    "signal handler of C": (
        "import ctypes, pathlib\nlibc = ctypes.CDLL(None)",
        "[l for l in pathlib.Path('/proc/self/status').read_text().splitlines() if l.startswith('SigIgn')]",
        "libc.signal(12, ctypes.c_void_p(1))",
    ),
    "signal mask": (
        "import signal",
        "sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ()))",
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})",
    ),
    "blocked signal that was sent": (
        "import os, signal",
        "[int(s) for s in signal.sigpending()]",
        "(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}), os.kill(os.getpid(), signal.SIGUSR2))",
    ),
    "interval timer": ("import signal", "signal.getitimer(signal.ITIMER_REAL)[0] > 0", "signal.alarm(1000)"),
    "descriptors": ("import fcntl, os", "len([n for n in os.listdir('/proc/self/fd') if int(n) >= 100])", "fcntl.fcntl(1, fcntl.F_DUPFD, 100)"),
    "standard output's descriptor": (
        "import os",
        "os.readlink('/proc/self/fd/1')",
        "os.dup2(os.open('/', os.O_RDONLY), 1)",
    ),
    "position of a file": ("f = open(__file__, 'rb', buffering=0)", "f.tell()", "f.read(10)"),
    "soft limit": (
        "import resource",
        "resource.getrlimit(resource.RLIMIT_NOFILE)[0]",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
    ),
    "mapping": (
        "import mmap, pathlib\nkept = []",
        "pathlib.Path('/proc/self/maps').read_text().count('zero') > 1",
        "kept.append(mmap.mmap(-1, 1 << 20)) or kept[-1].write(b'x' * 9999)",
    ),
    "untouched mapping": (
        "import mmap, pathlib\nkept = []",
        "pathlib.Path('/proc/self/maps').read_text().count('zero') > 1",
        "kept.append(mmap.mmap(-1, 1 << 20))",
    ),
    "C memory": (
        "import ctypes\nbuffer = ctypes.create_string_buffer(1 << 20)",
        "buffer.raw.count(b'y')",
        "ctypes.memset(ctypes.byref(buffer, len(buffer.raw) // 2), ord('y'), 5000)",
    ),
    "freed C memory": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\n"
        "libc.free.argtypes = [ctypes.c_void_p]\nblock = [libc.malloc(1 << 27)]\nctypes.memset(block[0], 7, 1 << 20)",
        "ctypes.string_at(block[0], 100).count(7) if block else 'gone'",
        "libc.free(block.pop()) if block else None",
    ),
    "errno and rand of C": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.srand(7)",
        "libc.rand()",
        "libc.rand()",
    ),
    "thread-local storage": ("import threading\nlocal = threading.local()", "getattr(local, 'a', None)", "setattr(local, 'a', 1)"),
    "context variable": (
        "import contextvars\nv = contextvars.ContextVar('v', default=0)",
        "v.get()",
        "v.set(v.get() + 1)",
    ),
    "decimal context": ("import decimal", "decimal.getcontext().prec", "setattr(decimal.getcontext(), 'prec', 5)"),
    "locale": ("import locale", "locale.setlocale(locale.LC_ALL)", "locale.setlocale(locale.LC_ALL, 'C')"),
    "recursion limit": ("import sys", "sys.getrecursionlimit()", "sys.setrecursionlimit(5000)"),
    "collector": ("import gc", "gc.isenabled()", "gc.disable()"),
    "switch interval": ("import sys", "sys.getswitchinterval()", "sys.setswitchinterval(0.5)"),
    "trace function": ("import sys", "sys.getprofile() is None", "sys.setprofile(lambda *a: None)"),
    "exit handlers": ("import atexit", "atexit._ncallbacks()", "atexit.register(print)"),
    "standard output": ("import io, sys", "type(sys.stdout).__name__", "setattr(sys, 'stdout', io.StringIO())"),
    "error handling of output": ("import sys", "sys.stdout.errors", "sys.stdout.reconfigure(errors='strict')"),
    "logging": ("import logging", "len(logging.getLogger().handlers)", "logging.basicConfig(force=True) or logging.getLogger().addHandler(logging.NullHandler())"),
    "warnings": ("import warnings", "len(warnings.filters)", "warnings.simplefilter('ignore', append=True)"),
    "files in /tmp": (
        "import pathlib\ntmp = pathlib.Path('/tmp')\n(tmp / 'of the import').write_text('x')",
        "sorted(str(p) for p in tmp.rglob('*'))",
        "((tmp / 'a/b').mkdir(parents=True, exist_ok=True), (tmp / 'a/b/c').write_text('x'), "
        "(tmp / 'a').chmod(0o700), (tmp / f'link{len(list(tmp.iterdir()))}').symlink_to('/function'))",
    ),
    "name of the thread": (
        "import ctypes\nprctl = ctypes.CDLL(None).prctl\ndef name():\n"
        "    buffer = ctypes.create_string_buffer(16)\n    prctl(16, buffer)\n    return buffer.value.decode()",
        "name()",
        "prctl(15, b'changed')",
    ),
    "thread that ended": (
        "import threading\nseen = []",
        "len(seen)",
        "(t := threading.Thread(target=lambda: seen.append(1)), t.start(), t.join())",
    ),
    "program that ended": ("import subprocess\nseen = []", "len(seen)", "seen.append(subprocess.run(['true']).returncode)"),
    "deep stack": (
        "import sys\nsys.setrecursionlimit(20000)\nseen = []\ndef deep(n): return 0 if n == 0 else max(deep(n - 1), 0)",
        "len(seen)",
        "seen.append(deep(5000))",
    ),
}  # fmt: skip

UNJAILED = {
    *("signal handler of C", "descriptors", "standard output's descriptor", "soft limit", "mapping"),
    *("untouched mapping", "program that ended"),
}
"""What the jail does not let happen, or not let see."""

SOURCE = """
{setup}

def handler() -> object:
    found = {found}
    {change}
    return found
"""


def observed(worker: Worker, count: int) -> list[object]:
    values = []
    for _ in range(count):
        outcome = worker.call()
        assert outcome.status == 200, outcome.answer.entries
        values.append(json.dumps(outcome.json))
    return values


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_not_seen_by_the_next_invocation(start: Start, start_unjailed: Start, name: str) -> None:
    if name in UNJAILED:
        start = start_unjailed
    setup, found, change = CHANGES[name]
    source = SOURCE.format(setup=setup, found=found, change=change)
    fresh = observed(start(source, state="fresh"), 6)
    assert len(set(fresh)) == 1, fresh
    warm = observed(start(source), 3)
    assert len(set(warm)) > 1, warm
    assert warm[0] == fresh[0]


@pytest.mark.parametrize("name", ["growing dict", "module global", "environ of C"])
@pytest.mark.parametrize("before", [0, 1])
def test_the_state_is_the_same_when_the_worker_has_rested(start: Start, name: str, before: int) -> None:
    """Its checkpoint is mapped over its memory then, before the second way back (checkpoint.zig)."""
    setup, found, change = CHANGES[name]
    worker = start(SOURCE.format(setup=setup, found=found, change=change), state="fresh")
    first = observed(worker, before)
    wait_until(lambda: settled(worker) > 1)
    assert len(set(first + observed(worker, 3))) == 1


def settled(worker: Worker) -> int:
    """Mappings of the checkpoint's file: one until it is mapped over the memory."""
    return Path(f"/proc/{worker.pid}/maps").read_text().count("tailcut-checkpoint")
