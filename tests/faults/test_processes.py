"""Parts of the node die, stall or are away: the functions serve on, and nothing is left behind.

Each test has a server of its own, since it breaks it.
"""

import threading
import time

import httpx

from tests.support.raw import connect, request

HELLO = "def handler(n: int = 0):\n    return {'version': %d, 'n': n}\n"


class Load:
    """Clients that call one function until told to stop, and keep every answer."""

    def __init__(self, server, name: str, clients: int = 4) -> None:
        self.server = server
        self.name = name
        self.statuses: dict[object, int] = {}
        self.bodies: dict[str, int] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def calls(self) -> int:
        with self._lock:
            return sum(self.statuses.values())

    def _run(self) -> None:
        url = f"{self.server.gateway_url}/{self.server.tenant}/{self.name}"
        headers = {"authorization": f"Bearer {self.server.key}"}
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(url, headers=headers, json={"n": 1})
                    outcome, body = answer.status_code, answer.text
                except httpx.HTTPError as error:
                    outcome, body = type(error).__name__, str(error)
                with self._lock:
                    self.statuses[outcome] = self.statuses.get(outcome, 0) + 1
                    self.bodies[body] = self.bodies.get(body, 0) + 1


def progress(load: Load, server) -> None:
    """Waits until the load has seen some more answers, so that what comes next happens under load."""
    before = load.calls()
    server.wait_for(lambda: load.calls() >= before + 50, what="calls under load")


def served(server, name: str) -> bool:
    """Whether a call is answered now. A connection may die with the gateway it was made to, but none is refused:
    httpx.ConnectError is not caught."""
    try:
        return server.invoke(name, n=5).status_code == 200
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
        return False


def test_redeploys_under_load_fail_no_request(own_server):
    server = own_server()
    server.deploy("busy", HELLO % 0, handler="main:handler")
    with Load(server, "busy") as load:
        for version in range(1, 6):
            progress(load, server)
            server.deploy("busy", HELLO % version, handler="main:handler")
            assert server.invoke("busy", n=1).json()["version"] == version
        progress(load, server)
    assert load.statuses.keys() == {200}, load.statuses
    assert len(load.bodies) == 6, "every version answered under load"


def test_redis_away_and_back(own_server):
    server = own_server()
    server.deploy("steady", HELLO % 1, handler="main:handler")
    with Load(server, "steady") as load:
        progress(load, server)
        server.kill(server.pid("valkey"))
        progress(load, server)
    assert load.statuses.keys() == {200}, load.statuses
    server.wait_for(lambda: server.pid("valkey"), what="Valkey restarted")
    server.deploy("steady", HELLO % 2, handler="main:handler")
    assert server.invoke("steady").json()["version"] == 2


def test_the_control_plane_away_and_back(own_server):
    server = own_server()
    server.deploy("steady", HELLO % 1, handler="main:handler")
    with Load(server, "steady") as load:
        progress(load, server)
        server.kill(server.pid("control-plane"))
        progress(load, server)
    assert load.statuses.keys() == {200}, load.statuses
    server.wait_for(server.control_plane_ready, what="the control plane restarted")
    server.deploy("steady", HELLO % 2, handler="main:handler")
    assert server.invoke("steady").json()["version"] == 2


def test_the_zygote_killed_under_load(own_server):
    server = own_server()
    server.deploy("steady", HELLO % 1, handler="main:handler")
    server.invoke("steady")
    with Load(server, "steady") as load:
        progress(load, server)
        old = server.pid("zygote")
        server.kill(old)
        progress(load, server)
        server.wait_for(lambda: server.pid("zygote") not in (None, old), what="a new zygote")
        progress(load, server)
    assert load.statuses.keys() == {200}, load.statuses
    server.deploy("later", HELLO % 7, handler="main:handler")
    assert server.invoke("later").json()["version"] == 7


