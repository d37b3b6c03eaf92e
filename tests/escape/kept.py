"""What the kernel tells a thread about itself only: its secure bits, and whether its process may be looked into.

Root stops the thread, lets it make one prctl(2) in its own name with its filter suspended, and puts its registers back:
what a debugger does. What always holds: the thread goes on as if nothing had been; nothing of the server's is used.
"""

import ctypes
import os
import struct
from pathlib import Path

PR_GET_DUMPABLE, PR_GET_SECUREBITS = 3, 27
_SYS_PRCTL = 157
_GETREGS, _SETREGS, _SINGLESTEP, _DETACH, _SEIZE, _INTERRUPT = 12, 13, 9, 17, 0x4206, 0x4207
_SUSPEND_SECCOMP = 1 << 21
_REGISTERS = struct.Struct("<27Q")
_RAX, _RDX, _RSI, _RDI, _ORIG_RAX, _RIP = 10, 12, 13, 14, 15, 16
_SYSCALL = b"\x0f\x05"
_WALL = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def asked_itself(thread: int, *questions: int) -> list[int]:
    """What prctl(``question``) answers that thread, which is blocked in a system call. Of x86-64 only."""
    _ptrace(_SEIZE, thread, None, _SUSPEND_SECCOMP)
    try:
        _ptrace(_INTERRUPT, thread)
        _wait(thread)
        before = _registers(thread)
        with Path(f"/proc/{thread}/mem").open("rb") as memory:
            memory.seek(before[_RIP] - len(_SYSCALL))
            assert memory.read(len(_SYSCALL)) == _SYSCALL, f"thread {thread} does not wait in a system call"
        try:
            return [_answer(thread, before, question) for question in questions]
        finally:
            _ptrace(_SETREGS, thread, None, ctypes.create_string_buffer(_REGISTERS.pack(*before)))
    finally:
        _ptrace(_DETACH, thread)


def _answer(thread: int, before: tuple[int, ...], question: int) -> int:
    registers = list(before)
    for name, value in ((_RAX, _SYS_PRCTL), (_RDI, question), (_RSI, 0), (_RDX, 0)):
        registers[name] = value
    # No call of its own is to be made again meanwhile: that is for the registers that come back.
    registers[_ORIG_RAX] = 2**64 - 1
    registers[_RIP] -= len(_SYSCALL)
    _ptrace(_SETREGS, thread, None, ctypes.create_string_buffer(_REGISTERS.pack(*registers)))
    _ptrace(_SINGLESTEP, thread)
    _wait(thread)
    return _registers(thread)[_RAX]


def _registers(thread: int) -> tuple[int, ...]:
    buffer = ctypes.create_string_buffer(_REGISTERS.size)
    _ptrace(_GETREGS, thread, None, buffer)
    return _REGISTERS.unpack(buffer.raw)


def _wait(thread: int) -> None:
    _pid, status = os.waitpid(thread, _WALL)
    assert os.WIFSTOPPED(status), f"thread {thread} ended: {status:#x}"


def _ptrace(request: int, thread: int, address: int | None = None, data: object = None) -> None:
    if _libc.ptrace(request, thread, address, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace({request:#x}): {os.strerror(number)}")
