"""Attacks on a worker's own channel, signals and loop, and with its own processes: they cost the attacker its call."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import OwnServer
from tests.escape.conftest import Attempt
from tests.support.server import Server

CRASHED = (
    "close the channel",
    "garbage on the channel",
    "an empty frame",
    "a truncated frame",
    "half a head",
    "an oversized frame",
    "a replayed frame",
    "an answer of the future",
    "a body that is not there",
    "ready once more",
    "a frame of no kind",
    "a frame of the gateway",
    "a frame of the zygote",
    "headers that do not add up",
    "a flood of frames",
    "say that the start failed",
)
ENDLESS = ("ignore all signals and spin", "hold the interpreter lock", "threads that never end")


def is_well(jailed: Attempt, function: str = "hostile") -> bool:
    return bool(jailed("the host name", function)["refused"] == "EPERM")


@pytest.mark.parametrize("attempt", CRASHED)
def test_forging_or_closing_the_channel_costs_the_worker_and_its_own_call(jailed: Attempt, attempt: str) -> None:
    outcome = jailed(attempt)
    assert outcome.get("type", "").endswith("/function-crashed"), outcome
    assert is_well(jailed), "another worker serves the next call"


@pytest.mark.parametrize("attempt", ENDLESS)
def test_a_call_that_nothing_inside_can_end_is_ended_from_outside(jailed: Attempt, attempt: str) -> None:
    outcome = jailed(attempt, "brief")
    assert outcome.get("type", "").endswith("/timeout"), outcome
    assert outcome["used_ms"] >= outcome["allowed_ms"] == 1_000
    assert is_well(jailed, "brief")


def test_a_worker_can_neither_stop_nor_kill_itself(jailed: Attempt, unjailed: Attempt) -> None:
    assert jailed("stop itself", "brief")["done"] == "still here"
    assert jailed("kill itself", "brief")["done"] == "still here"
    # Control: where it is an ordinary process it does, and pays for it alone.
    assert unjailed("stop itself", "brief")["type"].endswith("/timeout")
    assert unjailed("kill itself", "brief")["signal_name"] == "SIGKILL"


def test_our_own_code_gives_a_worker_no_more_rights(jailed: Attempt) -> None:
    outcome = jailed("leave the jail by our own code")
    assert outcome.get("call") in ("unshare", "keyctl", "mount"), outcome
    assert is_well(jailed)


def test_the_shared_memory_is_the_workers_own(jailed: Attempt) -> None:
    for _ in range(3):
        assert jailed("scribble over the shared memory")["done"] > 0
        assert is_well(jailed)


def test_huge_outputs_and_logs_are_cut(jailed: Attempt, server: Server) -> None:
    assert jailed("a huge output")["type"].endswith("/output-limit")
    assert jailed("a huge log")["done"] == "logged"
    lines = server.wait_for(
        lambda: [line for line in server.function_logs() if line["stream"] == "runtime"], what="the record of the cut"
    )
    assert "truncated" in lines[-1]["text"]
    logged = [line for line in server.function_logs() if line["request_id"] == lines[-1]["request_id"]]
    assert sum(len(line["text"]) for line in logged) <= 64 * 1024


# -- Processes, for versions that ask for them -------------------------------------------------------------------------


def test_processes_are_for_versions_that_ask_for_them(jailed: Attempt) -> None:
    outcome = jailed("run the interpreter", "processes")
    assert outcome.get("done") == "42", outcome
    assert jailed("run the interpreter")["refused"] == "EPERM"
    assert jailed("fork", "processes")["done"] == "None"
    assert jailed("fork")["refused"] == "EPERM"


def test_a_version_with_processes_gets_nothing_else(jailed: Attempt) -> None:
    refused = {
        "a program of the hosts": "ENOENT",
        "the dynamic loader": "EACCES",
        "clone into namespaces": "EPERM",
        "clone3": "ENOSYS",
        "connect to loopback": "EPERM",
        "signal the gateway": "ESRCH",
        "become root": "EPERM",
        "another cpu": "EPERM",
    }
    for attempt, how in refused.items():
        assert jailed(attempt, "processes").get("refused") == how, attempt


def test_a_fork_bomb_ends_at_the_versions_bound(jailed: Attempt, unjailed: Attempt) -> None:
    outcome = jailed("a fork bomb", "processes")
    assert outcome["refused"] == "EAGAIN", outcome
    assert unjailed("a fork bomb", "processes")["done"] == 200


def test_a_forbidden_call_of_a_child_ends_the_worker(jailed: Attempt) -> None:
    outcome = jailed("a child that calls what is forbidden", "processes")
    assert outcome["call"] == "ptrace", outcome
    assert is_well(jailed, "processes")


def test_a_forbidden_call_is_named_after_the_end_of_the_zygote(own_server: OwnServer) -> None:
    """Workers outlive the process that forked them, and so does what watches them."""
    server = own_server()
    server.deploy("orphan", TRACES, workers_min=1)
    assert server.invoke("orphan", call=False).json() == "well"
    orphans = server.worker_pids()
    killed = server.pid("zygote")
    server.kill(killed)
    assert orphans & server.worker_pids(), "its workers live on"
    outcome = server.invoke("orphan", call=True)
    assert (outcome.status_code, outcome.json().get("call")) == (500, "ptrace"), outcome.text
    server.wait_for(lambda: server.pid("zygote") not in (None, killed), what="the next zygote")
    server.wait_for(lambda: server.invoke("orphan", call=False).is_success, what="a worker of the next zygote's")


TRACES = """
import ctypes
def handler(call: bool):
    if call:
        ctypes.CDLL(None).syscall(101, 16, 0, 0, 0)
    return "well"
"""


def namespace_of_daemon(server: Server) -> str:
    """PID namespace of the process that has forked away."""
    found = {}
    for pid in server.worker_pids():
        fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if int(fields["NSpid"].split()[-1]) > 1:
            found[pid] = str(Path(f"/proc/{pid}/ns/pid").readlink())
    assert len(found) == 1, found
    return found.popitem()[1]


def in_namespace(name: str) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and str((folder / "ns/pid").readlink()) == name:
                yield int(folder.name)
        except OSError:
            continue


def test_a_daemon_dies_with_its_worker(jailed: Attempt, unjailed: Attempt, server: Server) -> None:
    assert jailed("a daemon", "processes")["done"] > 1
    namespace = namespace_of_daemon(server)
    assert len(list(in_namespace(namespace))) == 2
    # The worker that has it must be the one that ends: the others are asked as well.
    for _ in range(8):
        outcome = jailed("end the worker", "processes")
        assert outcome.get("exit_status") == 7, outcome
        if not list(in_namespace(namespace)):
            break
    server.wait_for(lambda: not list(in_namespace(namespace)), what="the end of the daemon")
    # Control: without a PID namespace it outlives the worker, and can be killed by whoever knows its number only.
    daemon = int(unjailed("a daemon", "processes")["done"])
    assert unjailed("end the worker", "processes")["exit_status"] == 7
    os.kill(daemon, signal.SIGKILL)
