"""Members and invitations as JSON."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from control_plane.auth.permissions import Role
from control_plane.models import Invitation, Member, Person
from control_plane.people.schemas import Email, LinkToken, Password, PersonName


class MemberOut(BaseModel):
    id: str
    person_id: str
    email: str
    name: str
    role: Role
    second_factor: bool
    created_at: datetime

    @classmethod
    def of(cls, member: Member, person: Person) -> "MemberOut":
        return cls.model_validate(
            {
                "id": member.id,
                "person_id": person.id,
                "email": person.email,
                "name": person.name,
                "role": member.role,
                "second_factor": person.totp_confirmed_at is not None,
                "created_at": member.created_at,
            }
        )


class MemberPage(BaseModel):
    items: list[MemberOut]
    next_cursor: str | None


class MemberPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Role


class InvitationCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    email: Email
    role: Role


class InvitationOut(BaseModel):
    id: str
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, invitation: Invitation) -> "InvitationOut":
        return cls.model_validate(
            {
                "id": invitation.id,
                "email": invitation.email,
                "role": invitation.role,
                "invited_by": invitation.invited_by,
                "created_at": invitation.created_at,
                "expires_at": invitation.expires_at,
            }
        )


class InvitationPage(BaseModel):
    items: list[InvitationOut]
    next_cursor: str | None


class InvitationAccept(BaseModel):
    model_config = ConfigDict(extra="forbid")
    token: LinkToken
    """Of the link in the mail."""


class InvitationFinish(InvitationAccept):
    name: PersonName = ""
    password: Password
