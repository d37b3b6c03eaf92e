"""Consumes what gateways report: a version is ready on a node, or failed there with a traceback; keys were used.

A task of ``app``'s lifespan, reading the Redis stream in a consumer group. A report is acknowledged after its
transaction; one that was not (killed in between) comes again and changes nothing. A report that cannot be read is
logged and acknowledged: it would come for ever.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository as auth
from control_plane.context import Context
from control_plane.functions import repository, service
from control_plane.models import Function, NodeReport, Version, now
from control_plane.outbox import repository as outbox
from control_plane.outbox.relay import BACKOFF_FIRST_S, BACKOFF_LAST_S
from gateway.contract.report import (
    KEY_USES_FIELD,
    REPORT_FIELD,
    REPORT_GROUP,
    REPORT_STREAM,
    KeyUses,
    VersionReport,
)

log = structlog.get_logger(__name__)

BATCH_COUNT: Final = 100
BLOCK_MS: Final = 1_000
ABANDONED_AFTER_MS: Final = 10_000
"""A report that another consumer took so long ago without acknowledging it is taken over."""
TEXT_CHARACTERS_MAX: Final = 64 * 1024
NODE_CHARACTERS_MAX: Final = 200

Message = tuple[bytes, dict[bytes, bytes]]


class ReportConsumer:
    def __init__(self, context: Context, redis: Redis) -> None:
        self._context = context
        self._redis: Any = redis
        self._name = f"{socket.gethostname()}-{os.getpid()}"

    async def run(self) -> None:
        """Until cancelled."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                await self._ensure_group()
                while True:
                    await self._round()
                    backoff_s = BACKOFF_FIRST_S
            except (RedisError, OSError, SQLAlchemyError) as error:
                log.warning("reports-failed", error=type(error).__name__, message=str(error)[:200], retry_s=backoff_s)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_LAST_S)

    async def _ensure_group(self) -> None:
        """From the stream's beginning: a Redis that lost its data has lost the group too (NOGROUP leads here)."""
        try:
            await self._redis.xgroup_create(REPORT_STREAM, REPORT_GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _round(self) -> None:
        claimed = await self._redis.xautoclaim(
            REPORT_STREAM, REPORT_GROUP, self._name, min_idle_time=ABANDONED_AFTER_MS, count=BATCH_COUNT
        )
        messages: list[Message] = [message for message in claimed[1] if message[1]]
        if not messages:
            streams = await self._redis.xreadgroup(
                REPORT_GROUP, self._name, {REPORT_STREAM: ">"}, count=BATCH_COUNT, block=BLOCK_MS
            )
            messages = _messages(streams)
        for identifier, fields in messages:
            uses = fields.get(KEY_USES_FIELD.encode())
            if uses is not None:
                await self._consume_key_uses(uses)
            else:
                await self._consume(fields.get(REPORT_FIELD.encode(), b""))
            await self._redis.xack(REPORT_STREAM, REPORT_GROUP, identifier)
            await self._redis.xdel(REPORT_STREAM, identifier)

    async def _consume(self, content: bytes) -> None:
        try:
            report = VersionReport.model_validate_json(content)
        except ValidationError as error:
            log.warning("report-unreadable", report_bytes=len(content), errors=error.error_count())
            return
        async with self._context.writing() as session:
            status = await apply_report(session, report)
        log.info("report-applied", version=report.version_id, node=report.node, outcome=report.outcome, status=status)

    async def _consume_key_uses(self, content: bytes) -> None:
        try:
            report = KeyUses.model_validate_json(content)
        except ValidationError as error:
            log.warning("key-uses-unreadable", report_bytes=len(content), errors=error.error_count())
            return
        at = now()
        # A node's clock may be ahead of ours: nothing was used in the future.
        used = {key_id: min(datetime.fromtimestamp(used_s, UTC), at) for key_id, used_s in report.used_s.items()}
        async with self._context.writing() as session:
            await auth.note_key_uses(session, used)


def _messages(streams: Any) -> list[Message]:
    """redis-py answers a list (RESP 2) or a dict (RESP 3) of streams."""
    if not streams:
        return []
    if isinstance(streams, dict):
        return [message for batches in streams.values() for batch in batches for message in batch]
    return [message for _, batch in streams for message in batch]


async def apply_report(session: AsyncSession, report: VersionReport) -> str | None:
    """The last word of each node counts; one node on which the version is ready makes it ready.

    A version that fails before it was ever ready takes its aliases back to where they pointed before. → the status
    """
    version = await repository.get_reported_version(session, report.version_id)
    if version is None:
        return None  # deleted meanwhile
    if report.outcome == "failed" and report.attempt < version.attempt:
        return version.status
    await _note(session, report)
    reports = await repository.node_reports(session, version.id)
    was = version.status
    version.reported_at = now()
    if report.outcome == "ready":
        _set_ready(version, report)
    elif all(each.outcome == "failed" for each in reports):
        _set_failed(version, report)
        if was == "preparing":
            await _take_aliases_back(session, version)
    return version.status


async def _note(session: AsyncSession, report: VersionReport) -> None:
    node = report.node[:NODE_CHARACTERS_MAX]
    row = await session.get(NodeReport, (report.version_id, node))
    if row is None:
        row = NodeReport(version_id=report.version_id, node=node)
        session.add(row)
    row.outcome = report.outcome
    row.reported_at = now()
    await session.flush()


def _set_ready(version: Version, report: VersionReport) -> None:
    version.status = "ready"
    version.style = report.style
    version.state = report.state
    version.state_reason = _text(report.state_reason)
    version.start_us = report.start_us
    version.operation = report.operation
    version.schemas = report.schemas
    version.error_type = version.error_message = version.error_traceback = None


def _set_failed(version: Version, report: VersionReport) -> None:
    version.status = "failed"
    version.start_us = report.start_us
    error = report.error
    version.error_type = _text(error.type if error else "StartFailed")
    version.error_message = _text(error.message if error else "The node gave no reason.")
    version.error_traceback = _text(error.traceback if error else "")


def _text(text: str) -> str:
    # PostgreSQL's text holds no NUL.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:TEXT_CHARACTERS_MAX]


async def _take_aliases_back(session: AsyncSession, version: Version) -> None:
    moved = False
    function = await session.get(Function, version.function_id)
    aliases: Sequence[Any] = await repository.aliases_of_version(session, version.tenant_id, version.id)
    for alias in aliases:
        if function is not None and await service.go_back(session, function, alias, "failed"):
            moved = True
    if moved:
        await outbox.append(session, version.tenant_id, "version-failed", version.id)
