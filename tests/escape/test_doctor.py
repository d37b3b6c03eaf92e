"""What the doctor says, and what the zygote does, on a machine that gives everything, little, or too little."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OwnServer
from tests.support.frames import Zygote
from tests.support.server import Server

PARTS = [
    "user", "mount", "pid", "net", "ipc", "uts", "cgroup", "rlimits", "privileges", "landlock", "seccomp",
]  # fmt: skip
FEATURES = (
    *("io_uring", "pidfd_open", "landlock version", "seccomp notification", "pagemap scan"),
    *("cap_sys_admin", "cap_sys_resource", "cap_sys_nice"),
    *(f"control group {name}" for name in ("memory", "pids", "cpu", "cpuacct", "cpuset", "freezer")),
    *("deadline scheduling", "descriptors", "network of functions"),
)
NOT_ROOT = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""Another user as far as the kernel's checks of capabilities go: none is left after exec."""
NO_USER_NAMESPACES = (
    "unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"', "sh",
)  # fmt: skip


def doctor(*before: str, **environment: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [*before, sys.executable, "-m", "gateway.supervisor", "doctor", "--json"],
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def states(document: dict[str, Any]) -> dict[str, str]:
    return {line["part"]: line["state"] for line in document["lines"]}


def test_here_everything_holds() -> None:
    status, document = doctor()
    assert (status, document["whole"]) == (0, True)
    assert states(document) == dict.fromkeys(PARTS, "active")
    features = {line["part"]: line for line in document["features"]}
    assert set(FEATURES) == set(features)
    for name in ("io_uring", "pidfd_open", "seccomp notification", "landlock version", "network of functions"):
        assert features[name]["state"] == "active", name
    for line in features.values():
        assert (line["state"] == "active") == (not line["costs"]), line
        assert (line["state"] == "active") == (not line["remedy"]), line


def test_the_table_for_people_says_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.supervisor", "doctor"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    for name in (*PARTS, *FEATURES):
        assert [line for line in lines if line.startswith(f"{name} ")], name
    assert "The whole jail holds." in lines


def test_features_that_are_missing_are_named() -> None:
    _status, document = doctor("prlimit", "--nofile=512:512")
    (line,) = [line for line in document["features"] if line["part"] == "descriptors"]
    assert (line["state"], line["refused"]) == ("missing", "512")
    _status, document = doctor("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")
    states_of = {line["part"]: line["state"] for line in document["features"]}
    assert states_of["cap_sys_nice"] == "missing"


def test_the_gateway_logs_what_the_machine_offers(server: Server) -> None:
    lines = [json.loads(line) for line in (server.log_dir / "gateway.log").read_text().splitlines() if "{" in line]
    (machine,) = [line for line in lines if line["event"] == "machine"]
    assert {"io_uring", "pidfd_open"} <= set(machine["active"])
    assert machine["jail"] == "on"


def test_without_root_everything_holds_too() -> None:
    status, document = doctor(*NOT_ROOT)
    assert (status, document["whole"]) == (0, True)
    assert states(document) == dict.fromkeys(PARTS, "active")
    assert "server's own user" in document["workers_are"]


def test_what_is_missing_is_named_with_its_cost_and_the_remedy() -> None:
    status, document = doctor(*NO_USER_NAMESPACES)
    assert (status, document["whole"]) == (5, False)
    user = document["lines"][0]
    assert user["state"] == "missing"
    assert user["refused"] == "user namespace: unshare: errno 28"
    assert user["costs"]
    assert "max_user_namespaces" in user["remedy"]
    assert states(document)["seccomp"] == "active"


def test_the_setting_off_is_said() -> None:
    _status, document = doctor(TAILCUT_JAIL="off")
    assert set(states(document).values()) == {"off"}


def zygote_of(folder: Path, *before: str, **environment: str) -> Zygote:
    folder.chmod(0o755)
    return Zygote(folder, before=before, environment=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tmp_path.chmod(0o755)
    (tmp_path / "main.py").write_text("import os\ndef handler(): return [os.getpid(), os.getuid(), os.listdir('/')]\n")
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_without_root_workers_are_jailed_and_their_ends_are_told(folder: Path) -> None:
    with zygote_of(folder, *NOT_ROOT) as zygote:
        connection = zygote.connect()
        worker = connection.spawn(folder, "main:handler")
        assert worker.first_word().kind == "ready"
        pid, uid, root = worker.invoke().json
        assert (pid, uid) == (1, 1000)
        assert "etc" in root
        assert "proc" not in root
        # The pid that was told is the worker's own, as it is outside.
        assert Path(f"/proc/{worker.pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
        os.kill(worker.pid, 9)
        assert connection.exit_of(worker) == 9


def test_a_bundle_that_is_a_link_is_not_mounted(folder: Path) -> None:
    (folder / "link").symlink_to("/root")
    with zygote_of(folder) as zygote:
        connection = zygote.connect()
        word = connection.spawn(folder / "link", "main:handler").first_word()
        assert word.kind == "failed"
        assert word.json["type"] == "JailFailed"
        assert "openat2: errno 40" in word.json["message"]
        # Control: the folder beside it is.
        assert connection.spawn(folder, "main:handler").first_word().kind == "ready"


def test_a_zygote_refuses_to_run_where_the_jail_cannot_be_closed(folder: Path) -> None:
    zygote = zygote_of(folder, *NO_USER_NAMESPACES)
    with zygote:
        assert zygote.process.wait(30) == 1


def test_partial_takes_what_there_is(folder: Path) -> None:
    with zygote_of(folder, *NO_USER_NAMESPACES, TAILCUT_JAIL="partial") as zygote:
        connection = zygote.connect()
        worker = connection.spawn(folder, "main:handler")
        assert worker.first_word().kind == "ready"
        status = Path(f"/proc/{worker.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        assert "CapEff:\t0000000000000000" in status


def test_up_fails_and_says_why_when_the_jail_is_misset(own_server: OwnServer) -> None:
    with pytest.raises(AssertionError, match="TAILCUT_JAIL is 'yes': on, partial or off"):
        own_server(jail="yes")
