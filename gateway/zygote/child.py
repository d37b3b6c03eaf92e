"""Turns a fresh fork of the zygote into a worker: descriptors, CPU, signals, the jail, environment, modules, its loop.

Called by ``server`` in the child; never returns. What always holds: nothing of the tenant (code, data, environment) is
read before the jail is closed; a jail that cannot be closed is said and ends the worker; the process ends by
``os._exit``, so that nothing runs after its last answer.
"""

import importlib.machinery
import os
import resource
import signal
import sys
import sysconfig
import threading
import types
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import msgspec

from gateway.cgroup import group
from gateway.contract.egress import PROXY_URL
from gateway.contract.worker import JAIL_FAILED, SpawnSpec, StartFailed
from gateway.core.jail import JailError
from gateway.core.worker_loop import WorkerLoop, catch_soft_signal, forget_ignored_signals
from gateway.worker import limits, main
from gateway.zygote import groups
from gateway.zygote.jail import INTERPRETER
from gateway.zygote.template import Order

CHANNEL_FD = 3
SHARED_FD = 4
_DESCRIPTORS_MAX = 1024
_OOM_SCORE_ADJ = 500
"""Under memory pressure the kernel ends a worker before the gateway or the zygote."""

_THREAD_STACK_BYTES = 4 * 2**20
"""Of a thread that Python starts. All of it counts against the soft limit of memory, used or not: less than the usual
8 MiB; with 2 MiB some deep recursions end in a crash instead of a RecursionError (CPython 3.13)."""

_PROXIES = dict.fromkeys(
    (name for lower in ("http_proxy", "https_proxy", "all_proxy") for name in (lower, lower.upper())), PROXY_URL
) | {"no_proxy": "", "NO_PROXY": ""}
"""Of a version with a network: what urllib, requests, httpx and most others read."""

EXIT_OK = 0
EXIT_START_FAILED = 3
EXIT_BROKEN = 4
"""The channel carried something that is not ours, or our own code failed."""

_PACKAGES_FOLDER = "_packages"
_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120 (sys.path holds strings)
_STANDARD_PATHS = (_LIBRARY, sysconfig.get_config_var("DESTSHARED") or f"{_LIBRARY}/lib-dynload")
_BASE_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108
    "TMPDIR": "/tmp",  # noqa: S108
    # A pool of threads in every worker would only fight for the one CPU that it is pinned to.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_CORE_MODULES = frozenset(
    (
        "abc",
        "builtins",
        "codecs",
        "collections",
        "copyreg",
        "encodings",
        "enum",
        "functools",
        "genericpath",
        "importlib",
        "io",
        "keyword",
        "linecache",
        "operator",
        "os",
        "posix",
        "posixpath",
        "re",
        "reprlib",
        "site",
        "stat",
        "sys",
        "tokenize",
        "traceback",
        "types",
        "typing",
        "warnings",
        "weakref",
    )
)
"""A bundle's own file of such a name does not replace what the interpreter itself stands on."""

_hidden: list[types.ModuleType] = []
"""Modules of the server that tenant code cannot import; they live on here, where their own functions need them."""
_hidden_names: list[str] = []
"""Theirs; ``prepare`` fills it and the next."""
_replaceable: dict[str, list[str]] = {}
"""Modules that a bundle's own file may replace, by the first part of the dotted name."""
_nice = 0
"""Of workers: what the server was started with. The zygote's own is for forking (``server``)."""


def nice() -> int:
    return _nice


def prepare() -> None:
    """In the zygote, once, when it has read its settings and imported everything: what is the same for all workers."""
    global _nice  # noqa: PLW0603 (as the lists above)
    _nice = os.getpriority(os.PRIO_PROCESS, 0)
    # Workers do not depend on what whoever started the server ignored.
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    forget_ignored_signals()
    # What every Python program expects: an OSError instead of death by SIGPIPE or SIGXFSZ.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    # Inherited by every worker, and no worker may change it: its filter forbids that.
    limits.install(catch_soft_signal)
    sys.dont_write_bytecode = True
    threading.stack_size(_THREAD_STACK_BYTES)
    os.environ.clear()
    os.environ.update(_BASE_ENVIRONMENT)
    kept = _CORE_MODULES | set(sys.builtin_module_names)
    for name in sys.modules:
        top = name.partition(".")[0]
        if top != "tailcut" and top not in sys.stdlib_module_names:
            _hidden_names.append(name)
        elif top not in kept:
            _replaceable.setdefault(top, []).append(name)


def become_worker(
    order: Order, channel_fd: int, shared_fd: int, enter_jail: Callable[[], None], code_path: str
) -> NoReturn:
    """``code_path``: where the code is once the jail is closed. Its control group is bounded already, still empty."""
    status = EXIT_BROKEN
    try:
        try:
            arrange(order, channel_fd, shared_fd, enter_jail, code_path)
        except JailError as error:
            _refuse(str(error))
            os._exit(EXIT_START_FAILED)
        if order.refusal is not None:
            WorkerLoop(CHANNEL_FD).failed(msgspec.json.encode(StartFailed("NetworkRefused", order.refusal, "")))
            os._exit(EXIT_START_FAILED)
        status = _serve(replace(order.spec, code_path=code_path))
    finally:
        os._exit(status)


