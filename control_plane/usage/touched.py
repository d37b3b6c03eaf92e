"""For whom something was booked lately: from the process that books to ``alerts.watch``, which looks at those first.

Nothing depends on it but how soon an alert comes: everybody is looked at from time to time anyway.
"""

from collections.abc import Collection
from typing import Any, Final

_KEY: Final = "tailcut:usage:touched"
_COUNT_MAX: Final = 1000


async def note(redis: Any, tenant_ids: Collection[str]) -> None:
    """Raises RedisError."""
    if tenant_ids:
        await redis.sadd(_KEY, *tenant_ids)


async def take(redis: Any) -> set[str]:
    """Some of them, once. Raises RedisError."""
    return {tenant_id.decode() for tenant_id in await redis.spop(_KEY, _COUNT_MAX)}
