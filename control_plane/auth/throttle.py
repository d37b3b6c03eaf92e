"""How often somebody may try: counts per window in SQL, so that several control planes and restarts share them.

An attempt is counted before it is judged, in a transaction of its own, so that attempts made at once cannot slip
through together. Called by ``people.service`` before a password, a code or a mail costs anything.
"""

import hashlib
import ipaddress
import time
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth import repository
from control_plane.context import Context
from control_plane.problems import Problem


@dataclass(frozen=True, slots=True)
class Bound:
    """``attempts_max`` by or against ``subject`` in each window."""

    what: str
    subject: str
    attempts_max: int
    window: timedelta
    is_shared: bool = False
    """By several people: a success of one takes back one attempt, not those of the others."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.what}:{self.subject}".encode()).hexdigest()


def log_in_bounds(context: Context, *, email: str, address: str) -> list[Bound]:
    """Per address; per e-mail and address (strict: guessing); per e-mail (loose, so that a stranger who fails on
    purpose cannot easily keep its owner out)."""
    settings = context.settings
    window = settings.log_in_window
    address = _network(address)
    return [
        Bound("log-in-address", address, settings.log_ins_per_address_max, window, is_shared=True),
        Bound("log-in-email-address", f"{email} {address}", settings.log_ins_per_email_max, window),
        Bound("log-in-email", email, settings.log_ins_per_email_max * 10, window),
    ]


def second_factor_bounds(context: Context, *, person_id: str) -> list[Bound]:
    """Whoever guesses codes knows the password: strict, from wherever. Codes have six digits, three of them are right
    at any time, so many addresses must not make for many guesses."""
    settings = context.settings
    return [Bound("second-factor", person_id, settings.log_ins_per_email_max, settings.log_in_window)]


def mail_bounds(context: Context, *, email: str, address: str) -> list[Bound]:
    """For what sends a mail to an address that anybody may type in."""
    settings = context.settings
    window = settings.mail_window
    address = _network(address)
    return [
        Bound("mail-address", address, settings.mails_per_address_max, window),
        Bound("mail-email", email, settings.mails_per_email_max, window),
    ]


async def count_attempt(context: Context, bounds: list[Bound]) -> None:
    """Raises ``too-many-attempts`` when one of the bounds is passed."""
    now_s = int(time.time())
    wait_s = 0
    async with context.writing() as session:
        for bound in bounds:
            until_s = now_s + int(bound.window.total_seconds())
            count, ends_s = await repository.count_attempt(session, bound.sha256, now_s, until_s)
            if count > bound.attempts_max:
                wait_s = max(wait_s, ends_s - now_s, 1)
    if wait_s:
        raise Problem(
            "too-many-attempts",
            f"Too many attempts from here or for this e-mail address; try again in {_in_words(wait_s)}.",
            headers={"Retry-After": str(wait_s)},
        )


async def forgive(session: AsyncSession, bounds: list[Bound]) -> None:
    """After a success: the right person's typing errors no longer count."""
    for bound in bounds:
        if bound.is_shared:
            await repository.uncount_attempt(session, bound.sha256)
        else:
            await repository.forget_attempts(session, [bound.sha256])


def _network(address: str) -> str:
    """Of IPv6 the first 64 bits: who has one address has all of those."""
    *before, last = address.split(" ")
    try:
        found = ipaddress.IPv6Address(last.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return " ".join([*before, str(found.ipv4_mapped)])
    return " ".join([*before, str(ipaddress.IPv6Network((int(found), 64), strict=False))])


def _in_words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{(seconds + 59) // 60} minutes"
