"""People, sessions and what they type in, as JSON."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from control_plane.auth.permissions import Permission, Role
from control_plane.auth.tokens import TOKEN_CHARACTERS_MAX
from control_plane.models import Session
from gateway.contract.table import Name

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL_PATTERN = rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*$"
"""What HTML's ``type=email`` takes."""

Email = Annotated[str, Field(pattern=EMAIL_PATTERN, max_length=254), AfterValidator(str.lower)]
PersonName = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1000)]
LinkToken = Annotated[str, Field(min_length=1, max_length=TOKEN_CHARACTERS_MAX, pattern=r"^[A-Za-z0-9]+$")]
Code = Annotated[str, Field(min_length=6, max_length=30, pattern=r"^[A-Za-z0-9 -]+$")]
"""Six digits, or a recovery code."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignUp(_Request):
    email: Email
    tenant: Name
    """The tenant's name, part of its functions' URLs: it cannot be changed."""


class SignUpFinish(_Request):
    token: LinkToken
    """Of the link in the mail."""
    name: PersonName = ""
    password: Password


class LogIn(_Request):
    email: Email
    password: Password
    code: Code | None = None
    """Of the authenticator, or a recovery code, where a second factor is on."""


class ResetAsk(_Request):
    email: Email


class ResetFinish(_Request):
    token: LinkToken
    password: Password


class PasswordChange(_Request):
    current_password: Password
    password: Password


class PasswordCheck(_Request):
    password: Password


class Confirmation(PasswordCheck):
    code: Code | None = None
    """Of the authenticator, or a recovery code, where a second factor is on."""


class CodeCheck(_Request):
    code: Code


class PersonTenant(BaseModel):
    id: str
    name: str
    status: str
    role: Role
    permissions: list[Permission]


class PersonOut(BaseModel):
    id: str
    email: str
    name: str
    second_factor: bool
    recovery_codes_left: int
    created_at: datetime
    tenants: list[PersonTenant]


class SessionOut(BaseModel):
    id: str
    address: str
    user_agent: str
    created_at: datetime
    seen_at: datetime
    """To within a minute."""
    expires_at: datetime
    current: bool
    """The session that asks."""

    @classmethod
    def of(cls, session: Session, current_id: str) -> "SessionOut":
        return cls(
            id=session.id,
            address=session.address,
            user_agent=session.user_agent,
            created_at=session.created_at,
            seen_at=session.seen_at,
            expires_at=session.expires_at,
            current=session.id == current_id,
        )


class SessionCreated(SessionOut):
    token: str
    """Shown this once; we keep only its hash. As bearer, with the header Tailcut-Tenant, it acts for its person."""


class SessionList(BaseModel):
    items: list[SessionOut]


class MailSent(BaseModel):
    message: str
    """The same whether or not the address is known."""


class SecondFactorBegun(BaseModel):
    secret: str
    """To type in where no picture can be scanned."""
    uri: str
    qr_svg: str


class RecoveryCodes(BaseModel):
    recovery_codes: list[str]
    """Shown this once; each works once."""
