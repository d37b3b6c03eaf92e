"""Nodes that share a Valkey: each a process with a data plane and its leases, over the fake zygote of tests/core."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.table import Function, Key, Quota, RoutingTable, Tenant
from tests.core.conftest import Answer, Zygote
from tests.support.valkey import Valkey

HERE = Path(__file__).parent
KEY = "tck_" + "q" * 40
KEY_SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
OWNER = f"Authorization: Bearer {KEY}"


def quota(**changes: Any) -> Quota:
    return Quota(**{"period": "2026-11", "resets_at_s": int(time.time()) + 86_400} | changes)


def table(revision: int = 1, function_quota: Quota | None = None, **tenant: Any) -> RoutingTable:
    """One tenant ``acme`` with the functions ``echo`` (of the fake zygote's worker) and ``other``."""
    return RoutingTable(
        revision=revision,
        tenants=(Tenant(id="tnt_acme", name="acme", tier="free", **tenant),),
        keys=(
            Key(id="key_1", sha256=hashlib.sha256(KEY.encode()).hexdigest(), tenant_id="tnt_acme", scopes=("invoke",)),
        ),
        functions=(
            Function(tenant_id="tnt_acme", name="echo", public=True, aliases={}, quota=function_quota),
            Function(tenant_id="tnt_acme", name="other", public=True, aliases={}),
        ),
    )


class Node:
    def __init__(self, number: int, zygote: Zygote, redis_url: str, folder: Path, lease_ttl_s: float) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(1024)
        self.port: int = self.listener.getsockname()[1]
        self._options = {
            "folder": str(folder),
            "redis_url": redis_url,
            "lease_ttl_s": lease_ttl_s,
            "cpu": max(os.sched_getaffinity(0)),
            "listen_fd": self.listener.fileno(),
            "zygote_path": str(zygote.path),
            "node": number,
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.quota.node_process", json.dumps(self._options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self.listener.fileno()],
        )

    def apply(self, document: RoutingTable) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(document.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"ready\n"

    def call(self, *headers: str, path: str = "/acme/echo") -> Answer:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
            client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
            return Answer.read(client)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """As at a drain: what is left of the leases is given back."""
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(60)
        self.listener.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path) as running:
        yield running


@pytest.fixture
def make_node(valkey: Valkey, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    zygote = Zygote(tmp_path / "zygote.sock")
    nodes: list[Node] = []

    def make(lease_ttl_s: float = 30.0) -> Node:
        nodes.append(Node(len(nodes) + 1, zygote, valkey.url, tmp_path, lease_ttl_s))
        return nodes[-1]

    yield make
    for node in nodes:
        node.end()
    zygote.kill()
