"""log_lines: what functions printed, a row per line, kept as long as the tier says; log_readers: how far the stream
that carries it was read. A record of what was: rows outlive the functions that they speak of, so nothing is a foreign
key."""

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.models.base import Base


class LogLine(Base):
    __tablename__ = "log_lines"
    __table_args__ = (Index("ix_log_lines_tenant_id_request_id", "tenant_id", "request_id"),)

    tenant_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    """Its place in the stream, so that it sorts by arrival, and a line that comes again is the same row."""
    function: Mapped[str] = mapped_column(String(63))
    version_id: Mapped[str] = mapped_column(String(40))
    request_id: Mapped[str] = mapped_column(String(32))
    """Empty: a worker was starting."""
    stream: Mapped[str] = mapped_column(String(8))
    """``stdout``, ``stderr``, ``runtime`` (the worker's own words: what was cut, tracebacks), ``notice`` (ours)"""
    at: Mapped[datetime] = mapped_column(index=True)
    text: Mapped[str] = mapped_column(Text)


class LogReader(Base):
    __tablename__ = "log_readers"

    stream: Mapped[str] = mapped_column(String(40), primary_key=True)
    position: Mapped[str] = mapped_column(String(40))
    """The id of the last entry in the rows."""
