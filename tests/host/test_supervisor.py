"""The supervisor with real processes: starting, what it says when it cannot, deaths of children, the end."""

import json
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import OwnServer, server_environment
from tests.support.server import HANG_S, Server

HELLO = "def handler(n: int = 0) -> dict:\n    return {'n': n}\n"
FREE_PORTS = ("--gateway-port", "0", "--control-plane-port", "0", "--admin-port", "0")


def command(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`tailcut-server` run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.supervisor", *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        env=server_environment(**settings),
    )


@contextmanager
def taken_port(*, reuse_port: bool = False) -> Iterator[int]:
    with socket.socket() as other:
        if reuse_port:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("option", ["--gateway-port", "--control-plane-port", "--admin-port"])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, option: str) -> None:
    with taken_port(reuse_port=True) as port:
        ports = list(FREE_PORTS)
        ports[ports.index(option) + 1] = str(port)
        ended = command("up", "--data-dir", str(tmp_path), *ports)
    assert ended.returncode == 3
    assert ended.stderr.splitlines() == [
        f"tailcut-server: port {port} on 127.0.0.1 is taken by another program: "
        f"stop it, or choose another one with {option}"
    ]
    assert not (tmp_path / "supervisor.json").exists()


def test_a_cpu_that_is_not_ours_and_a_value_that_is_wrong_are_one_clear_line(tmp_path: Path) -> None:
    cpu = command("up", "--data-dir", str(tmp_path), *FREE_PORTS, "--cpus", "4095")
    assert (cpu.returncode, len(cpu.stderr.splitlines())) == (5, 1)
    assert "4095" in cpu.stderr
    port = command("up", "--data-dir", str(tmp_path), "--gateway-port", "70000")
    assert (port.returncode, len(port.stderr.splitlines())) == (2, 1)
    assert "--gateway-port" in port.stderr
    assert "70000" in port.stderr
    folder = command("up", "--data-dir", "/dev/null/var", *FREE_PORTS)
    assert (folder.returncode, len(folder.stderr.splitlines())) == (1, 1)
    assert "/dev/null/var" in folder.stderr


def test_a_part_that_cannot_start_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    ended = command("up", "--data-dir", str(tmp_path), *FREE_PORTS, DATABASE_URL="nonsense://", start_attempts_max=2)
    assert ended.returncode == 6
    assert "control-plane does not start" in ended.stderr.splitlines()[-1]
    assert command("status", "--data-dir", str(tmp_path)).returncode == 7


def test_the_first_start_calls_the_example_and_says_how(server: Server) -> None:
    lines = server.output().splitlines()
    (curl,) = [line for line in lines if line.lstrip().startswith("$ curl ")]
    assert server.key not in server.output(), "the key is in the file only"
    repeated = subprocess.run(["sh", "-c", curl.lstrip(" $")], capture_output=True, text=True, timeout=HANG_S)
    assert repeated.stdout
    assert repeated.stdout.strip() == lines[lines.index(curl) + 1].strip()
    header = server.data_dir / "dev-key.header"
    assert stat.S_IMODE(header.stat().st_mode) == 0o600
    credentials = server.data_dir / "dev-credentials.json"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert set(json.loads(credentials.read_text())) == {
        "tenant",
        "key",
        "gateway_url",
        "control_plane_url",
        "dashboard_url",
    }
    for word in ("dashboard", "logs", "stop"):
        assert any(line.split()[:1] == [word] for line in lines), word


def test_a_link_signs_in_once(server: Server) -> None:
    printed = command("sign-in", "--data-dir", str(server.data_dir))
    assert printed.returncode == 0, printed.stderr
    link = printed.stdout.strip()
    with httpx.Client(follow_redirects=True, timeout=HANG_S, headers={"Accept": "text/html"}) as browser:
        page = browser.get(link)
        found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert found, page.text
        form = {"csrf_token": found[1], "token": link.rpartition("=")[2]}
        assert "Sign out" in browser.post(f"{server.control_plane_url}/sign-in/link", data=form).text
        assert browser.get(link).status_code == 404
    assert command("sign-in", "--data-dir", str(server.data_dir), "--tenant", "nobody").returncode == 1


def test_status_tells_people_and_programs(server: Server) -> None:
    found = json.loads(command("status", "--data-dir", str(server.data_dir), "--json").stdout)
    assert found["state"] == "up"
    assert found["gateway_ready"] is True
    assert set(found["children"]) == {"valkey", "control-plane", "zygote", "egress", "gateway", "simulated-stripe"}
    text = command("status", "--data-dir", str(server.data_dir)).stdout
    assert server.gateway_url in text


