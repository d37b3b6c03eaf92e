"""Who is measured. One class each: say how it is started; what it serves is the same for all (``workloads``).

To add a peer: a subclass of Peer with `name`, `about` and `start`, and its line in PEERS. Each runs in one process (the
workers of Tailcut in one each) pinned to one CPU, and must give the right answer before it is measured.
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.bench.host import PeerError, environment, free_port, installed, pinned, script
from tests.bench.load import ROOT, Target, found
from tests.bench.tailcut_server import TailcutServer
from tests.bench.workloads import ECHO_LARGE, ECHO_SMALL, HELLO, SPIN_LONG, SPIN_SHORT, Workload

START_TIMEOUT_S = 60.0
HERE = Path(__file__).resolve().parent
ALL = frozenset({HELLO.key, SPIN_SHORT.key, SPIN_LONG.key, ECHO_SMALL.key, ECHO_LARGE.key})


class Peer:
    name: str
    about: str
    workloads = ALL

    def __init__(self, cpu: int, folder: Path) -> None:
        """``folder``: a temporary one of its own, for logs and data."""
        self.cpu = cpu
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        raise PeerError(f"{self.name} does not say how it is started")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def version(self) -> str:
        return ""

    def target(self, workload: Workload) -> Target:
        return Target(f"http://127.0.0.1:{self.port}{workload.path}", workload.body)

    def check(self, workload: Workload) -> None:
        """Raises PeerError when the answer is not the right one."""
        try:
            answer = call(self.target(workload))
        except OSError as error:
            raise PeerError(f"{self.name}, {workload.title}: {error}") from error
        if answer != workload.answer:
            raise PeerError(f"{self.name}, {workload.title}: a wrong answer, {str(answer)[:200]!r}")

    def settle(self) -> None:
        """Returns when nothing is left to do of what was asked. Raises PeerError when that takes too long."""

    # -- for subclasses --------------------------------------------------------------------------------------------

    def spawn(self, *command: str) -> None:
        """Starts the command on our CPU and waits until it gives the right answer."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*pinned(self.cpu), *command], cwd=ROOT, stdout=log, stderr=log, env=environment()
            )
        self.wait_for_answer(lambda: self.process is not None and self.process.poll() is None)

    def wait_for_answer(self, alive: Callable[[], bool] = lambda: True) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        seen = "nothing"
        while time.monotonic() < deadline and alive():
            try:
                return self.check(HELLO)
            except PeerError as error:
                seen = str(error)
            time.sleep(0.05)
        log = self.folder / "log"
        tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        raise PeerError(f"{self.name} did not give the answer {HELLO.answer}, but {seen}\n{tail}")


class Tailcut(Peer):
    """``warm``; the other modes below run on the same server."""

    name = "Tailcut warm"
    about = "one reactor, one worker in a jailed process of its own, reused; key checked"
    state = "warm"
    _servers: dict[Path, tuple[TailcutServer, set[str]]] = {}  # noqa: RUF012 (shared on purpose)

    def start(self) -> None:
        place = self.folder.parent
        if place not in self._servers:
            server = TailcutServer([self.cpu], place / "tailcut-server")
            self._servers[place] = (server, set())
            server.start()
        self.server, users = self._servers[place]
        users.add(self.state)
        self._targets: dict[str, Target] = {}
        self.wait_for_answer()

    def target(self, workload: Workload) -> Target:
        if workload.key not in self._targets:
            try:
                deployed = self.server.deploy(f"{workload.key}-{self.state}", workload, self.state)
            except Exception as error:
                raise PeerError(f"{self.name}: {workload.key} cannot be deployed: {error}") from error
            self._targets[workload.key] = deployed
        return self._targets[workload.key]

    def settle(self) -> None:
        self.server.settle()

    def stop(self) -> None:
        """The last of them stops the server."""
        server, users = self._servers.get(self.folder.parent, (None, set()))
        users.discard(self.state)
        if server is not None and not users:
            del self._servers[self.folder.parent]
            server.stop()


class TailcutFresh(Tailcut):
    name = "Tailcut fresh"
    about = "the same; each call starts from the memory that the import left"
    state = "fresh"


class TailcutForked(Tailcut):
    name = "Tailcut forked"
    about = "the same; each call in a process forked for it"
    state = "forked"


class Uvicorn(Peer):
    name = "raw ASGI on uvicorn"
    about = "uvloop, httptools, one worker, no isolation"
    app = "tests.bench.apps:raw"

    def start(self) -> None:
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        self.spawn(sys.executable, "-m", "uvicorn", self.app, "--port", str(self.port), *options)

    def version(self) -> str:
        return installed("uvicorn")


