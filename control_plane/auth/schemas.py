"""Keys as JSON."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from control_plane.models import Key, now
from gateway.contract.table import Scope


class KeyCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")] = "key"
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] = ["invoke"]
    expires_at: AwareDatetime | None = None

    @field_validator("scopes")
    @classmethod
    def _unique(cls, scopes: list[Scope]) -> list[Scope]:
        return sorted(set(scopes))

    @field_validator("expires_at")
    @classmethod
    def _in_the_future(cls, expires_at: datetime | None) -> datetime | None:
        if expires_at is not None and not now() < expires_at < now().replace(year=9000):
            raise ValueError("expires_at must be in the future, before the year 9000")
        return expires_at


class KeyOut(BaseModel):
    id: str
    name: str
    scopes: list[Scope]
    last_four: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(
        description="The last request that came with it while it was valid, of functions or of this API, however it "
        "was answered; shown within a minute"
    )
    created_by: str

    @classmethod
    def of(cls, key: Key) -> "KeyOut":
        return cls.model_validate(
            {
                "id": key.id,
                "name": key.name,
                "scopes": key.scopes,
                "last_four": key.last_four,
                "created_at": key.created_at,
                "expires_at": key.expires_at,
                "revoked_at": key.revoked_at,
                "last_used_at": key.last_used_at,
                "created_by": key.created_by,
            }
        )


class KeyCreated(KeyOut):
    token: str
    """Shown this once; we keep only its hash."""


class KeyPage(BaseModel):
    items: list[KeyOut]
    next_cursor: str | None
