"""The life of a gateway process: start from memory, follow the table, bring versions up, drain, end.

Everything happens in one asyncio thread; only ``apply`` (waits for the reactors), unpacking and disk work run in
helper threads. The heart is ``_reconcile``: whenever something changed (a table, a bundle, a worker's first word) or
is due, it looks at the whole state and does what is missing. It is level-triggered, so a lost message or a restart
needs no case of its own.

Always holds: what is served is the table's or older, never invented; a version takes traffic only after a worker of it
was ready on this node.
"""

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import structlog

from gateway.contract.report import StartFailure, VersionReport
from gateway.contract.revision import Revision
from gateway.contract.table import RoutingTable, Version
from gateway.core.binding import CoreError
from gateway.core.data_plane import (
    DataPlane,
    DataPlaneConfig,
)
from gateway.features import features
from gateway.host import routing, self_check
from gateway.host.bundles import BundleRefused, Bundles, BundleUnavailable
from gateway.host.events import Events
from gateway.host.function_log import FunctionLog
from gateway.host.heartbeat import Heartbeat
from gateway.host.indexes import Indexes, OutOfIndexes
from gateway.host.journal import Journal
from gateway.host.leases import Leases
from gateway.host.memory import Memory, is_version_id
from gateway.host.openapi import Documents
from gateway.host.output_feed import OutputFeed
from gateway.host.reports import Reports
from gateway.host.reserved import sellable_ppm
from gateway.host.shipping import Shipping
from gateway.host.table_feed import TableFeed
from gateway.host.versions import Outcome, Stage, Versions
from gateway.host.workers import Workers
from gateway.settings import HostSettings

_log = structlog.get_logger("node")
_HOUSEKEEPING_S = 30.0
_FEED_S = 0.05
_SYNC_S = 1.0
"""What a power cut can take of the usage records is at most what came since."""
_FLUSH_S = 3.0
_LAST_OUTPUT_S = 2.0


