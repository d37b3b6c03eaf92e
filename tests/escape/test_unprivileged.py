"""`up` by an ordinary user: the same jail without root, or no start, and the part that is missing named."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.escape.expected import Case, judge
from tests.escape.posture import posture, threads
from tests.escape.test_posture import FUNCTION, is_ready, start
from tests.support.ordinary_user import NO_USER_NAMESPACES, UID, OrdinaryUser, ordinary_user
from tests.support.server import Server

Start = Callable[..., Server]


@pytest.fixture
def user() -> Iterator[OrdinaryUser]:
    with ordinary_user() as made:
        yield made


@pytest.fixture
def up(user: OrdinaryUser) -> Iterator[Start]:
    started: list[Server] = []
    numbers = itertools.count()

    def make(*before: str, **settings: object) -> Server:
        running = user.start(f"server{next(numbers)}", *before, **settings)  # type: ignore[arg-type]
        started.append(running)
        return running

    yield make
    for running in started:
        running.stop()


def judge_states(server: Server, groups: tuple[str, ...]) -> None:
    """Workers of each state, cold, and one that has served, in every thread."""
    for state in ("warm", "fresh", "forked"):
        worker = start(server, f"posture-{state}", state)
        judge(posture(Path(f"/proc/{worker}")), Case(state, UID, groups))
    assert server.invoke("posture-warm", threads=3).json() >= 4
    served = {pid for pid in server.worker_pids() if len(threads(pid)) >= 4 and is_ready(pid, filters=2)}
    assert served, "a worker with the function's own threads"
    for pid in served:
        for thread in threads(pid):
            judge(posture(thread), Case("warm", UID, groups))


def test_an_ordinary_users_server_has_the_same_jail(up: Start) -> None:
    server = up()
    for name in server.status()["children"]:
        status = Path(f"/proc/{server.pid(name)}/status").read_text()
        assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in status, name
        assert "CapPrm:\t0000000000000000" in status, name
    judge_states(server, ("memory", "pids"))
    assert jail_of(server) == "on"
    # The control: they are nobody's that root would have made.
    with pytest.raises(AssertionError):
        judge(posture(Path(f"/proc/{start(server, 'posture-control')}")), Case("warm"))


def test_without_control_groups_it_does_not_start_unless_that_is_accepted(up: Start) -> None:
    with pytest.raises(AssertionError, match="memory of workers cannot be bounded: no memory control group"):
        up(delegated=False)
    judge_states(up(delegated=False, jail_memory="rlimits"), ())


def test_without_user_namespaces_it_does_not_start_unless_that_is_accepted(up: Start) -> None:
    with pytest.raises(AssertionError, match=r"the jail cannot be closed on this machine .*user namespace: unshare"):
        up(*NO_USER_NAMESPACES)
    server = up(*NO_USER_NAMESPACES, jail="partial")
    assert jail_of(server) == "partial"
    assert "no USER: user namespace: unshare" in (server.log_dir / "zygote.log").read_text()
    assert "WORKERS ARE NOT FULLY JAILED" in (server.log_dir / "gateway.log").read_text()
    before = server.worker_pids()
    server.deploy("posture", FUNCTION, state="warm", workers_min=1)
    worker = min(server.wait_for(lambda: server.worker_pids() - before, what="a worker"))
    server.invoke("posture", threads=0)
    found = posture(Path(f"/proc/{worker}"))
    assert found.status["Seccomp"] == "2"
    assert found.status["NoNewPrivs"] == "1"
    with pytest.raises(AssertionError):
        judge(found, Case("warm", UID))


def jail_of(server: Server) -> str:
    """As the gateway says it."""
    return str(httpx.get(f"{server.admin_url}/-/readyz", trust_env=False, timeout=60).json()["jail"])
