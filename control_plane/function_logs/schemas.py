"""Lines of the log as JSON."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from control_plane.models import LogLine

Stream = Literal["stdout", "stderr", "runtime", "notice"]


class LogLineOut(BaseModel):
    id: str
    at: datetime
    function: str
    version: str
    request_id: str
    """Of the invocation, as `Tailcut-Request-Id` said it; empty: a worker was starting."""
    stream: str
    """`stdout`, `stderr`; `runtime`: the worker's words, for example what was cut; `notice`: ours about the log."""
    text: str

    @classmethod
    def of(cls, line: LogLine) -> "LogLineOut":
        return cls(
            id=line.id,
            at=line.at,
            function=line.function,
            version=line.version_id,
            request_id=line.request_id,
            stream=line.stream,
            text=line.text,
        )


class LogPage(BaseModel):
    items: list[LogLineOut]
    """The newest first."""
    next_cursor: str | None
    follow: str
    """Give it as `after` to /v1/logs/follow: what comes from now on."""


class LogNews(BaseModel):
    items: list[LogLineOut]
    """The oldest first; empty: nothing came in the time."""
    follow: str
    """The next `after`."""
