"""The hostile function: one attempt per call. Its text is deployed as main.py; it must not import anything of ours.

An attempt returns what it got (``None`` counts as success); what it raises is its refusal. ``about`` tells what an
attacker may well know: paths, ports and process ids of the server.
"""

import ctypes
import errno
import mmap
import os
import resource
import signal
import socket
import threading

try:
    from hostile_worker import *  # noqa: F403 (attempts are found by name)
except ImportError as error:
    raise RuntimeError("deploy hostile_worker.py beside this") from error

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_PRCTL, SYS_CLONE, SYS_CLONE3, SYS_IO_URING_SETUP, SYS_PIDFD_OPEN = 157, 56, 435, 425, 434
NEW_USER, NEW_NET = 0x10000000, 0x40000000


def handler(attempt: str, about: dict) -> dict:
    try:
        if attempt.startswith("syscall "):
            value = call(*(int(word) for word in attempt.split()[1:]))
        else:
            value = globals()[attempt.replace(" ", "_")](about)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        return {"refused": name, "text": str(error)}
    except (RuntimeError, MemoryError, ValueError) as error:
        return {"refused": type(error).__name__, "text": str(error)}
    return {"done": value if isinstance(value, int | str | list) else str(value)}


def call(number, *arguments):
    """A raw system call: the C library's own checks are not in the way."""
    result = LIBC.syscall(number, *(ctypes.c_ulong(one) for one in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# -- Files of others ---------------------------------------------------------------------------------------------------


def code_of_others(about):
    return open(f"{about['versions']}/{about['other_version']}/main.py").read()


def list_versions(about):
    return os.listdir(about["versions"])


def credentials_of_the_server(about):
    return open(f"{about['data_dir']}/dev-credentials.json").read()


def database_of_the_server(about):
    return len(open(f"{about['data_dir']}/control-plane.db", "rb").read())


def logs_of_all_functions(about):
    return open(f"{about['data_dir']}/log/functions.jsonl").read()


def password_hashes(about):
    return open("/etc/shadow").read()


def process_environment(about):
    return open(f"/proc/{about['gateway_pid']}/environ", "rb").read().hex()


def own_memory_by_proc(about):
    with open("/proc/self/mem", "rb+", buffering=0) as file:
        file.seek(id(about))
        return len(file.read(8))


def process_root(about):
    return os.listdir(f"/proc/{about['gateway_pid']}/root")


def kernel_settings(about):
    return os.listdir("/sys")


def a_symlink_out_of_tmp(about):
    if not os.path.lexists("/tmp/out"):
        os.symlink("../../../../../../../../etc/shadow", "/tmp/out")
    try:
        return open("/tmp/out").read()
    finally:
        os.unlink("/tmp/out")


def dot_dot_out_of_the_root(about):
    return open("/" + "../" * 40 + about["data_dir"].lstrip("/") + "/dev-credentials.json").read()


def a_descriptor_out(about):
    """Any descriptor above the worker's own, or a folder behind one of those."""
    found = []
    for fd in range(256):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


def through_the_devices_folder(about):
    return os.open("..", os.O_RDONLY, dir_fd=0)


def tmp_of_others(about):
    return open("/tmp/left-by-another-function").read()


def packages_of_the_server(about):
    return os.listdir(about["site_packages"])


# -- Writing -----------------------------------------------------------------------------------------------------------


def write_own_code(about):
    path = os.path.join(os.path.dirname(__file__), "more.py")
    os.chmod(os.path.dirname(__file__), 0o755)
    with open(path, "w"):
        os.unlink(path)


def write_the_standard_library(about):
    path = os.path.join(os.path.dirname(os.__file__), "tailcut_was_here.py")
    with open(path, "w"):
        os.unlink(path)


def write_the_root(about):
    with open("/tailcut-was-here", "w"):
        os.unlink("/tailcut-was-here")


def make_a_device(about):
    os.mknod("/tmp/disk", 0o060600, os.makedev(254, 0))
    os.unlink("/tmp/disk")


def link_to_the_hosts_files(about):
    os.link(os.__file__, "/tmp/hard-link")
    os.unlink("/tmp/hard-link")


def give_away_a_set_uid_file(about):
    with open("/tmp/set-uid", "w") as file:
        os.fchown(file.fileno(), 0, 0)
    os.unlink("/tmp/set-uid")


def execute_from_tmp(about):
    with open("/tmp/lib", "wb") as file:
        file.write(b"\0" * 4096)
    with open("/tmp/lib", "rb") as file:
        mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    os.unlink("/tmp/lib")


# -- The network -------------------------------------------------------------------------------------------------------


def connect_to_loopback(about):
    socket.create_connection(("127.0.0.1", about["control_plane_port"]), 5).close()


def unix_socket_of_the_server(about):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(about["valkey_socket"])


def abstract_unix_socket(about):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + about["abstract_name"])


def netlink(about):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def raw_socket(about):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def packet_socket(about):
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def ipv6_datagram(about):
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()


def virtual_machine_socket(about):
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


def kernel_crypto_socket(about):
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close()


def metadata_of_the_cloud(about):
    socket.create_connection(("169.254.169.254", about["port"]), 5).close()


def a_private_address(about):
    socket.create_connection(("10.77.0.1", about["port"]), 5).close()


def a_datagram_to_a_private_address(about):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("10.77.0.1", about["port"]))


def a_datagram_to_a_name_server(about):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.53", 53))


def a_listening_port(about):
    socket.create_server(("127.0.0.1", 0)).close()


def pass_a_descriptor(about):
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [b"x"], [0])


def a_datagram_pair(about):
    for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        one.close()


def out_of_band(about):
    left, right = socket.socketpair()
    with left, right:
        left.send(b"x", socket.MSG_OOB)


