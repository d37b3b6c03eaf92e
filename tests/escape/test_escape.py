"""Each attempt is refused as expected in the jail, and works (or is refused otherwise) where there is none."""

import pytest

from tests.escape.conftest import Attempt

REFUSED = {
    # Files of others: they do not exist.
    "code of others": "ENOENT",
    "list versions": "ENOENT",
    "credentials of the server": "ENOENT",
    "database of the server": "ENOENT",
    "logs of all functions": "ENOENT",
    "password hashes": "ENOENT",
    "process environment": "ENOENT",
    "own memory by proc": "ENOENT",
    "process root": "ENOENT",
    "kernel settings": "ENOENT",
    "a symlink out of tmp": "ENOENT",
    "dot dot out of the root": "ENOENT",
    "tmp of others": "ENOENT",
    "packages of the server": "ENOENT",
    # Writing: nowhere but in /tmp.
    "write own code": "EROFS",
    "write the standard library": "EROFS",
    "write the root": "EROFS",
    "make a device": "EPERM",
    "link to the hosts files": "EXDEV",
    "give away a set uid file": "EINVAL",
    "execute from tmp": "EPERM",
    # The network: none.
    "connect to loopback": "EPERM",
    "unix socket of the server": "EPERM",
    "abstract unix socket": "EPERM",
    "netlink": "EPERM",
    "raw socket": "EPERM",
    "packet socket": "EPERM",
    "ipv6 datagram": "EPERM",
    "virtual machine socket": "EPERM",
    "kernel crypto socket": "EPERM",
    "a datagram to a name server": "EPERM",
    "a listening port": "EPERM",
    "pass a descriptor": "EPERM",
    "a datagram pair": "EPERM",
    "out of band": "EPERM",
    # Processes and privileges: itself only, and nothing to gain.
    "signal the gateway": "ESRCH",
    "signal everybody": "ESRCH",
    "open a process": "ENOSYS",
    "fork": "EPERM",
    "execute a set uid program": "EPERM",
    "clone into namespaces": "EPERM",
    "clone3": "ENOSYS",
    "become root": "EPERM",
    "drop into another group": "EPERM",
    "debuggable again": "EPERM",
    "ask for an ambient capability": "EPERM",
    "another filter": "EPERM",
    "the host name": "EPERM",
    "io uring": "ENOSYS",
    # Resources: bounded, and not to be raised.
    "a memory file": "EPERM",
    "raise descriptors": "ValueError",
    "another cpu": "EPERM",
    "a higher priority": "EPERM",
    "real time": "EPERM",
    "real time by the raw call": "EPERM",
    "a nicer disk": "EPERM",
    "raise limits by the raw call": "EPERM",
    "limits of another": "EPERM",
    "memory policy": "EPERM",
    "move pages of others": "EPERM",
    "lock memory": "EPERM",
    "a personality without randomness": "EPERM",
    "a message queue": "EPERM",
    "a posix message queue": "EPERM",
    "watch files": "EPERM",
    "fanotify": "EPERM",
    "grow the shared memory": "EFBIG",
    "a gateway of its own": "EPERM",
    "a thread bomb": "RuntimeError",
    "all descriptors": "EMFILE",
    "fill tmp": "ENOSPC",
    "many files": "ENOSPC",
    "system v shared memory": "EPERM",
    "huge pages": "EPERM",
}
# What these need does not exist on every machine, or refuses for reasons of its own outside the jail, too.
OTHERWISE_OUTSIDE = {
    "clone3": "EINVAL",
    "another filter": "",
    "ask for an ambient capability": "",
    "execute from tmp": "",
    "link to the hosts files": "",
    "many files": "",
    "real time": "",
    "real time by the raw call": "",
    "virtual machine socket": "",
    "kernel crypto socket": "",
    "a datagram to a name server": "",
    "memory policy": "",
    "lock memory": "",
    "move pages of others": "EINVAL",
    "fanotify": "",
    # The file's size is sealed by the gateway.
    "grow the shared memory": "",
    "a gateway of its own": "",
}

