"""More of the hostile function: attacks on its own worker's channel, signals, loop, and with processes of its own.

Deployed beside hostile.py, which imports all of it. Where an attempt ends its own worker, nothing is returned.
"""

import ctypes
import errno
import os
import signal
import socket
import struct
import sys
import threading
import time
import types

CHANNEL = 3
ANSWER = struct.Struct("<IBBHQHHIII")
"""zigcore/src/pool/frame.zig; whoever attacks has read it."""
MAGIC, KIND_ANSWER, KIND_READY = 0x54434631, 2, 5


def frame(kind=KIND_ANSWER, sequence=1, status=200, headers=b"", count=0, body=b"", body_bytes=None, magic=MAGIC):
    size = len(body) if body_bytes is None else body_bytes
    return ANSWER.pack(magic, kind, 0, status, sequence, count, 0, len(headers), size, 0) + headers + body


def send(*frames):
    """What comes after is up to the gateway: it has the time to act."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, os.dup(CHANNEL)) as channel:
        for one in frames:
            channel.send(one)
    time.sleep(20)


# -- The channel -------------------------------------------------------------------------------------------------------


def close_the_channel(about):
    os.close(CHANNEL)


def garbage_on_the_channel(about):
    send(b"\xff" * 100)


def an_empty_frame(about):
    send(b"")


def a_truncated_frame(about):
    send(frame(body=b"x" * 100)[:-50])


def half_a_head(about):
    send(frame()[:20])


def an_oversized_frame(about):
    send(frame(body=b"x" * 65_530))


def a_replayed_frame(about):
    """The answer of an earlier invocation."""
    send(frame(sequence=0, body=b'"replayed"'))


def an_answer_of_the_future(about):
    send(frame(sequence=2**63, body=b'"early"'))


def a_body_that_is_not_there(about):
    send(frame(body_bytes=2**32 - 1))


def ready_once_more(about):
    send(frame(kind=KIND_READY, sequence=0, body=b"{}"))


def a_frame_of_no_kind(about):
    send(frame(kind=200))


def a_frame_of_the_gateway(about):
    send(frame(kind=1))


def a_frame_of_the_zygote(about):
    send(struct.pack("<IB3xQii", MAGIC, 17, 1, os.getpid(), 0))


def headers_that_do_not_add_up(about):
    send(frame(headers=b"\xff\xff\xff\xff", count=3))


def a_flood_of_frames(about):
    log = frame(kind=4, status=1, body=b"x")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, os.dup(CHANNEL)) as channel:
        while True:
            channel.send(log)


def scribble_over_the_shared_memory(about):
    """All of it, while and after it is read: its own request's and answer's bodies."""
    import mmap

    with mmap.mmap(4, 0) as shared:
        shared[:] = b"\xff" * len(shared)
    return len(os.listdir("/"))


def grow_the_shared_memory(about):
    os.ftruncate(4, 2**40)


# -- Signals, and ends that are none -----------------------------------------------------------------------------------


def ignore_all_signals_and_spin(about):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        pass


def hold_the_interpreter_lock(about):
    """In C code that never gives it back."""
    ctypes.PyDLL(None).sleep(3600)


def threads_that_never_end(about):
    for _ in range(8):
        threading.Thread(target=ignore_all_signals_and_spin_in_a_thread).start()
    ignore_all_signals_and_spin_in_a_thread()


def ignore_all_signals_and_spin_in_a_thread():
    while True:
        pass


def stop_itself(about):
    for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN):
        os.kill(os.getpid(), number)
        os.kill(0, number)
    return "still here"


def kill_itself(about):
    """The first process of a PID namespace cannot be killed from inside."""
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSYS):
        os.kill(os.getpid(), number)
    return "still here"


# -- Our own library ---------------------------------------------------------------------------------------------------


def ours(wanted):
    """What no import leads to, the runtime's own functions do: through their frames, globals and attributes."""
    seen, left = set(), []
    frame = sys._getframe()
    while frame is not None:
        left.append(frame.f_globals)
        frame = frame.f_back
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if wanted(one):
            return one
        if isinstance(one, dict):
            left.extend(list(one.values()))
        elif isinstance(one, types.FunctionType):
            left.append(one.__globals__)
        elif isinstance(one, types.ModuleType | type):
            left.append(dict(vars(one)))
        elif isinstance(one, list | tuple | set | frozenset):
            left.extend(one)
    raise OSError(errno.ENOENT, "libzigcore is not to be found")


def binding():
    return ours(lambda one: isinstance(one, types.ModuleType) and one.__name__ == "gateway.core.binding")


def library():
    return binding().load()


def interface():
    return binding().ffi


def say_that_the_start_failed(about):
    """zc_worker_failed in the middle of an invocation."""
    library().zc_worker_failed(b"{}", 2)
    time.sleep(20)


def leave_the_jail_by_our_own_code(about):
    """zc_jail_enter with another configuration: its first calls end the worker."""
    module = interface()
    config = module.new("zc_jail_config *", {"parts": 0b110, "privileged": 1})
    error = module.new("zc_error *")
    library().zc_jail_enter(config, -1, error)
    return module.string(error.text).decode()


def a_gateway_of_its_own(about):
    module = interface()
    error = module.new("zc_error *")
    config = module.new("zc_gateway_config *")
    if library().zc_gateway_init(config, error) != 0:
        raise OSError(errno.EPERM, module.string(error.text).decode())


# -- Processes, where they are allowed ---------------------------------------------------------------------------------


def a_fork_bomb(about):
    """At most 200, each waiting for its end."""
    made = []
    try:
        for _ in range(200):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            made.append(pid)
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return len(made)


def a_daemon(about):
    """Forked twice, in a session of its own, deaf to signals; its process id as it sees it."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            os.write(write, str(os.getpid()).encode())
            end = time.monotonic() + 60
            while time.monotonic() < end:
                time.sleep(0.05)
        os._exit(0)
    os.wait()
    return int(os.read(read, 32))


def end_the_worker(about):
    os._exit(7)


def run_the_interpreter(about):
    import subprocess
    import sys

    return subprocess.run(
        [sys.executable, "-S", "-c", "print(6 * 7)"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def a_child_that_calls_what_is_forbidden(about):
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).syscall(101, 16, 0, 0, 0)
        os._exit(0)
    os.waitpid(pid, 0)


def a_program_of_the_hosts(about):
    """Nothing in the root of a worker but the interpreter and its own bundle can be run."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], {})
    return os.waitpid(pid, 0)[1]


def the_dynamic_loader(about):
    """ld.so runs any file that can be mapped as code: none that a worker can write to."""
    with open("/tmp/program", "wb") as program:
        program.write(open(os.path.realpath("/lib64/ld-linux-x86-64.so.2"), "rb").read())
    os.chmod("/tmp/program", 0o700)
    pid = os.posix_spawn("/tmp/program", ["program", "--version"], {})
    return os.waitpid(pid, 0)[1]
