"""Who is measured. One class each: say how it is started and what to call; the rest is the same for all.

To add a peer: a subclass of Peer with `name`, `about` and `start`, and its line in PEERS. Each serves the function of
hello/ in one process pinned to one CPU, and must give the same answer before it is measured.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.bench.load import ROOT, Target

BODY = json.dumps({"name": "bench"})
ANSWER = {"greeting": "Hello, bench!"}
START_TIMEOUT_S = 60.0
HERE = Path(__file__).resolve().parent


class PeerError(Exception):
    """A peer does not start or answers something else."""


class Peer:
    name: str
    about: str

    def __init__(self, cpu: int, folder: Path) -> None:
        """``folder``: a temporary one of its own, for logs and data."""
        self.cpu = cpu
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Target:
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

    # -- for subclasses --------------------------------------------------------------------------------------------

    def spawn(self, *command: str) -> Target:
        """Starts the command on our CPU and waits until it gives the right answer."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*pinned(self.cpu), *command], cwd=ROOT, stdout=log, stderr=log, env=environment()
            )
        target = Target(f"http://127.0.0.1:{self.port}/", BODY)
        self.wait_for_answer(target, lambda: self.process is not None and self.process.poll() is None)
        return target

    def wait_for_answer(self, target: Target, alive: Callable[[], bool] = lambda: True) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        seen = "nothing"
        while time.monotonic() < deadline and alive():
            try:
                answer = call(target)
            except OSError as error:
                seen = str(error)
            else:
                if answer == ANSWER:
                    return
                seen = repr(answer)
            time.sleep(0.05)
        log = self.folder / "log"
        tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        raise PeerError(f"{self.name} did not give the answer {ANSWER}, but {seen}\n{tail}")


class Tailcut(Peer):
    name = "Tailcut"
    about = "one reactor, one warm worker in a process of its own, key checked"

    def start(self) -> Target:
        data = self.folder / "data"
        server = [*pinned(self.cpu), script("tailcut-server")]
        # The control plane and Valkey come along; they idle on the same CPU.
        command = ["up", "--detach", "--cpus", str(self.cpu), "--data-dir", str(data), "--gateway-port", str(self.port)]
        command += ["--control-plane-port", str(free_port()), "--admin-port", str(free_port())]
        self.checked([*server, *command])
        credentials = json.loads((data / "dev-credentials.json").read_text())
        server_and_key = ["--server", credentials["control_plane_url"], "--key", credentials["key"]]
        deployed = self.checked([script("tailcut"), "deploy", str(HERE / "hello"), "--json", *server_and_key])
        target = Target(json.loads(deployed)["url"], BODY, f"Bearer {credentials['key']}")
        self.wait_for_answer(target)
        return target

    def stop(self) -> None:
        subprocess.run([script("tailcut-server"), "down", "--data-dir", str(self.folder / "data")], timeout=90)

    def checked(self, command: list[str]) -> str:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, env=environment())
        if result.returncode:
            raise PeerError(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-3000:]}")
        return result.stdout


class Uvicorn(Peer):
    name = "raw ASGI on uvicorn"
    about = "uvloop, httptools, one worker, no isolation"
    app = "tests.bench.apps:raw"

    def start(self) -> Target:
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        return self.spawn(sys.executable, "-m", "uvicorn", self.app, "--port", str(self.port), *options)

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

    def start(self) -> Target:
        options = ["--interface", "asgi", "--workers", "1", "--runtime-threads", "1", "--loop", "uvloop", "--no-ws"]
        options += ["--log-level", "warning", "--host", "127.0.0.1", "--port", str(self.port)]
        return self.spawn(sys.executable, "-m", "granian", *options, "tests.bench.apps:raw")

    def version(self) -> str:
        return installed("granian")


class Floor(Peer):
    name = "floor"
    about = "the least C and Python behind a process boundary, nothing checked"

    def start(self) -> Target:
        program = self.folder / "floor"
        source = HERE / "floor" / "floor.c"
        build = [sys.executable, "-m", "ziglang", "cc", "-O2", "-Wall", "-Werror", "-o", str(program), str(source)]
        subprocess.run(build, check=True)
        return self.spawn(str(program), str(self.port), sys.executable, str(HERE / "floor" / "worker.py"))


PEERS: dict[str, type[Peer]] = {
    "tailcut": Tailcut,
    "uvicorn": Uvicorn,
    "granian": Granian,
    "fastapi": FastApi,
    "floor": Floor,
}


def call(target: Target) -> object:
    headers = {"Content-Type": "application/json", "Authorization": target.authorization}
    request = urllib.request.Request(target.url, target.body.encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise OSError(f"{error.code}: {error.read()[:300]!r}") from None
    except ValueError as error:
        raise OSError(f"no JSON: {error}") from None


def pinned(cpu: int) -> list[str]:
    return ["taskset", "-c", str(cpu)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """Ours, with the repository first on the path, and without what would turn the servers' or our own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TAILCUT_", "UVICORN_", "GRANIAN_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")])}


def script(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise PeerError(f"the command {name} is not installed: run make setup")
    return found


def installed(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)
