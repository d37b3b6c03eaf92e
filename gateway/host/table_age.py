"""How long ago this node last knew that it serves the newest table, and the end of serving by one that is too old.

A table is confirmed when the control plane's word on which revision is the newest (``NEWEST_KEY`` of contract/table.py,
read by ``table_feed``) names the one that the data plane has applied. That Redis offers no other says nothing: nobody
may be there to write one. Asked by ``node``, telemetry and heartbeat.

What always holds: the data plane refuses by itself once ``table_max_age`` is over, even if this thread hangs; a restart
makes no table younger (the last confirmation is the modification time of a file beside the table), and a sleeping
machine ages. Confirmed again, the node serves again.
"""

import asyncio
import contextlib
import os
import time
from typing import Final

import structlog

from gateway.core.data_plane import DataPlane
from gateway.settings import HostSettings

_log = structlog.get_logger("table_age")
_TICK_S: Final = 1.0
_LATE_S: Final = 30.0
"""Without a confirmation for so long it is said in the log."""


class TableAge:
    def __init__(self, settings: HostSettings, data_plane: DataPlane) -> None:
        self._data_plane = data_plane
        self._path = settings.gateway_dir / "table-confirmed"
        has_end = settings.redis_url is not None  # without Redis there is nobody to ask: the table on disk is meant
        self.max_s = settings.table_max_age.total_seconds() if has_end else 0.0
        self._confirmed_s = _now() - self._remembered_s()
        self._heard: tuple[int, float] | None = None
        self._applied = -1
        self._said = ""

    @property
    def age_s(self) -> float:
        return max(_now() - self._confirmed_s, 0.0)

    @property
    def is_over(self) -> bool:
        return self.max_s > 0 and self.age_s >= self.max_s

    def heard(self, revision: int, ago_s: float) -> None:
        """So long ago ``revision`` was the newest."""
        self._heard = revision, _now() - ago_s
        self._settle()

    def applied(self, revision: int) -> None:
        """The data plane serves by it."""
        self._applied = revision
        self._settle()

    async def run(self) -> None:
        """From before the first connection is accepted, until cancelled."""
        while True:
            self._tell()
            self._say()
            await asyncio.sleep(_TICK_S)

    def _settle(self) -> None:
        if self._heard is None or self._heard[0] != self._applied or self._heard[1] <= self._confirmed_s:
            return
        self._confirmed_s = self._heard[1]
        with contextlib.suppress(OSError):  # a full disk: after a restart the table is older than it is
            self._remember()
        self._tell()
        self._say()

    def _tell(self) -> None:
        if self.max_s > 0:
            left_s = self.max_s - self.age_s
            self._data_plane.serve_until(max(time.monotonic_ns() + int(left_s * 1e9), 1))

    def _say(self) -> None:
        now_is = "over" if self.is_over else "late" if self.age_s >= min(_LATE_S, self.max_s or _LATE_S) else "fresh"
        if self._applied < 0 or now_is == self._said:
            return
        said, self._said = self._said, now_is
        facts = {"age_s": round(self.age_s, 1), "max_age_s": self.max_s, "revision": self._applied}
        if now_is == "over":
            _log.critical(
                "the table could not be confirmed for TAILCUT_TABLE_MAX_AGE: calls are refused (503) until Redis and "
                "the control plane are back",
                **facts,
            )
        elif now_is == "late":
            _log.warning("nobody confirms the table; serving on with it", **facts)
        elif said:
            _log.info("the table is confirmed to be the newest", **facts)

    def _remember(self) -> None:
        at_s = time.time() - self.age_s
        try:
            os.utime(self._path, (at_s, at_s))
        except FileNotFoundError:
            self._path.touch(mode=0o600)
            os.utime(self._path, (at_s, at_s))

    def _remembered_s(self) -> float:
        """Age of the last confirmation; a node that has none yet begins to count now, once."""
        try:
            return max(time.time() - self._path.stat().st_mtime, 0.0)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                self._path.touch(mode=0o600)
        except OSError as error:
            _log.error("when the table was last confirmed cannot be read", path=str(self._path), error=str(error))
        return 0.0


def _now() -> float:
    """Goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
