# ruff: noqa: E501 (a table of programs: one line each)
"""A function that runs programs and tells all that it can see of its own state; and what programs are made of."""

from hypothesis import strategies as st

SOURCE = """
import asyncio, atexit, builtins, contextvars, copyreg, ctypes, decimal, fcntl, functools, gc, io, json, locale, logging
import mmap, os, pathlib, random, resource, select, signal, socket, sys, threading, time, traceback, types, warnings, zlib

libc = ctypes.CDLL(None, use_errno=True)
libc.malloc.restype = ctypes.c_void_p
libc.getenv.restype = ctypes.c_char_p
libc.mmap.restype = ctypes.c_void_p
for name in ("free", "mprotect", "munmap"):
    getattr(libc, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int][: {"free": 1, "munmap": 2}.get(name, 3)]
PAGE = 4096
FILE = open(__file__, "rb", buffering=0)
BLOCK = libc.malloc(1 << 20)
ctypes.memset(BLOCK, 7, 1 << 20)
BUFFER = ctypes.create_string_buffer(b"import", 1 << 16)
MAP = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
NUMBERS, NAMES, LOCAL = [1, 2, 3], {n: str(n) for n in range(200)}, threading.local()
VARIABLE = contextvars.ContextVar("VARIABLE", default=0)
CODE = ctypes.cast(libc.labs, ctypes.c_void_p).value
GENERATOR = (n for n in range(10**9))
libc.srand(7)

class Thing:
    attribute = "import"
    def method(self): return "import"

def counter():
    n = 0
    def up(by):
        nonlocal n
        n += by
        return n
    return up
up = counter()

@functools.lru_cache(maxsize=1000)
def cached(n): return n * 2

def function(a, mutable=[]):
    mutable.append(a)
    return len(mutable)

def word(address, count=32): return ctypes.string_at(address, count).hex()

def descriptors():
    found = {}
    for fd in range(64):
        try: about = os.fstat(fd)
        except OSError: continue
        found[fd] = [about.st_mode, about.st_rdev, fcntl.fcntl(fd, fcntl.F_GETFL) if fd > 4 else 0]
    return found

def mask():
    old = os.umask(0o077)
    os.umask(old)
    return old

def thread_name():
    buffer = ctypes.create_string_buffer(16)
    libc.prctl(16, buffer)
    return buffer.value.decode()

def state():
    return {
        "globals": sorted(k for k in globals()), "numbers": NUMBERS, "names": zlib.crc32(repr(NAMES).encode()),
        "class": [Thing.attribute, Thing().method(), sorted(vars(Thing))], "closure": up.__closure__[0].cell_contents,
        "cache": str(cached.cache_info()), "defaults": len(function.__defaults__[0]), "code": zlib.crc32(function.__code__.co_code),
        "builtins": [sorted(vars(builtins)), builtins.print is not None], "modules": sorted(sys.modules), "path": list(sys.path), "hooks": len(sys.meta_path),
        "environ": sorted(os.environ.items()), "getenv": str(libc.getenv(b"ADDED")), "cwd": os.getcwd(), "umask": mask(),
        "signals": [repr(signal.getsignal(n)) for n in (2, 10, 12, 13, 14, 15, 17)],
        "mask": sorted(int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())), "pending": [int(n) for n in signal.sigpending()],
        "timers": [signal.getitimer(n)[0] > 0 for n in (0, 1, 2)], "descriptors": descriptors(), "position": FILE.tell(),
        "tmp": sorted(str(p) for p in pathlib.Path("/tmp").rglob("*")), "name": thread_name(),
        "buffer": zlib.crc32(BUFFER.raw), "block": zlib.crc32(ctypes.string_at(BLOCK, 1 << 20)), "map": zlib.crc32(MAP[:]), "libc": word(CODE),
        "rand": libc.rand(), "errno": ctypes.get_errno(), "locale": locale.setlocale(locale.LC_ALL), "decimal": repr(decimal.getcontext()),
        "recursion": sys.getrecursionlimit(), "switch": sys.getswitchinterval(), "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)],
        "trace": [sys.gettrace() is None, sys.getprofile() is None], "exit": atexit._ncallbacks(), "streams": [type(sys.stdout).__name__, sys.stdout.errors],
        "logging": [len(logging.getLogger().handlers), logging.getLogger().level, sorted(logging.root.manager.loggerDict)],
        "warnings": len(warnings.filters), "variable": VARIABLE.get(), "local": getattr(LOCAL, "a", None), "threads": [threading.active_count(), threading.current_thread().name],
        "loop": type(asyncio.get_event_loop_policy()).__name__, "running": asyncio._get_running_loop() is None, "generator": next(GENERATOR),
        "copyreg": len(copyreg.dispatch_table), "displayhook": sys.displayhook.__name__, "excepthook": sys.excepthook.__name__,
        "kept": len(globals().get("KEPT", ())), "intern": sys.flags.hash_randomization, "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    }

def handler(program: list[str]) -> dict:
    if not program:
        return {"state": state()}
    errors = []
    for statement in program:
        try:
            exec(statement, globals())
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    return {"errors": errors}
"""

