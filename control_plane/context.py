"""What every request can reach: settings, SQL, the bundle store and the relay's bell.

Made once by ``app``'s lifespan, found by endpoints through ``ContextDependency``. Nothing here is a module global, so
that several control planes can live in one process.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.sealing import Sealer
from control_plane.bundles.store import BundleStore
from control_plane.database import Database
from control_plane.problems import Problem
from control_plane.settings import Settings

if TYPE_CHECKING:
    from control_plane.billing.stripe_client import StripeClient

OUTBOX_CHANGED: Final = "outbox_changed"
"""Key of ``session.info``: set by ``outbox.repository.append``."""
MAIL_WAITING: Final = "mail_waiting"
"""Likewise: set by ``mail.repository.append``."""

PASSWORDS_AT_ONCE_MAX: Final = 4
"""Hashed or checked, 46 MiB each: log-ins in a storm wait for each other instead of taking the machine's memory."""


class Bell:
    """Wakes everybody who waits now; who comes later waits for the next ring."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Take it before you look: a ring after the look is not missed."""
        return self._next

    def ring(self) -> None:
        rung, self._next = self._next, asyncio.Event()
        rung.set()


@dataclass(slots=True)
class Context:
    settings: Settings
    database: Database
    bundles: BundleStore
    operator_token: str = field(repr=False)
    sealer: Sealer = field(repr=False)
    uploads: asyncio.Semaphore
    password_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PASSWORDS_AT_ONCE_MAX))
    stripe: "StripeClient | None" = None
    relay_bell: asyncio.Event = field(default_factory=asyncio.Event)
    mail_bell: asyncio.Event = field(default_factory=asyncio.Event)
    billing_bell: asyncio.Event = field(default_factory=asyncio.Event)
    """Rung when a webhook has come."""
    reconcile_bell: asyncio.Event = field(default_factory=asyncio.Event)
    """Rung when an operator has asked for a comparison with Stripe."""
    alert_bell: asyncio.Event = field(default_factory=asyncio.Event)
    """Rung when something waits for a tenant's webhook."""
    usage_touched: set[str] = field(default_factory=set)
    """Tenants whose usage or alerts changed: ``alerts.watch`` looks at them and takes them out."""
    log_bell: Bell = field(default_factory=Bell)
    """Rung when lines of functions have been booked."""
    log_followers: int = 0

    def reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self.database.reading()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """One transaction; after its commit relay and mailer are woken, if there is something for them."""
        async with self.database.writing() as session:
            yield session
        if session.info.pop(OUTBOX_CHANGED, False):
            self.relay_bell.set()
        if session.info.pop(MAIL_WAITING, False):
            self.mail_bell.set()

    @asynccontextmanager
    async def upload_slot(self) -> AsyncIterator[None]:
        """Uploads are received and checked a few at a time; one more is refused, not kept waiting with its body."""
        if self.uploads.locked():
            raise Problem(
                "overloaded",
                f"{self.settings.uploads_max} uploads are under way, the most this server takes at once; try again.",
                headers={"Retry-After": "2", "Connection": "close"},
            )
        async with self.uploads:
            yield


def get_context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDependency = Annotated[Context, Depends(get_context)]
