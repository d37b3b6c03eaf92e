"""Who is looking at the dashboard: sign in with a key, a session on the server, sign out.

The browser holds a random cookie of which we keep the hash. A session ends with its time, its key's revocation or its
key's expiry. Every form carries the session's CSRF token; the sign-in form, which has no session yet, carries the
value of a cookie of its own.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

from control_plane.auth import repository
from control_plane.auth.principal import Principal, authenticate, check_scopes, is_live
from control_plane.context import Context
from control_plane.models import Session, now
from control_plane.problems import Problem

SESSION_COOKIE: Final = "tailcut_session"
SIGN_IN_COOKIE: Final = "tailcut_sign_in"
_COOKIE_CHARACTERS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody signed in."""

    tenant_id: str
    tenant_name: str
    scopes: frozenset[str]
    csrf_token: str = field(repr=False)


async def sign_in(context: Context, token: str) -> str:
    """→ the cookie's value. A key that may only invoke has nothing to see here."""
    principal: Principal = await authenticate(context, token)
    check_scopes(principal.scopes, ("read", "deploy"))
    cookie = secrets.token_urlsafe(32)
    at = now()
    async with context.writing() as session:
        session.add(
            Session(
                sha256=_hash(cookie),
                tenant_id=principal.tenant_id,
                key_id=principal.key_id,
                csrf_token=secrets.token_urlsafe(32),
                created_at=at,
                expires_at=at + context.settings.session_lifetime,
            )
        )
    return cookie


async def find_visitor(context: Context, cookie: str | None) -> Visitor | None:
    if not cookie or len(cookie) > _COOKIE_CHARACTERS_MAX:
        return None
    async with context.reading() as session:
        found = await repository.find_session(session, _hash(cookie), now())
    if found is None or not is_live(found[1]):
        return None
    row, key, tenant = found
    return Visitor(tenant.id, tenant.name, frozenset(key.scopes), row.csrf_token)


async def sign_out(context: Context, cookie: str) -> None:
    async with context.writing() as session:
        await repository.delete_session(session, _hash(cookie))


def check_csrf(expected: str, given: str) -> None:
    """``expected`` empty (no cookie) never matches."""
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        raise Problem("forbidden", "The form is too old or comes from another page. Load the page again and retry.")


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