SEEN = (
    "NUMBERS.append({n})",
    "NUMBERS.clear()",
    "NAMES.update({{k: 'x' * {n} for k in range(500)}})",
    "[NAMES.popitem() for _ in range({n} % 100 + 1)]",
    "globals()['ADDED_{n}'] = [0] * {n}",
    "globals().pop('traceback', None)",
    "Thing.attribute = {n}",
    "Thing.method = lambda self: {n}",
    "setattr(Thing, 'added_{n}', {n})",
    "up({n} + 1)",
    "[cached(k) for k in range({n} + 1)]",
    "function({n})",
    "function.__code__ = (lambda a, mutable=[]: {n} + 1000).__code__",
    "setattr(builtins, 'added_{n}', {n})",
    "builtins.print = None",
    "sys.modules['fake_{n}'] = types.ModuleType('fake')",
    "import colorsys",
    "sys.modules.pop('json', None)",
    "sys.path.insert(0, '/tmp/{n}')",
    "sys.meta_path.append(None)",
    "os.environ['ADDED'] = 'x' * {n} + 'y'",
    "os.environ.pop('PATH', None)",
    "os.chdir('/')",
    "os.umask(0o022)",
    "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "signal.signal(signal.SIGTERM, lambda *a: None)",
    "signal.signal(signal.SIGCHLD, lambda *a: None)",
    "signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR2}})",
    "(signal.pthread_sigmask(signal.SIG_BLOCK, {{10}}), os.kill(os.getpid(), 10))",
    "signal.setitimer(signal.ITIMER_REAL, 1000 + {n})",
    "signal.setitimer(signal.ITIMER_VIRTUAL, 1000 + {n})",
    "[os.dup(1) for _ in range({n} % 20 + 1)]",
    "fcntl.fcntl(1, fcntl.F_DUPFD, 20 + {n} % 40)",
    "os.close(0)",
    "os.dup2(os.open('/function', os.O_RDONLY), 1)",
    "os.pipe()",
    "globals().setdefault('KEPT', []).append(socket.socketpair())",
    "globals().setdefault('KEPT', []).append(select.epoll())",
    "FILE.read({n} + 1)",
    "open('/tmp/file{n}', 'w').write('x' * {n})",
    "os.makedirs('/tmp/a{n}/b/c')",
    "libc.prctl(15, b'name{n}')",
    "BUFFER.raw = b'{n}' * 10",
    "ctypes.memset(BLOCK + {n} * 100, 9, 5000)",
    "MAP.write(b'{n}')",
    "(libc.mprotect(CODE // PAGE * PAGE, 2 * PAGE, 7), ctypes.memset(CODE, 0xc3, 1))",
    "ctypes.set_errno({n} + 1)",
    "locale.setlocale(locale.LC_ALL, 'C')",
    "decimal.getcontext().prec = {n} + 1",
    "decimal.setcontext(decimal.ExtendedContext)",
    "sys.setrecursionlimit(2000 + {n})",
    "sys.setswitchinterval(0.5)",
    "gc.disable()",
    "gc.set_threshold({n} + 1)",
    "gc.callbacks.append(lambda *a: None)",
    "sys.setprofile(lambda *a: None)",
    "sys.settrace(lambda *a: None)",
    "atexit.register(print)",
    "sys.stdout = io.StringIO()",
    "sys.stdout.reconfigure(errors='strict')",
    "logging.getLogger().addHandler(logging.NullHandler())",
    "logging.getLogger('logger{n}').setLevel(10)",
    "warnings.simplefilter('ignore', append=True)",
    "VARIABLE.set({n} + 1)",
    "LOCAL.a = {n}",
    "threading.current_thread().name = 'renamed'",
    "asyncio.set_event_loop_policy(type('Policy{n}', (asyncio.DefaultEventLoopPolicy,), {{}})())",
    "copyreg.pickle(Thing, lambda t: (Thing, ()))",
    "sys.displayhook = print",
    "sys.excepthook = print",
    "globals().setdefault('KEPT', []).append(mmap.mmap(-1, PAGE * ({n} + 1)))",
    "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
)
"""What one statement of these does, a warm worker's next invocation sees."""

UNSEEN = (
    "libc.srand({n} + 8)",
    "random.seed({n})",
    "'FREED' in globals() or (libc.free(BLOCK), globals().update(FREED=1))",
    "[libc.malloc({n} * 1000 + 1) for _ in range(20)]",
    "x = bytearray({n} * 20000)",
    "x = [bytes(k) for k in range({n} * 10)]",
    "(lambda f: f(f, {n}))(lambda f, k: 0 if k == 0 else f(f, k - 1))",
    "asyncio.run(asyncio.sleep(0))",
    "(t := threading.Thread(target=NUMBERS.append, args=({n},)), t.start(), t.join())",
    "libc.mprotect(MAP_ADDRESS := ctypes.addressof(ctypes.c_char.from_buffer(MAP)), PAGE, 1)",
    "libc.mmap(None, ctypes.c_size_t(PAGE * ({n} + 1)), 3, 0x22, -1, ctypes.c_long(0))",
    "gc.collect()",
    "gc.freeze()",
    "raise ValueError({n})",
    "json.loads('[' * {n} + ']' * {n})",
    "time.sleep(0)",
    "mmap.mmap(-1, PAGE).close()",
    "open(__file__).read()",
)

_number = st.integers(0, 400)
statement = st.builds(lambda text, n: text.format(n=n), st.sampled_from(SEEN + UNSEEN), _number)
program = st.lists(statement, min_size=1, max_size=6)
