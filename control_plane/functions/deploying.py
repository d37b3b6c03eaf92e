"""A staged archive becomes a version: check, store, write, move the alias. Called by the dashboard's deploy page.

The endpoint of the REST interface does the same in its own steps, because the answer is kept under an idempotency key.
"""

import asyncio
import hashlib
from pathlib import Path

from control_plane.auth.principal import Principal
from control_plane.bundles.check import check_bundle
from control_plane.context import Context
from control_plane.functions import service
from control_plane.functions.service import Bundle, Deployment
from control_plane.tiers import views as tiers


async def deploy_archive(
    context: Context, caller: Principal, name: str, archive: Path, *, alias: str, public: bool | None
) -> Deployment:
    """Raises Problem: the bundle was refused, or the tier allows no more functions."""
    settings = context.settings
    checked = await asyncio.to_thread(check_bundle, archive, runtime_python=settings.runtime_python)
    sha256 = await asyncio.to_thread(_sha256, archive)
    await context.bundles.put(sha256, archive)
    bundle = Bundle(sha256, archive.stat().st_size, checked.manifest)  # noqa: ASYNC240 - one system call
    async with context.writing() as session:
        return await service.deploy(
            session,
            caller.tenant_id,
            name,
            bundle,
            actor=caller.actor,
            alias=alias,
            public=public,
            functions_max=await tiers.functions_max(session, caller.tenant_id, settings),
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
