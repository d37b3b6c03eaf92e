"""Keys: what there is, a new one (shown once), and revoking."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from control_plane import ids
from control_plane.auth import permissions, repository, service
from control_plane.auth.schemas import KeyCreate, KeyOut
from control_plane.context import ContextDependency
from control_plane.dashboard import pages
from control_plane.dashboard.visitor import Posted, Visitor, go, post, see
from control_plane.models import now
from control_plane.pagination import PageDependency
from control_plane.problems import Problem, not_found
from gateway.contract.table import Scope

router = APIRouter(prefix="/keys")
Reader = Annotated[Visitor, Depends(see("keys.read"))]
Writer = Annotated[Visitor, Depends(see("keys.write"))]
Post = Annotated[Posted, Depends(post("keys.write"))]
KeyId = Annotated[str, Path(pattern=ids.pattern("key"))]


class KeyForm(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    lifetime: Literal["30", "90", "365", "never"] = "90"
    """Days."""


@router.get("")
async def keys_page(request: Request, context: ContextDependency, visitor: Reader, page: PageDependency) -> Response:
    async with context.reading() as session:
        found = await repository.list_keys(session, visitor.tenant_id, page)
    keys = [KeyOut.of(key) for key in found.items]
    return pages.render(
        request, context, visitor, "keys/list.html", section="keys", keys=keys, next_cursor=found.next_cursor
    )


@router.get("/new")
async def new_key_page(request: Request, context: ContextDependency, visitor: Writer) -> Response:
    return pages.render(request, context, visitor, "keys/new.html", section="keys", scopes=_scopes_of(visitor))


@router.post("/new")
async def create_key(request: Request, context: ContextDependency, posted: Post) -> Response:
    """The token is in this answer and nowhere else: no redirect, and nothing caches it."""
    visitor = posted.who
    form, errors = posted.parse(KeyForm)
    if form is not None:
        expires_at = None if form.lifetime == "never" else now() + timedelta(days=int(form.lifetime))
        wanted = KeyCreate(name=form.name, scopes=form.scopes, expires_at=expires_at)
        try:
            async with context.writing() as session:
                keys_max = context.settings.keys_per_tenant_max
                created = await service.create_key(session, visitor.tenant, wanted, keys_max=keys_max)
            return pages.render(request, context, visitor, "keys/created.html", section="keys", key=created)
        except Problem as problem:
            errors = pages.errors_of(problem) or {"": problem.detail}
    return pages.render(
        request, context, visitor, "keys/new.html", section="keys", status=422, scopes=_scopes_of(visitor),
        values=posted.values() | {"scopes": posted.fields.get("scopes", [])}, errors=errors, error=errors.get("", ""),
    )  # fmt: skip


@router.get("/{key_id}/revoke")
async def revoke_page(request: Request, key_id: KeyId, context: ContextDependency, visitor: Writer) -> Response:
    async with context.reading() as session:
        key = await repository.get_key(session, visitor.tenant_id, key_id)
    if key is None:
        raise not_found("key", key_id)
    return pages.render(request, context, visitor, "keys/revoke.html", section="keys", key=KeyOut.of(key))


@router.post("/{key_id}/revoke")
async def revoke_key(key_id: KeyId, context: ContextDependency, posted: Post) -> Response:
    async with context.writing() as session:
        await service.revoke_key(session, posted.who.tenant, key_id)
    return await go(context, posted.who, "/keys", "The key is revoked. Gateways refuse it within seconds.")


def _scopes_of(visitor: Visitor) -> list[str]:
    role = visitor.tenant.role
    allowed = permissions.SCOPES_TO_GIVE[role] if role else frozenset()
    return [scope for scope in permissions.ALL_SCOPES if scope in allowed]