def test_the_gateway_killed_leaves_new_connections_queued_and_serves_again_without_a_redeploy(own_server):
    server = own_server()
    server.deploy("steady", HELLO % 1, handler="main:handler")
    server.invoke("steady")
    workers = server.worker_pids()
    assert workers

    old = server.pid("gateway")
    server.kill(old)
    # Not refused: the supervisor holds the listening sockets, so this waits in the queue for the next gateway.
    with connect(server.gateway_url) as connection:
        connection.send(request("POST", f"/{server.tenant}/steady", key=server.key, body=b'{"n": 5}'))
        answer = None
        deadline = time.monotonic() + 30
        while answer is None and time.monotonic() < deadline:
            answer = connection.answer()
    assert answer is not None
    assert answer.status in (200, 503)
    server.wait_for(lambda: served(server, "steady"), what="the function served again")
    assert server.pid("gateway") != old
    server.wait_for(lambda: not any(server.alive(pid) for pid in workers), what="the old workers' end")


def test_the_gateway_killed_while_everything_else_is_down_serves_from_its_disk(own_server):
    server = own_server(supervise=("gateway", "zygote"), table_max_age=0)
    server.deploy("steady", HELLO % 1, handler="main:handler")
    server.invoke("steady")
    server.kill(server.pid("control-plane"))
    server.kill(server.pid("valkey"))
    server.kill(server.pid("gateway"))
    server.wait_for(lambda: served(server, "steady"), what="the function served with the control plane down")

    # Without end: the control of test_table_age.py, where the same is over after 3 s.
    def age_s() -> float:
        ready = httpx.get(f"{server.admin_url}/-/readyz", timeout=30, trust_env=False)
        assert ready.status_code == 200
        return float(ready.json()["table_age_s"])

    server.wait_for(lambda: age_s() > 3, what="a table that is older than that")
    assert served(server, "steady")


def test_a_reload_loses_no_request(own_server):
    server = own_server()
    server.deploy("steady", HELLO % 1, handler="main:handler")
    with Load(server, "steady") as load:
        for _ in range(2):
            progress(load, server)
            old = server.pid("gateway")
            server.reload()
            server.wait_for(lambda: server.pid("gateway") != old and not server.alive(old), what="the new gateway")  # noqa: B023
        progress(load, server)
    assert load.statuses.keys() == {200}, load.statuses


def test_a_new_gateway_that_cannot_start_a_worker_changes_nothing(own_server):
    server = own_server(supervise=("gateway", "control-plane", "valkey"), self_check_timeout_ms=1000)
    server.deploy("steady", HELLO % 1, handler="main:handler")
    serving = server.pid("gateway")
    with Load(server, "steady") as load:
        progress(load, server)
        server.kill(server.pid("zygote"))
        server.reload()
        server.wait_for(lambda: "the old one serves on" in server.output(), what="the refused reload")
        progress(load, server)
    assert load.statuses.keys() == {200}, load.statuses
    assert server.pid("gateway") == serving
    assert "no invocation succeeded within 1 s" in (server.log_dir / "gateway.log").read_text()


def test_sigterm_answers_what_was_received_and_leaves_no_process(own_server):
    server = own_server()
    server.deploy(
        "slow", "import time\n\ndef handler():\n    time.sleep(0.5)\n    return 'slept'\n", handler="main:handler"
    )
    server.invoke("slow")
    processes = server.process_tree()
    assert len(processes) >= 5
    with connect(server.gateway_url) as connection:
        connection.send(request("POST", f"/{server.tenant}/slow", key=server.key, body=b"{}"))
        time.sleep(0.1)  # let it reach the worker; were it to arrive later it would still have to be answered
        server.terminate()
        answer = connection.answer()
        assert answer is not None
        assert (answer.status, answer.json()) == (200, "slept")
        assert answer.headers["connection"] == "close"
    server.wait_for(lambda: not any(server.alive(pid) for pid in processes), what="the end of every process")


def test_a_key_revoked_is_refused_everywhere_at_once(own_server):
    server = own_server()
    server.deploy("private", HELLO % 1, handler="main:handler")
    key = server.create_key(scopes=["invoke"])
    server.wait_for(lambda: server.invoke("private", key=key.token).status_code == 200, what="the new key's first call")
    server.revoke_key(key.id)
    server.wait_for(
        lambda: server.invoke("private", key=key.token).status_code == 401, what="the refusal of the revoked key"
    )
