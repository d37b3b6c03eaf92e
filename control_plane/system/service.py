"""What this server runs functions on, and whether it is well."""

import platform
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from control_plane.bundles.check import ENVIRONMENT_BYTES_MAX, MANIFEST_BYTES_MAX
from control_plane.context import Context
from control_plane.outbox import repository as outbox
from control_plane.settings import Settings
from control_plane.system.schemas import BundleBounds, LimitBounds, Readiness, Runtime
from gateway.contract import bundle
from gateway.contract.table import Limits


def describe_runtime(settings: Settings) -> Runtime:
    running = platform.python_version()
    python = settings.runtime_python
    return Runtime(
        python=python,
        python_full=running if running.startswith(f"{python}.") else python,
        platform=settings.runtime_platform,
        gateway_url=settings.public_gateway_url,
        bundle=BundleBounds(
            archive_bytes_max=settings.archive_bytes_max,
            unpacked_bytes_max=bundle.UNPACKED_BYTES_MAX,
            files_max=bundle.FILES_MAX,
            depth_max=bundle.DEPTH_MAX,
            path_bytes_max=bundle.PATH_BYTES_MAX,
            name_bytes_max=bundle.NAME_BYTES_MAX,
            ratio_max=bundle.RATIO_MAX,
            manifest_bytes_max=MANIFEST_BYTES_MAX,
            environment_bytes_max=ENVIRONMENT_BYTES_MAX,
        ),
        limits=LimitBounds(default=Limits(), largest=_largest_limits()),
    )


def _largest_limits() -> Limits:
    """From the contract's own bounds, so that they are written once."""
    largest: dict[str, Any] = {}
    for name, field in Limits.model_fields.items():
        # A choice (the state) has no largest.
        largest[name] = next((bound.le for bound in field.metadata if hasattr(bound, "le")), field.default)
    return Limits(**largest)


async def check_readiness(context: Context, redis: Redis | None) -> Readiness:
    """Ready means that a deploy can be taken. Redis away is said, but the outbox waits for it: still ready."""
    checks: dict[str, str] = {}
    pending = 0
    try:
        async with context.reading() as session:
            pending = await outbox.pending_count(session)
        checks["database"] = "ok"
    except (SQLAlchemyError, OSError) as error:
        checks["database"] = type(error).__name__
    if redis is None:
        checks["redis"] = "REDIS_URL is not set: no gateway hears of changes"
    else:
        client: Any = redis
        try:
            await client.ping()
            checks["redis"] = "ok"
        except (RedisError, OSError) as error:
            checks["redis"] = f"{type(error).__name__}: changes wait in the outbox"
    return Readiness(ready=checks["database"] == "ok", checks=checks, outbox_pending=pending)
