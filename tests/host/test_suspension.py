"""An operator suspends a tenant while a gateway serves: its calls are refused, others' are not; and nodes say how they
are."""

import time
from itertools import count

import httpx

from tests.support.server import Server, bundle

ECHO = "def handler(n: int = 1) -> int:\n    return n\n"
ROUNDS = 8
_numbers = count(1)


def test_a_suspended_tenant_is_refused_at_once_and_others_are_served(server: Server) -> None:
    """Prints the delays from the control plane's answer to the first refusal, and back."""
    server.deploy("echo", ECHO)
    token = (server.data_dir / "operator-token").read_text().strip()
    with (
        httpx.Client(
            base_url=server.control_plane_url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30
        ) as operator,
        httpx.Client(trust_env=False, timeout=30) as anybody,
    ):
        made = operator.post("/v1/tenants", json={"name": f"victim-{next(_numbers)}"}).json()
        key = {"Authorization": f"Bearer {made['key']['token']}"}
        archive = bundle({"main.py": ECHO})
        url = f"{server.control_plane_url}/v1/functions/echo/versions"
        answer = anybody.post(url, headers=key, files={"bundle": ("b.zip", archive, "application/zip")})
        assert answer.is_success, answer.text
        call = f"{server.gateway_url}/{made['name']}/echo"
        path = f"/v1/admin/tenants/{made['id']}/status"

        def status_of() -> int:
            return anybody.post(call, headers=key, json={"n": 2}).status_code

        def until(wanted: int) -> float:
            began = time.monotonic()
            server.wait_for(lambda: status_of() == wanted, what=f"status {wanted}")
            return time.monotonic() - began

        until(200)
        refused_ms, served_ms = [], []
        for _ in range(ROUNDS):
            assert operator.put(path, json={"status": "suspended", "reason": "sends spam"}).is_success
            refused_ms.append(until(403) * 1000)
            assert server.invoke("echo", n=3).json() == 3, "another tenant is served on"
            assert operator.put(path, json={"status": "active", "reason": "looked into"}).is_success
            served_ms.append(until(200) * 1000)
        assert operator.put(path, json={"status": "suspended", "reason": "sends spam"}).is_success
        until(403)
        answer = anybody.post(call, headers=key, json={"n": 2})
        assert answer.json()["type"].endswith("/errors/forbidden")
        assert "suspended" in answer.json()["detail"]
        stranger = anybody.post(call, json={"n": 2})
        assert stranger.status_code in (401, 403, 404, 503)
        assert "suspended" not in stranger.text
    print(f"refused after {shown(refused_ms)}, served again after {shown(served_ms)}")


def test_a_node_says_how_it_is(server: Server) -> None:
    token = (server.data_dir / "operator-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    server.deploy("echo", ECHO)
    assert server.invoke("echo", n=1).json() == 1
    with httpx.Client(base_url=server.control_plane_url, headers=headers, trust_env=False, timeout=30) as operator:

        def said() -> dict[str, object] | None:
            assert server.invoke("echo", n=1).is_success
            nodes = operator.get("/v1/admin/nodes").json()["items"]
            return next((each for each in nodes if not each["gone"] and each["state"]["tenants"]), None)

        node = server.wait_for(said, what="a node that tells of calls")

        def booked() -> bool:
            lag = operator.get("/v1/admin/usage").json()
            assert lag["dead_letters_count"] == 0
            streams = {each["node"] for each in lag["streams"]}
            return bool(lag["nodes"]) and {each["node"] for each in lag["nodes"]} <= streams

        server.wait_for(booked, what="its calls in the books")
    assert node is not None
    state = node["state"]
    assert state["tenants"][server.tenant] > 0  # type: ignore[index]
    assert state["calls_per_s"] > 0  # type: ignore[index]
    assert state["cpus"]  # type: ignore[index]
    assert state["memory_resident_bytes"] > 0  # type: ignore[index]
    assert 0 < state["disk_free_bytes"] <= state["disk_bytes"]  # type: ignore[index]
    assert state["answers"]["200"] >= 2  # type: ignore[index]


def shown(delays_ms: list[float]) -> str:
    ordered = sorted(delays_ms)
    return f"{ordered[0]:.0f}–{ordered[-1]:.0f} ms (median {ordered[len(ordered) // 2]:.0f})"
