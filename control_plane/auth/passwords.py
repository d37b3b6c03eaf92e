"""Passwords: argon2id in a thread, a bound on how many at once, and the same work whether or not there is a person.

Called by ``people.service``. The parameters are those that OWASP's password storage cheat sheet lists first
(46 MiB, one pass, one lane); a hash made with others is made anew at the next log-in.
"""

import asyncio
from functools import cache
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from control_plane.context import Context
from control_plane.problems import Problem

CHARACTERS_MIN: Final = 10
CHARACTERS_MAX: Final = 200
"""Not for the hash, which takes any length: for the time that it takes to read it."""
MEMORY_KIB: Final = 47_104
_hasher: Final = PasswordHasher(time_cost=1, memory_cost=MEMORY_KIB, parallelism=1, type=Type.ID)


async def hash_password(context: Context, password: str) -> str:
    async with context.password_slots:
        return await asyncio.to_thread(_hasher.hash, password)


async def verify_password(context: Context, password_hash: str | None, password: str) -> bool:
    """``None`` costs as much as a wrong password: the time tells nobody whether a person exists."""
    async with context.password_slots:
        return await asyncio.to_thread(_verify, password_hash, password)


def is_outdated(password_hash: str) -> bool:
    return _hasher.check_needs_rehash(password_hash)


def check_new_password(password: str, *, email: str) -> None:
    """Length is what counts (NIST SP 800-63B 3.1.1.2): no rules about kinds of characters."""
    if not CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX:
        raise Problem(
            "invalid-request",
            f"A password has {CHARACTERS_MIN} to {CHARACTERS_MAX} characters; this one has {len(password)}.",
            errors=[{"field": "password", "message": f"Use {CHARACTERS_MIN} to {CHARACTERS_MAX} characters"}],
        )
    lowered = password.lower()
    is_trivial = len(set(lowered)) < 5 or lowered in (email, email.partition("@")[0]) or lowered in _COMMON
    if is_trivial:
        raise Problem(
            "invalid-request",
            "This password is among the first that anybody would try; take a longer one, for example four words.",
            errors=[{"field": "password", "message": "Too easy to guess; four words make a good one"}],
        )


def _verify(password_hash: str | None, password: str) -> bool:
    try:
        return _hasher.verify(password_hash or _nobodys_hash(), password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return _hasher.hash("the password of nobody")


_COMMON: Final = frozenset(
    [
        "1234567890",
        "12345678910",
        "0123456789",
        "0987654321",
        "qwertyuiop",
        "qwerty12345",
        "1q2w3e4r5t",
        "1qaz2wsx3edc",
        "password12",
        "password123",
        "password1234",
        "passw0rd123",
        "p@ssw0rd123",
        "iloveyou123",
        "letmein1234",
        "changeme123",
        "administrator",
        "welcome123",
        "admin12345",
        "correcthorsebatterystaple",
        "sunshine123",
        "football123",
        "baseball123",
        "superman123",
        "qwerty1234",
        "abcdefghij",
        "abc1234567",
        "zxcvbnm123",
        "trustno1234",
        "dragon12345",
        "monkey12345",
        "princess123",
        "tailcut123",
        "tailcut1234",
    ]
)
"""Of ten or more characters: shorter ones are refused for their length."""