class Node:
    """One gateway. ``run`` returns the exit code."""

    def __init__(self, settings: HostSettings) -> None:
        """Takes all memory and opens the rings (CoreError when the kernel refuses); nothing runs yet."""
        self.settings = settings
        self.memory = Memory(settings.gateway_dir)
        self.identity = self.memory.begin_epoch()
        structlog.contextvars.bind_contextvars(node=self.identity.name, epoch=self.identity.epoch)
        self.data_plane = DataPlane(_data_plane_config(settings, self.identity.number))
        self.journal = Journal(
            settings.gateway_dir / "journal", self.identity.number, self.data_plane, len(settings.reactor_cpus)
        )
        self.shipping = Shipping(settings, self.journal)
        self.bundles = Bundles(settings.bundle_store, settings.gateway_dir / "versions")
        self.reports = Reports(settings.gateway_dir / "reports.json", settings.reports_max)
        self.function_log = FunctionLog(
            settings.function_log_path, settings.function_log_bytes_max, settings.function_log_files_max
        )
        self.output_feed = OutputFeed(settings)
        self.indexes = Indexes(settings.version_index_rest.total_seconds())
        self.versions = Versions(
            settings.fetches_max,
            settings.probes_max,
            settings.probe_timeout.total_seconds(),
            settings.retry_backoff_max.total_seconds(),
        )
        self.table = self.memory.load_table()
        self.serving = self.memory.load_serving()
        self.versions.restore(self.memory.load_ready(), self.bundles.on_disk(), time.monotonic())
        revision = self.table.revision if self.table else -1
        self.feed = TableFeed(settings, self.reports, revision, self._take_table, self._report_again)
        self.leases = Leases(settings, self.data_plane, f"{self.identity.name}:{self.identity.epoch}")
        self.applied: Revision | None = None
        self.apply_failures = 0
        self.workers = Workers()
        self.on_drain: Callable[[], None] = lambda: None
        """Called when a drain begins: the admin port is the next gateway's then."""
        self.draining = False
        self._rows = routing.VersionRows()
        self._documents = Documents()
        self._document: bytes | None = None
        """Of the table in force, when it is not on the disk yet."""
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self.events = Events(self, self._changed.set, self._drained.set)
        self._ended = asyncio.Event()
        self._fetches: set[asyncio.Task[None]] = set()
        self._housekept = 0.0
        self._accepts = False
        self._drain: asyncio.Task[None] | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        shipping = asyncio.create_task(self.shipping.run())
        if not await self._open_books():
            return 0
        self.data_plane.start()
        loop.add_reader(self.data_plane.event_fd, self.events.take)
        if self.settings.jail != "on":
            _log.warning("WORKERS ARE NOT FULLY JAILED: run only code that you trust", jail=self.settings.jail)
        found = list(features(may_fork=False))
        _log.info(
            "machine",
            jail=self.settings.jail,
            active=[one.name for one in found if one.active],
            missing={one.name: one.costs for one in found if not one.active},
        )
        if self.table is None:
            self._serve()
        else:
            try:
                await self_check.run(self.data_plane, self.indexes, self.settings.self_check_timeout.total_seconds())
            except self_check.SelfCheckFailed as error:
                _log.critical("the gateway cannot serve an invocation; ending", error=str(error))
                self.data_plane.stop()
                return 1
            # Before a connection is accepted, so that a reload or a restart answers nobody with not-ready.
            await self._reconcile()
        feed = asyncio.create_task(self.feed.run())
        leases = asyncio.create_task(self.leases.run())
        heartbeat = asyncio.create_task(Heartbeat(self).run())
        books = asyncio.create_task(self._keep_books())
        output = asyncio.create_task(self.output_feed.run())
        heart = asyncio.create_task(self._beat())
        ended = asyncio.create_task(self._ended.wait())
        done, _ = await asyncio.wait({feed, leases, books, shipping, heart, ended}, return_when=asyncio.FIRST_COMPLETED)
        if feed in done and feed.exception() is None:  # no Redis configured
            done, _ = await asyncio.wait({leases, books, shipping, heart, ended}, return_when=asyncio.FIRST_COMPLETED)
        for task in (feed, heart, ended, leases, heartbeat, books, shipping, output, *self._fetches):
            task.cancel()
        loop.remove_reader(self.data_plane.event_fd)
        await self.leases.give_back()
        await self.shipping.flush(_FLUSH_S)
        self.data_plane.stop()
        self.events.take()
        await self.output_feed.flush(_LAST_OUTPUT_S)
        self.function_log.close()
        self.journal.close()
        for task in done:
            task.result()  # a defect of ours: end loudly, the supervisor starts a new gateway
        return 0

    async def _open_books(self) -> bool:
        """Without room for the journal nothing is served; connections wait in the socket's queue. What is booked
        meanwhile makes room. False: asked to end."""
        said = False
        while not self.draining:
            try:
                await asyncio.to_thread(self.journal.begin)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if not said:
                    _log.critical("no room for the journal: this gateway waits for it", folder=str(self.journal.folder))
                said = True
                await asyncio.sleep(_SYNC_S)
            else:
                return True
        return False

    async def _keep_books(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed_journal())
            group.create_task(self._sync_journal())

    async def _feed_journal(self) -> None:
        """Never behind a disk: at full speed a reactor fills a segment within a second, and without one it refuses."""
        while True:
            await asyncio.sleep(_FEED_S)
            await asyncio.to_thread(self.journal.feed)

    async def _sync_journal(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            await self._on_disk(self.journal.sync)
            await self._on_disk(self.shipping.measure)

    @property
    def is_ready(self) -> bool:
        """Whether requests are being served."""
        return self.applied is not None and not self.draining

    # -- tables in -------------------------------------------------------------------------------------------------

    def _take_table(self, table: RoutingTable, document: bytes) -> None:
        usable = tuple(version for version in table.versions if is_version_id(version.id))
        if len(usable) != len(table.versions):
            _log.error(
                "versions with ids that cannot name a file were left out", count=len(table.versions) - len(usable)
            )
            table = table.model_copy(update={"versions": usable})
        self.table = table
        self._document = document
        self._changed.set()

    async def _beat(self) -> None:
        while True:
            due_s = self.versions.next_due_s(time.monotonic())
            timeout_s = _HOUSEKEEPING_S if due_s is None else min(due_s + 0.01, _HOUSEKEEPING_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
            self._changed.clear()
            if not self.draining:
                await self._reconcile()

    async def _reconcile(self) -> None:
        """Looks at everything and does what is missing."""
        table = self.table
        if table is None:
            return
        now = time.monotonic()
        if self._document is not None:
            document, self._document = self._document, None
            await self._on_disk(self.memory.save_table, document)
        named = {version_id for function in table.functions for version_id in function.aliases.values()}
        for version_id in self.versions.want(table.versions, now):
            self.indexes.release(
                version_id, now
            )  # under another number it is new to the data plane: so are its workers
        kept = [self.versions.states[one].version for one in self.serving.values() if one in self.versions.states]
        listed = {version.id for version in table.versions}
        self.versions.want([version for version in kept if version.id not in listed], now)
        for state in self.versions.due_fetches(now, named):
            self._start_fetch(state.version)
        self.versions.begin_probes(now, named)
        self.serving = routing.choose(table, self.versions.states, self.serving)
        if await self._apply(table, now) and self.versions.applied():
            self._changed.set()
        await self._on_disk(self.memory.save_serving, self.serving)
        self._report_outcomes()
        if now - self._housekept > _HOUSEKEEPING_S:
            self._housekept = now
            await self._housekeeping(now)

    async def _apply(self, table: RoutingTable, now: float) -> bool:
        """Whether the data plane now has what this builds."""
        try:
            revision = routing.build(
                table,
                self.versions.states,
                self.serving,
                self.indexes,
                self.bundles,
                self.settings.gateway_url,
                now,
                self._rows,
                self._documents,
            )
        except OutOfIndexes as error:
            self.apply_failures += 1
            _log.error("the revision cannot be built; serving on with the last one", error=str(error))
            return False
        if revision == self.applied:
            return True
        self.events.know({row.index: self.versions.states[row.id].version for row in revision.versions}, table)
        document = routing.encode(revision)
        try:
            await asyncio.to_thread(self.data_plane.apply, document)
        except CoreError as error:
            self.apply_failures += 1
            _log.error("the data plane refused a revision; serving on with the last one", error=str(error))
            return False
        self.leases.take_table(table)
        if self.applied is None:
            await self.leases.prime()
            self._serve()
        before = {row.id for row in self.applied.versions} if self.applied else set()
        for version_id in before - {row.id for row in revision.versions}:
            self.indexes.release(version_id, now)
        self.applied = revision
        _log.info("revision applied", revision=revision.revision, routes=len(revision.routes), bytes=len(document))
        return True

    async def _housekeeping(self, now: float) -> None:
        """Removes versions that nothing refers to any more, and their files unless another version shares them."""
        gone = self.versions.expire(now, self.settings.version_keep.total_seconds())
        for version in gone:
            await self._on_disk(self.memory.forget_ready, version.id)
            # Asked anew each time: meanwhile a version with the same bundle may have come.
            if not self.versions.bundles[version.bundle_sha256]:
                await self.bundles.remove(version.bundle_sha256)
            _log.info("version removed from this node", version=version.id, function=version.function)
        for version_id, state in self.versions.states.items():
            if state.stage is Stage.READY and not self.bundles.is_here(state.version.bundle_sha256):
                _log.error("the files of a ready version have gone; fetching them again", version=version_id)
                self.versions.lost(version_id, now)
                self._changed.set()

    @staticmethod
    async def _on_disk(write: Any, *arguments: Any) -> None:
        """A disk that refuses costs memory over a restart, not service now."""
        try:
            await asyncio.to_thread(write, *arguments)
        except OSError as error:
            _log.error("the node's memory could not be written", step=write.__name__, error=str(error))

    # -- versions --------------------------------------------------------------------------------------------------

    def _start_fetch(self, version: Version) -> None:
        task = asyncio.create_task(self._fetch(version))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch(self, version: Version) -> None:
        spawn = routing.spawn_document(version, version.function, self.bundles, version.limits.state)
        if len(spawn.encode()) > routing.SPAWN_BYTES_MAX - 256:
            message = f"environment and handler take {len(spawn)} bytes, at most {routing.SPAWN_BYTES_MAX} are allowed"
            self._fetch_failed(version, StartFailure(type="EnvironmentTooLarge", message=message), final=True)
            return
        try:
            await self.bundles.fetch(version.bundle_sha256, version.bundle_bytes)
        except BundleRefused as error:
            self._fetch_failed(version, StartFailure(type="BundleRefused", message=str(error)), final=True)
        except BundleUnavailable as error:
            self._fetch_failed(version, StartFailure(type="BundleUnavailable", message=str(error)), final=False)
        except Exception as error:  # noqa: BLE001 (our own defects; it is logged and tried again)
            # A defect of ours must not leave the version being fetched for ever.
            _log.exception("fetching a bundle failed in a way that was not foreseen", version=version.id)
            message = f"{type(error).__name__}: {error}"
            self._fetch_failed(version, StartFailure(type="FetchFailed", message=message), final=False)
        else:
            self.versions.fetched(version.id, time.monotonic())
            self._changed.set()

    def _fetch_failed(self, version: Version, error: StartFailure, *, final: bool) -> None:
        _log.warning(
            "bundle not usable", version=version.id, function=version.function, error=error.message, final=final
        )
        self.versions.fetch_failed(version.id, error, final=final, now=time.monotonic())
        self._changed.set()

    def _report_outcomes(self) -> None:
        outcomes, self.versions.outcomes = self.versions.outcomes, []
        try:
            self.reports.add([self._report(outcome) for outcome in outcomes])
        except OSError as error:
            _log.error("reports could not be kept on disk", error=str(error))

    def _report_again(self) -> None:
        """After each connection to Redis: it may have lost what it once had."""
        if self.table is None:
            return
        states = [
            self.versions.states[version.id] for version in self.table.versions if version.id in self.versions.states
        ]
        self.versions.outcomes += [
            Outcome(
                state.version, state.ready, state.start_us, None if state.ready else state.error, state.forked_because
            )
            for state in states
            if state.stage in (Stage.READY, Stage.FAILED)
        ]
        self._changed.set()

    def _report(self, outcome: Outcome) -> VersionReport:
        ready = outcome.ready
        return VersionReport(
            node=self.identity.name,
            version_id=outcome.version.id,
            attempt=outcome.version.attempt,
            outcome="failed" if outcome.error else "ready",
            style=ready.style if ready else None,
            operation=ready.operation if ready else None,
            schemas=ready.schemas if ready else {},
            state="forked" if outcome.forked_because else outcome.version.limits.state,
            state_reason=outcome.forked_because,
            start_us=outcome.start_us,
            error=outcome.error,
        )

    def _serve(self) -> None:
        """Begins to accept, without a table or with the first that the data plane took, and says so."""
        if self._accepts:
            return
        self._accepts = True
        self.data_plane.listen()
        versions = len(self.versions.states)
        _log.info("serving", jail=self.settings.jail, revision=self.feed.revision, versions=versions, pid=os.getpid())
        if self.settings.ready_fd is not None:
            try:
                os.write(self.settings.ready_fd, b"ready\n")
                os.close(self.settings.ready_fd)
            except OSError as error:
                _log.warning("nobody waits for the word that this gateway is ready", error=str(error))

    # -- the end ---------------------------------------------------------------------------------------------------

    def _on_stop_signal(self) -> None:
        if self.draining:
            _log.warning("second signal: ending now")
            self._ended.set()
            return
        self.draining = True
        self.on_drain()
        _log.info("draining", timeout_s=self.settings.drain_timeout.total_seconds())
        try:
            self.data_plane.drain()
        except CoreError as error:
            _log.error("the data plane cannot drain; ending now", error=str(error))
            self._ended.set()
            return
        self._drain = asyncio.create_task(self._wait_drained())

    async def _wait_drained(self) -> None:
        try:
            await asyncio.wait_for(self._drained.wait(), self.settings.drain_timeout.total_seconds())
            _log.info("drained")
        except TimeoutError:
            _log.warning("not drained in time; what still runs is ended")
        self._ended.set()


def _data_plane_config(settings: HostSettings, node: int) -> DataPlaneConfig:
    return DataPlaneConfig(
        reactor_cpus=settings.reactor_cpus,
        listen_fds=settings.listen_fds,
        zygote_path=settings.zygote_path,
        problem_base_url=settings.problem_base_url,
        base_domain=settings.base_domain,
        node=node,
        connections_max=settings.connections_max,
        body_bytes_max=settings.body_bytes_max,
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        idle_timeout=settings.idle_timeout,
        write_timeout=settings.write_timeout,
        queue_timeout=settings.queue_timeout,
        worker_idle_timeout=settings.worker_idle_timeout,
        reserved_cpus=settings.reserved_cpus,
        reserved_sellable_ppm=sellable_ppm(),
    )
