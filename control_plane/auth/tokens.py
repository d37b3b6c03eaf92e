"""Tokens: random, recognisable by their prefix, kept only as a hash."""

import hashlib
import secrets
import string
from typing import Final

KEY_PREFIX: Final = "tck_"
SESSION_PREFIX: Final = "tcs_"
_ALPHABET: Final = string.ascii_letters + string.digits
_RANDOM_CHARACTERS: Final = 43
"""Of 62: 256 bits."""
TOKEN_CHARACTERS_MAX: Final = 200


def new_key_token() -> str:
    return KEY_PREFIX + _random()


def new_session_token() -> str:
    return SESSION_PREFIX + _random()


def new_link_token() -> str:
    return _random()


def hash_token(token: str) -> str:
    """SHA-256 of the whole token, as gateways compute it too."""
    return hashlib.sha256(token.encode()).hexdigest()


def _random() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARACTERS))