def arrange(order: Order, channel_fd: int, shared_fd: int, enter_jail: Callable[[], None], code_path: str) -> None:
    """All but the function itself. Raises JailError."""
    _descriptors(channel_fd, shared_fd)
    _process()
    groups.enter(order.entrances, order.spec)
    _onto(order.cpu, order.reserved_entrances)
    enter_jail()
    _environment(order.spec, code_path)
    import_scope(code_path)


def _refuse(reason: str) -> None:
    """No worker rather than a half-jailed one."""
    message = f"The jail could not be closed: {reason}. `tailcut-server doctor` tells what this machine lacks."
    WorkerLoop(CHANNEL_FD).failed(msgspec.json.encode(StartFailed(JAIL_FAILED, message, "")))


def _descriptors(channel_fd: int, shared_fd: int) -> None:
    """0–2 (nowhere), the channel and the shared memory go where they belong; ``enter_jail`` closes all others."""
    # Above everything first, so that neither overwrites the other.
    channel = os.dup(channel_fd) if channel_fd <= SHARED_FD else channel_fd
    shared = os.dup(shared_fd) if shared_fd <= SHARED_FD else shared_fd
    signal.set_wakeup_fd(-1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    # Not inheritable: a program that the handler starts gets neither.
    os.dup2(channel, CHANNEL_FD, inheritable=False)
    os.dup2(shared, SHARED_FD, inheritable=False)
    os.register_at_fork(after_in_child=_leave_channel)


def _leave_channel() -> None:
    """A process that a handler forks must not answer in the worker's place."""
    for fd in (CHANNEL_FD, SHARED_FD):
        os.close(fd)


def _onto(cpu: int, entrances: list[str]) -> None:
    """To its CPU; ``entrances``: of its place if that is a reserved one. Raises JailError."""
    try:
        group.enter(entrances)
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise JailError(f"CPU {cpu}: {error.strerror}") from error


def _process() -> None:
    # Not a session of its own: with sched_autogroup each session is a scheduling group, between groups sched_yield
    # hands nothing over, and a same-CPU call costs three times as much (docs/decisions/).
    os.setpgid(0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, _nice)
    os.umask(0o077)
    # The zygote's own two; the others are as ``prepare`` left them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS_MAX, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _end_first()


def _end_first() -> None:
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        if int(os.read(fd, 16)) < _OOM_SCORE_ADJ:
            os.pwrite(fd, b"%d" % _OOM_SCORE_ADJ, 0)
    finally:
        os.close(fd)


def _environment(spec: SpawnSpec, code_path: str) -> None:
    # ``random`` needs nothing here: CPython seeds it anew at the fork, and every worker's own stream is promised.
    about = {"TAILCUT_TENANT": spec.tenant, "TAILCUT_FUNCTION": spec.function, "TAILCUT_VERSION": spec.version_id}
    # Not ``update``, which asks half a dozen abstract classes what it was given.
    for name, value in ((_PROXIES | about) if spec.network else about).items():
        os.environ[name] = value
    for name, value in spec.env.items():
        os.environ[name] = value
    # Where the server is installed is no business of a function's, unless it may start the interpreter.
    sys.executable = INTERPRETER if spec.processes else ""
    os.chdir(code_path)


def import_scope(code_path: str) -> None:
    """What tenant code can import: its bundle, the standard library, ``tailcut``; nothing of the server's."""
    sys.path[:] = [code_path, f"{code_path}/{_PACKAGES_FOLDER}", *_STANDARD_PATHS]
    sys.path_importer_cache.clear()
    # Finders of editable installs would lead back to the server's packages.
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if finder
        in (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, importlib.machinery.PathFinder)
    ]
    _hidden.extend(map(sys.modules.pop, _hidden_names))
    for top in _top_level_names(code_path):
        _hidden.extend(sys.modules.pop(name) for name in _replaceable.get(top, ()))
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv[:] = [""]
    sys.orig_argv[:] = []


def _top_level_names(code_path: str) -> set[str]:
    """Modules and packages of the bundle itself: they win over the standard library, as a script's folder does."""
    with os.scandir(code_path) as entries:
        return {
            entry.name.removesuffix(".py")
            for entry in entries
            if entry.name.endswith(".py") or (entry.is_dir() and os.path.exists(f"{entry.path}/__init__.py"))  # noqa: PTH110
        }


def _serve(spec: SpawnSpec) -> int:
    loop = WorkerLoop(CHANNEL_FD)
    return EXIT_OK if main.serve(spec, loop, CHANNEL_FD, SHARED_FD) else EXIT_START_FAILED
