"""sys.stdout and sys.stderr of a worker: whole lines, sent as log frames.

Called by ``main``. What always holds: a line is sent when it ends, a longer one in pieces of ``LINE_BYTES_MAX``, a rest
without newline at the end of the invocation; closing the streams does nothing; the budget is the loop's business.
"""

import io
import sys
from collections.abc import Buffer, Callable

LINE_BYTES_MAX = 8 * 1024
STDOUT = 1
STDERR = 2

Send = Callable[[int, bytes], bool]


class LineWriter(io.RawIOBase):
    """Bytes in, lines out; ``rest`` is what has no newline yet."""

    def __init__(self, send: Send, stream: int) -> None:
        self._send = send
        self._stream = stream
        self.rest = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        new = bytes(data)
        if b"\n" not in new and len(self.rest) + len(new) <= LINE_BYTES_MAX:
            self.rest += new
            return len(new)
        # Taken away first: when sending is interrupted, nothing is sent twice.
        lines = (self.rest + new).split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            if not self._send_line(line):
                self.rest = b""
                return len(new)
        if len(self.rest) > LINE_BYTES_MAX:
            whole = len(self.rest) // LINE_BYTES_MAX * LINE_BYTES_MAX
            line, self.rest = self.rest[:whole], self.rest[whole:]
            self._send_line(line)
        return len(new)

    def _send_line(self, line: bytes) -> bool:
        if len(line) <= LINE_BYTES_MAX:
            return self._send(self._stream, line)
        pieces = (line[at : at + LINE_BYTES_MAX] for at in range(0, len(line), LINE_BYTES_MAX))
        return all(self._send(self._stream, piece) for piece in pieces)

    def send_rest(self) -> None:
        line, self.rest = self.rest, b""
        self._send_line(line)

    def close(self) -> None:
        """A handler that closes sys.stdout must not silence the next one."""

    def isatty(self) -> bool:
        return False


Streams = tuple[LineWriter, LineWriter]


def install(send: Send) -> Streams:
    """Replaces the three standard streams; stdin is empty."""
    writers = LineWriter(send, STDOUT), LineWriter(send, STDERR)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = _text(writers[0])  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(writers[1])  # type: ignore[misc]
    return writers


def _text(writer: LineWriter) -> io.TextIOWrapper:
    return io.TextIOWrapper(writer, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)  # type: ignore[arg-type]


def flush(streams: Streams) -> None:
    """At the end of an invocation: what has no newline is a line, too."""
    for writer in streams:
        if writer.rest:
            writer.send_rest()