def test_a_second_one_on_the_same_folder_is_one_clear_line(server: Server) -> None:
    ended = command("up", "--data-dir", str(server.data_dir), *FREE_PORTS)
    assert ended.returncode == 4
    assert len(ended.stderr.splitlines()) == 1
    assert f"pid {server.process.pid}" in ended.stderr
    assert server.process.poll() is None


def test_valkey_is_reachable_for_this_user_only(server: Server) -> None:
    valkey = server.pid("valkey")
    assert valkey is not None
    inodes = {str(path.readlink()) for path in Path(f"/proc/{valkey}/fd").iterdir() if path.is_symlink()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{valkey}/net/{table}").read_text().splitlines()[1:]:
            assert f"socket:[{line.split()[9]}]" not in inodes, "it listens on a port"
    (path,) = (server.data_dir / "run").glob("valkey.sock")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_admin_port_answers(server: Server) -> None:
    server.deploy("counted", HELLO)
    assert server.invoke("counted", n=3).json() == {"n": 3}
    text = server.metrics()
    expected = f'tailcut_invocations_total{{function="counted",outcome="ok",tenant="{server.tenant}"'
    assert any(line.startswith(expected) and line.endswith(" 1.0") for line in text.splitlines()), text
    for name in (
        "tailcut_revision",
        "tailcut_redis_connected 1.0",
        "tailcut_workers{",
        "tailcut_memory_resident_bytes",
        "tailcut_invocation_run_seconds_bucket",
        "tailcut_invocation_queue_seconds_count",
        "tailcut_invocation_start_seconds_sum",
    ):
        assert name in text
    with httpx.Client(base_url=server.admin_url, trust_env=False, timeout=HANG_S) as client:
        assert client.get("/-/healthz").status_code == 200
        assert client.get("/-/readyz").json()["ready"] is True
        assert client.get("/elsewhere").status_code == 404
        assert client.post("/-/metrics").status_code == 405


def test_the_output_of_functions_is_kept_with_whose_it_is(server: Server) -> None:
    source = "print('imported')\n\ndef handler():\n    print('called')\n    return 1\n"
    deployed = server.deploy("talks", source)
    answer = server.invoke("talks")
    lines = server.wait_for(
        lambda: [line for line in server.function_logs() if line["text"] == "called"], what="the line in the log"
    )
    assert {name: lines[0][name] for name in ("tenant", "function", "version", "stream", "request_id")} == {
        "tenant": server.tenant,
        "function": "talks",
        "version": deployed.version,
        "stream": "stdout",
        "request_id": answer.headers["tailcut-request-id"],
    }


@pytest.mark.parametrize("name", ["valkey", "control-plane", "zygote", "egress", "gateway", "simulated-stripe"])
def test_a_killed_child_comes_back_and_everything_works_as_before(own_server: OwnServer, name: str) -> None:
    server = own_server()
    server.deploy("steady", HELLO)
    assert server.invoke("steady", n=1).json() == {"n": 1}
    old = server.pid(name)
    server.kill(old)
    server.wait_for(lambda: server.pid(name) not in (None, old), what=f"a new {name}")
    server.wait_for(lambda: server.invoke("steady", n=2).status_code == 200, what="the function served again")
    server.wait_for(server.control_plane_ready, what="the control plane")
    server.deploy("later", HELLO)
    assert server.invoke("later", n=3).json() == {"n": 3}


def test_a_stop_leaves_no_process_and_the_next_start_finds_everything(own_server: OwnServer) -> None:
    server = own_server()
    server.deploy("kept", HELLO)
    assert server.invoke("kept", n=1).json() == {"n": 1}
    key = server.key
    processes = server.process_tree()
    server.terminate()
    assert server.process.wait(HANG_S) == 0
    assert [pid for pid in processes if server.alive(pid)] == []
    assert not (server.data_dir / "supervisor.json").exists()
    server.stop()
    server.start()
    assert server.key == key
    assert server.invoke("kept", n=2).json() == {"n": 2}


def test_a_killed_supervisor_takes_everything_with_it(own_server: OwnServer) -> None:
    server = own_server()
    server.deploy("kept", HELLO)
    assert server.invoke("kept", n=1).json() == {"n": 1}
    processes = server.process_tree()
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(HANG_S)
    server.wait_for(lambda: not any(server.alive(pid) for pid in processes), what="the end of every process")
    server.stop()
    server.start()
    assert server.invoke("kept", n=2).json() == {"n": 2}


def test_everything_else_away_a_restarted_gateway_serves_from_its_disk(own_server: OwnServer) -> None:
    server = own_server(supervise=("zygote", "gateway"))
    server.deploy("steady", HELLO)
    server.kill(server.pid("control-plane"))
    server.kill(server.pid("valkey"))
    server.kill(server.pid("gateway"))
    assert server.invoke("steady", n=2).json() == {"n": 2}, "the first answer waits for the new gateway"


def test_without_the_development_key_everything_else_starts(own_server: OwnServer) -> None:
    """As after a restore, or when the operator has revoked it."""
    server = own_server()
    server.deploy("open", HELLO, public=True)
    server.stop()
    credentials = server.data_dir / "dev-credentials.json"
    kept = credentials.read_text()
    credentials.unlink()
    started = command("up", "--detach", "--data-dir", str(server.data_dir), *FREE_PORTS)
    try:
        assert started.returncode == 0, started.stderr
        assert "has no valid key" in started.stderr
        assert not credentials.exists()
        found = json.loads(command("status", "--data-dir", str(server.data_dir), "--json").stdout)
        answer = httpx.post(f"{found['gateway_url']}/dev/open", json={"n": 1}, trust_env=False)
        assert answer.json() == {"n": 1}
    finally:
        assert command("down", "--data-dir", str(server.data_dir)).returncode == 0
    credentials.write_text(kept)
    server.start()
    assert server.invoke("open", n=2).json() == {"n": 2}


def test_a_status_file_that_cannot_be_written_stops_nothing(own_server: OwnServer) -> None:
    """As on a full disk: what dies is started again all the same."""
    server = own_server()
    (server.data_dir / "supervisor.new").mkdir()  # what the next status would be written to
    server.kill(server.pid("zygote"))
    server.wait_for(lambda: "supervisor.json cannot be written" in server.output(), what="the word about it")
    server.deploy("steady", HELLO)
    assert server.invoke("steady", n=1).json() == {"n": 1}, "a zygote is there to start its worker"


def test_wrong_settings_are_one_clear_line(tmp_path: Path) -> None:
    for value, reason in (("a,b", "a list like 0,2-3"), ("0-999999999", "at most 4096"), ("9999", "may run on")):
        ended = command("up", "--data-dir", str(tmp_path), *FREE_PORTS, "--cpus", value)
        assert ended.returncode in (2, 5), value
        assert "--cpus" in ended.stderr
        assert reason in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    for arguments in (("up",), ("up", "--detach")):
        ended = command(*arguments, "--data-dir", "/proc/nothing/here", *FREE_PORTS)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert "--data-dir" in ended.stderr


def test_a_reload_serves_on_and_one_that_fails_changes_nothing(own_server: OwnServer) -> None:
    server = own_server()
    server.deploy("steady", HELLO)
    old = server.pid("gateway")
    server.reload()
    server.wait_for(lambda: server.pid("gateway") != old and not server.alive(old or 0), what="the new gateway")
    assert server.invoke("steady", n=1).json() == {"n": 1}
    serving = server.pid("gateway")
    node = server.data_dir / "gateway" / "node.lock"
    node.unlink()
    node.mkdir()  # the next gateway cannot open it
    server.reload()
    server.wait_for(lambda: "the old one serves on" in server.output(), what="the failed reload")
    assert server.pid("gateway") == serving
    assert server.invoke("steady", n=2).json() == {"n": 2}


def test_detached_it_runs_until_down(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    started = command("up", "--detach", "--data-dir", str(folder), *FREE_PORTS, "--no-example")
    try:
        assert started.returncode == 0, started.stderr
        assert "curl" not in started.stderr, "--no-example is passed on"
        assert f"`tailcut-server down --data-dir {folder}`" in started.stderr
        found = json.loads(command("status", "--data-dir", str(folder), "--json").stdout)
        assert found["gateway_ready"] is True
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "nobody else reads the database"
    finally:
        ended = command("down", "--data-dir", str(folder))
    assert (ended.returncode, ended.stdout) == (0, "stopped\n")
    assert not any(Server.alive(child["pid"]) for child in found["children"].values())
    assert command("status", "--data-dir", str(folder)).returncode == 7
    assert command("down", "--data-dir", str(folder)).returncode == 0
