"""One supervised process: started with what it inherits, its output written to a bounded file, restarted with back-off.

Every child is in a process group of its own (Ctrl-C reaches the supervisor only) and is killed by the kernel when the
supervisor ends.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.supervisor.reaper import Reaper, die_with_parent

_TAIL_LINES = 40
_LINE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """How a child is started."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    pass_fds: tuple[int, ...] = ()
    says_ready: bool = False
    """It gets TAILCUT_READY_FD and writes a line to it once it serves."""


class LogFile:
    """Appends lines to ``path``; when full it becomes ``path.1`` and so on."""

    def __init__(self, path: Path, bytes_max: int, files_max: int) -> None:
        self.path = path
        self._bytes_max = bytes_max
        self._files_max = files_max
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk must not stop the children
            if self._file.tell() + len(data) > self._bytes_max:
                self._rotate()
            self._file.write(data)

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._files_max - 1, 0, -1):
            source = self._numbered(number - 1) if number > 1 else self.path
            if source.exists():
                source.replace(self._numbered(number))
        self._file = self.path.open("wb" if self._files_max == 1 else "ab", buffering=0)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


@dataclass(slots=True, eq=False)
class Process:
    """One life of a program."""

    program: Program
    pid: int
    started_s: float
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None
    """Wait status."""
    output: bytearray = field(default_factory=bytearray)
    """What it wrote to stdout, if that was asked for; complete once ``output_ended``."""
    output_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return self.status is None

    def send(self, number: signal.Signals) -> None:
        """To the process itself; one that has ended is not a fault."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def how_it_ended(self) -> str:
        if self.status is None:
            return "still runs"
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"


class Log:
    """Where a child's output goes: its file, the last lines for messages, and the screen."""

    def __init__(self, name: str, file: LogFile, show: Callable[[str, str], None]) -> None:
        self.name = name
        self.file = file
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._show = show

    def line(self, raw: bytes) -> None:
        self.file.write(raw + b"\n")
        text = raw.decode(errors="replace")
        self.tail.append(text)
        self._show(self.name, text)


class Spawner:
    """Starts processes and follows them to their end."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper

    def start(self, program: Program, log: Log, *, keep_stdout: bool = False) -> Process:
        """Raises OSError if the program cannot be executed."""
        loop = asyncio.get_running_loop()
        env = dict(program.env)
        ready_read = ready_write = None
        pass_fds = program.pass_fds
        if program.says_ready:
            ready_read, ready_write = os.pipe()
            env["TAILCUT_READY_FD"] = str(ready_write)
            pass_fds = (*pass_fds, ready_write)
        log_read, log_write = os.pipe()
        out_read = out_write = None
        if keep_stdout:
            out_read, out_write = os.pipe()
        try:
            handle = subprocess.Popen(
                program.argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log_write if out_write is None else out_write,
                stderr=log_write,
                pass_fds=pass_fds,
                # A group of its own, so that Ctrl-C reaches the supervisor alone; not a session of its own: the kernel
                # schedules sessions against each other (sched_autogroup), and gateway and workers must be one of them.
                process_group=0,
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509  (one thread here)
            )
        except OSError:
            for descriptor in (ready_read, log_read, out_read):
                if descriptor is not None:
                    os.close(descriptor)
            raise
        finally:
            for descriptor in (ready_write, log_write, out_write):
                if descriptor is not None:
                    os.close(descriptor)
        process = Process(program, handle.pid, time.monotonic())
        lines = _Lines(log.line)
        _drain(loop, log_read, lines.feed, lines.end)
        if out_read is not None:
            _drain(loop, out_read, process.output.extend, process.output_ended.set)
        if ready_read is not None:
            _drain(loop, ready_read, lambda data: process.ready.set() if data else None, lambda: None)

        def on_exit(status: int) -> None:
            handle.returncode = os.waitstatus_to_exitcode(status)  # subprocess must not wait for it again
            process.status = status
            process.ended.set()

        self._reaper.watch(handle.pid, on_exit)
        return process

    async def run(self, program: Program, log: Log, timeout_s: float) -> Process:
        """Runs a program to its end; kills it after ``timeout_s``. Its stdout is in ``output``."""
        process = self.start(program, log, keep_stdout=True)
        await stop(process, signal.SIGKILL, wait_first_s=timeout_s)
        with contextlib.suppress(TimeoutError):  # a grandchild may hold the pipe
            await asyncio.wait_for(process.output_ended.wait(), 1.0)
        return process


async def stop(process: Process, number: signal.Signals, timeout_s: float = 10.0, wait_first_s: float = 0.0) -> None:
    """Signals, waits, kills. Returns when the process has ended."""
    if wait_first_s:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.ended.wait(), wait_first_s)
    process.send(number)
    try:
        await asyncio.wait_for(process.ended.wait(), timeout_s)
    except TimeoutError:
        process.send(signal.SIGKILL)
        await process.ended.wait()


class _Lines:
    """Cuts a stream into lines, none longer than a bound."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line[:_LINE_BYTES_MAX])
        if len(self._rest) > _LINE_BYTES_MAX:
            self.end()

    def end(self) -> None:
        if self._rest:
            self._on_line(self._rest[:_LINE_BYTES_MAX])
            self._rest = b""


def _drain(
    loop: asyncio.AbstractEventLoop, descriptor: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]
) -> None:
    """Reads a pipe to its end."""
    os.set_blocking(descriptor, False)

    def readable() -> None:
        try:
            data = os.read(descriptor, _LINE_BYTES_MAX)
        except BlockingIOError:
            return
        if data:
            on_data(data)
        else:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            on_end()

    loop.add_reader(descriptor, readable)
