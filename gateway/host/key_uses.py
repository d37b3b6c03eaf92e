"""Which keys callers came with: read out of the data plane now and then, told to the control plane.

``table_feed`` sends while Redis is connected (contract/report.py), ``node`` collects before each revision (the data
plane remembers the uses of one revision back) and flushes at the end. What always holds: a call waits for nothing of
this; while Redis is away the latest use of each key waits here, so ``kill -9`` loses what came since the last report,
by default 20 seconds' worth.
"""

from collections.abc import Callable

import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from gateway.contract.report import KEY_USES_FIELD, KEY_USES_MAX, REPORT_ENTRIES_MAX, REPORT_STREAM, KeyUses

_log = structlog.get_logger("key_uses")
_KEPT_MAX = 128 * 1024
"""Keys whose use waits: more than two whole tables have (keys_max of limits.zig)."""


class KeyUseFeed:
    """``read`` gives key id → Unix time of the uses since it was last called, in parts, at last an empty one."""

    def __init__(self, read: Callable[[], dict[str, int]], node: str) -> None:
        self._read = read
        self._node = node
        self._waiting: dict[str, int] = {}

    def collect(self) -> None:
        while uses := self._read():
            for key_id, used_s in uses.items():
                self._waiting[key_id] = max(used_s, self._waiting.get(key_id, 0))
        while len(self._waiting) > _KEPT_MAX:
            del self._waiting[next(iter(self._waiting))]

    async def send(self, client: "redis.Redis") -> None:
        """All that there is. Raises what redis raises; what was not taken waits."""
        self.collect()
        while self._waiting:
            batch = dict(list(self._waiting.items())[:KEY_USES_MAX])
            document = KeyUses(node=self._node, used_s=batch).model_dump_json()
            await client.xadd(REPORT_STREAM, {KEY_USES_FIELD: document}, maxlen=REPORT_ENTRIES_MAX, approximate=True)
            for key_id, used_s in batch.items():
                if self._waiting.get(key_id) == used_s:
                    del self._waiting[key_id]

    async def flush(self, url: str | None) -> None:
        """At the end of a gateway."""
        if url is None:
            return
        try:
            async with redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
                await self.send(client)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("the last uses of keys were not told", keys=len(self._waiting), error=str(error)[:300])