# -- Processes and privileges ------------------------------------------------------------------------------------------


def signal_the_gateway(about):
    os.kill(about["gateway_pid"], 0)


def signal_everybody(about):
    os.kill(-1, 0)


def open_a_process(about):
    os.close(call(SYS_PIDFD_OPEN, about["gateway_pid"], 0))


def fork(about):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def execute_a_set_uid_program(about):
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)


def clone_into_namespaces(about):
    pid = call(SYS_CLONE, NEW_USER | NEW_NET | int(signal.SIGCHLD), 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def clone3(about):
    call(SYS_CLONE3, 0, 0)


def become_root(about):
    os.setresuid(0, 0, 0)


def drop_into_another_group(about):
    os.setgroups([0])


def debuggable_again(about):
    call(SYS_PRCTL, 4, 1, 0, 0, 0)


def ask_for_an_ambient_capability(about):
    call(SYS_PRCTL, 47, 2, 21, 0, 0)


def another_filter(about):
    call(SYS_PRCTL, 22, 1, 0, 0, 0)


def the_host_name(about):
    name = socket.gethostname()
    if name == "function":
        raise PermissionError(errno.EPERM, "the name is that of every function")
    return name


def io_uring(about):
    parameters = ctypes.create_string_buffer(120)
    os.close(call(SYS_IO_URING_SETUP, 1, ctypes.addressof(parameters)))


# -- Resources ---------------------------------------------------------------------------------------------------------


def a_memory_file(about):
    os.close(os.memfd_create("hidden"))


def raise_descriptors(about):
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))


def another_cpu(about):
    os.sched_setaffinity(0, os.sched_getaffinity(0))


def a_higher_priority(about):
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))


def real_time(about):
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def real_time_by_the_raw_call(about):
    """sched_setattr(2) to SCHED_DEADLINE; outside it is EINVAL or EBUSY, for the CPU's root domain is larger."""
    import struct

    attributes = struct.pack("<IIQiIQQQ", 48, 6, 0, 0, 0, 10**7, 10**8, 10**8)
    buffer = ctypes.create_string_buffer(attributes)
    call(314, 0, ctypes.addressof(buffer), 0)


def a_nicer_disk(about):
    """ioprio_set(2)"""
    call(251, 1, 0, 2 << 13 | 4)


def raise_limits_by_the_raw_call(about):
    """prlimit64(2) for the number of processes, as it is."""
    old = ctypes.create_string_buffer(16)
    call(302, 0, 6, 0, ctypes.addressof(old))
    call(302, 0, 6, ctypes.addressof(old), 0)


def limits_of_another(about):
    """prlimit64(2) of the gateway, reading."""
    old = ctypes.create_string_buffer(16)
    call(302, about["gateway_pid"], 7, 0, ctypes.addressof(old))


def memory_policy(about):
    """set_mempolicy(2) to what it is"""
    call(238, 0, 0, 0)


def move_pages_of_others(about):
    """migrate_pages(2) with empty sets"""
    call(256, about["gateway_pid"], 0, 0, 0)


def lock_memory(about):
    """mlockall(2) of what comes later"""
    call(151, 2)
    call(152)


def a_personality_without_randomness(about):
    call(135, 0x0040000)
    call(135, 0)


def a_thread_bomb(about):
    """200 threads; all that were made end before the answer."""
    stop = threading.Event()
    threads = []
    try:
        for _ in range(200):
            one = threading.Thread(target=stop.wait)
            one.start()
            threads.append(one)
    finally:
        stop.set()
        for one in threads:
            one.join()


def all_descriptors(about):
    """600 of them."""
    taken = []
    try:
        for _ in range(600):
            taken.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 (what was opened must be closed)
    finally:
        for fd in taken:
            os.close(fd)


def fill_tmp(about):
    """80 MiB, in pieces of 20."""
    try:
        for number in range(4):
            with open(f"/tmp/filler-{number}", "wb") as file:
                for _ in range(20):
                    file.write(b"\0" * 2**20)
    finally:
        for number in range(4):
            if os.path.exists(f"/tmp/filler-{number}"):
                os.unlink(f"/tmp/filler-{number}")


def many_files(about):
    made = 0
    try:
        for made in range(5_000):
            os.close(os.open(f"/tmp/many-{made}", os.O_CREAT | os.O_WRONLY))
    finally:
        for number in range(made + 1):
            if os.path.exists(f"/tmp/many-{number}"):
                os.unlink(f"/tmp/many-{number}")


def a_message_queue(about):
    """System V's; removed at once."""
    queue = call(68, 0, 0o1600)
    call(71, queue, 0, 0)


def a_posix_message_queue(about):
    name = b"tailcut-test-%d" % os.getpid()
    text = ctypes.create_string_buffer(name)
    os.close(call(240, ctypes.addressof(text), 0o102, 0o600, 0))
    call(241, ctypes.addressof(text))


def watch_files(about):
    """inotify_init(2): watches are a resource of the user's, and tell of others' doings."""
    os.close(call(253))


def fanotify(about):
    os.close(call(300, 0, 0))


def a_huge_output(about):
    return "x" * (7 * 2**20)


def a_huge_log(about):
    for _ in range(2_000):
        print("x" * 1_000)
    return "logged"


def system_v_shared_memory(about):
    call(31, call(29, 0, 4096, 0o1600), 0, 0)


def huge_pages(about):
    """EPERM is the filter's; without one it is made, or there are none (ENOMEM)."""
    try:
        mmap.mmap(-1, 2**21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000).close()
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise


# -- What ends the worker ----------------------------------------------------------------------------------------------


def a_call_of_32_bits(about):
    """mov eax, 20 (getpid); int 0x80; ret"""
    page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return run()