KILLED = {
    "ptrace": (101, 16, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "chroot": (161, 0),
    "unshare": (272, 0),
    "setns": (308, 999, 0),
    "open_tree": (428, 999, 0, 0),
    "move_mount": (429, 999, 0, 999, 0, 0),
    "fsopen": (430, 0, 0),
    "mount_setattr": (442, 999, 0, 0, 0, 0),
    "process_vm_readv": (310, 0, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, 0, 0, 0, 0, 0, 0),
    "kcmp": (312, 0, 0, 99, 0, 0),
    "keyctl": (250, 9999, 0, 0, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "bpf": (321, 9999, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "userfaultfd": (323, 0xFFFF),
    "open_by_handle_at": (304, 999, 0, 0),
    "name_to_handle_at": (303, 999, 0, 0, 0, 0),
    "pidfd_getfd": (438, 999, 0, 0),
    "kexec_load": (246, 0, 17, 0, 0xFFFF),
    "kexec_file_load": (320, 999, 999, 0, 0, 0xFFFF),
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, 999, 0, 0),
    "delete_module": (176, 0, 0),
    "modify_ldt": (154, 99, 0, 0),
    "quotactl": (179, 0xFFFF, 0, 0, 0),
    "swapon": (167, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "syslog": (103, 99, 0, 0),
}
"""With arguments that do nothing where they are not forbidden."""

KILLED_ONLY_IN_HERE = {"a call of 32 bits": "a call of 32 bits", "a call of x32": f"syscall {0x40000000 + 39}"}


@pytest.mark.parametrize("attempt", REFUSED)
def test_an_attempt_is_refused(jailed: Attempt, attempt: str) -> None:
    outcome = jailed(attempt)
    assert outcome.get("refused") == REFUSED[attempt], outcome


@pytest.mark.parametrize("attempt", sorted(set(REFUSED) - {name for name, how in OTHERWISE_OUTSIDE.items() if not how}))
def test_control_the_attempt_is_a_real_one(unjailed: Attempt, attempt: str) -> None:
    outcome = unjailed(attempt)
    if attempt in OTHERWISE_OUTSIDE:
        assert outcome.get("refused") == OTHERWISE_OUTSIDE[attempt], outcome
    else:
        assert "done" in outcome, outcome


def test_only_the_workers_own_descriptors_are_open(jailed: Attempt, unjailed: Attempt) -> None:
    # 5 to 12 are the rewinder's: test_posture says what they are.
    assert jailed("a descriptor out")["done"] == list(range(13))
    assert jailed("through the devices folder")["refused"] == "ENOTDIR"
    assert unjailed("a descriptor out")["done"][:5] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", KILLED)
def test_a_call_that_no_program_needs_ends_the_worker_and_is_reported(jailed: Attempt, name: str) -> None:
    outcome = jailed("syscall " + " ".join(str(one) for one in KILLED[name]))
    assert outcome.get("type", "").endswith("/function-crashed"), outcome
    assert outcome["signal_name"] == "SIGSYS"
    assert outcome["call"] == {"umount": "umount2"}.get(name, name)
    assert jailed("fork")["refused"] == "EPERM", "another worker serves the next call"


@pytest.mark.parametrize("name", KILLED)
def test_control_the_call_answers_where_there_is_no_jail(unjailed: Attempt, name: str) -> None:
    outcome = unjailed("syscall " + " ".join(str(one) for one in KILLED[name]))
    assert "refused" in outcome or "done" in outcome, outcome


@pytest.mark.parametrize("name", KILLED_ONLY_IN_HERE)
def test_calls_of_another_kind_end_the_worker(jailed: Attempt, name: str) -> None:
    outcome = jailed(KILLED_ONLY_IN_HERE[name])
    assert outcome.get("type", "").endswith("/function-crashed"), outcome
    assert outcome["signal_name"] == "SIGSYS"
