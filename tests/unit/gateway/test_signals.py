"""Workers do not depend on which signals whoever started the server had ignored."""

import subprocess
import sys

# 32 is the C library's own: neither Python nor sigaction(3) sets it, a parent that used the kernel's call did.
PROGRAM = """
import ctypes, os, signal, sys
if sys.argv[1:]:
    from gateway.core.worker_loop import forget_ignored_signals
    def ignored():
        return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn"))
    print(ignored())
    forget_ignored_signals()
    print(ignored())
else:
    rt_sigaction = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
    action = (ctypes.c_uint64 * 4)(1, 0, 0, 0)
    for number in (signal.SIGTSTP, 32, 40):
        assert ctypes.CDLL(None).syscall(rt_sigaction, int(number), action, None, 8) == 0
    os.execv(sys.executable, [sys.executable, "-c", os.environ["PROGRAM"], "again"])
"""


def test_no_signal_stays_ignored_that_somebody_else_ignored() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PROGRAM": PROGRAM, "PYTHONPATH": ":".join(sys.path)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    before, after = (int(line, 16) for line in run.stdout.split())
    inherited = sum(1 << (number - 1) for number in (20, 32, 40))
    assert before & inherited == inherited
    assert after == 0