class FastApi(Uvicorn):
    name = "FastAPI on uvicorn"
    about = "the same with FastAPI and a pydantic model"
    app = "tests.bench.apps:fastapi"

    def version(self) -> str:
        return installed("fastapi")


class Granian(Peer):
    name = "raw ASGI on granian"
    about = "uvloop, one worker, one runtime thread, no isolation"
    interface: tuple[str, ...] = ("asgi", "--loop", "uvloop", "--no-ws")
    app = "tests.bench.apps:raw"

    def start(self) -> None:
        options = ["--interface", *self.interface, "--workers", "1", "--runtime-threads", "1", "--log-level", "warning"]
        options += ["--host", "127.0.0.1", "--port", str(self.port)]
        self.spawn(sys.executable, "-m", "granian", *options, self.app)

    def version(self) -> str:
        return installed("granian")


class GranianWsgi(Granian):
    name = "WSGI on granian"
    about = "one worker, one blocking thread, no isolation"
    interface = ("wsgi", "--blocking-threads", "1")
    app = "tests.bench.apps:wsgi"


class FunctionsFramework(Peer):
    name = "functions-framework"
    about = "Google's, on gunicorn as it starts it, one worker"

    def start(self) -> None:
        source = str(HERE / "apps.py")
        command = [script("functions-framework"), "--target", "framework", "--source", source]
        self.spawn(*command, "--host", "127.0.0.1", "--port", str(self.port))

    def version(self) -> str:
        return installed("functions-framework")


class Uwsgi(Peer):
    name = "WSGI on uWSGI"
    about = "http11-socket, one process, no isolation"

    def start(self) -> None:
        options = ["--http11-socket", f"127.0.0.1:{self.port}", "--processes", "1", "--master", "--need-app"]
        options += ["--module", "tests.bench.apps:wsgi", "--disable-logging", "--http-keepalive", "--die-on-term"]
        self.spawn(script("uwsgi"), *options, "--pythonpath", str(ROOT), "--listen", "128")

    def version(self) -> str:
        return installed("pyuwsgi")


class Nginx(Peer):
    name = "nginx return 200"
    about = "one worker, the answer in its configuration: no function at all"
    workloads = frozenset({HELLO.key})

    def start(self) -> None:
        program = found("nginx")
        if program is None:
            raise PeerError("nginx is not here: install the package nginx-light")
        answer = json.dumps(HELLO.answer)
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            "worker_processes 1; daemon off; error_log stderr; events { worker_connections 1024; }\n"
            f"pid {self.folder}/nginx.pid;\n"
            f"http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {self.folder}/body;\n"
            f"proxy_temp_path {self.folder}/proxy; fastcgi_temp_path {self.folder}/fastcgi;\n"
            f"uwsgi_temp_path {self.folder}/uwsgi; scgi_temp_path {self.folder}/scgi;\n"
            f"server {{ listen 127.0.0.1:{self.port} reuseport; default_type application/json;\n"
            f"location / {{ return 200 '{answer}'; }} }} }}\n"
        )
        self.spawn(program, "-p", str(self.folder), "-c", str(configuration))


class Floor(Peer):
    name = "floor"
    about = "the least C and Python behind a process boundary, nothing checked"
    workloads = frozenset({HELLO.key})

    def start(self) -> None:
        program = self.folder / "floor"
        source = HERE / "floor" / "floor.c"
        build = [sys.executable, "-m", "ziglang", "cc", "-O2", "-Wall", "-Werror", "-o", str(program), str(source)]
        subprocess.run(build, check=True)
        self.spawn(str(program), str(self.port), sys.executable, str(HERE / "floor" / "worker.py"))


PEERS: dict[str, type[Peer]] = {
    "tailcut": Tailcut,
    "tailcut-fresh": TailcutFresh,
    "tailcut-forked": TailcutForked,
    "uvicorn": Uvicorn,
    "granian": Granian,
    "granian-wsgi": GranianWsgi,
    "fastapi": FastApi,
    "functions-framework": FunctionsFramework,
    "uwsgi": Uwsgi,
    "nginx": Nginx,
    "floor": Floor,
}


def call(target: Target) -> object:
    """The answer's JSON, or its text."""
    headers = {"Content-Type": target.content_type, "Authorization": target.authorization}
    request = urllib.request.Request(target.url, target.body.encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            raw = response.read().decode()
    except urllib.error.HTTPError as error:
        raise OSError(f"{error.code}: {error.read()[:300]!r}") from None
    try:
        return json.loads(raw)
    except ValueError:
        return raw
