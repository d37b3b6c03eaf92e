"""Reports that wait for Redis: the last word on each version, on disk until it was taken.

Delivery is at least once and a report is idempotent, so losing the race between "sent" and "removed" is harmless.
"""

import asyncio
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from gateway.contract.report import VersionReport
from gateway.host.files import write_atomically

_log = structlog.get_logger("reports")
_BATCH_MAX = 100
_list = TypeAdapter(list[VersionReport])


class Reports:
    """A bounded set of unsent reports, kept in ``path``."""

    def __init__(self, path: Path, reports_max: int) -> None:
        self._path = path
        self._reports_max = reports_max
        self._some = asyncio.Event()
        self._by_version: dict[str, VersionReport] = {}
        try:
            for report in _list.validate_json(path.read_bytes()):
                self._by_version[report.version_id] = report
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            _log.error("unsent reports cannot be read; they are made again", path=str(path), error=str(error)[:500])
        self._signal()

    @property
    def waiting(self) -> int:
        return len(self._by_version)

    def add(self, reports: list[VersionReport]) -> None:
        """Takes the place of an unsent report on the same version."""
        if not reports:
            return
        for report in reports:
            self._by_version.pop(report.version_id, None)
            self._by_version[report.version_id] = report
        while len(self._by_version) > self._reports_max:
            dropped = next(iter(self._by_version))
            del self._by_version[dropped]
            _log.error("too many unsent reports; dropped the oldest", version=dropped, reports_max=self._reports_max)
        self._save()

    async def wait(self) -> None:
        """Returns when there are reports to send."""
        await self._some.wait()

    def batch(self) -> list[VersionReport]:
        return list(self._by_version.values())[:_BATCH_MAX]

    def sent(self, report: VersionReport) -> None:
        """Redis has it. A newer one on the same version stays."""
        if self._by_version.get(report.version_id) == report:
            del self._by_version[report.version_id]
            if not self._by_version:
                self._save()
        self._signal()

    def _save(self) -> None:
        write_atomically(self._path, _list.dump_json(list(self._by_version.values())))
        self._signal()

    def _signal(self) -> None:
        if self._by_version:
            self._some.set()
        else:
            self._some.clear()
