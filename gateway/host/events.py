"""What the data plane tells: workers that came up, did not, or ended, and what functions print.

Called by ``node`` whenever the library has raised its eventfd. It turns events into the state of versions, lines of
``functions.jsonl`` and lines for the tenants; what follows from a change, ``node`` decides (``on_change``).

What always holds: every document of an event was written by a worker or about one, so it is hostile input; output whose
version has gone is kept in the node's own log and shown to nobody.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from gateway.contract.output import Line
from gateway.contract.report import StartFailure
from gateway.contract.table import RoutingTable, Version
from gateway.contract.worker import JAIL_FAILED
from gateway.core.data_plane import (
    Drained,
    Event,
    EventsLost,
    FunctionOutput,
    LogStream,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from gateway.host.function_log import OutputLine, rfc3339
from gateway.host.memory import WorkerReadyDocument
from gateway.host.versions import Stage

if TYPE_CHECKING:
    from gateway.host.node import Node

_log = structlog.get_logger("node")
_EVENT_ROUNDS_MAX = 16
_FAILURE_CHARACTERS_MAX = 32_000


class Events:
    def __init__(self, node: "Node", on_change: Callable[[], None], on_drained: Callable[[], None]) -> None:
        self.lost = 0
        """Lines of output for which the ring had no room."""
        self._node = node
        self._on_change = on_change
        self._on_drained = on_drained
        self._names: dict[int, Version] = {}
        """By index: whose output an event is."""
        self._tenant_names: dict[str, str] = {}

    def know(self, names: dict[int, Version], table: RoutingTable) -> None:
        """Before a revision is applied: whose its indexes are. Earlier ones are remembered, for what is under way."""
        self._names |= names
        self._tenant_names = {tenant.id: tenant.name for tenant in table.tenants}

    def take(self) -> None:
        """Whenever ``event_fd`` is readable, and once more at the end."""
        with contextlib.suppress(BlockingIOError):  # the library has reset it itself
            os.eventfd_read(self._node.data_plane.event_fd)
        lines: list[OutputLine] = []
        for_people: list[Line] = []
        for _ in range(_EVENT_ROUNDS_MAX):
            events = self._node.data_plane.events()
            for event in events:
                if isinstance(event, FunctionOutput):
                    line = self._line(event)
                    lines.append(line)
                    for_people += self._line_for_people(event, line)
                else:
                    self._on_event(event)
            if not events:
                break
        else:
            asyncio.get_running_loop().call_soon(self.take)
        self._node.function_log.write(lines)
        self._node.output_feed.add(for_people)

    def _on_event(self, event: Event) -> None:
        match event:
            case WorkerReady():
                self._on_worker_ready(event)
            case WorkerStartFailed():
                self._on_worker_failed(event)
            case WorkerExited():
                _log.warning("worker ended", pid=event.pid, **_how(event), **self._whose(event.version))
            case EventsLost():
                self.lost += event.count
                _log.warning("output of functions was lost: they write faster than it can be stored", lines=event.count)
            case Drained():
                self._on_drained()

    def _on_worker_ready(self, event: WorkerReady) -> None:
        self._node.workers.add(event.pid)
        version_id = self._node.indexes.name(event.version)
        state = self._node.versions.states.get(version_id) if version_id is not None else None
        if state is None or state.stage is not Stage.PROBING:
            return
        now = time.monotonic()
        try:
            ready = WorkerReadyDocument.model_validate_json(event.document)
        except ValidationError as error:
            failure = StartFailure(type="BadWorker", message=f"the worker's first word is not valid: {error}"[:1000])
            # Without a document the ring of events was full: our fault, tried again.
            self._node.versions.worker_failed(state.version.id, failure, ours=not event.document, now=now)
            self._on_change()
            return
        self._node.versions.worker_ready(state.version.id, ready, now)
        _log.info("version ready", version=state.version.id, function=state.version.function, start_us=state.start_us)
        try:
            self._node.memory.save_ready(state.version, ready, state.start_us, state.forked_because)
        except OSError as error:
            _log.error("a ready version could not be recorded", version=state.version.id, error=str(error))
        self._on_change()

    def _on_worker_failed(self, event: WorkerStartFailed) -> None:
        version_id = self._node.indexes.name(event.version)
        if version_id is None:
            return
        try:
            failure = StartFailure.model_validate_json(event.document)
        except ValidationError:
            failure = StartFailure(type="BadWorker", message=event.document[:1000].decode(errors="replace"))
        failure = StartFailure(
            type=failure.type[:200],
            message=failure.message[:_FAILURE_CHARACTERS_MAX],
            traceback=failure.traceback[-_FAILURE_CHARACTERS_MAX:],
        )
        ours = event.ours or failure.type == JAIL_FAILED
        if self._node.versions.worker_failed(version_id, failure, ours=ours, now=time.monotonic()):
            whose = self._whose(event.version)
            _log.warning("version not ready", ours=ours, error=f"{failure.type}: {failure.message}"[:500], **whose)
            self._on_change()

    def _line(self, event: FunctionOutput) -> OutputLine:
        version = self._names.get(event.version)
        stream = LogStream(event.stream).name.lower() if event.stream in LogStream else str(event.stream)
        return OutputLine(
            time=rfc3339(event.time_ns) if event.time_ns else datetime.now(UTC).isoformat(),
            tenant=self._tenant_names.get(version.tenant_id, "") if version else "",
            function=version.function if version else "",
            version=version.id if version else "",
            request_id=event.invocation_id,
            stream=stream,
            text=event.text.decode(errors="replace"),
        )

    def _line_for_people(self, event: FunctionOutput, line: OutputLine) -> list[Line]:
        version = self._names.get(event.version)
        if version is None or not line.tenant:
            return []  # of a version that has gone, or of the gateway's own check
        time_ns = event.time_ns or time.time_ns()
        return [Line(time_ns, version.tenant_id, version.function, version.id, line.request_id, line.stream, line.text)]

    def _whose(self, index: int) -> dict[str, str]:
        version = self._names.get(index)
        return {"version": version.id, "function": version.function, "tenant_id": version.tenant_id} if version else {}


def _how(event: WorkerExited) -> dict[str, int]:
    if event.status is None:
        return {}
    if event.forbidden_call is not None:
        return {"forbidden_call": event.forbidden_call}
    code = os.waitstatus_to_exitcode(event.status)
    return {"exit_status": code} if code >= 0 else {"signal": -code}
