"""Secrets as JSON: names, never values."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.models import Secret
from control_plane.secrets.service import VALUE_CHARACTERS_MAX


class SecretSet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    value: Annotated[str, Field(min_length=1, max_length=VALUE_CHARACTERS_MAX, pattern=r"^[^\x00]+$", repr=False)]


class SecretOut(BaseModel):
    function: str
    name: str
    """Of the environment variable."""
    updated_at: datetime
    updated_by: str
    """An e-mail address or a key's name."""

    @classmethod
    def of(cls, secret: Secret, function: str) -> "SecretOut":
        return cls(function=function, name=secret.name, updated_at=secret.updated_at, updated_by=secret.updated_by)


class SecretList(BaseModel):
    items: list[SecretOut]
    """All of them, by name."""
