"""What this machine must offer, tried before anything starts: one clear line per thing that is missing."""

import ctypes
import errno
import mmap
import os
import platform
from collections.abc import Iterable

from gateway.supervisor.problems import EXIT_FEATURE_MISSING, CannotStart

_KERNEL_MIN = (5, 19)
"""io_uring's multishot accept; single issuer and deferred task running are 6.0 and 6.1, and only faster."""
_SYS_IO_URING_SETUP = 425
_SYS_PIDFD_OPEN = 434


def require_features() -> None:
    """Raises CannotStart naming the first feature that is missing and what to do about it."""
    if platform.system() != "Linux":
        raise CannotStart(f"Tailcut needs Linux, this is {platform.system()}", EXIT_FEATURE_MISSING)
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _KERNEL_MIN:
        needed = ".".join(str(number) for number in _KERNEL_MIN)
        text = f"Linux {release} is too old: {needed} or newer is needed (io_uring's multishot accept)"
        raise CannotStart(text, EXIT_FEATURE_MISSING)
    for missing in _missing():
        raise CannotStart(missing, EXIT_FEATURE_MISSING)


def shared_cpus(wanted: Iterable[int], reserved: Iterable[int]) -> tuple[int, ...]:
    """The CPUs of the reactors: those wanted, or all, but those reserved. Raises CannotStart for one that this process
    may not run on, and when none is left."""
    allowed = os.sched_getaffinity(0)
    taken = set(reserved)
    named = tuple(dict.fromkeys(wanted))
    for option, cpus in (("--cpus", named), ("--reserved-cpus", sorted(taken))):
        for cpu in cpus:
            if cpu not in allowed:
                allowed_text = ",".join(str(one) for one in sorted(allowed))
                raise CannotStart(
                    f"{option} names CPU {cpu}, but this process may run on {allowed_text} only", EXIT_FEATURE_MISSING
                )
    shared = tuple(cpu for cpu in named or sorted(allowed) if cpu not in taken)
    if not shared:
        text = f"--reserved-cpus {','.join(str(cpu) for cpu in sorted(taken))} leaves no CPU to share: name fewer"
        raise CannotStart(text, EXIT_FEATURE_MISSING)
    return shared[:64]


def _missing() -> Iterable[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    parameters = mmap.mmap(-1, 4096)
    descriptor = libc.syscall(_SYS_IO_URING_SETUP, 4, ctypes.byref(ctypes.c_char.from_buffer(parameters)))
    if descriptor < 0:
        yield (
            f"io_uring is not available ({_errno_name()}): set sysctl kernel.io_uring_disabled=0, and in a container "
            "use a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
        )
    else:
        os.close(descriptor)
    try:
        os.close(os.memfd_create("tailcut-check"))
    except OSError as error:
        yield f"memfd_create is not available ({error.strerror}): large bodies cannot be shared with workers"
    descriptor = libc.syscall(_SYS_PIDFD_OPEN, os.getpid(), 0)
    if descriptor < 0:
        yield f"pidfd_open is not available ({_errno_name()}): workers cannot be ended safely"
    else:
        os.close(descriptor)


def _errno_name() -> str:
    return errno.errorcode.get(ctypes.get_errno(), "unknown error")
