"""Redis or the control plane away: functions are served on, until TAILCUT_TABLE_MAX_AGE is over, and again afterwards.

Its control, a node that may serve without end, is
tests/faults/test_processes.py::test_the_gateway_killed_while_everything_else_is_down_serves_from_its_disk.
"""

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server
from tests.support.valkey import Valkey

HELLO = "def handler():\n    return 1\n"
QUICK = {"table_poll_interval": 0.2, "relay_interval": "PT0.2S", "key_use_interval": 0.2, "redis_backoff_max": 0.3}


def readiness(server: Server) -> httpx.Response:
    return httpx.get(f"{server.admin_url}/-/readyz", timeout=30, trust_env=False)


def health(server: Server, name: str) -> int:
    return httpx.get(f"{server.gateway_url}/-/{name}", timeout=30, trust_env=False).status_code


def last_used(server: Server, key_id: str) -> str | None:
    at: str | None = server.api().get(f"/v1/keys/{key_id}").json()["last_used_at"]
    return at


@pytest.fixture
def valkey(tmp_path: Path):
    with Valkey(tmp_path) as running:
        yield running


def expired(server: Server, key: str) -> None:
    """Waits until it refuses, and looks at how: functions and readiness, not health."""
    server.wait_for(lambda: server.invoke("hello", key=key).status_code == 503, what="the table's end")
    answer = server.invoke("hello", key=None)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"].endswith("/errors/table-expired")
    assert answer.json()["component"] == "gateway"
    assert (health(server, "readyz"), health(server, "healthz")) == (503, 200)
    ready = readiness(server)
    assert ready.status_code == 503
    assert ready.json()["table_expired"]
    assert ready.json()["table_age_s"] >= ready.json()["table_max_age_s"] == 3
    log = server.log_dir / "gateway.log"
    server.wait_for(lambda: "calls are refused (503) until Redis" in log.read_text(), what="the line in the log")


def served_on(server: Server, key: str) -> None:
    """Meanwhile it is refused only if this machine was so slow that the time is over already."""
    assert server.invoke("hello", key=key).status_code == 200 or readiness(server).json()["table_expired"]


def serves_again(server: Server, key: str, status: int = 200) -> None:
    server.wait_for(lambda: server.invoke("hello", key=key).status_code == status, what=f"a {status}")
    server.wait_for(lambda: readiness(server).status_code == 200, what="readiness")
    assert health(server, "readyz") == 200


def test_a_node_serves_on_for_as_long_as_the_setting_says(own_server: Callable[..., Server], valkey: Valkey) -> None:
    server = own_server(redis_url=valkey.url, table_max_age=3, **QUICK)
    server.deploy("hello", HELLO, public=True)
    made = server.create_key(scopes=["invoke"])
    key = made.token
    server.wait_for(lambda: server.invoke("hello", key=key).status_code == 200, what="the key's first call")
    server.wait_for(lambda: last_used(server, made.id) is not None, what="the key's use by a function")

    # Redis is there, and nobody confirms the table: the control plane hangs.
    paused = server.pid("control-plane")
    assert paused is not None
    server.kill(paused, signal.SIGSTOP)
    served_on(server, key)
    expired(server, key)
    assert readiness(server).json()["redis_connected"]
    server.kill(paused, signal.SIGCONT)
    serves_again(server, key)

    # Redis is away, and a key is revoked.
    valkey.kill()
    server.revoke_key(made.id)
    served_on(server, key)  # the revoked key too
    expired(server, key)
    server.kill(server.pid("gateway"))
    server.wait_for(lambda: server.pid("gateway") is not None, what="the next gateway")
    server.wait_for(lambda: health(server, "healthz") == 200, what="the next gateway's health")
    expired(server, key)  # a restart makes no table younger
    valkey.start()
    serves_again(server, key, 401)
    assert server.invoke("hello").status_code == 200
    assert "tailcut_table_max_age_seconds 3.0" in server.metrics()
