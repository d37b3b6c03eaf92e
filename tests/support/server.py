"""A whole Tailcut in its own process tree, as `tailcut-server up` starts it, with handles for tests.

Used through the fixtures ``server`` (one for the session: leave it as you found it) and ``own_server`` (a factory:
break what it gives). Ports are the kernel's choice, data lies in a temporary folder.
"""

import contextlib
import hashlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

HANG_S = 120.0
"""Deadline of everything that waits: it ends a hanging test, nothing asserts on it."""
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Deployed:
    """A version that was deployed, and what became of it."""

    function: str
    version: str
    status: str
    """``ready`` or ``failed``"""
    style: str | None
    error: dict[str, Any] | None
    """type, message, traceback of a failed start"""
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewKey:
    id: str
    token: str


class Server:
    """One running `tailcut-server up`."""

    def __init__(self, data_dir: Path, env: Mapping[str, str], *arguments: str, wrapper: Sequence[str] = ()) -> None:
        """Returns when it is up. Raises AssertionError with its output when it does not come up. ``wrapper``: a command
        that executes the one behind it."""
        self.data_dir = data_dir
        self.log_dir = data_dir / "log"
        data_dir.mkdir(parents=True, exist_ok=True)
        self._env = dict(env)
        self._arguments = arguments
        self._wrapper = wrapper
        self._clients: dict[str, httpx.Client] = {}
        self.start()

    def start(self) -> None:
        """Starts it, once more after ``terminate`` on the same data."""
        command = (sys.executable, "-m", "gateway.supervisor", "up")
        self._output = self.data_dir / f"up-{time.monotonic_ns()}.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*self._wrapper, *command, "--data-dir", str(self.data_dir), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                start_new_session=True,
            )
        self.wait_for(lambda: self.status().get("state") == "up" or self.process.poll() is not None, what="the start")
        assert self.process.poll() is None, f"`up` ended with {self.process.returncode}:\n{self.output()}{self.tails()}"
        credentials = json.loads((self.data_dir / "dev-credentials.json").read_text())
        self.tenant: str = credentials["tenant"]
        self.key: str = credentials["key"]
        self.gateway_url: str = credentials["gateway_url"]
        self.control_plane_url: str = credentials["control_plane_url"]
        self.admin_url: str = self.status()["admin_url"]

    # -- functions -------------------------------------------------------------------------------------------------

    def deploy(
        self,
        name: str,
        source: str | Mapping[str, str | bytes],
        *,
        handler: str = "main:handler",
        public: bool = False,
        alias: str | None = None,
        env: Mapping[str, str] | None = None,
        expect: str = "ready",
        **limits: int | str,
    ) -> Deployed:
        """Uploads ``source`` (text of main.py, or path → content) by REST and waits until it is ``expect``.

        ``limits`` are those of gateway.contract.table.Limits: timeout_ms, concurrency_max, workers_min, ….
        """
        files = {"main.py": source} if isinstance(source, str) else source
        archive = bundle(files, handler=handler, env=env or {}, limits=limits)
        form = {"public": "true" if public else "false"} | ({"alias": alias} if alias else {})
        answer = self.api().post(
            f"/v1/functions/{name}/versions", data=form, files={"bundle": ("bundle.zip", archive, "application/zip")}
        )
        assert answer.is_success, f"upload of {name}: {answer.status_code} {answer.text}"
        version = str(answer.json()["version"])

        def settled() -> dict[str, Any] | None:
            document = self.version(name, version)
            return document if document["status"] in ("ready", "failed") else None

        document = self.wait_for(settled, what=f"{name} {version} ready or failed")
        assert document["status"] == expect, (
            f"{name} {version} is {document['status']}: {json.dumps(document, indent=2)}"
        )
        return Deployed(name, version, document["status"], document.get("style"), document.get("error"), document)

    def version(self, name: str, version: str) -> dict[str, Any]:
        """The control plane's document of a version."""
        answer = self.api().get(f"/v1/functions/{name}/versions/{version}")
        assert answer.is_success, f"{answer.status_code} {answer.text}"
        document: dict[str, Any] = answer.json()
        return document

    def invoke(
        self,
        function: str,
        *,
        key: str | None = "",
        content: bytes | None = None,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> httpx.Response:
        """Calls ``function`` (or ``function/rest``, ``function@alias``) with JSON arguments, or with ``content``.

        ``key``: the development key by default, None for none.
        """
        all_headers = dict(headers or {})
        if key is not None:
            all_headers["Authorization"] = f"Bearer {key or self.key}"
        url = f"{self.gateway_url}/{self.tenant}/{function}"
        client = self._client("gateway", self.gateway_url)
        if content is not None:
            return client.request(method, url, content=content, headers=all_headers)
        if method in ("GET", "HEAD"):
            return client.request(method, url, params=arguments, headers=all_headers)
        return client.request(method, url, json=arguments, headers=all_headers)

    def api(self) -> httpx.Client:
        """A client of the control plane with the development key; paths begin with /v1."""
        return self._client("api", self.control_plane_url, {"Authorization": f"Bearer {self.key}"})

    def create_key(self, *, scopes: list[str], expires_at: str | None = None) -> NewKey:
        body = {"scopes": scopes, "name": f"test-{secrets.token_hex(4)}"} | (
            {"expires_at": expires_at} if expires_at else {}
        )
        answer = self.api().post("/v1/keys", json=body)
        assert answer.is_success, answer.text
        document = answer.json()
        return NewKey(document["id"], document.get("token") or document["key"])

    def revoke_key(self, key_id: str) -> None:
        answer = self.api().delete(f"/v1/keys/{key_id}")
        assert answer.is_success, answer.text

    def function_logs(self) -> list[dict[str, Any]]:
        """What functions have written, oldest first: time, tenant, function, version, request_id, stream, text."""
        paths = [*sorted(self.log_dir.glob("functions.jsonl.*"), reverse=True), self.log_dir / "functions.jsonl"]
        lines = b"".join(path.read_bytes() for path in paths if path.exists()).splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def metrics(self) -> str:
        return httpx.get(f"{self.admin_url}/-/metrics", timeout=HANG_S, trust_env=False).text

    @property
    def environment(self) -> dict[str, str]:
        """What it was started with, for other commands on the same data."""
        return dict(self._env)

    # -- processes -------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What the supervisor last wrote; empty before it wrote anything."""
        try:
            found: dict[str, Any] = json.loads((self.data_dir / "supervisor.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if found.get("pid") == self.process.pid else {}

    def pid(self, name: str) -> int | None:
        """Of ``gateway``, ``zygote``, ``control-plane`` or ``valkey``; None while it is not running."""
        child = self.status().get("children", {}).get(name)
        return child["pid"] if child is not None and self.alive(child["pid"]) else None

    def kill(self, pid: int | None, number: signal.Signals = signal.SIGKILL) -> None:
        """Signals a process of this server and, for SIGKILL, waits until it is gone."""
        assert pid is not None, "the process is not running"
        assert pid in self.process_tree(), f"pid {pid} is none of this server's"
        os.kill(pid, number)
        if number == signal.SIGKILL:
            self.wait_for(lambda: not self.alive(pid), what=f"the end of pid {pid}")
            self._close_clients()  # a connection to what has died would fail the next call

    @staticmethod
    def alive(pid: int) -> bool:
        """Whether it runs: a zombie does not."""
        try:
            return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        except OSError:
            return False

    def process_tree(self, root: int | None = None) -> set[int]:
        """The supervisor (or ``root``) and all its descendants."""
        parents: dict[int, int] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    parents[int(folder.name)] = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
                except OSError:
                    continue
        tree = {root or self.process.pid}
        while True:
            more = {pid for pid, parent in parents.items() if parent in tree} - tree
            if not more:
                return tree
            tree |= more

    def worker_pids(self) -> set[int]:
        """The workers: everything below that is neither the supervisor nor one of its named children, nor theirs that
        books usage or asks the doctor, nor what workers are forked from."""
        children = self.status().get("children", {})
        named = {child["pid"] for child in children.values()} | {self.process.pid}
        for name in {"control-plane", "gateway"} & children.keys():
            named |= self.process_tree(children[name]["pid"])
        return {pid for pid in self.process_tree() - named if self.alive(pid) and not is_template(pid)}

    def reload(self) -> None:
        """Asks for a new gateway beside the old one; returns at once."""
        os.kill(self.process.pid, signal.SIGHUP)

    def control_plane_ready(self) -> bool:
        try:
            return self._client("probe", self.control_plane_url).get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def terminate(self) -> None:
        """SIGTERM to the supervisor; returns at once."""
        self.process.terminate()

    def stop(self) -> None:
        """Ends it, at the latest by SIGKILL, and closes what tests have opened."""
        self._close_clients()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(HANG_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def output(self) -> str:
        """What `up` has printed."""
        return self._output.read_text(errors="replace")

    def tails(self) -> str:
        """The last lines of every log, for messages."""
        lasts = {path.name: path.read_text(errors="replace").splitlines()[-15:] for path in self.log_dir.glob("*.log")}
        return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in sorted(lasts.items()))

    def wait_for[T](self, condition: Callable[[], T | None], *, what: str) -> T:
        """The first true value of ``condition``."""
        deadline = time.monotonic() + HANG_S
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"waited {HANG_S:g} s in vain for {what}\n{self.tails()}"
            time.sleep(_POLL_S)

    def _close_clients(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, name: str, base_url: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
        if name not in self._clients:
            self._clients[name] = httpx.Client(
                base_url=base_url, headers=dict(headers or {}), timeout=HANG_S, trust_env=False
            )
        return self._clients[name]


def bundle(
    files: Mapping[str, str | bytes],
    *,
    handler: str = "main:handler",
    env: Mapping[str, str] | None = None,
    limits: Mapping[str, int | str] | None = None,
) -> bytes:
    """A reproducible archive as the command line packs it."""
    manifest = {
        "schema_version": 1,
        "handler": handler,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "limits": dict(limits or {}),
        "env": dict(env or {}),
    }
    everything = {**files, "tailcut.json": json.dumps(manifest, sort_keys=True)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(everything):
            info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, everything[path])
    return buffer.getvalue()


def is_template(pid: int) -> bool:
    """What the zygote's workers are forked from."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text() == "template\n"
    return False


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
