"""Real workers in their jails: what a version with a network reaches, by the egress alone, and what not."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.egress.conftest import OWN, Egress, World
from tests.egress.outside import ECHO_PORT, METADATA, PRIVATE, PUBLIC
from tests.support.frames import Connection, Worker, Zygote, wait_until

FUNCTION = Path(__file__).with_name("function.py")
PACKAGES = (
    *("requests", "urllib3", "idna", "certifi", "charset_normalizer"),
    *("httpx", "httpcore", "h11", "anyio", "typing_extensions"),
)
NETWORK = {"network": True, "network_connections_max": 16, "network_bytes_per_minute": 2**40}
LIBRARIES = ("urllib", "requests", "httpx", "httpx async")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("functions")
    for parent in (made, made.parent):
        parent.chmod(0o755)
    shutil.copy(FUNCTION, made / "main.py")
    (made / "_packages").mkdir()
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        assert found is not None, name
        assert found.origin is not None, name
        if not found.submodule_search_locations:
            shutil.copy(found.origin, made / "_packages")
            continue
        # As pip installs them; compiled parts stay behind, each has a substitute in Python.
        shutil.copytree(Path(found.origin).parent, made / "_packages" / name, ignore=shutil.ignore_patterns("*.so"))
    return made


@pytest.fixture(scope="module")
def connection(world: World, egress: Egress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    environment = {"TAILCUT_EGRESS_PATH": str(egress.path)}
    with Zygote(tmp_path_factory.mktemp("zygote"), before=world.inside, environment=environment) as zygote:
        yield zygote.connect()


@pytest.fixture(scope="module")
def worker(connection: Connection, folder: Path) -> Worker:
    return spawn(connection, folder)


@pytest.fixture(scope="module")
def lax_worker(world: World, lax: Egress, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    environment = {"TAILCUT_EGRESS_PATH": str(lax.path)}
    with Zygote(tmp_path_factory.mktemp("zygote"), before=world.inside, environment=environment) as zygote:
        held = zygote.connect()
        yield spawn(held, folder)


@pytest.fixture(scope="module")
def unjailed(world: World, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Zygote(tmp_path_factory.mktemp("zygote"), before=world.inside, environment={"TAILCUT_JAIL": "off"}) as zygote:
        held = zygote.connect()
        yield spawn(held, folder)


def spawn(connection: Connection, folder: Path, **about: Any) -> Worker:
    made = connection.spawn(folder, "main:handler", **(NETWORK | about))
    word = made.first_word()
    assert word.kind == "ready", word.body
    return made


def attempt(worker: Worker, what: str, **about: Any) -> Any:
    return worker.invoke(json.dumps({"what": what, **about}).encode(), timeout_ns=30_000_000_000).json


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_people_use_works_without_a_word(worker: Worker, library: str) -> None:
    answer = attempt(worker, library, url="http://public.test/")
    assert answer.get("status") == 200, answer
    assert json.loads(answer["body"])["reached"] == PUBLIC


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_refusal_is_read_with_its_rule(worker: Worker, library: str) -> None:
    answer = attempt(worker, library, url="http://private.test/")
    assert (answer["status"], json.loads(answer["body"])["rule"]) == (403, "private-address")
    assert "private-address" in attempt(worker, library, url="https://private.test/")["text"]


def test_large_bodies_go_both_ways_at_once(lax_worker: Worker) -> None:
    answer = attempt(lax_worker, "echo", url=f"{PUBLIC}:{ECHO_PORT}", size=5_000_000)
    assert answer["same"] is True, answer


@pytest.mark.parametrize("where", [f"{PUBLIC}:80", f"{METADATA}:80", f"{PRIVATE}:80", f"{OWN}:6379", "127.0.0.1:6379"])
def test_nothing_but_the_egress_is_reached(worker: Worker, unjailed: Worker, where: str) -> None:
    assert attempt(worker, "direct", url=where)["refused"] in ("EACCES", "ENETUNREACH")
    assert attempt(worker, "fast open", url=where)["refused"] == "EPERM"
    # The control: the same function, without the jail.
    assert attempt(unjailed, "direct", url=where) == "connected"


KINDS = {
    "a datagram": (socket.AF_INET, socket.SOCK_DGRAM),
    "a raw socket": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "IPv6": (socket.AF_INET6, socket.SOCK_STREAM),
    "a Unix socket": (socket.AF_UNIX, socket.SOCK_STREAM),
    "netlink": (socket.AF_NETLINK, socket.SOCK_RAW),
    "packets": (socket.AF_PACKET, socket.SOCK_RAW),
    "vsock": (socket.AF_VSOCK, socket.SOCK_STREAM),
}


@pytest.mark.parametrize("name", KINDS)
def test_no_other_socket_is_made(worker: Worker, unjailed: Worker, name: str) -> None:
    family, kind, *protocol = KINDS[name]
    about = {"family": int(family), "kind": int(kind), "size": int(protocol[0]) if protocol else 0}
    assert attempt(worker, "make", **about)["refused"] == "EPERM"
    assert attempt(unjailed, "make", **about) == "made"


@pytest.mark.parametrize("what", ["bind", "listen", "gather"])
def test_no_other_call_on_a_socket(worker: Worker, what: str) -> None:
    assert attempt(worker, what)["refused"] == "EPERM"


def test_options_are_those_of_a_list(worker: Worker) -> None:
    assert attempt(worker, "option", family=socket.IPPROTO_TCP, kind=socket.TCP_NODELAY) == "set"
    for level, name in ((socket.IPPROTO_TCP, 31), (socket.SOL_SOCKET, socket.SO_RCVBUF), (socket.SOL_IP, 1)):
        assert attempt(worker, "option", family=int(level), kind=int(name))["refused"] == "EPERM"


def test_names_are_the_egresss_business(worker: Worker) -> None:
    assert attempt(worker, "resolve", url="public.test")["text"].endswith("not known")
    assert attempt(worker, "resolve", url="127.0.0.1")


def test_the_environment_names_the_proxy_and_no_other_versions(connection: Connection, folder: Path) -> None:
    worker = spawn(connection, folder, env={"HTTPS_PROXY": "own"})
    found = attempt(worker, "proxies")
    assert found.pop("HTTPS_PROXY") == "own"
    assert set(found.values()) == {"http://127.0.0.1:3128", ""}
    assert {"http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"} == set(found)
    assert attempt(spawn(connection, folder, network=False), "proxies") == {}


def interfaces(worker: Worker) -> Any:
    found = subprocess.run(
        ["nsenter", f"--net=/proc/{worker.pid}/ns/net", "ip", "-json", "address"], capture_output=True, check=True
    )
    return json.loads(found.stdout)


def test_a_version_without_a_network_has_none(worker: Worker, connection: Connection, folder: Path) -> None:
    without = spawn(connection, folder, network=False)
    (lo,) = interfaces(without)
    assert (lo["operstate"], lo["addr_info"]) == ("DOWN", [])
    for what in ("make", "direct"):
        assert attempt(without, what, url="127.0.0.1:3128")["refused"] == "EPERM"
    (lo,) = interfaces(worker)
    assert {"UP", "LOOPBACK"} <= set(lo["flags"])


def test_each_worker_has_its_own_proxy(connection: Connection, folder: Path, egress: Egress) -> None:
    one, two = spawn(connection, folder, tenant="one"), spawn(connection, folder, tenant="two")
    for _ in range(3):
        assert attempt(one, "urllib", url="http://public.test/")["status"] == 200
    assert attempt(two, "urllib", url="http://public.test/")["status"] == 200
    assert [egress.counters(name)["connections_total"] for name in ("one", "two")] == [3, 1]
    assert egress.counters("one")["bytes_received_total"] > 2 * egress.counters("two")["bytes_received_total"]


def test_a_connection_does_not_outlive_the_invocation_of_a_fresh_function(
    connection: Connection, folder: Path, egress: Egress
) -> None:
    fresh = spawn(connection, folder, tenant="fresh", state="fresh")
    assert attempt(fresh, "keep") == "kept"
    assert attempt(fresh, "use") == "nothing is kept"
    wait_until(lambda: egress.counters("fresh")["connections_open"] == 0)
    forked = spawn(connection, folder, tenant="forked", state="forked")
    assert attempt(forked, "keep") == "kept"
    assert attempt(forked, "use") == "nothing is kept"
    wait_until(lambda: egress.counters("forked")["connections_open"] == 0)
    # The control: a warm one is meant to keep it.
    warm = spawn(connection, folder, tenant="warm")
    assert attempt(warm, "keep") == "kept"
    assert attempt(warm, "use").startswith("HTTP/1.1 403 ")


def test_a_connection_of_the_import_is_ended_before_the_first_invocation(
    connection: Connection, folder: Path, egress: Egress
) -> None:
    at_import = {"env": {"AT_IMPORT": "yes"}}
    forked = spawn(connection, folder, state="forked", **at_import)
    assert attempt(forked, "use").get("refused") in ("EPIPE", "ECONNRESET")
    # A worker whose import left a socket serves one invocation.
    forked = spawn(connection, folder, state="forked", **at_import)
    assert attempt(forked, "urllib", url="http://public.test/")["status"] == 200
    fresh = connection.spawn(folder, "main:handler", state="fresh", **NETWORK, **at_import).first_word()
    assert fresh.json["type"] == "FreshStateUnavailable"
    assert "socket" in fresh.json["message"]
    assert attempt(spawn(connection, folder, **at_import), "use").startswith("HTTP/1.1 403 ")


def test_a_dead_workers_connections_end(connection: Connection, folder: Path, egress: Egress) -> None:
    worker = spawn(connection, folder, tenant="mortal")
    for _ in range(3):
        attempt(worker, "keep")
    wait_until(lambda: egress.counters("mortal")["connections_open"] == 3)
    subprocess.run(["kill", "-9", str(worker.pid)], check=True)
    wait_until(lambda: egress.counters("mortal")["connections_open"] == 0)


def test_workers_outlive_the_egress(
    world: World, folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    egress = Egress(tmp_path, world)
    environment = {"TAILCUT_EGRESS_PATH": str(egress.path)}
    with Zygote(tmp_path_factory.mktemp("zygote"), before=world.inside, environment=environment) as zygote:
        held = zygote.connect()
        workers = [spawn(held, folder) for _ in range(2)]
        for worker in workers:
            assert attempt(worker, "urllib", url="http://public.test/")["status"] == 200
        egress.kill()
        # Nobody accepts: the call waits in the socket's queue until the next egress is there.
        call = json.dumps({"what": "urllib", "url": "http://public.test/"}).encode()
        workers[0].send(call, timeout_ns=30_000_000_000)
        egress.start()
        assert workers[0].outcome().json["status"] == 200
        assert attempt(workers[1], "urllib", url="http://public.test/")["status"] == 200
    egress.end()


def test_a_connection_outlives_the_zygote_and_ends_with_its_worker(
    world: World, egress: Egress, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = {"TAILCUT_EGRESS_PATH": str(egress.path)}
    with Zygote(tmp_path_factory.mktemp("zygote"), before=world.inside, environment=environment) as zygote:
        held = zygote.connect()
        worker = spawn(held, folder, tenant="orphan")
        assert attempt(worker, "keep") == "kept"
        zygote.process.kill()
        zygote.process.wait()
        assert attempt(worker, "urllib", url="http://public.test/")["status"] == 200
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: egress.counters("orphan")["connections_open"] == 0)


def test_with_processes_it_is_the_same_network(connection: Connection, folder: Path) -> None:
    worker = spawn(connection, folder, processes=True)
    assert attempt(worker, "urllib", url="http://public.test/")["status"] == 200
    assert attempt(worker, "direct", url=f"{PRIVATE}:80")["refused"] in ("EACCES", "ENETUNREACH")


def test_a_version_that_cannot_have_it_is_refused_with_the_reason(
    connection: Connection, folder: Path, tmp_path: Path
) -> None:
    word = connection.spawn(folder, "main:handler", network=True, network_connections_max=0).first_word()
    assert word.json["type"] == "NetworkRefused"
    assert "tier" in word.json["message"]
    with Zygote(tmp_path) as alone:
        held = alone.connect()
        word = held.spawn(folder, "main:handler", **NETWORK).first_word()
        assert word.json["type"] == "NetworkRefused"
        assert "no egress" in word.json["message"]
