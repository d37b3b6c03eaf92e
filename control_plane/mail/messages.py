"""What the mails say. Plain text; each is self-contained and says who caused it and what to do if it was not you.

Called by services with their own transaction; the text is sealed until it is sent, for its link is a credential.
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.sealing import Sealer
from control_plane.ids import new_id
from control_plane.mail import repository
from control_plane.models import Mail, now

SEALED_FOR: Final = "mail"
NOBODY: Final = ""
"""A recipient to whom nothing is sent."""


def send(session: AsyncSession, sealer: Sealer, recipient: str, subject: str, text: str) -> None:
    """Into the queue; it leaves after the commit."""
    at = now()
    mail = Mail(
        id=new_id("mail"),
        recipient=recipient,
        subject=" ".join(subject.split())[:200],
        sealed_text=sealer.seal(SEALED_FOR, text.encode()),
        attempts_count=0,
        due_at=at,
        created_at=at,
    )
    repository.append(session, mail)


def sign_up(tenant_name: str, link: str, hours: int) -> tuple[str, str]:
    return (
        "Confirm your e-mail address",
        f"""Somebody, we hope you, wants to sign up to Tailcut with this address and the tenant name {tenant_name!r}.

Open this link to choose a password. It works once, for {hours} hours:

{link}

Was it not you? Then do nothing: without the link nothing is made.
""",
    )


def sign_up_again(sign_in_url: str, reset_url: str) -> tuple[str, str]:
    return (
        "You are signed up already",
        f"""Somebody, perhaps you, tried to sign up to Tailcut with this address, which has signed up before.

Sign in: {sign_in_url}
Forgot the password? {reset_url}

To make another tenant, sign in first. Was it not you? Then do nothing.
""",
    )


def reset(link: str, minutes: int) -> tuple[str, str]:
    return (
        "Choose a new password",
        f"""Somebody, we hope you, has forgotten the password to Tailcut for this address.

Open this link to choose a new one. It works once, for {minutes} minutes; every session of yours will end:

{link}

Was it not you? Then do nothing: your password stays as it is.
""",
    )


def password_changed(reset_url: str) -> tuple[str, str]:
    return (
        "Your password was changed",
        f"""The password to Tailcut for this address was changed just now.

Was it not you? Then choose a new one at once: {reset_url}
""",
    )


def second_factor_changed(is_on: bool, security_url: str) -> tuple[str, str]:
    word = "turned on" if is_on else "turned off"
    return (
        f"Your second factor was {word}",
        f"""The second factor (codes of an authenticator) for this address was {word} just now.

Was it not you? Then sign in and change your password: {security_url}
""",
    )


def invitation(tenant_name: str, inviter: str, role: str, link: str, days: int) -> tuple[str, str]:
    return (
        f"Join {tenant_name} on Tailcut",
        f"""{inviter} invites you to the tenant {tenant_name} on Tailcut, with the role {role}.

Open this link to accept. It works once, for {days} days:

{link}

Do you not know them? Then do nothing.
""",
    )


def tenant_deleted(tenant_name: str, actor: str) -> tuple[str, str]:
    return (
        f"The tenant {tenant_name} is being deleted",
        f"""{actor} has deleted the tenant {tenant_name}.

Calls of its functions are refused as of now. Its functions, versions, keys, members and audit log are being removed.
Invoices are kept as long as the law asks for.
""",
    )
