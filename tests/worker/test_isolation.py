"""What a worker's process is made of: nothing of the server's, and nothing shared with its siblings."""

import os
import signal
from pathlib import Path

SHOW = """
import os, sys, signal, random, uuid, resource, threading
def handler(what: str):
    return eval(what)
"""


def test_only_the_bundle_the_standard_library_and_tailcut_can_be_imported(start):
    worker = start(
        "import importlib, sys\n"
        "def handler(name: str):\n"
        "    try: return importlib.import_module(name).__file__\n"
        "    except ModuleNotFoundError: return 'missing'\n"
        "def modules(): pass\n",
        files={
            "_packages/msgspec/__init__.py": "mine = True\n",
            "gateway/__init__.py": "",
            "queue.py": "mine = True\n",
            "_packages/pip_installed.py": "",
        },
    )
    for name in ("cffi", "_cffi_backend", "pydantic", "fastapi", "control_plane", "gateway.core", "ziglang", "pytest"):
        assert worker.call(name=name).json == "missing", name
    for name in ("msgspec", "gateway", "queue", "pip_installed"):
        assert "/bundle" in worker.call(name=name).json, name
    for name in ("json", "sqlite3", "tailcut", "this"):
        assert "/bundle" not in worker.call(name=name).json


def test_sys_modules_holds_nothing_of_the_servers(start):
    worker = start(SHOW)
    names = worker.call(
        what="sorted({n.partition('.')[0] for n in sys.modules} - set(sys.stdlib_module_names) - {'__main__'})"
    ).json
    assert names == ["main", "tailcut"]
    assert worker.call(what="[sys.modules['__main__'].__dict__.get('__file__'), sys.argv]").json == [None, [""]]


def test_the_environment_is_the_functions_own(start):
    worker = start(SHOW, env={"MY_KEY": "value", "HOME": "/elsewhere"})
    environment = worker.call(what="dict(os.environ)").json
    assert environment["MY_KEY"] == "value"
    assert environment["HOME"] == "/elsewhere"
    assert environment["TAILCUT_FUNCTION"] == "sample"
    assert "TAILCUT_SECRET_OF_THE_SERVER" not in environment
    assert "PYTHONPATH" not in environment
    assert "TAILCUT_ZYGOTE_FD" not in environment


def test_the_process_is_clean(start):
    worker = start(SHOW)
    first = min(os.sched_getaffinity(0))
    assert {path.name for path in Path(f"/proc/{worker.pid}/fd").iterdir()} == {"0", "1", "2", "3", "4"}
    assert all(str(Path(f"/proc/{worker.pid}/fd/{fd}").readlink()) == "/dev/null" for fd in range(3))
    # A process group of its own, in the zygote's session (a session of its own would be a scheduling group of its own).
    assert worker.call(what="os.getpgid(0) == os.getpid()").json is True
    assert worker.call(what="os.getsid(0) == os.getsid(os.getppid())").json is True
    assert worker.call(what="list(os.sched_getaffinity(0))").json == [first]
    assert worker.call(what="threading.active_count()").json == 1
    assert worker.call(what="sys.stdin.read()").json == ""
    assert worker.call(what="os.getcwd()").json.endswith("bundle0")
    assert worker.call(what="resource.getrlimit(resource.RLIMIT_CORE)").json == [0, 0]
    assert worker.call(what="len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))").json == 0
    assert worker.call(what="signal.getsignal(signal.SIGTERM) == signal.SIG_DFL").json is True
    assert int(Path(f"/proc/{worker.pid}/oom_score_adj").read_text()) >= 500


def test_workers_have_random_streams_of_their_own(start):
    drawn = [
        start(SHOW).call(what="[random.random(), str(uuid.uuid4()), str(uuid.uuid1()), os.urandom(8).hex()]").json
        for _ in range(3)
    ]
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 3


def test_a_process_that_the_handler_forks_does_not_answer_for_it(start):
    worker = start(
        "import multiprocessing, os\n"
        "def handler(how: str):\n"
        "    if how == 'fork':\n"
        "        pid = os.fork()\n"
        "        if pid: os.waitpid(pid, 0)\n"
        "        return 'parent' if pid else 'child'\n"
        "    return multiprocessing.get_context('fork').Pool(1).map(abs, [-1])\n"
    )
    assert worker.call(how="fork").json == "parent"
    assert worker.call(how="pool").json == [1]
    assert worker.call(how="fork").json == "parent"


def test_a_bundles_own_signal_handlers_work(start):
    worker = start(
        "import signal\n"
        "seen = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))\n"
        "def handler(): return len(seen)\n"
    )
    os.kill(worker.pid, signal.SIGUSR1)
    assert worker.call().json == 1


def test_asyncio_sockets_and_threads_work(start):
    worker = start(
        "import asyncio, threading\n"
        "async def handler():\n"
        "    proc = await asyncio.to_thread(threading.get_ident)\n"
        "    queue = asyncio.Queue()\n"
        "    asyncio.get_running_loop().call_later(0.001, queue.put_nowait, 'put')\n"
        "    async with asyncio.timeout(5), asyncio.TaskGroup() as group:\n"
        "        one = group.create_task(queue.get())\n"
        "    return [proc != threading.get_ident(), one.result()]\n"
    )
    for _ in range(2):
        assert worker.call().json == [True, "put"]
